"""The result that a study already has: laid out for `run_study`, which names it as the predecessor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from cspine.dicom import codes
from cspine.dicom.headers import quietly
from cspine.dicom.report import REPORT_DESCRIPTION
from cspine.findings import Outcome
from fracture_map import names
from fracture_map.watch.outbox import CurrentResult
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.seen import StudySeen


def lay_out(earlier: CurrentResult, study_uid: str, folder: Path) -> None:
    """Write an earlier result where the new one will go."""
    (folder / names.REPORT).write_bytes(earlier.report)
    brief = {"study_instance_uid": study_uid, "outcome": earlier.outcome}
    (folder / names.FINDINGS).write_text(json.dumps(brief))


def find_in_pacs(pacs: Pacs, seen: StudySeen, folder: Path) -> CurrentResult | None:
    """The current report that this software stored in a study, for a queue that knows of none.

    Args:
        pacs: to look in.
        seen: the study.
        folder: an empty one, for the reports.
    """
    ours = [s for s in seen.series if s.modality == "SR" and s.description == REPORT_DESCRIPTION]
    for number, series in enumerate(ours):
        pacs.fetch(seen.uid, series, folder, f"{number:03d}-")
    with quietly():
        reports = {path: dcmread(path) for path in sorted(folder.iterdir())}
        replaced = {uid for report in reports.values() for uid in _predecessors(report)}
        current = [path for path, report in reports.items() if str(report.SOPInstanceUID) not in replaced]
        if not current:
            return None
        newest = max(current, key=lambda path: _made_at(reports[path]))
        return CurrentResult(_outcome(reports[newest]), newest.read_bytes())


def _predecessors(report: Dataset) -> Iterable[str]:
    for study in report.get("PredecessorDocumentsSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for item in series.get("ReferencedSOPSequence") or ():
                yield str(item.ReferencedSOPInstanceUID)


def _made_at(report: Dataset) -> str:
    return f"{report.get('ContentDate', '')}{report.get('ContentTime', '')}"


def _outcome(report: Dataset) -> str:
    """The outcome that the report states."""
    stated = {
        str(item.ConceptCodeSequence[0].CodeValue)
        for container in report.get("ContentSequence") or ()
        for item in container.get("ContentSequence") or ()
        if item.get("ConceptCodeSequence")
    }
    found = (outcome for outcome, code in codes.OUTCOME.items() if code.value in stated)
    return next(found, Outcome.FAILED).value
