"""The Structured Report, read back from its bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from highdicom.sr import Comprehensive3DSR
from pydicom.dataset import Dataset

from cspine import settings
from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom import codes
from cspine.dicom.provenance import to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation
from cspine.dicom.verification import verify_report
from cspine.errors import InputError
from cspine.findings import Decision, OperatingPoint, Outcome, Overall
from cspine.volume import SpineMask


def children(item: Dataset, code: str) -> list[Dataset]:
    return [c for c in item.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == code]


def groups(report: Dataset) -> dict[str, Dataset]:
    """Measurement groups by the meaning of their finding."""
    (measurements,) = children(report, "126010")
    return {
        children(group, "121071")[0].ConceptCodeSequence[0].CodeMeaning: group
        for group in measurements.ContentSequence
    }


def coded(item: Dataset, code: str) -> str:
    return children(item, code)[0].ConceptCodeSequence[0].CodeMeaning


def comments(report: Dataset) -> list[str]:
    (container,) = children(report, "C0034375")
    return [item.TextValue for item in children(container, "121106")]


def outcome(report: Dataset) -> tuple[str, str]:
    """Code of the outcome and the verdict on the spine as a whole."""
    (container,) = children(report, "C0034375")
    return children(container, "111017")[0].ConceptCodeSequence[0].CodeValue, coded(container, "125605004")


@pytest.fixture
def report_of(mask_of, findings_of, written):
    """A function that goes the whole way from a series to the report read back, verified on the way."""

    def make(series, fractured=None, first=Vertebra.C1, last=Vertebra.C7, **options):
        mask = mask_of(series, first, last)
        findings = findings_of(series, mask, fractured)
        built = build_report(series, findings, build_segmentation(series, mask, findings), **options)
        verify_report(to_bytes(built), findings)
        return written(built)

    return make


def test_there_is_one_group_a_vertebra_and_one_for_the_spine(any_series, report_of):
    report = report_of(any_series, {Vertebra.C2: 0.8126})
    expected = [codes.VERTEBRA[v].meaning for v in CERVICAL]
    assert list(groups(report)) == ["Cervical spine", *expected]
    assert {g.ContentTemplateSequence[0].TemplateIdentifier for g in groups(report).values()} == {"1411"}
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_a_fracture_is_present_with_its_probability_and_the_others_are_absent(series, report_of):
    report = report_of(series, {Vertebra.C2: 0.81264, Vertebra.C6: 0.5})
    said = {
        name: (coded(g, "125605004"), float(children(g, "122157")[0].MeasuredValueSequence[0].NumericValue))
        for name, g in groups(report).items()
    }
    assert said["C2 vertebra"] == ("Present", 0.8126)
    assert said["C6 vertebra"] == ("Present", 0.5)
    assert said["C3 vertebra"] == ("Absent", 0.03)
    assert said["Cervical spine"] == ("Present", 0.8126)
    assert outcome(report) == ("111242", "Present")
    assert "Possible fracture of C2 (probability 0.81), C6 (probability 0.50)." in comments(report)


def test_a_negative_study_says_absent_and_never_names_a_fracture_as_a_finding(series, report_of):
    report = report_of(series)
    assert outcome(report) == ("111241", "Absent")
    for name, group in groups(report).items():
        assert coded(group, "125605004") == "Absent"
        assert name in {"Cervical spine", *(code.meaning for code in codes.VERTEBRA.values())}
    assert "No fracture was found in C1 to C7." in comments(report)


def test_a_study_that_shows_the_upper_neck_only_is_undetermined_and_names_what_is_missing(series, report_of):
    report = report_of(series, last=Vertebra.C4)
    assert outcome(report) == ("111243", "Undetermined")
    assert len(groups(report)) == 5
    for level in ("C5", "C6", "C7"):
        assert f"{level} undetermined: {level} was not found in the images." in comments(report)


def test_a_fracture_in_a_partial_study_is_a_finding(series, report_of):
    report = report_of(series, {Vertebra.C1: 0.9}, last=Vertebra.C4)
    assert outcome(report) == ("111244", "Present")


def test_a_level_cut_by_the_edge_is_undetermined_with_its_probability(series, findings_of, mask_of, written):
    labels = mask_of(series).labels.copy()
    labels[0, 19:27, 20:31] = Vertebra.C7
    mask = SpineMask.from_labels(series.volume.grid, labels)
    findings = findings_of(series, mask)
    built = build_report(series, findings, build_segmentation(series, mask, findings))
    verify_report(to_bytes(built), findings)
    report = written(built)
    group = groups(report)["C7 vertebra"]
    assert coded(group, "125605004") == "Undetermined"
    assert children(group, "122157")[0].MeasuredValueSequence[0].NumericValue == 0.03
    assert "C7 undetermined: C7 is cut by the edge of the images." in comments(report)


def test_no_vertebra_in_view_is_a_report_without_measurements(series, findings_of, written):
    empty = SpineMask.from_labels(series.volume.grid, np.zeros(series.volume.grid.shape, np.uint8))
    findings = findings_of(series, empty)
    built = build_report(series, findings, None)
    verify_report(to_bytes(built), findings)
    report = written(built)
    assert outcome(report) == ("111245", "Undetermined")
    assert not children(report, "126010")
    assert any("No cervical vertebra was found in the images." in text for text in comments(report))


def test_the_probability_says_of_what_and_by_which_algorithm(series, report_of):
    report = report_of(series, operating_point=OperatingPoint(level=0.4, overall=0.55))
    probability = children(groups(report)["C4 vertebra"], "122157")[0]
    assert coded(probability, "121071") == "Fracture of bone"
    texts = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.TextValue
        for item in probability.ContentSequence
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue != "111002"
    }
    assert texts == {
        "Algorithm Name": settings.CLASSIFICATION,
        "Algorithm Version": "0.2.0",
        "Algorithm Manufacturer": settings.MANUFACTURER,
    }
    parameters = [item.TextValue for item in children(probability, "111002")]
    assert parameters == ["operating_point=0.4", "sha256=" + "b" * 64]
    assert coded(probability, "111000") == "Artificial Intelligence"
    spine = children(groups(report)["Cervical spine"], "122157")[0]
    assert "operating_point=0.55" in [item.TextValue for item in children(spine, "111002")]


def test_tracking_and_segments_agree_with_the_segmentation(series, mask_of, findings_of, written):
    mask = mask_of(series, Vertebra.C3, Vertebra.C7)
    findings = findings_of(series, mask)
    segmentation = written(build_segmentation(series, mask, findings))
    report = written(build_report(series, findings, segmentation))
    by_name = groups(report)
    for segment in segmentation.SegmentSequence:
        group = by_name[segment.SegmentLabel]
        assert segment.TrackingUID == children(group, "112040")[0].UID
        assert children(group, "112039")[0].TextValue == segment.TrackingID
        region = children(group, "121191")[0].ReferencedSOPSequence[0]
        assert region.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert region.ReferencedSegmentNumber == segment.SegmentNumber
        assert series.series_uid == children(group, "121232")[0].UID
    whole = children(by_name["Cervical spine"], "121191")[0].ReferencedSOPSequence[0]
    assert list(whole.ReferencedSegmentNumber) == [1, 2, 3, 4, 5]


def test_each_vertebra_shows_its_key_slice(series, report_of, mask_of, findings_of):
    report = report_of(series)
    findings = findings_of(series, mask_of(series))
    for finding in findings.levels:
        group = groups(report)[codes.VERTEBRA[finding.level].meaning]
        image = children(group, "121200")[0].ReferencedSOPSequence[0]
        assert image.ReferencedSOPInstanceUID == finding.key_sop_instance_uid
    (library,) = children(report, "111028")
    images = [item for item in library.ContentSequence[0].ContentSequence if item.ValueType == "IMAGE"]
    assert len(images) == len({finding.key_slice for finding in findings.levels})


def test_key_slices_of_a_multi_frame_source_name_their_frame(enhanced, report_of, mask_of, findings_of):
    report = report_of(enhanced)
    findings = findings_of(enhanced, mask_of(enhanced))
    for finding in findings.levels:
        group = groups(report)[codes.VERTEBRA[finding.level].meaning]
        image = children(group, "121200")[0].ReferencedSOPSequence[0]
        assert image.ReferencedFrameNumber == enhanced.frame_numbers[finding.key_slice]


def test_what_is_referred_to_is_listed_as_evidence(series, report_of):
    report = report_of(series)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        instance.ReferencedSOPInstanceUID
        for item in study.ReferencedSeriesSequence
        for instance in item.ReferencedSOPSequence
    }
    assert {header.SOPInstanceUID for header in series.headers} <= listed
    assert len(listed) == len(series.headers) + 1
    assert "PertinentOtherEvidenceSequence" not in report


def test_disclaimer_warnings_and_left_out_images_are_comments(series, report_of):
    said = comments(report_of(series))
    assert said[0] == settings.DISCLAIMER
    assert "The networks were never shown a real fracture." in said
    assert "Slices are 2.5 mm thick, which can hide fine fractures." in said
    assert "Left out of the analysis: 2 (localizer (scout) images)." in said


def test_the_report_is_complete_preliminary_and_unverified(series, report_of):
    report = report_of(series)
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")


def test_the_procedure_is_the_one_that_the_source_codes(series, with_header, report_of):
    assert coded(report_of(series), "121058") == "CT unspecified body region"
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "24932-6", "LN"
    procedure.CodeMeaning = "CT Cervical spine WO contrast"
    assert coded(report_of(with_header(series, ProcedureCodeSequence=[procedure])), "121058") == (
        "CT Cervical spine WO contrast"
    )


def test_a_re_run_is_a_new_document_that_names_the_one_it_replaces(series, report_of):
    first = report_of(series)
    second = report_of(series, previous=first)
    assert second.SOPInstanceUID != first.SOPInstanceUID
    replaced = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert replaced.SeriesInstanceUID == first.SeriesInstanceUID
    assert replaced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_a_report_of_another_study_cannot_be_replaced(series, tilted, report_of):
    with pytest.raises(InputError, match="another study"):
        report_of(series, previous=report_of(tilted))


def test_a_suspicious_spine_without_a_named_level_is_said_in_words(series, mask_of, findings_of, written):
    mask = mask_of(series)
    findings = replace(findings_of(series, mask), overall=Overall(0.7, Decision.PRESENT))
    built = build_report(series, findings, build_segmentation(series, mask, findings))
    verify_report(to_bytes(built), findings)
    assert findings.outcome is Outcome.COMPLETE_FINDINGS
    said = comments(written(built))
    assert "Possible fracture of the cervical spine, at no level that could be named." in said


def test_highdicom_reads_the_groups_back(series, report_of):
    document = Comprehensive3DSR.from_dataset(report_of(series, {Vertebra.C5: 0.77}))
    (group,) = document.content.get_volumetric_roi_measurement_groups(
        tracking_uid=None, finding_type=codes.VERTEBRA[Vertebra.C5]
    )
    (measurement,) = group.get_measurements(codes.PROBABILITY)
    assert measurement.value == pytest.approx(0.77)
    (evaluation,) = group.get_qualitative_evaluations(codes.FRACTURE)
    assert evaluation.value == codes.DECISION[Decision.PRESENT]
