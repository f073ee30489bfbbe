"""The frames of an Enhanced CT multi-frame image (PS3.3 A.38 and A.70).

Where a frame lies comes from its functional groups alone. Dimension indices and stacks describe how to show
the frames, and are ignored.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from cspine.dicom.frames import Frame
from cspine.dicom.headers import Header, integer, items, number, numbers, texts
from cspine.errors import InputError


def enhanced_frames(header: Header) -> tuple[Frame, ...]:
    """The frames in the order of the file.

    Raises:
        InputError: the number of frames and of their descriptions differ.
    """
    shared = next(iter(items(header.dataset, "SharedFunctionalGroupsSequence")), Dataset())
    per_frame = items(header.dataset, "PerFrameFunctionalGroupsSequence")
    count = integer(header.dataset, "NumberOfFrames") or 0
    if count != len(per_frame):
        raise InputError(
            f"'{header.name}' says it has {count} frames but describes {len(per_frame)}; send it again."
        )
    return tuple(_frame(header, index, shared, groups) for index, groups in enumerate(per_frame))


def value_types(header: Header) -> frozenset[str]:
    """What the values of the frames are: the Rescale Types of their transformations."""
    groups = (
        *items(header.dataset, "SharedFunctionalGroupsSequence"),
        *items(header.dataset, "PerFrameFunctionalGroupsSequence"),
    )
    return frozenset(
        value
        for group in groups
        for item in items(group, "PixelValueTransformationSequence")
        for value in texts(item, "RescaleType")
    )


def _frame(header: Header, index: int, shared: Dataset, groups: Dataset) -> Frame:
    measures = _group("PixelMeasuresSequence", groups, shared)
    rescale = _group("PixelValueTransformationSequence", groups, shared)
    return Frame(
        header=header,
        index=index,
        position_lps_mm=numbers(_group("PlanePositionSequence", groups, shared), "ImagePositionPatient", 3),
        orientation=numbers(_group("PlaneOrientationSequence", groups, shared), "ImageOrientationPatient", 6),
        spacing_mm=numbers(measures, "PixelSpacing", 2),
        slope=number(rescale, "RescaleSlope"),
        intercept=number(rescale, "RescaleIntercept"),
        thickness_mm=number(measures, "SliceThickness"),
        acquisition=integer(_group("FrameContentSequence", groups, shared), "FrameAcquisitionNumber"),
    )


def _group(keyword: str, *levels: Dataset) -> Dataset:
    """The item of one functional group: the frame's own, else the shared one (PS3.3 C.7.6.16)."""
    for groups in levels:
        for item in items(groups, keyword):
            return item
    return Dataset()
