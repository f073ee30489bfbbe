"""Looks at the PACS again and again, and tells the queue what it sees."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fracture_map.watch.intake import Intake
from fracture_map.watch.orthanc import OrthancChanges
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.rules import Rules
from fracture_map.watch.settings import Timing
from fracture_map.watch.states import PacsAwayError, PacsError

_RECENT: Final = datetime.timedelta(days=1)


@dataclass
class Follower:
    """Follows one PACS.

    Orthanc's changes tell of a study within seconds and say when it is stable; any other server is asked for
    the studies of the last days instead. Either can miss one (Orthanc was restarted at the wrong moment, an
    old study was added to), so less often all studies that are young enough are looked at.

    Attributes:
        pacs: to look at.
        intake: to tell.
        rules: which studies are wanted.
        timing: how often.
        changes: of Orthanc; None for any other server.
        beat: is called for every study, for a turn may take minutes.
    """

    pacs: Pacs
    intake: Intake
    rules: Rules
    timing: Timing
    changes: OrthancChanges | None
    beat: Callable[[], None]
    _last_sweep: float | None = None

    def turn(self) -> None:
        """Look once.

        Raises:
            PacsAwayError: the PACS does not answer; the next turn goes on.
            PacsError: the last thing that was wrong with what it says of single studies.
        """
        problem: PacsError | None = None
        for page in self.changes.pages() if self.changes is not None else ():
            problem = self._look_at({change.study_uid: change.stable for change in page}) or problem
        due = self._last_sweep is None or time.monotonic() - self._last_sweep >= self.timing.sweep_s
        found = dict.fromkeys([*self._listed(due), *self.intake.arriving()], False)
        problem = self._look_at(found) or problem
        if due:
            self._last_sweep = time.monotonic()
        if problem is not None:
            raise problem

    def _listed(self, due: bool) -> list[str]:
        """Studies that the PACS lists, and that hold more or less than when they were last looked at.

        The first time it is all of them, for the rules may have changed since the watcher last ran.
        """
        if not due and self.changes is not None:
            return []
        window = self.pacs.changed_counts(
            self.rules.since(_today()) if due else f"{_today() - _RECENT:%Y%m%d}"
        )
        first = self._last_sweep is None
        return [uid for uid, number in window if first or not self.intake.is_known(uid, number)]

    def _look_at(self, studies: Mapping[str, bool]) -> PacsError | None:
        """Look at studies, each with whether it is known to be stable; a bad one stops no other."""
        problem: PacsError | None = None
        for uid, stable in studies.items():
            try:
                self._look(uid, stable=stable)
            except PacsAwayError:
                raise
            except PacsError as error:
                problem = error
        return problem

    def _look(self, uid: str, *, stable: bool) -> None:
        self.beat()
        seen = self.pacs.look(uid)
        if seen is None:
            self.intake.gone(uid)
        else:
            self.intake.observe(seen, self.rules.refusal(seen, _today()), stable=stable)


def _today() -> datetime.date:
    return datetime.datetime.now().astimezone().date()
