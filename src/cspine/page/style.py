"""The page's colours and marks. Colours are told apart by the colour-blind, and never stand alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cspine.findings import Decision, VertebraFinding
from cspine.page.sheet import Ink
from cspine.volume import Visibility

INK: Final = "#20262d"
QUIET: Final = "#5d6875"
HAIRLINE: Final = "#cfd5db"
TRACK: Final = "#eceff2"
NIGHT: Final = "#0b0e11"
LIGHT: Final = "#e8ecef"

WINDOW_HU: Final = (-450.0, 1350.0)
"""Bone window: width 1800, centre 450."""

TITLE: Final = Ink(9.0, QUIET, "bold")
VERDICT: Final = Ink(18.0, INK, "bold")
LEAD: Final = Ink(9.4, INK)
REASON: Final = Ink(10.4, INK)
HEADING: Final = Ink(8.6, INK, "bold")
BODY: Final = Ink(7.4, INK)
SMALL: Final = Ink(6.8, QUIET)


@dataclass(frozen=True)
class Mark:
    """How one kind of finding is drawn.

    Attributes:
        on_paper, on_image: its colour on white and on a dark image.
        hatch: of the bar.
        line, width: style and width (points) of the outline.
        sign: a character.
    """

    on_paper: str
    on_image: str
    hatch: str
    line: str
    width: float
    sign: str


# After Okabe and Ito's palette: vermilion, yellow and blue, each darker on paper and lighter on the image.
SUSPECTED: Final = Mark("#c4400a", "#ff8a4c", "/////", "solid", 2.0, "\N{BLACK UP-POINTING TRIANGLE}")
OPEN: Final = Mark("#8a6d00", "#f2d24b", ".....", "dashed", 1.3, "\N{BLACK DIAMOND}")
NOT_SEEN: Final = Mark("#2f6f9f", "#86c5f4", "", "solid", 0.8, "\N{BLACK CIRCLE}")
NOT_THERE: Final = Mark("#7d8792", "#aab4bd", "", "dotted", 0.8, "\N{WHITE CIRCLE}")

_MARKS: Final = {Decision.PRESENT: SUSPECTED, Decision.UNDETERMINED: OPEN, Decision.ABSENT: NOT_SEEN}


def mark(finding: VertebraFinding) -> Mark:
    """How this level is drawn."""
    return NOT_THERE if finding.visibility is Visibility.ABSENT else decision_mark(finding.decision)


def decision_mark(decision: Decision) -> Mark:
    """How this decision is drawn."""
    return _MARKS[decision]
