"""The folder for images while they are analysed."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cspine.errors import OutputError

_OWN: Final = "watcher-"
_TEMPORARY_BYTES: Final = 256_000_000
"""What a result and its making take, generously."""


class Spool:
    """A folder of this process in the spool; what killed processes left there is taken away first.

    Args:
        root: the spool, for any number of watchers on this machine.
        min_free_gb: with less room no study is fetched.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, root: Path, min_free_gb: float) -> None:
        self._min_free_bytes = min_free_gb * 1e9
        try:
            root.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(root)
            self._path = root / f"{_OWN}{secrets.token_hex(8)}"
            self._path.mkdir(mode=0o700)
            self._lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"The spool '{root}' cannot be written ({error.strerror}); name another --state."
            ) from None

    def close(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)

    def has_room(self) -> bool:
        """Whether a study may be fetched."""
        return shutil.disk_usage(self._path).free >= self._min_free_bytes

    def is_starved(self) -> bool:
        """Whether an analysis may have failed for want of room, here or in the temporary folder."""
        return not self.has_room() or shutil.disk_usage(tempfile.gettempdir()).free < _TEMPORARY_BYTES

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A private folder for one study, gone after the block."""
        with tempfile.TemporaryDirectory(dir=self._path, ignore_cleanup_errors=True) as path:
            yield Path(path)


def is_full(error: OSError) -> bool:
    """Whether an error means that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _remove_abandoned(root: Path) -> None:
    """Take away the folders of processes that no longer run: nobody holds their locks."""
    for path in root.glob(f"{_OWN}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # another watcher works there
        finally:
            os.close(lock)
