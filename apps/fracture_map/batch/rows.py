"""A study's line in the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cspine.anatomy import CERVICAL
from cspine.errors import CspineError
from fracture_map import names

Row = Mapping[str, str | int | float | None]

_LEVELS: Final = {
    f"{level.name.lower()}_{what}": kind
    for level in CERVICAL
    for what, kind in (("probability", float), ("decision", str))
}
COLUMNS: Final[dict[str, type[str] | type[int] | type[float]]] = {
    "study": str,
    "exit_code": int,
    "error": str,
    "outcome": str,
    "probability": float,
    "decision": str,
    **_LEVELS,
    "warnings": str,
    "seconds": float,
    "device": str,
    "software": str,
    "study_instance_uid": str,
    "series_instance_uid": str,
}
"""Names and types of the columns, in order. An absent value is empty."""


def row_of(name: str, folder: Path) -> Row:
    """The line of a study from its published result.

    Raises:
        OSError, ValueError, KeyError: the result is not there or damaged.
    """
    account = json.loads((folder / names.RUN).read_bytes())
    findings = json.loads((folder / names.FINDINGS).read_bytes())
    return _complete(
        {
            "study": name,
            "exit_code": account["exit_code"],
            "error": account["error"],
            "outcome": findings["outcome"],
            "probability": findings["overall"]["probability"],
            "decision": findings["overall"]["decision"],
            **_levels(findings),
            "warnings": " ".join(findings["warnings"]),
            "seconds": account["seconds"]["total"],
            "device": account["device"],
            "software": findings["software"]["version"],
            "study_instance_uid": findings["study_instance_uid"],
            "series_instance_uid": findings["series_instance_uid"],
        }
    )


def failed_row(name: str, error: CspineError, seconds: float) -> Row:
    """The line of a study of which nothing could be published."""
    given = {"study": name, "exit_code": error.exit_code, "error": str(error), "seconds": round(seconds, 3)}
    return _complete(given)


def _levels(findings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{level['level'].lower()}_{what}": level[what]
        for level in findings["levels"]
        for what in ("probability", "decision")
    }


def _complete(given: Mapping[str, Any]) -> Row:
    return {column: given.get(column) for column in COLUMNS}
