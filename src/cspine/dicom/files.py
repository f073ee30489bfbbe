"""The files behind an INPUT: a folder, a single file, a zip file or a DICOMDIR."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmread

from cspine.dicom.archive import unpack
from cspine.dicom.headers import Header, items, read_header, texts
from cspine.errors import InputError

DIRECTORY_STORAGE = "1.2.840.10008.1.3.10"


@contextmanager
def opened_input(source: Path) -> Iterator[tuple[Path, ...]]:
    """The files of an input, in a fixed order; an archive is unpacked for as long as the context lasts.

    Nothing is written beside the input.

    Raises:
        InputError: there is no such input, it cannot be read, or the archive cannot be unpacked safely.
    """
    kind = _kind(source)
    if kind == stat.S_IFDIR:
        yield _files_under(source)
    elif kind != stat.S_IFREG:
        raise InputError("The input is neither a file nor a folder; name a folder, a zip file or a DICOMDIR.")
    elif _is_zip(source):
        with TemporaryDirectory(prefix="cspine-") as folder:
            unpack(source, Path(folder))
            yield _files_under(Path(folder))
    elif _is_directory_file(source):
        # A DICOMDIR is only a hint: what counts is the files that stand beside it.
        yield _files_under(source.parent)
    else:
        yield (source,)


def _kind(source: Path) -> int:
    try:
        return stat.S_IFMT(source.stat().st_mode)
    except FileNotFoundError:
        raise InputError("The input does not exist; name a folder, a zip file or a DICOMDIR.") from None
    except OSError as error:
        raise InputError(f"The input cannot be read: {error.strerror or 'unknown error'}.") from None


def check_complete(paths: tuple[Path, ...]) -> None:
    """Check that every file that a DICOMDIR among them names is there.

    Raises:
        InputError: how many are missing.
    """
    present = {_folded(path) for path in paths}
    for path in paths:
        if path.name.upper() != "DICOMDIR":
            continue
        named = _named_by(path)
        missing = sum(_folded(path.parent.joinpath(*parts)) not in present for parts in named)
        if missing:
            raise InputError(
                f"The DICOMDIR names {len(named)} files and {missing} of them are missing; copy it whole."
            )


def _folded(path: Path) -> str:
    # Media are written in upper case and often copied to lower case.
    return str(path).casefold()


def _named_by(path: Path) -> list[tuple[str, ...]]:
    try:
        records = items(dcmread(path), "DirectoryRecordSequence")
    except Exception:
        raise InputError("The DICOMDIR is damaged; name the folder of the images without it.") from None
    return [parts for record in records if (parts := texts(record, "ReferencedFileID"))]


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            # A DICOM file may hold a zip file at its end, which is_zipfile alone would find.
            return file.read(2) == b"PK" and zipfile.is_zipfile(path)
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read: {error.strerror or 'unknown error'}.") from None


def _is_directory_file(path: Path) -> bool:
    return path.name.upper() == "DICOMDIR" or is_directory(read_header(path))


def is_directory(header: Header | None) -> bool:
    """Whether a file is a DICOMDIR."""
    return header is not None and header.sop_class == DIRECTORY_STORAGE


def _files_under(folder: Path) -> tuple[Path, ...]:
    """All files, in the order of their paths; links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"A folder of the input cannot be read: {error.strerror or 'unknown error'}."
        ) from None

    return tuple(
        sorted(
            Path(where, name)
            for where, _, names in os.walk(folder, onerror=refuse)
            for name in names
            if Path(where, name).is_file()
        )
    )
