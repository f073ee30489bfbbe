"""findings.json: a study's result for programs, checked against its published schema."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

import cspine
from cspine.errors import OutputError
from cspine.findings import StudyFindings, VertebraFinding
from cspine.settings import DISCLAIMER, PRODUCT

SCHEMA_VERSION: Final = "1.0"
_MM_DECIMALS: Final = 3
_PROBABILITY_DECIMALS: Final = 6


def to_document(findings: StudyFindings) -> dict[str, Any]:
    """The findings as the JSON document of the contract."""
    return {
        "schema_version": SCHEMA_VERSION,
        "software": {"name": PRODUCT, "version": cspine.__version__},
        "disclaimer": DISCLAIMER,
        "study_instance_uid": findings.study_uid,
        "series_instance_uid": findings.series_uid,
        "outcome": findings.outcome.value,
        "failure": findings.failure,
        "overall": {
            "probability": _probability(findings.overall.probability),
            "decision": findings.overall.decision.value,
        },
        "levels": [_level(finding) for finding in findings.levels],
        "models": [
            {"name": model.name, "version": model.version, "sha256": model.sha256}
            for model in findings.models
        ],
        "warnings": list(findings.warnings),
        "seconds": {stage: round(seconds, 3) for stage, seconds in findings.seconds.items()},
    }


def encode_findings(findings: StudyFindings) -> bytes:
    """findings.json, checked.

    Raises:
        OutputError: the document is not what its schema says.
    """
    return encode_checked(to_document(findings))


def encode_checked(document: dict[str, Any]) -> bytes:
    """Encode a findings document, read it back and check it against the schema.

    Raises:
        OutputError: it is not what its schema says.
    """
    import jsonschema

    try:
        data = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"
        jsonschema.Draft202012Validator(schema()).validate(json.loads(data))
    except (ValueError, jsonschema.ValidationError) as error:
        place = "/".join(map(str, getattr(error, "absolute_path", ()))) or "the document"
        raise OutputError(
            f"findings.json would not follow its schema ({place}); please report it."
        ) from error
    return data


@cache
def schema() -> dict[str, Any]:
    """The published JSON Schema of findings.json."""
    text = files("fracture_map").joinpath("findings.schema.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _level(finding: VertebraFinding) -> dict[str, Any]:
    return {
        "level": finding.level.name,
        "visibility": finding.visibility.value,
        "probability": _probability(finding.probability),
        "decision": finding.decision.value,
        "reason": finding.reason,
        "box_lps_mm": [_point(corner) for corner in finding.box_lps_mm] if finding.box_lps_mm else None,
        "center_lps_mm": _point(finding.center_lps_mm) if finding.center_lps_mm else None,
        "key_sop_instance_uid": finding.key_sop_instance_uid,
    }


def _probability(value: float | None) -> float | None:
    return None if value is None else round(value, _PROBABILITY_DECIMALS)


def _point(point: tuple[float, float, float]) -> list[float]:
    return [round(coordinate, _MM_DECIMALS) for coordinate in point]
