"""multipart/related, the way DICOMweb moves files (PS3.18 8.6.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from fracture_map.watch.states import PacsError

BOUNDARY: Final = "fracture-map-3f1c0d9a7be24d55"


def body_of(data: bytes) -> bytes:
    """The body that stores one file."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return head + data + f"\r\n--{BOUNDARY}--\r\n".encode()


STORE_TYPE: Final = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def save_parts(content_type: str, chunks: Iterable[bytes], folder: Path, prefix: str) -> int:
    """Write every part of a body to a file of its own, byte for byte, as it comes.

    Args:
        content_type: of the whole.
        chunks: the body.
        folder: for the files.
        prefix: their names begin with it.

    Returns:
        How many there were.

    Raises:
        PacsError: it is not multipart, or ends too early.
        OSError: a file cannot be written.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/related" or b"boundary" not in options:
        raise PacsError("The PACS sent something else than multipart/related; check the address of DICOMweb.")
    files = _Files(folder, prefix)
    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_part_begin": files.begin,
            "on_part_data": files.add,
            "on_part_end": files.end,
            "on_end": files.done,
        },
    )
    try:
        for chunk in chunks:
            parser.write(chunk)
    except MultipartParseError:
        raise PacsError(
            "What the PACS sent breaks off or is no multipart/related; it is asked again."
        ) from None
    finally:
        files.close()
    if not files.complete:
        raise PacsError("What the PACS sent breaks off; it is asked again.")
    return files.count


class _Files:
    """Takes the parts as the parser finds them."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._file: BinaryIO | None = None
        self.count = 0
        self.complete = False

    def begin(self) -> None:
        self.count += 1
        self._file = (self._folder / f"{self._prefix}{self.count:06d}.dcm").open("xb")

    def add(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(data[start:end])

    def end(self) -> None:
        self.close()

    def done(self) -> None:
        self.complete = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
