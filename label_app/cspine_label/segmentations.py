"""DICOM Segmentations both ways: written by the one writer of `cspine.dicom`, read by code and name.

Foreign Segmentations number, name and place their segments as they like: a segment is a level by its SNOMED
CT code or, without one of those, by its name; frames that name an image of the series go onto that slice, any
other grid is resampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID

from cspine.anatomy import Vertebra
from cspine.dicom import codes
from cspine.dicom.headers import quietly
from cspine.dicom.segmentation import build_segmentation
from cspine.dicom.series import CtSeries
from cspine.findings import StudyFindings
from cspine.volume import Grid, SpineMask
from cspine_label.errors import RefusedLabelError
from cspine_label.lattice import nearest
from cspine_label.levels import checked_mask, level_of

SEGMENTATION_CLASSES: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""
DESCRIPTION: Final = "Cervical vertebrae, drawn by a person"
LABELMAP: Final = UID(SEGMENTATION_CLASSES[1])
_DAMAGE: Final = (
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


def drawn_segmentation(
    series: CtSeries, mask: SpineMask, findings: StudyFindings, creator: str
) -> highdicom.seg.Segmentation:
    """A label that a person finished, as a Segmentation: semiautomatic, with the one who finished it.

    Raises:
        RefusedLabelError: the images that the series came from show nothing of it.
    """
    segmentation = build_segmentation(series, mask, findings)
    if segmentation is None:
        raise RefusedLabelError("The label lies wholly outside the images; draw at least one vertebra.")
    for segment in segmentation.SegmentSequence:
        segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
    segmentation.SeriesDescription = DESCRIPTION
    segmentation.ContentDescription = "Cervical vertebrae, proposed by a network, finished by a person"
    segmentation.ContentCreatorName = person_name(creator)
    return segmentation


def person_name(who: str) -> str:
    """The DICOM person name of a user, or of a client that gave another name or none."""
    return f"{who[:60]}^" if who else "Annotator^"


def is_drawn(segmentation: Dataset) -> bool:
    """Whether a person had a hand in it: what only a network made is no final label."""
    kinds = {
        str(segment.get("SegmentAlgorithmType", "")) for segment in segmentation.get("SegmentSequence", ())
    }
    return bool(kinds - {"AUTOMATIC"})


def referenced_series(segmentation: Dataset) -> str | None:
    """Series Instance UID of the images that it was made from; None where it does not say."""
    items = segmentation.get("ReferencedSeriesSequence")
    return str(items[0].SeriesInstanceUID) if items and items[0].get("SeriesInstanceUID") else None


def segment_levels(segmentation: Dataset) -> dict[int, Vertebra]:
    """The level of each segment that is one, by segment number; other structures are left out.

    Raises:
        RefusedLabelError: two segments are the same level.
    """
    found: dict[int, Vertebra] = {}
    for segment in segmentation.get("SegmentSequence", ()):
        vertebra = _level_of_segment(segment)
        if vertebra is None or "SegmentNumber" not in segment:
            continue
        if vertebra in found.values():
            raise RefusedLabelError(
                f"{vertebra} has two segments in the Segmentation; keep one for each level."
            )
        found[int(segment.SegmentNumber)] = vertebra
    return found


def _level_of_segment(segment: Dataset) -> Vertebra | None:
    for item in segment.get("SegmentedPropertyTypeCodeSequence") or ():
        if str(item.get("CodeValue", "")) in codes.VERTEBRA_OF:
            return codes.VERTEBRA_OF[str(item.CodeValue)]
    names = (segment.get("SegmentLabel", ""), segment.get("SegmentDescription", ""))
    return next((vertebra for name in names if (vertebra := level_of(str(name)))), None)


def read_segmentation(segmentation: Dataset, series: CtSeries) -> SpineMask:
    """Read a Segmentation, of whomever, on the grid of the series.

    Args:
        segmentation: read from a file or a PACS, with its pixels.
        series: of the same frame of reference.

    Raises:
        RefusedLabelError: no Segmentation, of other images, without a level or a voxel, or not decodable.
    """
    if str(segmentation.get("SOPClassUID", "")) not in SEGMENTATION_CLASSES:
        raise RefusedLabelError("The object is no DICOM Segmentation.")
    frame = str(segmentation.get("FrameOfReferenceUID", ""))
    if frame != str(series.headers[0].get("FrameOfReferenceUID", "")):
        raise RefusedLabelError("The Segmentation lies in another frame of reference than the images.")
    levels = segment_levels(segmentation)
    if not levels:
        raise RefusedLabelError("The Segmentation holds no segment that is one of C1 to C7, by code or name.")
    try:
        with quietly():
            labels = _labels(segmentation, series, levels)
    except _DAMAGE as error:
        if isinstance(error, RefusedLabelError):
            raise
        raise RefusedLabelError(f"The Segmentation cannot be decoded ({type(error).__name__}).") from error
    if not labels.any():
        raise RefusedLabelError("The Segmentation holds no voxel of C1 to C7 within the images.")
    return checked_mask(series.volume.grid, labels)


def _labels(segmentation: Dataset, series: CtSeries, levels: dict[int, Vertebra]) -> NDArray[np.uint8]:
    labels = np.zeros(series.volume.grid.shape, np.uint8)
    slices = _slices_of(series)
    for shown, source, pixels in _frames(segmentation, levels):
        index = slices.get(source)
        if index is None or pixels.shape != series.source_shape:
            return _resampled(segmentation, series.volume.grid, levels)
        window = series.source_frame(labels, index)
        for number, vertebra in shown.items():
            window[pixels == number] = int(vertebra)
        if series.shear_px is not None:
            _put(series, labels, index, window)
    return labels


def _put(series: CtSeries, labels: NDArray[np.uint8], index: int, window: NDArray[np.uint8]) -> None:
    """The way back of `CtSeries.source_frame`."""
    assert series.shear_px is not None
    row, column = np.rint(series.shear_px[index]).astype(int)
    place = labels[index, row : row + window.shape[0], column : column + window.shape[1]]
    place[...] = window[: place.shape[0], : place.shape[1]]


def _slices_of(series: CtSeries) -> dict[tuple[str, int], int]:
    uids = [str(header.SOPInstanceUID) for header in series.headers]
    if series.is_multiframe:
        uids *= len(series.frame_numbers)
    return {(uid, number): k for k, (uid, number) in enumerate(zip(uids, series.frame_numbers, strict=True))}


def _frames(
    segmentation: Dataset, levels: dict[int, Vertebra]
) -> Iterator[tuple[dict[int, Vertebra], tuple[str, int], NDArray[Any]]]:
    """Levels by pixel value, source image and frame, and pixels, of each frame that may show a level."""
    for group, pixels in zip(_groups(segmentation), iter_pixels(segmentation), strict=True):
        shown = levels
        if segmentation.SOPClassUID != LABELMAP:
            item = group.get("SegmentIdentificationSequence") or _shared(segmentation, group)
            number = int(item[0].ReferencedSegmentNumber)
            shown = {1: levels[number]} if number in levels else {}
            if str(segmentation.get("SegmentationType", "")) == "FRACTIONAL":
                pixels = (pixels > int(segmentation.MaximumFractionalValue) / 2).astype(np.uint8)
        if shown and pixels.any():
            yield shown, _source(group), pixels


def _shared(segmentation: Dataset, group: Dataset) -> Any:
    return segmentation.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence


def _groups(segmentation: Dataset) -> list[Dataset]:
    return list(segmentation.PerFrameFunctionalGroupsSequence)


def _source(group: Dataset) -> tuple[str, int]:
    """The one image that a frame was drawn on; ("", 0) where it names none or several."""
    images = [
        image
        for item in group.get("DerivationImageSequence") or ()
        for image in item.get("SourceImageSequence") or ()
    ]
    if len(images) != 1:
        return "", 0
    numbers = np.atleast_1d(images[0].get("ReferencedFrameNumber") or 1)
    return str(images[0].ReferencedSOPInstanceUID), int(numbers[0])


def _resampled(segmentation: Dataset, onto: Grid, levels: dict[int, Vertebra]) -> NDArray[np.uint8]:
    """Any regular grid, by the positions of the frames."""
    found = highdicom.seg.Segmentation.from_dataset(segmentation, copy=True)
    labels = np.zeros(onto.shape, np.uint8)
    for number, vertebra in levels.items():
        part = found.get_volume(
            segment_numbers=[number], combine_segments=True, relabel=True, allow_missing_positions=True
        )
        grid = Grid(part.spatial_shape, np.asarray(part.affine, np.float64))
        inside = nearest((np.asarray(part.array) > 0).astype(np.uint8), grid, onto)
        labels[inside > 0] = int(vertebra)
    return labels
