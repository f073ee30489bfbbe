"""The report of a study that could not be analysed: a result object for every study, failures too."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom.dataset import Dataset

from cspine.dicom.filing import require_study
from cspine.dicom.headers import quietly
from cspine.dicom.provenance import Provenance
from cspine.dicom.report import evaluations, finished_report, level_comments, report_content
from cspine.findings import ModelVersion, StudyFindings


def build_failure_report(
    headers: Sequence[Dataset],
    reason: str,
    *,
    previous: Dataset | None = None,
    models: tuple[ModelVersion, ...] = (),
) -> sr.Comprehensive3DSR:
    """Build the report that says that nothing could be analysed, and why (outcome 111245).

    Args:
        headers: whatever could be read of the study, of any modality; those that name an instance become
            evidence.
        reason: one sentence, without PHI.
        previous: the report that this one replaces.
        models: the networks that would have taken part.

    Raises:
        InputError: the study is unknown, the headers are of several studies or patients, or `previous` is of
            another study.
    """
    header = require_study(headers)
    findings = StudyFindings.failed(reason)
    provenance = Provenance(models)
    with quietly():
        content = report_content(
            header,
            provenance,
            groups=[],
            library=None,
            evaluations=evaluations(
                findings.outcome, findings.overall.decision, level_comments(findings, shown=())
            ),
        )
        return finished_report(content, headers, provenance, previous)
