"""The findings as a DICOM Structured Report: Comprehensive 3D SR, TID 1500 (IHE AI Results)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom.dataset import Dataset

from cspine import settings
from cspine.dicom import codes
from cspine.dicom.filing import evidence_of, file_under, names_instance, stub_header
from cspine.dicom.headers import quietly
from cspine.dicom.measurement_groups import GroupWriter
from cspine.dicom.provenance import Provenance, instance, new_uid
from cspine.dicom.segmentation import segment_numbers
from cspine.dicom.series import CtSeries
from cspine.dicom.source_frames import bare_frame
from cspine.errors import InputError
from cspine.findings import Decision, OperatingPoint, Outcome, StudyFindings, VertebraFinding

REPORT_DESCRIPTION = "AI cervical spine fractures (research use only)"


def build_report(
    series: CtSeries,
    findings: StudyFindings,
    segmentation: Dataset | None,
    *,
    previous: Dataset | None = None,
    operating_point: OperatingPoint | None = None,
) -> sr.Comprehensive3DSR:
    """Build the report of an analysed study.

    One measurement group (TID 1411) stands for each segmented vertebra and one for the cervical spine. What
    has no segment, why a level is undetermined, and what a reader should know stand as comments beside the
    outcome.

    Args:
        series: the CT that was analysed.
        findings: what was found.
        segmentation: the Segmentation that was built from the same findings; None when nothing was segmented.
        previous: the report that this one replaces.
        operating_point: the thresholds behind the decisions, written as parameters of the algorithm.

    Raises:
        InputError: `previous` is no report of this study.
    """
    numbers = segment_numbers(segmentation) if segmentation is not None else {}
    shown = [finding for finding in findings.levels if finding.level in numbers]
    with quietly():
        groups: list[sr.Template] = []
        if segmentation is not None and shown:
            writer = GroupWriter(series, findings, segmentation, operating_point)
            groups = [writer.of_spine(), *(writer.of_level(finding) for finding in shown)]
        comments = [
            _headline(findings),
            *level_comments(findings, shown),
            *_series_comments(series, findings),
        ]
        content = report_content(
            series.headers[0],
            Provenance(findings.models),
            groups=groups,
            library=_library(series, shown),
            evaluations=evaluations(findings.outcome, findings.overall.decision, comments),
        )
        evidence = [*series.headers, *([segmentation] if segmentation is not None else [])]
        return finished_report(content, evidence, Provenance(findings.models), previous)


def _library(series: CtSeries, shown: Sequence[VertebraFinding]) -> sr.ImageLibrary | None:
    """The key slices (PS3.16 TID 1600); all slices would take many seconds and megabytes."""
    slices = sorted({finding.key_slice for finding in shown if finding.key_slice is not None})
    if not slices:
        return None
    library = sr.ImageLibrary([bare_frame(series, index) for index in slices])
    if series.is_multiframe:
        images = [item for item in library[0].ContentSequence[0].ContentSequence if item.ValueType == "IMAGE"]
        for item, index in zip(images, slices, strict=True):
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = series.frame_numbers[index]
    return library


def _headline(findings: StudyFindings) -> str:
    """The result in one sentence, for readers of the plain text."""
    present = [
        f"{finding.level} (probability {finding.probability:.2f})"
        for finding in findings.levels
        if finding.decision is Decision.PRESENT
    ]
    if present:
        return f"Possible fracture of {', '.join(present)}."
    if findings.overall.decision is Decision.PRESENT:
        return "Possible fracture of the cervical spine, at no level that could be named."
    if findings.overall.decision is Decision.ABSENT:
        return "No fracture was found in C1 to C7."
    return "Whether the cervical spine is fractured is undetermined."


def level_comments(findings: StudyFindings, shown: Sequence[VertebraFinding]) -> list[str]:
    """A sentence for each level that is undetermined or has no measurement group of its own."""
    if findings.failure is not None:
        return [f"Analysis not performed or incomplete: {findings.failure} C1 to C7 are undetermined."]
    comments = []
    for finding in findings.levels:
        if finding.decision is Decision.UNDETERMINED:
            comments.append(f"{finding.level} undetermined: {finding.reason}")
        elif finding not in shown:
            comments.append(f"{finding.level} {finding.decision}: it has no segment in the images.")
    return comments


def _series_comments(series: CtSeries, findings: StudyFindings) -> list[str]:
    """What a reader should know of the images, and what the input held that was not looked at."""
    warnings = dict.fromkeys((*findings.warnings, *series.warnings))
    left_out = (
        f"Left out of the analysis: {item.count} ({item.reason})."
        for item in series.left_out
        if not any(item.reason in text for text in warnings)
    )
    return [*warnings, *left_out]


def evaluations(
    outcome: Outcome, overall: Decision, comments: Sequence[str], disclaimer: str = settings.DISCLAIMER
) -> sr.ContainerContentItem:
    """The qualitative evaluations (PS3.16 TID 1500, row 12): how it went, the verdict, and the comments.

    A group of TID 1501 beside those of TID 1411 would break the template; this container is made for it.
    """
    contains = sr.RelationshipTypeValues.CONTAINS
    container = sr.ContainerContentItem(codes.QUALITATIVE, relationship_type=contains)
    container.ContentSequence = sr.ContentSequence(
        [
            sr.CodeContentItem(codes.SUMMARY, codes.OUTCOME[outcome], contains),
            sr.CodeContentItem(codes.FRACTURE, codes.DECISION[overall], contains),
            *(sr.TextContentItem(codes.COMMENT, text, contains) for text in (disclaimer, *comments)),
        ]
    )
    return container


def report_content(
    header: Dataset,
    provenance: Provenance,
    *,
    groups: Sequence[sr.Template],
    library: sr.ImageLibrary | None,
    evaluations: sr.ContainerContentItem,
) -> sr.ContainerContentItem:
    """The content tree (PS3.16 TID 1500)."""
    root = sr.MeasurementReport(
        observation_context=provenance.observation_context(),
        procedure_reported=_procedures(header),
        # highdicom demands a group where the template does not; the stand-in leaves again below.
        imaging_measurements=groups or [_stand_in()],
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(codes.LANGUAGE),
    )[0]
    items = [item for item in root.ContentSequence if groups or item.name != codes.MEASUREMENTS]
    before = next((row for row, item in enumerate(items) if item.name == codes.MEASUREMENTS), len(items))
    items[before:before] = list(library or ())
    root.ContentSequence = sr.ContentSequence([*items, evaluations])
    return root


def _stand_in() -> sr.Template:
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=new_uid(), identifier="none")
    )


def _procedures(header: Dataset) -> list[sr.CodedConcept]:
    """The imaging procedure as the source codes it, else "CT"."""
    found = [
        sr.CodedConcept(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
        for item in header.get("ProcedureCodeSequence") or ()
        if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning")
    ]
    return found or [codes.PROCEDURE_FALLBACK]


def finished_report(
    content: sr.ContainerContentItem,
    evidence: Sequence[Dataset],
    provenance: Provenance,
    previous: Dataset | None,
) -> sr.Comprehensive3DSR:
    """The document around a content tree, filed under patient and study of the first piece of evidence."""
    header = evidence[0]
    if previous is not None and previous.get("StudyInstanceUID") != header.StudyInstanceUID:
        raise InputError(
            "The previous report belongs to another study, so it cannot be replaced by this one."
        )
    report = sr.Comprehensive3DSR(
        evidence=[stub_header(header), *filter(names_instance, evidence)],
        content=content,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=[previous] if previous is not None else None,
        **instance("SR", REPORT_DESCRIPTION),
        **provenance.equipment(),
    )
    if items := evidence_of(evidence):
        report.CurrentRequestedProcedureEvidenceSequence = items
    else:
        del report.CurrentRequestedProcedureEvidenceSequence
    file_under(report, header)
    return report
