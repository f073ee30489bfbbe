"""The doubts of a network about every case, found in the background, kept with the weights they are of."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cspine.errors import CspineError
from cspine.whole_files import write_json
from cspine_label.uncertainty import Doubt

log = logging.getLogger(__name__)

AT_ONCE: Final = 50
"""Scoring a case of a PACS fetches its images: not all of a hospital at the first question."""


class Ranking:
    """Doubts by case.

    Args of the constructor: the file where they are kept; what finds the doubt of one case; what names the
    weights in use.
    """

    def __init__(self, file: Path, doubt: Callable[[str], Doubt], weights: Callable[[], str]) -> None:
        self._file, self._doubt, self._weights = file, doubt, weights
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._running: Future[None] | None = None
        self._known: dict[str, dict[str, dict[str, float]]] = (
            json.loads(file.read_text("utf-8")) if file.exists() else {}
        )

    def scores(self, kind: str) -> dict[str, float]:
        """One of uncertainty, tta, disagreement, of the cases scored with the weights in use."""
        known = self._known.get(self._weights(), {})
        return {case: doubt[kind] for case, doubt in dict(known).items()}

    def start(self, cases: Sequence[str]) -> Future[None]:
        """Score cases that are not scored yet, one after the other, in the background; `AT_ONCE` at most."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = self._worker.submit(self._score, tuple(cases))
            return self._running

    def scored(self) -> frozenset[str]:
        """The cases scored with the weights in use."""
        return frozenset(self._known.get(self._weights(), {}))

    @property
    def is_running(self) -> bool:
        """Whether cases are being scored now."""
        return self._running is not None and not self._running.done()

    def close(self) -> None:
        """Let the thread end after the case it is at."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _score(self, cases: tuple[str, ...]) -> None:
        known = self.scored()
        for case in [case for case in cases if case not in known][:AT_ONCE]:
            weights = self._weights()
            try:
                doubt = self._doubt(case)
            except CspineError as error:
                # A case that cannot be analysed is no reason to leave the others unscored.
                log.warning("a case could not be scored: %s", error)
                continue
            with self._lock:
                self._known = {weights: {**self._known.get(weights, {}), case: asdict(doubt)}}
                write_json(self._file, self._known)
