"""Patient and study in every object: copied, in any character set, and never said aloud."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from cspine.anatomy import Vertebra
from cspine.dicom.capture import build_capture
from cspine.dicom.encapsulated import build_encapsulated_pdf
from cspine.dicom.failure_report import build_failure_report
from cspine.dicom.key_objects import build_key_objects
from cspine.dicom.provenance import to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
NAMES = {
    "latin-1": "Müller-Lüdenscheidt^Jürgen",
    "japanese": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "korean": "Hong^Gildong=洪^吉洞=홍^길동",
    "cyrillic": "Жуков^Юлий",
    "one component": "Bono",
    "eighty characters": "A" * 50 + "^" + "B" * 29,
}


@pytest.fixture
def every_object(mask_of, findings_of):
    """A function from a series to one object of each kind, by name."""

    def build(series) -> dict[str, Dataset]:
        mask = mask_of(series)
        findings = findings_of(series, mask, {Vertebra.C2: 0.9})
        segmentation = build_segmentation(series, mask, findings)
        picture = np.zeros((30, 41, 3), np.uint8)
        return {
            "segmentation": segmentation,
            "report": build_report(series, findings, segmentation),
            "failure report": build_failure_report(series.headers, "It was too dark."),
            "key objects": build_key_objects(series, findings),
            "capture": build_capture(series.headers[0], picture, findings),
            "pdf": build_encapsulated_pdf(series.headers[0], b"%PDF-1.4\n%%EOF", findings),
        }

    return build


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_survive_in_every_object(series, with_header, every_object, written, name):
    series = with_header(series, PatientName=name, StudyDescription="HWS nativ, Übersicht")
    for kind, built in every_object(series).items():
        read = written(built)
        assert str(read.PatientName) == name, kind
        assert read.SpecificCharacterSet == "ISO_IR 192", kind
        assert read.StudyDescription == "HWS nativ, Übersicht", kind
        assert read.StudyInstanceUID == series.study_uid, kind


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", NAMES["latin-1"]),
        (["", "ISO 2022 IR 87"], NAMES["japanese"]),
        (["", "ISO 2022 IR 149"], NAMES["korean"]),
        ("ISO_IR 144", NAMES["cyrillic"]),
    ],
)
def test_a_header_as_it_was_received_is_filed_with_its_name_decoded(character_set, name, series, written):
    header = series.headers[0]
    header.SpecificCharacterSet, header.PatientName = character_set, name
    reason = Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator, reason.CodeMeaning = "1", "99HIS", name.split("=")[-1]
    header.ReasonForPerformedProcedureCodeSequence = [reason]
    received = dcmread(io.BytesIO(to_bytes(_with_meta(header))))
    assert received.SpecificCharacterSet == character_set
    report = written(build_failure_report([received], "It was too dark."))
    assert str(report.PatientName) == name
    assert report.ReasonForPerformedProcedureCodeSequence[0].CodeMeaning == name.split("=")[-1]


def _with_meta(header: Dataset) -> Dataset:
    header.ensure_file_meta()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return header


@pytest.mark.parametrize("keyword", TYPE_2)
def test_a_missing_attribute_is_written_empty(series, with_header, every_object, written, keyword):
    series = with_header(series, **{keyword: None})
    for kind, built in every_object(series).items():
        element = written(built)[keyword]
        assert element.is_empty, kind


@pytest.mark.filterwarnings("ignore")
def test_values_that_break_the_standard_are_copied_not_refused(series, with_header, every_object, written):
    wrong = {"PatientSex": "W", "PatientBirthDate": "1970-01-01", "PatientID": "7" * 80, "StudyTime": "noon"}
    series = with_header(series, **wrong)
    for kind, built in every_object(series).items():
        read = written(built)
        assert {keyword: read[keyword].value for keyword in wrong} == wrong, kind


def test_patient_and_study_attributes_come_along(series, with_header, every_object, written):
    own = {
        "PatientComments": "ward 7",
        "IssuerOfPatientID": "KLINIK",
        "OtherPatientNames": ["A^B", "C^D"],
        "PatientSize": "1.81",
        "PatientIdentityRemoved": "NO",
    }
    series = with_header(series, **own)
    for kind, built in every_object(series).items():
        read = written(built)
        assert str(read.PatientComments) == "ward 7", kind
        assert read.PatientSize == 1.81, kind
        assert [str(name) for name in read.OtherPatientNames] == ["A^B", "C^D"], kind
        assert read.PatientAge == "054Y", kind


def test_nothing_that_is_printed_or_logged_names_the_patient(
    series, with_header, every_object, caplog, capfd: pytest.CaptureFixture[str]
):
    planted = {
        "PatientName": "Planted",
        "PatientID": "PLANTED-" + "7" * 80,
        "PatientBirthDate": "1971-planted",
        "ReferringPhysicianName": "Plantedref",
        "PatientSex": "PLANTEDSEX",
        "AccessionNumber": "PLANTED-ACCESSION-NUMBER",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = with_header(series, **planted)
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for built in every_object(series).values():
            to_bytes(built)
    said = [str(warning.message) for warning in caught] + [record.getMessage() for record in caplog.records]
    said += capfd.readouterr()
    secrets = ("planted", *(str(header.SOPInstanceUID) for header in series.headers), series.study_uid)
    assert not [text for text in said if any(secret in text.lower() for secret in secrets)]


def test_the_bytes_are_a_part_10_file(series, every_object, tmp_path: Path):
    for kind, built in every_object(series).items():
        data = to_bytes(built)
        assert data[128:132] == b"DICM", kind
        assert dcmread(io.BytesIO(data)).file_meta.MediaStorageSOPInstanceUID == built.SOPInstanceUID, kind
