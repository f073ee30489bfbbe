"""Decode the pixels of a file into Hounsfield units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from cspine.dicom.frames import Frame
from cspine.dicom.headers import Header, integer, text
from cspine.dicom.shear import AIR_HU, place_sheared
from cspine.errors import InputError
from cspine.volume import FloatArray

LOSSY: Final = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
"""Transfer syntaxes that (may) have changed the values."""
_PLUGINS: Final = {
    # The fastest of those that are bit-exact; .57 and .70 are JPEG lossless, .80 and .81 JPEG-LS, .90 and .91
    # JPEG 2000.
    "1.2.840.10008.1.2.5": "pylibjpeg",
    "1.2.840.10008.1.2.4.50": "gdcm",
    "1.2.840.10008.1.2.4.51": "gdcm",
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "gdcm",
    "1.2.840.10008.1.2.4.91": "gdcm",
    "1.2.840.10008.1.2.1": "",
    "1.2.840.10008.1.2.2": "",
    "1.2.840.10008.1.2": "",
    "1.2.840.10008.1.2.1.99": "",
}
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_UNDEFINED: Final = 0xFFFFFFFF
_INT16: Final = np.iinfo(np.int16)


@dataclass(frozen=True)
class PixelFormat:
    """How the stored values of a file are to be understood (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None

    @classmethod
    def of(cls, header: Header) -> PixelFormat:
        """The format of one file.

        Raises:
            InputError: the file does not describe its pixels, or in a way that no CT is stored.
        """
        dataset = header.dataset
        allocated, signed = integer(dataset, "BitsAllocated"), integer(dataset, "PixelRepresentation")
        rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
        if not rows or not columns or allocated not in (8, 16) or signed not in (0, 1):
            raise InputError(f"'{header.name}' does not describe its pixels as a CT has them; send it again.")
        stored = integer(dataset, "BitsStored") or allocated
        high = integer(dataset, "HighBit")
        high = stored - 1 if high is None else high
        if not stored <= high + 1 <= allocated:
            raise InputError(f"'{header.name}' contradicts itself about the bits of a pixel; send it again.")
        return cls(rows, columns, allocated, stored, high, signed == 1, _padding(header))

    @property
    def dtype(self) -> np.dtype[np.signedinteger | np.unsignedinteger]:
        """Of the stored values, little endian."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of an uncompressed frame."""
        return self.rows * self.columns * self.bits_allocated // 8


def _padding(header: Header) -> tuple[int, int] | None:
    """Padding value and limit as bit patterns: writers disagree with themselves about the sign."""
    value = integer(header.dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(header.dataset, "PixelPaddingRangeLimit")
    return value, value if limit is None else limit


def check_decodable(header: Header) -> None:
    """Check that the pixels of a file are of a kind that can be decoded.

    Raises:
        InputError: a transfer syntax (named) without a decoder, or pixels as no CT has them.
    """
    PixelFormat.of(header)
    if header.transfer_syntax not in _PLUGINS:
        name = UID(header.transfer_syntax).name
        raise InputError(
            f"The images are stored as '{name}' ({header.transfer_syntax}), which cannot be decoded; "
            "send them uncompressed or losslessly compressed."
        )


def read_frames(
    header: Header, frames: Sequence[Frame], planes: Sequence[NDArray[np.int16]], at_px: FloatArray | None
) -> None:
    """Decode frames of one file.

    Args:
        header: the file.
        frames: which, in the order in which they are wanted.
        planes: (rows, columns) HU for each; overwritten.
        at_px: (frames, 2) where each goes in a wider plane; None where it fills its plane.

    Raises:
        InputError: the file, by name, is truncated or cannot be decoded.
    """
    form = PixelFormat.of(header)
    narrow = planes
    if at_px is not None:
        narrow = [np.empty((form.rows, form.columns), np.int16)] * len(frames)
    found = _stored(header, form, [frame.index for frame in frames], narrow)
    for k, (frame, plane, stored) in enumerate(zip(frames, narrow, found, strict=True)):
        to_hounsfield(stored, form, frame, plane)
        if at_px is not None:
            place_sheared(plane, at_px[k], planes[k])


def read_plane(frame: Frame) -> NDArray[np.int16]:
    """Decode one frame; (rows, columns) HU."""
    plane = np.empty(frame.shape, np.int16)
    read_frames(frame.header, [frame], [plane], None)
    return plane


def to_hounsfield(
    stored: NDArray[np.integer], form: PixelFormat, frame: Frame, out: NDArray[np.int16]
) -> None:
    """Rescale stored values; padding and everything below air become -1024, halves are rounded to even.

    Args:
        stored: (rows, columns) as decoded; may be the same memory as `out`.
        form: what its bits mean.
        frame: holds slope and intercept.
        out: (rows, columns) HU, overwritten.
    """
    slope, intercept = frame.slope or 1.0, frame.intercept or 0.0
    padded = _padded(stored, form, slope, intercept)
    values = _meaningful_bits(stored, form)
    if slope == 1.0 and intercept == int(intercept) and _fits(values, form, intercept):
        # Modulo 2**16 the sum is right, since it fits.
        np.add(_as_int16(values), np.int64(intercept).astype(np.int16), out=out)
    else:
        hounsfield = np.rint(values * slope + intercept)
        out[...] = np.clip(hounsfield, _INT16.min, _INT16.max, out=hounsfield)
    np.maximum(out, AIR_HU, out=out)
    if padded is not None:
        out[padded] = AIR_HU


def _fits(values: NDArray[np.integer], form: PixelFormat, intercept: float) -> bool:
    """Whether the sums of values and intercept are 16-bit numbers: by the bits, else by looking."""
    highest = (1 << (form.bits_stored - int(form.signed))) - 1
    lowest = -highest - 1 if form.signed else 0
    if lowest + intercept >= _INT16.min and highest + intercept <= _INT16.max:
        return True
    return int(values.min()) + intercept >= _INT16.min and int(values.max()) + intercept <= _INT16.max


def _as_int16(values: NDArray[np.integer]) -> NDArray[np.int16]:
    return values.view(np.int16) if values.dtype.itemsize == 2 else values.astype(np.int16)


def _padded(
    stored: NDArray[np.integer], form: PixelFormat, slope: float, intercept: float
) -> NDArray[np.bool_] | None:
    """Where the padding is; None where there is none or where it is below air anyway."""
    if form.padding is None:
        return None
    first, last = sorted(int(np.array(edge).astype(stored.dtype)) for edge in form.padding)
    if max(first * slope, last * slope) + intercept <= AIR_HU:
        return None
    return np.asarray((stored >= first) & (stored <= last))


def _meaningful_bits(stored: NDArray[np.integer], form: PixelFormat) -> NDArray[np.integer]:
    """The bits that are pixels, sign-extended: others may hold overlays (PS3.5 8.1.1)."""
    above, unused = form.bits_allocated - 1 - form.high_bit, form.bits_allocated - form.bits_stored
    if unused == 0:
        return stored
    bits: NDArray[np.integer]
    if not form.signed and above == unused:
        bits = np.bitwise_and(stored, stored.dtype.type((1 << form.bits_stored) - 1))
    else:
        bits = np.right_shift(np.left_shift(stored, above), unused)
    return bits


def _stored(
    header: Header, form: PixelFormat, wanted: list[int], planes: Sequence[NDArray[np.int16]]
) -> Iterable[NDArray[np.integer]]:
    """Frames of a file as they are stored, (rows, columns) each; may use the memory of `planes`."""
    check_decodable(header)
    if header.transfer_syntax in (_IMPLICIT, _EXPLICIT):
        # Reading to where the slice will be saves a copy of every slice.
        buffers = [
            plane.view(form.dtype) if form.dtype.itemsize == 2 else np.empty(plane.shape, form.dtype)
            for plane in planes
        ]
        return _native(header, form, wanted, buffers)
    return _decoded(header, form, wanted)


def _native(
    header: Header, form: PixelFormat, wanted: list[int], buffers: Sequence[NDArray[np.integer]]
) -> Iterable[NDArray[np.integer]]:
    """Uncompressed little-endian frames, straight from the file."""
    if header.pixels_at is None:
        raise InputError(f"'{header.name}' holds no pixels; it is truncated, or only a header was sent.")
    with _opened(header) as file:
        file.seek(header.pixels_at)
        begin, length = _value(file, header)
        for index, buffer in zip(wanted, buffers, strict=True):
            offset = index * form.frame_bytes
            file.seek(begin + offset)
            if offset + form.frame_bytes > length or file.readinto(buffer.data) != form.frame_bytes:
                raise InputError(f"'{header.name}' is truncated: pixels are missing; send it again.")
            yield buffer


def _opened(header: Header) -> FileIO:
    try:
        return header.path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"'{header.name}' cannot be read: {error.strerror or 'unknown error'}.") from None


def _value(file: FileIO, header: Header) -> tuple[int, int]:
    """Where the value of the Pixel Data element begins, and its length."""
    assert header.pixels_at is not None
    explicit = header.transfer_syntax == _EXPLICIT
    head = file.read(12 if explicit else 8)
    length = int.from_bytes(head[-4:], "little")
    # An undefined length is for encapsulated pixels only (PS3.5 A.4).
    return header.pixels_at + len(head), 0 if length == _UNDEFINED else length


def _decoded(header: Header, form: PixelFormat, wanted: list[int]) -> Iterable[NDArray[np.integer]]:
    """Frames that need a decoder (or another byte order)."""
    try:
        dataset = dcmread(header.path, force=True)
        if text(dataset, "SOPClassUID") and "PixelData" not in dataset:
            raise InputError(f"'{header.name}' holds no pixels; it is truncated, or only a header was sent.")
        decoder = get_decoder(UID(header.transfer_syntax))
        plugin = _PLUGINS[header.transfer_syntax]
        for index in wanted:
            decoded, _ = decoder.as_array(dataset, index=index, raw=True, decoding_plugin=plugin)
            if decoded.shape != (form.rows, form.columns):
                raise ValueError("another matrix than the header's")
            yield decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
    except InputError:
        raise
    except Exception:
        name = UID(header.transfer_syntax).name
        raise InputError(
            f"The pixels of '{header.name}' ({name}) cannot be decoded; it may be truncated, send it again."
        ) from None
