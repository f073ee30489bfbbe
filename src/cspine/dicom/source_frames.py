"""The source frames behind a volume: bare headers that place them, and the mask's labels on their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from cspine.anatomy import Vertebra
from cspine.dicom.filing import bare_header
from cspine.dicom.series import CtSeries
from cspine.errors import OutputError
from cspine.volume import FloatArray, SpineMask

_PIXEL_MEASURES: Final = ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")


@dataclass(frozen=True, eq=False)
class SourceFrames:
    """The source frames that show a vertebra.

    Attributes:
        levels: vertebrae with at least one pixel on a source frame, from head to feet.
        indices: slices of the volume whose source frame shows one.
        labels: uint8 (len(indices), rows, columns) of the source frames, 0 or the value of a `Vertebra`.
    """

    levels: tuple[Vertebra, ...]
    indices: tuple[int, ...]
    labels: NDArray[np.uint8]

    @classmethod
    def of(cls, series: CtSeries, mask: SpineMask) -> SourceFrames:
        """Find them.

        Raises:
            OutputError: the mask does not lie on the volume's grid.
        """
        if not mask.grid.same_as(series.volume.grid):
            raise OutputError("The mask does not lie on the grid of the CT that it is written for.")
        boxes = [(found.start[0], found.stop[0]) for found in mask.levels if found.start and found.stop]
        if not boxes:
            return cls((), (), np.zeros((0, *series.source_shape), np.uint8))
        first, last = min(box[0] for box in boxes), max(box[1] for box in boxes)
        labels = _on_source(series, mask.labels, first, last)
        shown = labels.any(axis=(1, 2))
        if not shown.all():
            labels = labels[shown]
        indices = tuple(int(index) + first for index in np.flatnonzero(shown))
        if series.shear_px is None:
            return cls(tuple(found.level for found in mask.levels if found.start), indices, labels)
        return cls(_levels_in(mask, indices, labels), indices, labels)


def _on_source(series: CtSeries, labels: NDArray[np.uint8], first: int, last: int) -> NDArray[np.uint8]:
    if series.shear_px is None:
        return labels[first:last]
    return np.stack([series.source_frame(labels, index) for index in range(first, last)])


def _levels_in(mask: SpineMask, indices: tuple[int, ...], labels: NDArray[np.uint8]) -> tuple[Vertebra, ...]:
    """The levels with a pixel in `labels`: on tilted source frames one may lie wholly in the padding."""
    levels = []
    for found in mask.levels:
        if found.start and found.stop:
            rows = [row for row, index in enumerate(indices) if found.start[0] <= index < found.stop[0]]
            if rows and (labels[rows[0] : rows[-1] + 1] == found.level).any():
                levels.append(found.level)
    return tuple(levels)


def reference(series: CtSeries, index: int) -> tuple[Dataset, int | None]:
    """Header of the source instance behind slice `index`, and the frame in it where there are several."""
    if series.is_multiframe:
        return series.headers[0], series.frame_numbers[index]
    return series.headers[index], None


def frame_origin_lps_mm(series: CtSeries, index: int) -> FloatArray:
    """Centre of the first pixel of the source frame behind slice `index`, (3,) LPS mm."""
    row, column = (0.0, 0.0) if series.shear_px is None else series.shear_px[index]
    return series.volume.grid.to_lps_mm((index, row, column))


def bare_frame(series: CtSeries, index: int) -> Dataset:
    """Bare header of one source frame with its place in space, single-frame and multi-frame sources alike."""
    return _placed(_bare_image(series), series, index)


def _placed(image: Dataset, series: CtSeries, index: int) -> Dataset:
    """A copy of the bare `image` that stands for the source frame behind slice `index`."""
    header, _ = reference(series, index)
    bare = Dataset()
    bare.update(image)
    bare["SOPInstanceUID"] = header["SOPInstanceUID"]
    bare.ImagePositionPatient = _position(series, index)
    return bare


def bare_source(series: CtSeries, indices: Sequence[int]) -> list[Dataset]:
    """Bare headers of the source frames behind `indices`; the one instance of a multi-frame source."""
    image = _bare_image(series)
    if not series.is_multiframe:
        return [_placed(image, series, index) for index in indices]
    image.NumberOfFrames = int(series.headers[0].NumberOfFrames)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = image.ImageOrientationPatient
    for keyword in _PIXEL_MEASURES:
        setattr(measures, keyword, image.get(keyword))
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    slice_of = {number: index for index, number in enumerate(series.frame_numbers)}
    image.PerFrameFunctionalGroupsSequence = [
        _plane_position(_frame_position(series, slice_of.get(number), number))
        for number in range(1, image.NumberOfFrames + 1)
    ]
    return [image]


def _bare_image(series: CtSeries) -> Dataset:
    """Bare header of the series with everything that its source frames share."""
    header = series.headers[0]
    bare = bare_header(header)
    bare.Rows, bare.Columns = series.source_shape
    bare.FrameOfReferenceUID = header.FrameOfReferenceUID
    bare.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if header.get(keyword):
            setattr(bare, keyword, header.get(keyword))
    bare.ImageOrientationPatient = _orientation(series)
    _add_pixel_measures(bare, series)
    return bare


def _position(series: CtSeries, index: int) -> list[str] | list[float]:
    """Image Position as the source says it, so that viewers match planes exactly; else from the grid."""
    header, _ = reference(series, index)
    if header.get("ImagePositionPatient"):
        return list(header.ImagePositionPatient)
    return [format_number_as_ds(value) for value in frame_origin_lps_mm(series, index)]


def _frame_position(series: CtSeries, index: int | None, number: int) -> list[str] | list[float]:
    """Position of frame `number` of a multi-frame source.

    One that is no slice of the volume holds no label, so it is not written; highdicom wants it to lie
    somewhere of its own: beyond the volume.
    """
    if index is not None:
        return _position(series, index)
    grid = series.volume.grid
    return [format_number_as_ds(value) for value in grid.to_lps_mm((grid.shape[0] + number, 0, 0))]


def _orientation(series: CtSeries) -> list[str] | list[float]:
    header = series.headers[0]
    if header.get("ImageOrientationPatient"):
        return list(header.ImageOrientationPatient)
    axes = series.volume.grid.affine_lps[:3, [2, 1]]
    cosines = (axes / np.linalg.norm(axes, axis=0)).T.ravel()
    return [format_number_as_ds(value) for value in cosines]


def _add_pixel_measures(target: Dataset, series: CtSeries) -> None:
    """Pixel Spacing, Slice Thickness and the distance of the planes along their normal."""
    grid = series.volume.grid
    _, row_mm, column_mm = grid.spacing_mm
    plane_distance_mm = format_number_as_ds(round(grid.voxel_mm3 / (row_mm * column_mm), 6))
    header = series.headers[0]
    spacing = header.get("PixelSpacing") or [format_number_as_ds(row_mm), format_number_as_ds(column_mm)]
    target.PixelSpacing = list(spacing)
    target.SliceThickness = _slice_thickness(header) or plane_distance_mm
    target.SpacingBetweenSlices = plane_distance_mm


def _slice_thickness(header: Dataset) -> Any:
    """Slice Thickness of the header or, if multi-frame, of its functional groups; None where unsaid."""
    groups = (
        *header.get("SharedFunctionalGroupsSequence", ()),
        *header.get("PerFrameFunctionalGroupsSequence", ()),
    )
    measures = [group.PixelMeasuresSequence[0] for group in groups[:2] if group.get("PixelMeasuresSequence")]
    return next((item.SliceThickness for item in (header, *measures) if item.get("SliceThickness")), None)


def _plane_position(position: list[str] | list[float]) -> Dataset:
    item, group = Dataset(), Dataset()
    item.ImagePositionPatient = position
    group.PlanePositionSequence = [item]
    return group
