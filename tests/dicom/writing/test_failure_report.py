"""The report of a study that could not be analysed."""

from __future__ import annotations

import copy

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cspine.dicom.failure_report import build_failure_report
from cspine.dicom.provenance import to_bytes
from cspine.dicom.verification import verify_report
from cspine.errors import InputError
from cspine.findings import StudyFindings

REASON = "A slice is missing: the gap is 5.0 mm; send the series again."


def texts(report: Dataset) -> list[str]:
    return [item.TextValue for item in report.ContentSequence[-1].ContentSequence if item.ValueType == "TEXT"]


def test_it_says_that_no_algorithm_succeeded_and_why(series, written):
    built = build_failure_report(series.headers, REASON)
    verify_report(to_bytes(built), StudyFindings.failed(REASON))
    report = written(built)
    values = [
        item.ConceptCodeSequence[0].CodeValue
        for item in report.ContentSequence[-1].ContentSequence
        if item.ValueType == "CODE"
    ]
    assert values == ["111245", "373068000"]
    assert any(REASON in text for text in texts(report))
    assert report.PatientName == "PHANTOM^ANNE"


def test_headers_that_are_no_ct_will_do(written):
    scout = Dataset()
    scout.SOPClassUID, scout.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.67", generate_uid()
    scout.StudyInstanceUID, scout.SeriesInstanceUID = generate_uid(), generate_uid()
    scout.PatientID, scout.PatientName, scout.Modality = "P7", "DOSE^ONLY", "SR"
    report = written(build_failure_report([scout], REASON))
    assert (report.PatientID, report.PatientName) == ("P7", "DOSE^ONLY")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert listed.ReferencedSOPInstanceUID == scout.SOPInstanceUID


def test_a_header_of_a_private_class_or_without_an_instance_will_do(written):
    bare = Dataset()
    bare.StudyInstanceUID, bare.PatientID = generate_uid(), "P8"
    assert "CurrentRequestedProcedureEvidenceSequence" not in written(build_failure_report([bare], REASON))
    private = copy.deepcopy(bare)
    private.SOPClassUID, private.SOPInstanceUID = "1.2.840.113619.4.30", generate_uid()
    private.SeriesInstanceUID = generate_uid()
    assert written(build_failure_report([private], REASON)).PatientID == "P8"


def test_a_re_run_names_the_report_that_it_replaces(series, written):
    first = written(build_failure_report(series.headers, REASON))
    second = written(build_failure_report(series.headers, REASON, previous=first))
    replaced = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_an_unknown_study_gets_no_report(series, with_header):
    with pytest.raises(InputError, match="study of the input is unknown"):
        build_failure_report([], REASON)
    with pytest.raises(InputError, match="study of the input is unknown"):
        build_failure_report(with_header(series, StudyInstanceUID=None).headers, REASON)


def test_two_patients_or_two_studies_get_no_report(series, tilted):
    with pytest.raises(InputError, match="mixes studies or patients"):
        build_failure_report([series.headers[0], tilted.headers[0]], REASON)
    other = copy.deepcopy(series.headers[0])
    other.PatientID = "SOMEONE-ELSE"
    with pytest.raises(InputError, match="mixes studies or patients"):
        build_failure_report([series.headers[0], other], REASON)
