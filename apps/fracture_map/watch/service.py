"""The watcher as a whole: its threads, from their start to their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cspine.errors import OutputError, UsageError
from fracture_map.study import StudyOptions
from fracture_map.watch import audit
from fracture_map.watch.analysis import Analysis
from fracture_map.watch.claims import Claims
from fracture_map.watch.database import AWAY, Database, sqlite_url
from fracture_map.watch.follow import Follower
from fracture_map.watch.intake import Intake
from fracture_map.watch.metrics import Metrics
from fracture_map.watch.orthanc import OrthancChanges
from fracture_map.watch.outbox import Outbox
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.pulse import Pulse
from fracture_map.watch.settings import Settings
from fracture_map.watch.spool import Spool
from fracture_map.watch.states import PacsAwayError, PacsError
from fracture_map.watch.status_server import StatusPages, StatusServer
from fracture_map.watch.worker import Worker

_UPKEEP_S: Final = 2.0
_BEAT_S: Final = 5.0
_CLEANING_S: Final = 600.0


@dataclass(frozen=True)
class WatchOptions:
    """What the caller asked for.

    Attributes:
        dicomweb: address of the DICOMweb service, the part before ``/studies``.
        state: folder for the queue (unless `database` is given), the spool and the audit log.
        study: options of every study; its input and output are filled in.
        orthanc: address of Orthanc's REST API, to follow its changes; None to ask DICOMweb only.
        database: of the queue, as a URL; None for SQLite in `state`.
        settings: rules and times.
        workers: how many studies at the same time.
        listen: host and port of the status service.
    """

    dicomweb: str
    state: Path
    study: StudyOptions
    orthanc: str | None = None
    database: str | None = None
    settings: Settings = field(default_factory=Settings)
    workers: int = 1
    listen: tuple[str, int] = ("127.0.0.1", 8080)


def watch(options: WatchOptions, stopped: Callable[[], bool]) -> None:
    """Watch until `stopped` says so.

    Raises:
        CspineError: something that it needs is not there.
    """
    Watcher(options).run(stopped)


class Watcher:
    """A running watcher.

    Raises:
        CspineError: something that it needs is not there.
    """

    def __init__(self, options: WatchOptions) -> None:
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._open = ExitStack()
        self._audit = options.state / "audit.jsonl"
        timing = options.settings.timing
        self._timing = timing
        try:
            options.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The folder '{options.state}' cannot be made ({error.strerror}); name another --state."
            ) from None
        self._database = Database(options.database or sqlite_url(options.state / "queue.sqlite"))
        self._open.callback(self._database.engine.dispose)
        self._claims = Claims(self._database, timing.lease_s)
        self._outbox = Outbox(self._database)
        self._keep_s = options.settings.worklist.keep_s
        self._pulse = Pulse()
        self._metrics = Metrics(self._database, self._pulse, options.settings.worklist)
        self._follower = self._make_follower(options)
        self._workers = self._make_workers(options)
        pages = StatusPages(
            self._database, self._claims, self._pulse, self._metrics, options.settings.worklist
        )
        try:
            self._server = StatusServer(pages, *options.listen)
        except UsageError:
            self._open.close()
            raise
        self._open.callback(self._server.stop)

    @property
    def port(self) -> int:
        """Where the status service listens."""
        return self._server.port

    def run(self, stopped: Callable[[], bool]) -> None:
        """Watch until `stopped` says so; what is at hand then is given back.

        Raises:
            Exception: what ended one of the threads.
        """
        jobs = {
            "follower": self._follow,
            "upkeep": self._keep_up,
            **{worker.name: worker.work for worker in self._workers},
        }
        threads = [
            threading.Thread(target=self._guarded, args=(job,), name=name, daemon=True)
            for name, job in jobs.items()
        ]
        with self._open:
            self._server.start()
            for thread in threads:
                thread.start()
            while not stopped() and not self._ended.wait(0.2):
                pass
            self._ended.set()
            for worker in self._workers:
                worker.stop()
            for thread in threads:
                thread.join()
            if self._failure is None:
                self._write_audit()
        if self._failure is not None:
            raise self._failure

    def _make_follower(self, options: WatchOptions) -> Follower:
        pacs = self._connect(options)
        changes = None
        if options.orthanc is not None:
            changes = OrthancChanges(options.orthanc, self._database)
            self._open.callback(changes.close)
        intake = Intake(self._database, self._timing.quiet_s)
        rules = options.settings.studies
        return Follower(pacs, intake, rules, self._timing, changes, lambda: self._pulse.beat("follower"))

    def _make_workers(self, options: WatchOptions) -> list[Worker]:
        spool = Spool(options.state / "spool", options.settings.spool.min_free_gb)
        self._open.callback(spool.close)
        made = []
        for number in range(1, options.workers + 1):
            pacs = self._connect(options)
            analysis = Analysis(
                pacs, self._claims, self._outbox, spool, options.study, self._timing, self._metrics.analysed
            )
            name = f"worker {number}"
            made.append(
                Worker(name, self._claims, self._outbox, analysis, pacs, spool, self._timing, self._pulse)
            )
        return made

    def _connect(self, options: WatchOptions) -> Pacs:
        pacs = Pacs(options.dicomweb)
        self._open.callback(pacs.close)
        return pacs

    def _guarded(self, job: Callable[[], None]) -> None:
        """Run a thread's job; a defect in it ends the watcher, which then is started again from outside."""
        try:
            job()
        except BaseException as error:
            self._failure = error
        finally:
            self._ended.set()

    def _follow(self) -> None:
        failures = 0
        while not self._ended.is_set():
            self._pulse.beat("follower")
            try:
                self._follower.turn()
                self._pulse.trouble("pacs", None)
                failures = 0
            except (PacsError, *AWAY) as error:
                failures += 1
                known = isinstance(error, PacsError)
                what, why = ("pacs", str(error)) if known else ("database", "It does not answer.")
                self._pulse.trouble(what, why)
                if isinstance(error, PacsAwayError):
                    self._metrics.pacs_failed()
            pause_s = self._timing.backoff_s(failures) if failures else self._timing.poll_s
            self._wait(min(pause_s, 10 * self._timing.poll_s), "follower")

    def _keep_up(self) -> None:
        """Agree on the time, write the audit log, and now and then make the queue smaller."""
        next_cleaning = time.monotonic()
        while not self._ended.is_set():
            self._pulse.beat("upkeep")
            try:
                self._database.clock.sync()
                self._write_audit()
                if time.monotonic() >= next_cleaning:
                    self._outbox.forget_reports(self._keep_s)
                    next_cleaning = time.monotonic() + _CLEANING_S
            except AWAY:
                self._pulse.trouble("database", "It does not answer.")
            self._ended.wait(_UPKEEP_S)

    def _write_audit(self) -> None:
        try:
            while audit.write_out(self._database, self._audit):
                pass
            self._pulse.trouble("audit", None)
        except OutputError as error:
            # The events stay in the database until it can be written.
            self._pulse.trouble("audit", str(error))

    def _wait(self, seconds: float, name: str) -> None:
        """Wait, with signs of life."""
        while seconds > 0 and not self._ended.wait(min(seconds, _BEAT_S)):
            self._pulse.beat(name)
            seconds -= _BEAT_S
