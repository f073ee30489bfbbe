"""Under which patient and study an object is filed, and which instances it refers to.

highdicom prints patients' names in warnings, refuses values that hospitals do write (a sex of "W", a birth
date with dashes) and knows only some character sets. So no identity ever goes through it: it builds with a
bare header, and `file_under` copies the patient's and the study's attributes into the finished object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from cspine.dicom.provenance import new_uid
from cspine.errors import InputError

UTF8: Final = "ISO_IR 192"

# Of each required (Type 2) attribute: written empty where the source lacks it.
_REQUIRED: Final = (
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
# PS3.3 C.7.1.1 Patient, C.7.1.3 Clinical Trial Subject, C.7.2.1 General Study, C.7.2.2 Patient Study,
# C.7.2.3 Clinical Trial Study: what a department files by and what belongs to every object of a study.
_IDENTITY: Final = (
    *_REQUIRED,
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientBirthTime",
    "PatientBirthName",
    "PatientComments",
    "EthnicGroup",
    "QualityControlSubject",
    "ReferencedPatientSequence",
    "PatientSpeciesDescription",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingService",
    "ReferencedStudySequence",
    "ProcedureCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "PatientSexNeutered",
    "SmokingStatus",
    "LastMenstrualDate",
    "PatientState",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
)


def bare_header(header: Dataset) -> Dataset:
    """A header that refers to the same instance and says nothing about the patient.

    It keeps the scanner's name, which highdicom notes as contributing equipment.
    """
    bare = Dataset()
    for keyword in _REQUIRED:
        setattr(bare, keyword, "")
    for keyword in ("StudyDate", "StudyTime"):
        setattr(bare, keyword, None)
    bare.SpecificCharacterSet = UTF8
    for keyword in (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPClassUID",
        "SOPInstanceUID",
        "Modality",
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "DeviceSerialNumber",
        "InstitutionName",
        "StationName",
    ):
        if header.get(keyword):
            setattr(bare, keyword, header.get(keyword))
    return bare


def stub_header(header: Dataset) -> Dataset:
    """A bare header of a CT image of the same study that stands for no instance.

    highdicom takes patient and study from the first piece of evidence and knows only standard SOP classes;
    what was read may be of any class or lack its UIDs.
    """
    stub = bare_header(header)
    stub.SOPClassUID, stub.SOPInstanceUID, stub.SeriesInstanceUID = CTImageStorage, new_uid(), new_uid()
    return stub


def file_under(target: Dataset, header: Dataset) -> None:
    """Copy patient and study of `header` into `target`: text in UTF-8, missing Type 2 attributes empty."""
    target.SpecificCharacterSet = UTF8
    for keyword in _IDENTITY:
        if keyword in header:
            setattr(target, keyword, _decoded(header[keyword]))
        elif keyword in _REQUIRED:
            setattr(target, keyword, None)


def _decoded(element: DataElement) -> Any:
    """The value with all text decoded: items of sequences would else keep the bytes they were read from."""
    if element.VR == "PN":
        return str(element.value) if element.VM < 2 else [str(name) for name in element.value]
    if element.VR == "SQ":
        items = deepcopy(element.value)
        for item in items:
            item.decode()
        return items
    return element.value


def require_study(headers: Sequence[Dataset]) -> Dataset:
    """The first header, once all of them are known to belong to one study of one patient.

    Raises:
        InputError: none was given, the study is unknown, or there are several studies or patients.
    """
    if not headers or not headers[0].get("StudyInstanceUID"):
        raise InputError(
            "The study of the input is unknown (no Study Instance UID), so no report can be filed in it."
        )
    owners = {(str(h.get("StudyInstanceUID", "")), str(h.get("PatientID", ""))) for h in headers}
    if len(owners) > 1:
        raise InputError(
            "The input mixes studies or patients, so no report can be filed; send one study at a time."
        )
    return headers[0]


def names_instance(header: Dataset) -> bool:
    """Whether the header has all that a reference to its instance needs."""
    return all(header.get(key) for key in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"))


def evidence_of(headers: Iterable[Dataset]) -> list[Dataset]:
    """Items of an evidence sequence (PS3.3 C.17.2.1) for each instance once, by study and series."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for header in headers:
        if names_instance(header):
            series = studies.setdefault(str(header.StudyInstanceUID), {})
            instances = series.setdefault(str(header.SeriesInstanceUID), {})
            instances[str(header.SOPInstanceUID)] = str(header.SOPClassUID)
    return [_study_item(study_uid, series) for study_uid, series in studies.items()]


def _study_item(study_uid: str, series: dict[str, dict[str, str]]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = study_uid
    item.ReferencedSeriesSequence = []
    for series_uid, instances in series.items():
        series_item = Dataset()
        series_item.SeriesInstanceUID = series_uid
        series_item.ReferencedSOPSequence = [_reference(cls, uid) for uid, cls in instances.items()]
        item.ReferencedSeriesSequence.append(series_item)
    return item


def _reference(class_uid: str, instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = class_uid
    item.ReferencedSOPInstanceUID = instance_uid
    return item
