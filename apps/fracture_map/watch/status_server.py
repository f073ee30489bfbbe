"""The watcher's small HTTP service: health, metrics, worklist, dead letters."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cspine.errors import UsageError
from fracture_map.watch.claims import Claims
from fracture_map.watch.database import Database
from fracture_map.watch.metrics import Metrics
from fracture_map.watch.pulse import Pulse
from fracture_map.watch.settings import Worklist
from fracture_map.watch.worklist import close, dead_letters, open_studies


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    kind: str = "application/json"


@dataclass(frozen=True)
class StatusPages:
    """What the service answers with."""

    database: Database
    claims: Claims
    pulse: Pulse
    metrics: Metrics
    worklist: Worklist

    def get(self, path: str) -> Answer:
        """Answer a GET."""
        pages: dict[str, Callable[[], Answer]] = {
            "/healthz": self._health,
            "/metrics": lambda: Answer(HTTPStatus.OK, self.metrics.text(), "text/plain; version=0.0.4"),
            "/worklist": lambda: _json([asdict(s) for s in open_studies(self.database, self.worklist)]),
            "/dead": lambda: _json(dead_letters(self.database)),
        }
        return pages[path]() if path in pages else _NOT_FOUND

    def post(self, path: str) -> Answer:
        """Answer a POST: close a study in the worklist, or try a dead letter again."""
        found = re.fullmatch(r"/(worklist|dead)/(\d{1,18})/(close|retry)", path)
        if found is None:
            return _NOT_FOUND
        study = int(found[2])
        if (found[1], found[3]) == ("worklist", "close"):
            done = close(self.database, study)
        elif (found[1], found[3]) == ("dead", "retry"):
            done = self.claims.revive(study)
        else:
            return _NOT_FOUND
        return _json({"done": True}) if done else _NOT_FOUND

    def _health(self) -> Answer:
        """Restarting helps a silent thread, so only that is unhealthy; troubles are told beside it."""
        try:
            with self.database.reading() as connection:
                connection.execute(select(1))
            silent = self.pulse.silent()
        except SQLAlchemyError:
            silent = ["database"]
        body = {"healthy": not silent, "silent": silent, "troubles": self.pulse.troubles()}
        return _json(body, HTTPStatus.SERVICE_UNAVAILABLE if silent else HTTPStatus.OK)


class StatusServer:
    """Serves the pages in a thread of its own.

    Args:
        pages: what to answer with.
        host, port: where to listen; port 0 takes a free one.
    """

    def __init__(self, pages: StatusPages, host: str, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(pages))
        except OSError as error:
            raise UsageError(
                f"Cannot listen on {host}:{port} ({error.strerror}); name another --listen."
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def _json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, json.dumps(content, ensure_ascii=False).encode() + b"\n")


_NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, b'{"error": "There is no such thing here."}\n')


def _handler(pages: StatusPages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request."""

        server_version, sys_version = "fracture-map", ""

        def do_GET(self) -> None:
            self._send(lambda: pages.get(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            self._send(lambda: pages.post(self.path))

        def _send(self, answer: Callable[[], Answer]) -> None:
            try:
                found = answer()
            except SQLAlchemyError:
                found = _json({"error": "The database does not answer."}, HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_response(found.status)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: object) -> None:
            """Say nothing: addresses hold numbers of studies."""

    return Handler
