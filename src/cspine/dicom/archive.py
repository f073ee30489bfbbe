"""Unpack a zip file that may have been made to do harm."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from cspine.errors import InputError

MAX_FILES: Final = 20_000
"""Files in an archive; the largest CT studies have some thousands of images."""
MAX_BYTES: Final = 8 * 2**30
"""Bytes that are written, whatever the archive says they are."""
MAX_RATIO: Final = 200
"""Bytes written for each byte of the archive; a CT that is mostly air reaches 30."""
RATIO_FREE_BYTES: Final = 256 * 2**20
"""As many bytes are written before their ratio matters: small phantoms are mostly zeros."""
_BLOCK: Final = 2**20


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive into an empty folder.

    Raises:
        InputError: the archive is damaged, encrypted, holds links or names that lead elsewhere, or more than
            a study can hold.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if len(members) > MAX_FILES:
                raise InputError(f"The zip file holds {len(members)} files; at most {MAX_FILES} are read.")
            paths = [_safe_path(member) for member in members]
            limit = max(RATIO_FREE_BYTES, min(MAX_BYTES, MAX_RATIO * archive.stat().st_size))
            for member, path in zip(members, paths, strict=True):
                limit -= _write(opened, member, folder / path, limit)
    except InputError:
        raise
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise InputError(f"The zip file cannot be unpacked into the temporary folder: {reason}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError):
        raise InputError("The zip file is damaged or of an unusual kind; pack the study again.") from None


def _safe_path(member: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member goes, relative to the folder."""
    if member.flag_bits & 0x1:
        raise InputError("The zip file is encrypted; pack the study without a password.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise InputError("The zip file holds a link or a special file; pack the images themselves.")
    parts = member.orig_filename.replace("\\", "/").split("/")
    if any(part in ("", ".", "..") or "\0" in part or part.endswith(":") for part in parts):
        raise InputError("The zip file holds a name that leads out of it; pack the study's folder again.")
    return PurePosixPath(*parts)


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, limit: int) -> int:
    """Write one member, counting what comes out rather than what the archive says; its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(member) as source, path.open("xb") as target:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise InputError(
                    "The zip file unpacks to far more than a study of its size; pack the study's images only."
                )
            target.write(block)
    return written
