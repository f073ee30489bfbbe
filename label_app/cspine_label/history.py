"""What was asked and what was answered: one line of JSON for each case given out, saved or skipped."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from cspine.errors import OutputError


class History:
    """An append-only file of events."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()

    def note(self, event: str, **what: Any) -> None:
        """Append an event.

        Raises:
            OutputError: the file cannot be written.
        """
        line = json.dumps({"at": round(time.time(), 3), "event": event, **what})
        try:
            with self._lock, self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise OutputError(f"'{self._file}' cannot be written: is the disk full?") from error

    def events(self, last: int = 200) -> list[dict[str, Any]]:
        """The last events, oldest first; a line that was cut by a crash is left out."""
        if not self._file.exists():
            return []
        found = []
        for line in self._file.read_text("utf-8").splitlines()[-last:]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found
