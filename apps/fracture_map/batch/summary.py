"""What standard output gets in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, TextIO

from fracture_map.batch.rows import Row

_LONGEST: Final = 40
"""Longer tables are for programs."""


def print_summary(rows: Sequence[Row], to: TextIO) -> None:
    """Print the studies where there are few, how many ended how, and why some failed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=to, highlight=False, soft_wrap=True)
    if len(rows) <= _LONGEST:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("Study", "Outcome", "Probability", "Fracture", "Seconds"):
            table.add_column(heading, justify="right" if heading in ("Probability", "Seconds") else "left")
        for row in rows:
            table.add_row(*map(Text, _cells(row)))
        console.print(table)
        console.print()
    for outcome, count in Counter(row["outcome"] or "no result" for row in rows).most_common():
        console.print(Text(f"{count:>7}  {outcome}"))
    reasons = Counter((row["exit_code"], row["error"]) for row in rows if row["exit_code"])
    if reasons:
        console.print(Text("\nNot analysed:"))
    for (code, reason), count in reasons.most_common(_LONGEST):
        console.print(Text(f"{count:>7}  exit code {code}: {reason}"))


def _cells(row: Row) -> tuple[str, ...]:
    probability, seconds = row["probability"], row["seconds"]
    return (
        str(row["study"]),
        str(row["outcome"] or "no result"),
        "-" if probability is None else f"{float(probability):.2f}",
        str(row["decision"] or "-"),
        "-" if seconds is None else f"{float(seconds):.1f}",
    )
