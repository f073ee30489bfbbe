"""Reads what is about to be published back from its bytes and compares it with what was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from cspine import settings
from cspine.anatomy import Vertebra
from cspine.dicom import codes
from cspine.dicom.headers import quietly
from cspine.dicom.measurement_groups import PROBABILITY_DIGITS
from cspine.dicom.provenance import from_bytes
from cspine.dicom.segmentation import segment_numbers
from cspine.dicom.series import CtSeries
from cspine.dicom.source_frames import SourceFrames, frame_origin_lps_mm, reference
from cspine.errors import OutputError
from cspine.findings import Decision, StudyFindings
from cspine.volume import SpineMask

PLACE_TOLERANCE_MM: Final = 0.1
"""How far a written frame may lie from the volume's grid: above the jitter of scanners, far below a pixel."""
_DAMAGE: Final = (AttributeError, KeyError, IndexError, TypeError, ValueError)
"""What reading a dataset that lacks something raises."""
_Statement = tuple[float | None, str]
"""Probability and code value of the decision."""


def verify_segmentation(data: bytes, series: CtSeries, mask: SpineMask) -> None:
    """Read a Segmentation back and compare it with the mask, voxel by voxel.

    Args:
        data: the file that is about to be published.
        series: the CT that was segmented.
        mask: its vertebrae.

    Raises:
        OutputError: it is not readable, belongs to another study, or differs from the mask.
    """
    written = from_bytes(data)
    with quietly():
        try:
            _compare(written, series, SourceFrames.of(series, mask))
        except _DAMAGE as error:
            raise OutputError(
                f"The segmentation was written incompletely ({type(error).__name__})."
            ) from None


def _compare(written: Dataset, series: CtSeries, frames: SourceFrames) -> None:
    if str(written.StudyInstanceUID) != series.study_uid:
        raise OutputError("The segmentation was written into another study than the CT's.")
    numbers = segment_numbers(written)
    if tuple(numbers) != frames.levels:
        raise OutputError("The segmentation that was written does not hold the vertebrae that were found.")
    row_of = {_source_key(*reference(series, index)): row for row, index in enumerate(frames.indices)}
    seen: set[tuple[int, Vertebra | None]] = set()
    voxels = 0
    for frame in _written_frames(written, numbers):
        row = row_of.get(frame.source)
        if row is None or (row, frame.level) in seen:
            raise OutputError("The segmentation that was written names a source image wrongly.")
        seen.add((row, frame.level))
        origin_mm = frame_origin_lps_mm(series, frames.indices[row])
        if np.abs(origin_mm - frame.origin_lps_mm).max() > PLACE_TOLERANCE_MM:
            raise OutputError("The segmentation that was written lies elsewhere than the CT.")
        truth = frames.labels[row]
        if frame.level is not None:
            truth = np.where(truth == frame.level, truth, 0)
        if not np.array_equal(truth, frame.labels):
            raise OutputError("The segmentation that was written differs from the mask.")
        voxels += int(np.count_nonzero(truth))
    if voxels != int(np.count_nonzero(frames.labels)):
        raise OutputError("The segmentation that was written lacks a part of the mask.")


@dataclass(frozen=True, eq=False)
class _WrittenFrame:
    """One frame of a file: where it came from, where it lies, and the labels (rows, columns) it holds.

    `level` is None for a label map, whose frames hold all levels at once.
    """

    source: tuple[str, int | None]
    origin_lps_mm: NDArray[np.float64]
    level: Vertebra | None
    labels: NDArray[np.uint8]


def _source_key(header: Dataset, frame_number: int | None) -> tuple[str, int | None]:
    return str(header.SOPInstanceUID), frame_number


def _written_frames(written: Dataset, numbers: dict[Vertebra, int]) -> Iterator[_WrittenFrame]:
    level_of = {number: level for level, number in numbers.items()}
    label_of = np.zeros(256, np.uint8)
    label_of[list(level_of)] = [int(level) for level in level_of.values()]
    binary = written.SOPClassUID == SegmentationStorage
    planes = _binary_planes(written) if binary else iter_pixels(written)
    for groups, plane in zip(written.PerFrameFunctionalGroupsSequence, planes, strict=True):
        level = None
        if binary:
            level = level_of[int(_segment_of(written, groups).ReferencedSegmentNumber)]
            plane = plane * np.uint8(level)
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        number = source.get("ReferencedFrameNumber")
        yield _WrittenFrame(
            source=(str(source.ReferencedSOPInstanceUID), None if number is None else int(number)),
            origin_lps_mm=np.array(groups.PlanePositionSequence[0].ImagePositionPatient, np.float64),
            level=level,
            labels=plane if binary else label_of[plane],
        )


def _segment_of(written: Dataset, groups: Dataset) -> Dataset:
    """The segment that a frame belongs to; one segment alone stands in the shared functional groups."""
    owner = groups if "SegmentIdentificationSequence" in groups else written.SharedFunctionalGroupsSequence[0]
    item: Dataset = owner.SegmentIdentificationSequence[0]
    return item


def _binary_planes(written: Dataset) -> Iterator[NDArray[np.uint8]]:
    """Frames of one bit a pixel, unpacked one at a time; a frame need not start on a byte."""
    shape = int(written.Rows), int(written.Columns)
    pixels = shape[0] * shape[1]
    packed = np.frombuffer(written.PixelData, np.uint8)
    for frame in range(int(written.NumberOfFrames)):
        first, offset = divmod(frame * pixels, 8)
        stop = -(-(offset + pixels) // 8)
        bits = np.unpackbits(packed[first : first + stop], bitorder="little")
        yield bits[offset : offset + pixels].reshape(shape)


def verify_report(data: bytes, findings: StudyFindings) -> None:
    """Read a report back and compare it with the findings.

    Args:
        data: the file that is about to be published.
        findings: what it should say.

    Raises:
        OutputError: it is not readable, or says something else than the findings.
    """
    written = from_bytes(data)
    with quietly():
        try:
            _compare_report(written, findings)
        except _DAMAGE as error:
            raise OutputError(f"The report was written incompletely ({type(error).__name__}).") from None


def _compare_report(written: Dataset, findings: StudyFindings) -> None:
    (evaluations,) = _children(written, codes.QUALITATIVE)
    comments = [str(item.TextValue) for item in _children(evaluations, codes.COMMENT)]
    _require(_coded(evaluations, codes.SUMMARY) == codes.OUTCOME[findings.outcome].value, "outcome")
    verdict = codes.DECISION[findings.overall.decision].value
    _require(_coded(evaluations, codes.FRACTURE) == verdict, "overall verdict")
    _require(settings.DISCLAIMER in comments, "disclaimer")
    stated: dict[str, _Statement] = {}
    for measurements in _children(written, codes.MEASUREMENTS):
        for group in _children(measurements, codes.MEASUREMENT_GROUP):
            stated[_coded(group, codes.FINDING)] = _statement(group)
    if stated:
        truth = _truth(findings.overall.probability, findings.overall.decision)
        _require(stated.pop(codes.CERVICAL_SPINE.value) == truth, "finding of the cervical spine")
    for finding in findings.levels:
        said = stated.pop(codes.VERTEBRA[finding.level].value, None)
        named = any(text.startswith(f"{finding.level} ") for text in comments) or findings.failure is not None
        expected = _truth(finding.probability, finding.decision)
        _require(named if said is None else said == expected, f"finding of {finding.level}")
    _require(not stated, "list of findings")
    _require(_referenced(written) <= _evidence(written), "list of evidence")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise OutputError(f"The report that was written differs from the findings in its {what}.")


def _truth(probability: float | None, decision: Decision) -> _Statement:
    rounded = None if probability is None else round(probability, PROBABILITY_DIGITS)
    return rounded, codes.DECISION[decision].value


def _statement(group: Dataset) -> _Statement:
    """Probability and decision that a measurement group states."""
    numbers = _children(group, codes.PROBABILITY)
    probability = float(numbers[0].MeasuredValueSequence[0].NumericValue) if numbers else None
    return probability, _coded(group, codes.FRACTURE)


def _children(item: Dataset, name: Code) -> list[Dataset]:
    key = (name.value, name.scheme_designator)
    return [child for child in item.ContentSequence if _key(child.ConceptNameCodeSequence[0]) == key]


def _key(concept: Dataset) -> tuple[str, str]:
    return str(concept.CodeValue), str(concept.CodingSchemeDesignator)


def _coded(item: Dataset, name: Code) -> str:
    """Code value of the one child of that name that is a code."""
    (child,) = (child for child in _children(item, name) if child.ValueType == "CODE")
    return str(child.ConceptCodeSequence[0].CodeValue)


def _referenced(item: Dataset) -> set[str]:
    """SOP Instance UIDs that the content tree refers to."""
    found = {str(reference.ReferencedSOPInstanceUID) for reference in item.get("ReferencedSOPSequence", ())}
    return found.union(*(_referenced(child) for child in item.get("ContentSequence", ())))


def _evidence(written: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in written.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
