"""Signs of life of the threads of the watcher, and what troubles them."""

from __future__ import annotations

import threading
import time
from typing import Final

ALIVE_S: Final = 60.0
"""A thread that waits gives a sign of life at least this often."""


class Pulse:
    """Kept by the threads, read by /healthz and /metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_beat: dict[str, float] = {}
        self._troubles: dict[str, str] = {}

    def beat(self, thread: str) -> None:
        """Give a sign of life."""
        with self._lock:
            self._last_beat[thread] = time.monotonic()

    def trouble(self, what: str, sentence: str | None) -> None:
        """Say what is wrong with something that the watcher needs; None: all is well again."""
        with self._lock:
            if sentence is None:
                self._troubles.pop(what, None)
            else:
                self._troubles[what] = sentence

    def silent(self) -> list[str]:
        """The threads that gave no sign of life for too long."""
        with self._lock:
            limit = time.monotonic() - ALIVE_S
            return sorted(name for name, beat in self._last_beat.items() if beat < limit)

    def troubles(self) -> dict[str, str]:
        """What is wrong, by what it is wrong with."""
        with self._lock:
            return dict(self._troubles)
