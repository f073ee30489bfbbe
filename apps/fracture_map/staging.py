"""The private folder in which a result is gathered before it is published."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cspine.errors import OutputError


@contextmanager
def staging_folder() -> Iterator[Path]:
    """A private temporary folder, gone after the block.

    Raises:
        OutputError: there is no room for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="fracture-map-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _temporary_folder_error(error) from None
    with folder as path:
        yield Path(path)


def write_staged(path: Path, data: bytes) -> None:
    """Write one file of a result.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _temporary_folder_error(error) from None


def _temporary_folder_error(error: OSError) -> OutputError:
    reason = os.strerror(error.errno) if error.errno else "unknown reason"
    return OutputError(f"The temporary folder cannot be written ({reason}); make room there or set TMPDIR.")
