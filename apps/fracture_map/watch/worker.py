"""A worker: claims a study, analyses it, sends its result, and again."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from cspine.errors import CspineError
from fracture_map.supervise import StopFlag
from fracture_map.watch.analysis import Analysis
from fracture_map.watch.claims import Claim, Claims
from fracture_map.watch.database import AWAY
from fracture_map.watch.outbox import Outbox
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.pulse import Pulse
from fracture_map.watch.settings import Timing
from fracture_map.watch.spool import Spool, is_full
from fracture_map.watch.states import (
    ClaimLostError,
    PacsAwayError,
    PacsError,
    PacsRefusedError,
    State,
)

log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
_ENDED = "The watcher ended {} times while it worked on this study; look at its memory and its log."
_NOT_LISTED = "The PACS took a result but does not list it; it is looked for again."


@dataclass(frozen=True)
class Worker:
    """One worker; any number of them, in any number of processes, share one queue.

    Attributes:
        name: for its signs of life.
        claims, outbox: of the queue.
        analysis: of one study.
        pacs: where results go.
        spool: that must have room.
        timing: of leases and retries.
        pulse: hears how it is.
    """

    name: str
    claims: Claims
    outbox: Outbox
    analysis: Analysis
    pacs: Pacs
    spool: Spool
    timing: Timing
    pulse: Pulse
    _stop: threading.Event = field(default_factory=threading.Event)
    _run: StopFlag = field(default_factory=StopFlag)

    def stop(self) -> None:
        """Ask it to end; a study at hand is given back."""
        self._stop.set()
        self._run.signal = signal.SIGTERM

    def work(self) -> None:
        """Work until `stop`."""
        failures = 0
        while not self._stop.is_set():
            self.pulse.beat(self.name)
            try:
                busy = self.turn()
                failures = 0
                if not busy:
                    self._stop.wait(_IDLE_S)
            except (PacsAwayError, *AWAY, OSError) as error:
                failures += 1
                self._note(error)
                self._pause(self.timing.backoff_s(failures))

    def turn(self) -> bool:
        """Do one study, as far as it goes now; returns whether there was one.

        Raises:
            PacsAwayError, OSError, errors of `AWAY`: something that every study needs is not there.
        """
        if not self.spool.has_room():
            self.pulse.trouble(
                "spool", "There is too little room for images; nothing is fetched until there is."
            )
            return False
        self.pulse.trouble("spool", None)
        claim = self.claims.take()
        self.pulse.trouble("database", None)
        if claim is None:
            return False
        try:
            with self._kept_alive(claim):
                self._advance(claim)
            self.pulse.trouble("pacs", None)
        except ClaimLostError:
            log.warning("study %d was taken over by another worker", claim.id)
        except PacsAwayError as error:
            self.claims.give_back(claim, str(error), self.timing.retry_s)
            raise
        except (PacsError, PacsRefusedError) as error:
            self._try_again(claim, error)
        except OSError:
            self.claims.give_back(claim, "The spool could not take its images.", self.timing.retry_s)
            raise
        return True

    def _advance(self, claim: Claim) -> None:
        if claim.attempts > self.timing.max_attempts:
            self.claims.bury(claim, _ENDED.format(claim.attempts - 1))
        elif claim.state is State.STORING or self.analysis.run(claim, self._run):
            self._send(claim)

    def _send(self, claim: Claim) -> None:
        """Send what the PACS does not have yet, the report last; only then is it the current result."""
        waiting = self.outbox.unsent(claim)
        for item in waiting:
            if not self.pacs.holds(claim.study_uid, item.series_uid, item.sop_uid):
                self.pacs.store(claim.study_uid, item.data)
        if not all(self.pacs.holds(claim.study_uid, item.series_uid, item.sop_uid) for item in waiting):
            raise PacsRefusedError(_NOT_LISTED)
        self.outbox.sent(claim)

    def _try_again(self, claim: Claim, error: CspineError) -> None:
        if claim.attempts >= self.timing.max_attempts:
            self.claims.bury(claim, str(error))
        else:
            self.claims.retry(claim, str(error), self.timing.backoff_s(claim.attempts))

    @contextmanager
    def _kept_alive(self, claim: Claim) -> Iterator[None]:
        """Renew the lease while the block runs; end the analysis when the study was lost."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self.claims.lease_s / 3):
                self.pulse.beat(self.name)
                try:
                    self.claims.renew(claim)
                except ClaimLostError:
                    self._run.signal = signal.SIGTERM
                    return
                except AWAY as error:
                    self._note(error)  # tried again in time; else the lease runs out and that is noticed

        keeper = threading.Thread(target=renew, name=f"{self.name}-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
            if not self._stop.is_set():
                self._run.signal = None

    def _note(self, error: Exception) -> None:
        if isinstance(error, PacsAwayError):
            self.pulse.trouble("pacs", str(error))
        elif isinstance(error, AWAY):
            self.pulse.trouble("database", f"The database does not answer ({type(error).__name__}).")
        elif isinstance(error, OSError) and is_full(error):
            self.pulse.trouble("spool", "The spool is full; make room, what is waiting is tried again.")
        else:
            self.pulse.trouble("spool", f"The spool cannot be used ({type(error).__name__}).")

    def _pause(self, seconds: float) -> None:
        """Wait, with signs of life."""
        while seconds > 0 and not self._stop.wait(min(seconds, _IDLE_S)):
            self.pulse.beat(self.name)
            seconds -= _IDLE_S
