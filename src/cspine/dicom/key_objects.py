"""The key slices of present fractures as a Key Object Selection, for viewers that show no report."""

from __future__ import annotations

import highdicom
from highdicom import sr

from cspine import settings
from cspine.dicom import codes
from cspine.dicom.filing import evidence_of, file_under, stub_header
from cspine.dicom.headers import quietly
from cspine.dicom.provenance import Provenance, instance
from cspine.dicom.series import CtSeries
from cspine.dicom.source_frames import bare_frame
from cspine.findings import Decision, StudyFindings


def build_key_objects(
    series: CtSeries, findings: StudyFindings
) -> highdicom.ko.KeyObjectSelectionDocument | None:
    """Build the selection (113000, DCM, Of Interest) of the key slices of levels with a fracture.

    Args:
        series: the CT that was analysed.
        findings: what was found.

    Returns:
        The selection, or None where no level has a fracture to show.
    """
    present = [f for f in findings.levels if f.decision is Decision.PRESENT and f.key_slice is not None]
    if not present:
        return None
    slices = sorted({finding.key_slice for finding in present if finding.key_slice is not None})
    names = ", ".join(str(finding.level) for finding in present)
    provenance = Provenance(findings.models)
    header = series.headers[0]
    with quietly():
        content = highdicom.ko.KeyObjectSelection(
            document_title=codes.OF_INTEREST,
            referenced_objects=[bare_frame(series, index) for index in slices],
            observer_device_context=provenance.device(),
            description=f"AI: possible fracture of {names}. {settings.DISCLAIMER}",
        )
        if series.is_multiframe:
            _name_frames(content, [series.frame_numbers[index] for index in slices])
        document = highdicom.ko.KeyObjectSelectionDocument(
            evidence=[stub_header(header), *(bare_frame(series, index) for index in slices)],
            content=content,
            **instance("KO", "AI key slices (research use only)"),
            **provenance.equipment(),
        )
        document.CurrentRequestedProcedureEvidenceSequence = evidence_of(
            bare_frame(series, index) for index in slices
        )
        file_under(document, header)
    return document


def _name_frames(content: sr.ContentSequence, frame_numbers: list[int]) -> None:
    images = [item for item in content[0].ContentSequence if item.ValueType == "IMAGE"]
    for item, number in zip(images, frame_numbers, strict=True):
        item.ReferencedSOPSequence[0].ReferencedFrameNumber = number
