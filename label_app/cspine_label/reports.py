"""What a person said of fractures as a DICOM SR beside the Segmentation, of the parts of `cspine.dicom`."""

from __future__ import annotations

from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset

from cspine.dicom import codes
from cspine.dicom.headers import quietly
from cspine.dicom.measurement_groups import GroupWriter
from cspine.dicom.provenance import Provenance
from cspine.dicom.report import evaluations, finished_report, level_comments, report_content
from cspine.dicom.segmentation import segment_numbers
from cspine.dicom.series import CtSeries
from cspine.findings import Decision, StudyFindings
from cspine_label.segmentations import person_name

DESCRIPTION: Final = "Cervical spine fractures, judged by a person"
DISCLAIMER: Final = (
    "An annotation that teaches networks, for research use only: no clinical report and not for diagnosis."
)
_STATED: Final = "Judged by a person to teach the networks; {said}. No probability is stated."


def drawn_report(
    series: CtSeries, findings: StudyFindings, segmentation: Dataset, who: str
) -> sr.Comprehensive3DSR:
    """The report of an annotated case: decisions by level, with key slices, but no probabilities.

    Args:
        series: the CT.
        findings: from `fractures.annotated_findings`.
        segmentation: the person's Segmentation, which its groups refer to.
        who: the person, as the server knows them.
    """
    numbers = segment_numbers(segmentation)
    shown = [finding for finding in findings.levels if finding.level in numbers]
    provenance = Provenance(findings.models, person=person_name(who))
    with quietly():
        writer = GroupWriter(series, findings, segmentation, None)
        groups = [writer.of_spine(), *(writer.of_level(finding) for finding in shown)]
        comments = [_STATED.format(said=_summary(findings)), *level_comments(findings, shown)]
        content = report_content(
            series.headers[0],
            provenance,
            groups=[_without_probability(group) for group in groups],
            library=None,
            evaluations=evaluations(findings.outcome, findings.overall.decision, comments, DISCLAIMER),
        )
        report = finished_report(content, [*series.headers, segmentation], provenance, None)
    report.SeriesDescription = DESCRIPTION
    return report


def _without_probability(group: sr.Template) -> sr.Template:
    items = [item for item in group[0].ContentSequence if item.name != codes.PROBABILITY]
    group[0].ContentSequence = sr.ContentSequence(items)
    return group


def _summary(findings: StudyFindings) -> str:
    present = [str(finding.level) for finding in findings.levels if finding.decision is Decision.PRESENT]
    return f"fractured: {', '.join(present)}" if present else "no level was called fractured"
