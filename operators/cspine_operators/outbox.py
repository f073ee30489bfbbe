"""Where the writing operators leave their files, and how the application knows that all of them did."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from cspine.errors import CspineError, OutputError


class Outbox:
    """A private folder that fills with one study's files.

    Holoscan returns from ``run()`` as if all were well when an operator emitted nothing, so every writing
    operator records here that it is done, and the application asks for all of them.

    Args:
        folder: an existing folder of this study alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: set[str] = set()
        self._lock = Lock()

    def write(self, name: str, data: bytes) -> None:
        """Write one file, completely or not at all.

        Raises:
            OutputError: the temporary folder is full or cannot be written.
        """
        path = self._folder / name
        try:
            path.write_bytes(data)
        except OSError as error:
            path.unlink(missing_ok=True)
            reason = os.strerror(error.errno) if error.errno else "unknown reason"
            raise OutputError(
                f"The temporary folder cannot take {name} ({reason}); make room there or set TMPDIR."
            ) from None

    def record(self, stage: str) -> None:
        """Say that a writing stage has left all its files."""
        with self._lock:
            self._done.add(stage)

    def require(self, *stages: str) -> None:
        """Check that each of these stages recorded its result.

        Raises:
            CspineError: one did not: the graph ended early without an error.
        """
        missing = [stage for stage in stages if stage not in self._done]
        if missing:
            raise CspineError(
                f"The graph ended without a result of {', '.join(missing)}; please report this defect."
            )
