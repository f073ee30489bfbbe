"""The last look before publishing: whatever differs from what was found is refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom import codes
from cspine.dicom.provenance import to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation
from cspine.dicom.verification import verify_report, verify_segmentation
from cspine.errors import OutputError
from cspine.findings import Decision, Overall
from cspine.volume import SpineMask


@pytest.fixture
def result(series, mask_of, findings_of):
    """Series, mask, findings and the bytes of both objects."""
    mask = mask_of(series)
    findings = findings_of(series, mask, {Vertebra.C4: 0.7})
    segmentation = build_segmentation(series, mask, findings)
    report = build_report(series, findings, segmentation)
    return series, mask, findings, to_bytes(segmentation), to_bytes(report)


def changed(data: bytes, change) -> bytes:
    dataset = dcmread(io.BytesIO(data))
    change(dataset)
    return to_bytes(dataset)


def test_what_was_written_right_passes(result):
    series, mask, findings, segmentation, report = result
    assert verify_segmentation(segmentation, series, mask) is None
    assert verify_report(report, findings) is None


def test_a_voxel_more_or_less_is_refused(result):
    series, mask, _, segmentation, _ = result
    labels = mask.labels.copy()
    inside = tuple(np.argwhere(labels == Vertebra.C4)[7])
    labels[inside] = 0
    with pytest.raises(OutputError, match="differs from the mask"):
        verify_segmentation(segmentation, series, SpineMask(mask.grid, labels, mask.levels))


def test_a_lost_frame_is_refused(result):
    series, mask, _, segmentation, _ = result

    def lose_the_last(dataset):
        pixels = dataset.Rows * dataset.Columns // 8
        dataset.NumberOfFrames -= 1
        dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]
        dataset.PixelData = dataset.PixelData[: dataset.NumberOfFrames * pixels]

    with pytest.raises(OutputError, match="lacks a part"):
        verify_segmentation(changed(segmentation, lose_the_last), series, mask)


def test_a_frame_at_another_place_is_refused(result):
    series, mask, _, segmentation, _ = result

    def move(dataset):
        dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient[2] += 0.5

    with pytest.raises(OutputError, match="elsewhere"):
        verify_segmentation(changed(segmentation, move), series, mask)


def test_a_frame_of_another_source_image_is_refused(result):
    series, mask, _, segmentation, _ = result

    def point_elsewhere(dataset):
        derivation = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
        derivation.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"

    with pytest.raises(OutputError, match="source image"):
        verify_segmentation(changed(segmentation, point_elsewhere), series, mask)


def test_a_vertebra_under_another_name_is_refused(result):
    series, mask, _, segmentation, _ = result

    def rename(dataset):
        dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "1"

    with pytest.raises(OutputError, match="vertebrae that were found"):
        verify_segmentation(changed(segmentation, rename), series, mask)


def test_another_study_is_refused(result, tilted, mask_of):
    _, _, _, segmentation, _ = result
    with pytest.raises(OutputError, match="another study"):
        verify_segmentation(segmentation, tilted, mask_of(tilted))


def test_bytes_that_are_no_dicom_or_lack_something_are_refused(result):
    series, mask, findings, segmentation, report = result
    for data in (b"", b"noise" * 99, segmentation[:600]):
        with pytest.raises(OutputError):
            verify_segmentation(data, series, mask)
        with pytest.raises(OutputError):
            verify_report(data, findings)
    with pytest.raises(OutputError, match="incompletely"):
        verify_report(changed(report, lambda ds: delattr(ds, "ContentSequence")), findings)


def test_a_report_of_other_findings_is_refused(result):
    _, _, findings, _, report = result
    level = findings.level(Vertebra.C4)
    for other, what in (
        (replace(level, probability=0.71), "finding of C4"),
        (replace(level, decision=Decision.UNDETERMINED, reason="It moved."), "outcome"),
    ):
        levels = tuple(other if f.level is Vertebra.C4 else f for f in findings.levels)
        with pytest.raises(OutputError, match=what):
            verify_report(report, replace(findings, levels=levels))
    with pytest.raises(OutputError, match="cervical spine"):
        verify_report(report, replace(findings, overall=Overall(0.2, Decision.PRESENT)))
    with pytest.raises(OutputError, match="overall verdict"):
        verify_report(report, replace(findings, overall=Overall(0.2, Decision.UNDETERMINED)))


def test_a_report_without_a_level_or_the_disclaimer_is_refused(result):
    _, _, findings, _, report = result

    def drop_a_group(dataset):
        (measurements,) = (
            item
            for item in dataset.ContentSequence
            if item.ConceptNameCodeSequence[0].CodeValue == codes.MEASUREMENTS.value
        )
        del measurements.ContentSequence[len(CERVICAL) - 1]

    def drop_the_disclaimer(dataset):
        evaluations = dataset.ContentSequence[-1].ContentSequence
        del evaluations[2]

    with pytest.raises(OutputError, match="finding of C6"):
        verify_report(changed(report, drop_a_group), findings)
    with pytest.raises(OutputError, match="disclaimer"):
        verify_report(changed(report, drop_the_disclaimer), findings)


def test_a_reference_that_is_no_evidence_is_refused(result):
    _, _, findings, _, report = result
    with pytest.raises(OutputError, match="evidence"):
        verify_report(
            changed(report, lambda ds: delattr(ds, "CurrentRequestedProcedureEvidenceSequence")), findings
        )
