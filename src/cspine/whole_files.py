"""Writing a file at once or not at all, for runs that are killed and disks that fill."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from cspine.errors import OutputError


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path` and put it there when it is complete.

    Args:
        path: where; missing folders are made.
        write: writes the content into the open file.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk by a RuntimeError
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(
            f"'{path}' cannot be written (is the disk full or the folder read-only?): make room or name "
            "another folder."
        ) from error


def write_text(text: str, path: Path) -> None:
    """Write a text and a line's end, at once or not at all.

    Raises:
        OutputError: as `write_whole`.
    """
    write_whole(path, lambda file: file.write((text + "\n").encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, at once or not at all.

    Raises:
        OutputError: as `write_whole`.
    """
    write_text(json.dumps(content, indent=1), path)
