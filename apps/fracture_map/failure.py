"""What a study gets that could not be analysed: an SR that says so, where its patient is known, and the JSON.

This runs in the watching process, which has neither networks nor a graph to fail with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cspine.errors import OutputError
from cspine.findings import StudyFindings
from fracture_map import names
from fracture_map.publish import Output
from fracture_map.staging import write_staged

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def stage_failure(source: Path, reason: str, folder: Path, output: Output) -> dict[str, Path]:
    """Write findings.json, and the SR where patient and study are known, into `folder`.

    Args:
        source: the input that could not be analysed.
        reason: one sentence.
        folder: for the files.
        output: where they will go.

    Returns:
        Name to file; nothing where OUTPUT holds a result that a failure may not replace.
    """
    from cspine.dicom import read_evidence
    from fracture_map.summary import encode_findings

    headers = read_evidence(source)
    study_uid = str(headers[0].StudyInstanceUID) if headers else ""
    if not output.may_hold_failure(study_uid):
        return {}
    contents = {names.FINDINGS: encode_findings(StudyFindings.failed(reason, study_uid))}
    if headers:
        contents[names.REPORT] = _report(headers, reason, output.earlier.report if output.earlier else None)
    for name, data in contents.items():
        write_staged(folder / name, data)
    return {name: folder / name for name in contents}


def _report(headers: Sequence[Dataset], reason: str, previous: Path | None) -> bytes:
    from cspine.dicom.failure_report import build_failure_report
    from cspine.dicom.provenance import to_bytes
    from cspine.dicom.verification import verify_report

    data = to_bytes(build_failure_report(headers, reason, previous=_readable(previous)))
    verify_report(data, StudyFindings.failed(reason))
    return data


def _readable(previous: Path | None) -> Dataset | None:
    """An earlier report of a failure; a damaged one is replaced without being named."""
    from cspine.dicom.provenance import from_bytes

    try:
        return from_bytes(previous.read_bytes()) if previous else None
    except (OutputError, OSError):
        return None
