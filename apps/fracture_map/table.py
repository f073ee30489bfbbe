"""The result as a table, for people at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

_STYLES: Final = {"present": "bold red", "absent": "green", "undetermined": "yellow"}
_WORDS: Final = {
    "complete_no_findings": "All levels were analysed; no fracture was found.",
    "complete_findings": "All levels were analysed; a fracture is suspected.",
    "partial_no_findings": "No fracture was found, but not every level could be assessed completely.",
    "partial_findings": "A fracture is suspected; not every level could be assessed completely.",
    "failed": "The study could not be analysed.",
}


def print_result(findings: Mapping[str, Any], files: Mapping[str, Path], to: TextIO) -> None:
    """Print C1..C7, the spine as a whole, and where the files are.

    Args:
        findings: the content of findings.json.
        files: name to path.
        to: the stream; colours only where it is a terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=to, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Level", "Seen", "Probability", "Fracture", "Why undetermined"):
        table.add_column(heading, justify="right" if heading == "Probability" else "left")
    for level in findings["levels"]:
        table.add_row(level["level"], level["visibility"], *_verdict(level), Text(level["reason"] or ""))
    table.add_row("Spine", "", *_verdict(findings["overall"]), "")
    console.print(table)
    console.print()
    console.print(Text(_WORDS[findings["outcome"]]))
    for warning in findings["warnings"]:
        console.print(Text(f"Note: {warning}"))
    console.print()
    for name, path in files.items():
        console.print(Text(f"{name:<22}{path}"))
    console.print()
    console.print(Text(findings["disclaimer"]))


def _verdict(part: Mapping[str, Any]) -> tuple[Any, Any]:
    from rich.text import Text

    probability, decision = part["probability"], part["decision"]
    shown = "-" if probability is None else f"{probability:.2f}"
    return Text(shown), Text(decision, style=_STYLES[decision])
