"""Who may ask what: in front of every route, the viewer's files and the way to the PACS included."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from cspine_label.cli import LOOPBACK
from cspine_label.users import ANYBODY, User, Users

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN: Final = ("/auth/", "/auth/token", "/health")
"""What is answered to everybody: whether a login is needed, the login, and that the server lives."""
SAFE: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Names:
    """By which names the server may be called.

    Attributes:
        hosts: host names; none: any.
        origins: of pages that may change something, beside its own.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, host: str, public_url: str | None) -> Names:
        """Of a server that listens at `host` and that users know, behind a proxy, as `public_url`."""
        public = urlsplit(public_url or "")
        names: tuple[str, ...] = LOOPBACK if host in LOOPBACK else ()
        if public.hostname and names:
            names = (*names, public.hostname)
        return cls(names, (f"{public.scheme}://{public.netloc}",) if public.hostname else ())


class Gate:
    """Middleware: refuses other sites' pages, and where there are users, everybody else.

    A login is a token (3D Slicer) or name and password with each request (a browser asks for them itself).
    """

    def __init__(self, app: Any, users: Users | None, names: Names) -> None:
        self._app, self._users, self._names = app, users, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = urlsplit(f"//{headers.get('host', '')}")
        if self._names.hosts and host.hostname not in self._names.hosts:
            # A page of another site could have its name point here (DNS rebinding).
            return _said(403, "This server is not reached by that name.")
        origin = headers.get("origin")
        own = not origin or origin in self._names.origins or urlsplit(origin).netloc == headers.get("host")
        if not own and scope["method"] not in SAFE:
            return _said(403, "Pages of other sites may not change anything here.")
        scope.setdefault("state", {})["user"] = ANYBODY
        if self._users is None or scope["path"] in OPEN:
            return None
        user = await run_in_threadpool(_user_of, self._users, headers.get("authorization", ""))
        if user is None:
            answer = _said(401, "Name and password, or a token from /auth/token, are needed.")
            answer.headers["WWW-Authenticate"] = 'Basic realm="Fracture Map", charset="UTF-8"'
            return answer
        scope["state"]["user"] = user
        return None


def _user_of(users: Users, authorization: str) -> User | None:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return users.by_token(value.strip())
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return users.verify(name, password)


def _said(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status_code=status)
