"""Leases: a case that one annotator was given is given to nobody else for a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cspine.whole_files import write_json

LEASE_S: Final = 3600.0
"""How long a case stays with an annotator who does nothing more with it."""


class Leases:
    """Who has which case, until when; kept in a file, so that a restarted server knows."""

    def __init__(self, file: Path, seconds: float = LEASE_S, clock: Callable[[], float] = time.time) -> None:
        self._file, self._seconds, self._clock = file, seconds, clock
        self._lock = threading.RLock()
        self._held: dict[str, tuple[str, float]] = {}
        if file.exists():
            self._held = {
                case: (who, float(until)) for case, (who, until) in json.loads(file.read_text()).items()
            }

    def holder(self, case_id: str) -> str | None:
        """Who has a case now; None when it is free."""
        who, until = self._held.get(case_id, ("", 0.0))
        return who if until > self._clock() else None

    def free_for(self, who: str, case_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the cases that nobody else has."""
        return tuple(case for case in case_ids if self.holder(case) in (None, who))

    def take(self, case_id: str, who: str) -> bool:
        """Give a case to `who` if it is free; whatever `who` had before becomes free."""
        with self._lock:
            if self.holder(case_id) not in (None, who):
                return False
            now = self._clock()
            kept = {case: held for case, held in self._held.items() if held[0] != who and held[1] > now}
            self._held = {**kept, case_id: (who, now + self._seconds)}
            self._write()
            return True

    def renew(self, case_id: str, who: str) -> None:
        """Give `who` the full time again, where the case is theirs."""
        with self._lock:
            if self.holder(case_id) == who:
                self._held[case_id] = (who, self._clock() + self._seconds)
                self._write()

    def release(self, case_id: str) -> None:
        """The case was finished."""
        with self._lock:
            if self._held.pop(case_id, None) is not None:
                self._write()

    def all(self) -> dict[str, str]:
        """Who has what."""
        return {case: who for case in dict(self._held) if (who := self.holder(case))}

    def _write(self) -> None:
        write_json(self._file, {case: list(held) for case, held in self._held.items()})
