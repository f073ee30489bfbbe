"""The vertebra mask as a DICOM Segmentation on the frames of the source images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from cspine import settings
from cspine.anatomy import Vertebra
from cspine.dicom import codes
from cspine.dicom.filing import file_under
from cspine.dicom.headers import quietly
from cspine.dicom.provenance import (
    Provenance,
    instance,
    tracking_identifier,
    tracking_uid,
)
from cspine.dicom.series import CtSeries
from cspine.dicom.source_frames import SourceFrames, bare_source
from cspine.findings import StudyFindings
from cspine.volume import SpineMask

LEVEL_RGB: Final[dict[Vertebra, tuple[int, int, int]]] = {
    Vertebra.C1: (230, 25, 75),
    Vertebra.C2: (60, 180, 75),
    Vertebra.C3: (255, 225, 25),
    Vertebra.C4: (0, 130, 200),
    Vertebra.C5: (245, 130, 48),
    Vertebra.C6: (145, 30, 180),
    Vertebra.C7: (70, 240, 240),
}
"""Colour of each level: neighbours differ in hue and in lightness."""


def build_segmentation(
    series: CtSeries, mask: SpineMask, findings: StudyFindings, *, labelmap: bool = False
) -> highdicom.seg.Segmentation | None:
    """Build the Segmentation of the vertebrae that were found.

    It lies on the source frames, tilted ones included, holds only frames with a segment and no empty segment.
    Segment numbers are 1..N from head to feet without gaps; code and tracking identifier name the vertebra.

    Args:
        series: the CT that was segmented.
        mask: its vertebrae, on the grid of `series.volume`.
        findings: names the networks that took part.
        labelmap: write a Label Map Segmentation (RLE) instead of a binary one; older software refuses it.

    Returns:
        The Segmentation, or None where the source frames show no vertebra.

    Raises:
        OutputError: the mask does not lie on the volume's grid.
    """
    frames = SourceFrames.of(series, mask)
    if not frames.levels:
        return None
    provenance = Provenance(findings.models)
    with quietly():
        segmentation = highdicom.seg.Segmentation(
            source_images=bare_source(series, frames.indices),
            pixel_array=_segment_numbers(series, frames),
            segmentation_type="LABELMAP" if labelmap else "BINARY",
            segment_descriptions=_descriptions(series, frames.levels, provenance),
            transfer_syntax_uid=RLELossless if labelmap else ExplicitVRLittleEndian,
            content_label="CSPINE",
            content_description="Cervical vertebrae C1 to C7",
            **instance("SEG", "AI cervical vertebrae (research use only)"),
            **provenance.equipment(),
        )
        file_under(segmentation, series.headers[0])
    segmentation.BodyPartExamined = codes.BODY_PART
    return segmentation


def _segment_numbers(series: CtSeries, frames: SourceFrames) -> NDArray[np.uint8]:
    """Segment numbers (frames, rows, columns) of the chosen frames; of all of a multi-frame source."""
    number_of = np.zeros(int(max(Vertebra)) + 1, np.uint8)
    number_of[[int(level) for level in frames.levels]] = np.arange(1, len(frames.levels) + 1)
    pixels = frames.labels
    if not np.array_equal(number_of[: len(frames.levels) + 1], np.arange(len(frames.levels) + 1)):
        pixels = number_of[pixels]
    if not series.is_multiframe:
        return pixels
    whole = np.zeros((int(series.headers[0].NumberOfFrames), *series.source_shape), np.uint8)
    whole[[series.frame_numbers[index] - 1 for index in frames.indices]] = pixels
    return whole


def _descriptions(
    series: CtSeries, levels: Sequence[Vertebra], provenance: Provenance
) -> list[highdicom.seg.SegmentDescription]:
    network = provenance.algorithm(settings.SEGMENTATION)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=network.name,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=network.version,
        source=settings.MANUFACTURER,
        parameters={"sha256": network.sha256} if network.sha256 else None,
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=codes.VERTEBRA[level].meaning,
            segmented_property_category=codes.ANATOMICAL_STRUCTURE,
            segmented_property_type=codes.VERTEBRA[level],
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=tracking_uid(series.study_uid, series.series_uid, level),
            tracking_id=tracking_identifier(level),
            display_color=highdicom.color.CIELabColor.from_rgb(*LEVEL_RGB[level]),
        )
        for number, level in enumerate(levels, start=1)
    ]


def segment_numbers(segmentation: Dataset) -> dict[Vertebra, int]:
    """Segment Number of each vertebra of a Segmentation, from head to feet."""
    found = {}
    for segment in segmentation.SegmentSequence:
        code = str(segment.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        if code in codes.VERTEBRA_OF:
            found[codes.VERTEBRA_OF[code]] = int(segment.SegmentNumber)
    return dict(sorted(found.items()))
