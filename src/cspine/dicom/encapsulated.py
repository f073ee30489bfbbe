"""The one-page report as an Encapsulated PDF."""

from __future__ import annotations

import datetime
from typing import Final

from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from cspine.dicom import codes
from cspine.dicom.filing import file_under, require_study
from cspine.dicom.headers import quietly
from cspine.dicom.provenance import Provenance, instance
from cspine.errors import OutputError
from cspine.findings import StudyFindings

TITLE: Final = "AI cervical spine fracture report"


def build_encapsulated_pdf(header: Dataset, pdf: bytes, findings: StudyFindings) -> Dataset:
    """Build the Encapsulated PDF (PS3.3 A.45.1) of a report.

    Args:
        header: any header of the study; an image header becomes the document's source.
        pdf: the file.
        findings: names the networks that took part.

    Raises:
        InputError: the study of `header` is unknown.
        OutputError: `pdf` is no PDF.
    """
    if not pdf.startswith(b"%PDF-"):
        raise OutputError("The report that should be encapsulated is no PDF.")
    require_study([header])
    equipment = Provenance(findings.models).equipment()
    contributing = equipment.pop("contributing_equipment")
    with quietly():
        document: Dataset = SOPClass(
            study_instance_uid=header.StudyInstanceUID,
            sop_class_uid=EncapsulatedPDFStorage,
            modality="DOC",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            patient_birth_date="",
            **instance("DOC", "AI fracture report (research use only)"),
            **equipment,
        )
        file_under(document, header)
    document.ContributingEquipmentSequence = contributing
    document.BodyPartExamined = codes.BODY_PART
    document.ConversionType = "WSD"
    _add_document(document, pdf)
    return document


def _add_document(document: Dataset, pdf: bytes) -> None:
    """The Encapsulated Document Module (PS3.3 C.24.2)."""
    concept = Dataset()
    concept.CodeValue = codes.DOCUMENT_TITLE.value
    concept.CodingSchemeDesignator = codes.DOCUMENT_TITLE.scheme_designator
    concept.CodeMeaning = codes.DOCUMENT_TITLE.meaning
    document.ConceptNameCodeSequence = [concept]
    document.AcquisitionDateTime = datetime.datetime.now().strftime("%Y%m%d%H%M%S")
    document.BurnedInAnnotation = "YES"
    document.DocumentTitle = TITLE
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(pdf)
    document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
