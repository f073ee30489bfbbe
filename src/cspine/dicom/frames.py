"""One frame of a CT: where it lies, and how its stored values become Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cspine.dicom.headers import Header, integer, number, numbers, text

Numbers = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame; what the file does not say is None.

    Attributes:
        header: the file it is in.
        index: which frame of the file, from 0.
        position_lps_mm: (3,) centre of the first pixel.
        orientation: (6,) direction along a row, then down a column (Image Orientation (Patient)).
        spacing_mm: (2,) distance of the rows, then of the columns.
        slope, intercept: of the rescaling to Hounsfield units.
        thickness_mm: nominal slice thickness.
        acquisition: Acquisition Number.
    """

    header: Header
    index: int
    position_lps_mm: Numbers | None
    orientation: Numbers | None
    spacing_mm: Numbers | None
    slope: float | None
    intercept: float | None
    thickness_mm: float | None
    acquisition: int | None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; 0 where the file does not say."""
        dataset = self.header.dataset
        return integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0

    @property
    def frame_of_reference(self) -> str:
        """Frame of Reference UID; "" where the file does not say."""
        return text(self.header.dataset, "FrameOfReferenceUID")


def single_frame(header: Header) -> Frame:
    """The one frame of a CT Image."""
    dataset = header.dataset
    return Frame(
        header=header,
        index=0,
        position_lps_mm=numbers(dataset, "ImagePositionPatient", 3),
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        spacing_mm=numbers(dataset, "PixelSpacing", 2),
        slope=number(dataset, "RescaleSlope"),
        intercept=number(dataset, "RescaleIntercept"),
        thickness_mm=number(dataset, "SliceThickness"),
        acquisition=integer(dataset, "AcquisitionNumber"),
    )
