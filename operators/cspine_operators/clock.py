"""What a study spends its time on, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import perf_counter


@dataclass(frozen=True)
class StageTime:
    """A stage that began, or (with its duration) ended."""

    name: str
    seconds: float | None = None


class StageClock:
    """Times the stages of one study and tells a listener; stages may run beside each other.

    Args:
        tell: called with a `StageTime` when a stage begins and when it has ended well.
    """

    def __init__(self, tell: Callable[[StageTime], None] | None = None) -> None:
        self._tell = tell or (lambda _: None)
        self._seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside the block as the stage `name`."""
        begin = perf_counter()
        with self._lock:
            self._tell(StageTime(name))
        yield
        with self._lock:
            self._seconds[name] = perf_counter() - begin
            self._tell(StageTime(name, self._seconds[name]))

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage that ended, in the order in which they did."""
        with self._lock:
            return dict(self._seconds)
