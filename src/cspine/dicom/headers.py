"""Read the header of a DICOM file, and values from it, quickly and without a word about the patient.

A study has hundreds of headers. pydicom parses their values one by one when asked, with checks that warn by
quoting the value: so the few numbers that are needed here are taken from the undecoded bytes instead.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import ClassVar, Final

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from cspine.errors import InputError

_PIXEL_DATA: Final = (bytes.fromhex("e07f1000"), bytes.fromhex("7fe00010"))
_TALKATIVE: Final = ("pydicom", "highdicom")
_PREAMBLE: Final = 132
_SHORT_VR: Final = {b"SH", b"LO", b"CS", b"UI", b"UL", b"US", b"DA", b"TM", b"PN"}


@dataclass(frozen=True, eq=False)
class Header:
    """One DICOM file without its pixels.

    Attributes:
        path: the file.
        dataset: everything before the pixels; values are parsed by pydicom when first asked for.
        pixels_at: byte of the file where the Pixel Data element begins; None where the file has none.
    """

    path: Path
    dataset: FileDataset
    pixels_at: int | None

    @property
    def name(self) -> str:
        """The file's name, without its folders."""
        return self.path.name

    @property
    def is_deflated(self) -> bool:
        """Whether the data set is compressed as a whole, so that no place in the file can be named."""
        return self.transfer_syntax == "1.2.840.10008.1.2.1.99"

    @property
    def transfer_syntax(self) -> str:
        """Transfer Syntax UID; implicit little endian where the file does not say (PS3.5 10.1)."""
        return str(self.dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))

    @property
    def sop_class(self) -> str:
        """SOP Class UID, of the data set or else of the file meta information."""
        return text(self.dataset, "SOPClassUID") or str(
            self.dataset.file_meta.get("MediaStorageSOPClassUID", "")
        )


def read_header(path: Path) -> Header | None:
    """Read one file's header.

    Returns:
        The header, or None where the file is not DICOM at all.

    Raises:
        InputError: the file begins as DICOM but its header cannot be read, or it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(_PREAMBLE + 8)
            if begin[128:_PREAMBLE] != b"DICM" and not _begins_with_an_element(begin):
                return None
            file.seek(0)
            dataset = dcmread(file, stop_before_pixels=True, force=True)
            at = file.tell()
            # In a deflated file `at` counts in the inflated stream; the pixels are read by pydicom then.
            pixels_at = at if file.read(4) in _PIXEL_DATA else None
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read: {error.strerror or 'input/output error'}.") from None
    except Exception:
        raise InputError(
            f"'{path.name}' begins as DICOM, but its header is damaged; send it again."
        ) from None
    header = Header(path, dataset, pixels_at)
    if not header.sop_class:
        raise InputError(f"'{path.name}' begins as DICOM, but its header is damaged; send it again.")
    return header


def _begins_with_an_element(begin: bytes) -> bool:
    # A file without preamble begins with group 2 or 8, little endian, and a small value or a VR.
    group, element = begin[0:2], int.from_bytes(begin[2:4], "little")
    if group not in (b"\x02\x00", b"\x08\x00") or element > 0x18:
        return False
    return begin[4:6] in _SHORT_VR or int.from_bytes(begin[4:8], "little") < 1024


class _Quiet:
    """What was set before pydicom was silenced, and how many rely on the silence."""

    lock = threading.Lock()
    depth = 0
    warnings = warnings.catch_warnings()
    levels: ClassVar[dict[str, int]] = {}


@contextmanager
def quietly() -> Iterator[None]:
    """Silence pydicom and highdicom, whose warnings and log lines quote names and identifiers.

    Safe between threads: the first to enter silences, the last to leave lifts it.
    """
    with _Quiet.lock:
        _Quiet.depth += 1
        if _Quiet.depth == 1:
            _silence()
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0:
                _speak()


def _silence() -> None:
    _Quiet.warnings = warnings.catch_warnings()
    _Quiet.warnings.__enter__()
    warnings.simplefilter("ignore")
    for name in _TALKATIVE:
        _Quiet.levels[name] = logging.getLogger(name).level
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _speak() -> None:
    _Quiet.warnings.__exit__(None, None, None)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(_Quiet.levels[name])


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@cache
def _vr(keyword: str) -> str:
    return dictionary_VR(Tag(keyword))


def _raw(dataset: Dataset, keyword: str) -> object:
    tag = _tag(keyword)
    element = dataset.get_item(tag) if tag in dataset else None
    if element is None:
        return None
    value: object = element.value if isinstance(element, RawDataElement) else dataset[tag].value
    return value


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a text attribute, stripped; empty where it is absent or empty.

    Only for attributes in the default character repertoire (codes, UIDs, numbers as text).
    """
    raw = _raw(dataset, keyword)
    if raw is None:
        return ()
    if isinstance(raw, bytes):
        values = raw.decode("latin-1").strip(" \0")
        return tuple(value.strip(" \0") for value in values.split("\\")) if values else ()
    if isinstance(raw, str) or not isinstance(raw, Iterable):
        return (str(raw).strip(" \0"),) if str(raw).strip(" \0") else ()
    return tuple(str(value).strip(" \0") for value in raw)


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of a text attribute, stripped; "" where it is absent."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The values of a decimal-string or floating-point attribute.

    Returns:
        Exactly `count` finite numbers; None where the attribute is absent or holds anything else.
    """
    raw = _raw(dataset, keyword)
    try:
        if isinstance(raw, bytes) and _vr(keyword) in ("DS", "IS"):
            values = tuple(float(value) for value in texts(dataset, keyword))
        else:
            values = _floats(None if raw is None else dataset[keyword].value)
    except (ValueError, TypeError):
        return None
    return values if len(values) == count and all(isfinite(value) for value in values) else None


def _floats(value: object) -> tuple[float, ...]:
    if value is None:
        return ()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(float(item) for item in value)
    return (float(str(value)),)


def number(dataset: Dataset, keyword: str) -> float | None:
    """One number; None where the attribute is absent or holds anything else."""
    found = numbers(dataset, keyword, 1)
    return found[0] if found else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """One whole number; None where the attribute is absent or holds anything else."""
    raw = _raw(dataset, keyword)
    if isinstance(raw, bytes) and _vr(keyword) == "US or SS":
        # Which of the two depends on the pixels (PS3.5 A.1): the caller takes it as a pattern of bits.
        little = getattr(dataset.get_item(_tag(keyword)), "is_little_endian", True)
        return int.from_bytes(raw[:2], "little" if little else "big")
    found = number(dataset, keyword)
    return int(found) if found is not None and found == int(found) else None


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; empty where it is absent."""
    value = dataset.get(keyword)
    return tuple(value) if isinstance(value, Sequence) else ()
