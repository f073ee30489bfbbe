"""Looks at the PACS again and again, and tells the queue what it sees."""

from __future__ import annotations

import datetime
import time

from fracture_map.watch.intake import Intake
from fracture_map.watch.orthanc import OrthancChanges
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.rules import Rules
from fracture_map.watch.settings import Timing
from fracture_map.watch.states import PacsAwayError, PacsError


class Follower:
    """Follows one PACS.

    Orthanc's changes tell of a study within seconds and say when it is stable. They are no longer told when
    Orthanc was restarted at the wrong moment, so all recent studies are looked at as well, less often; with
    any other server that is the only way.

    Args:
        pacs: to look at.
        intake: to tell.
        rules: which studies are wanted.
        timing: how often.
        changes: of Orthanc; None for any other server.
    """

    def __init__(
        self, pacs: Pacs, intake: Intake, rules: Rules, timing: Timing, changes: OrthancChanges | None
    ) -> None:
        self._pacs, self._intake, self._rules, self._timing = pacs, intake, rules, timing
        self._changes = changes
        self._last_sweep: float | None = None

    def turn(self) -> None:
        """Look once.

        Raises:
            PacsAwayError: the PACS does not answer; the next turn goes on.
            PacsError: the last thing that was wrong with what it says of single studies.
        """
        if self._changes is not None:
            for page in self._changes.pages():
                for change in page:
                    self._look(change.study_uid, stable=change.stable)
        problem: PacsError | None = None
        for uid in dict.fromkeys([*self._unknown(), *self._intake.arriving()]):
            try:
                self._look(uid)
            except PacsAwayError:
                raise
            except PacsError as error:
                problem = error
        if problem is not None:
            raise problem

    def _unknown(self) -> list[str]:
        """Studies of the window that hold more or less than when they were last looked at.

        The first time it is all of them, for the rules may have changed since the watcher last ran.
        """
        first = self._last_sweep is None
        every_s = self._timing.sweep_s if self._changes is not None else 0.0
        if self._last_sweep is not None and time.monotonic() - self._last_sweep < every_s:
            return []
        window = self._pacs.changed_counts(self._rules.since(_today()))
        found = [uid for uid, number in window if first or not self._intake.is_known(uid, number)]
        self._last_sweep = time.monotonic()
        return found

    def _look(self, uid: str, *, stable: bool = False) -> None:
        seen = self._pacs.look(uid)
        if seen is None:
            self._intake.gone(uid)
        else:
            self._intake.observe(seen, self._rules.refusal(seen, _today()), stable=stable)


def _today() -> datetime.date:
    return datetime.datetime.now().astimezone().date()
