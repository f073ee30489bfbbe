"""The bars of the page: one row a level, and one for the spine as a whole."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cspine.findings import OperatingPoint, StudyFindings
from cspine.page import style, words
from cspine.page.sheet import Frame, Sheet
from cspine.page.style import Mark

_BAR_LEFT = 11.0
_BAR_RIGHT = 14.0
_BAR_TOP = 1.6
_BAR_HEIGHT = 4.4


def draw_bars(sheet: Sheet, frame: Frame, findings: StudyFindings, at: OperatingPoint | None) -> None:
    """Draw one row a level: name, bar with hatch, probability, words; the spine as a whole at the end."""
    axes = sheet.panel(frame)
    height = frame.height / (len(findings.levels) + 1)
    for row, finding in enumerate(findings.levels):
        shape = style.mark(finding)
        _bar(axes, row * height, str(finding.level), finding.probability, shape)
        _bar_words(axes, row * height, words.status(finding), shape)
        if at is not None and finding.probability is not None:
            _threshold(axes, row * height, at.level)
    top = len(findings.levels) * height
    axes.plot([0, frame.width], [top - 1.2] * 2, color=style.HAIRLINE, linewidth=0.8)
    overall = findings.overall
    shape = style.decision_mark(overall.decision)
    _bar(axes, top + 0.8, "Any", overall.probability, shape)
    _bar_words(axes, top + 0.8, words.overall_status(findings), shape)
    if at is not None and overall.probability is not None:
        _threshold(axes, top + 0.8, at.overall)


def _bar(axes: Axes, top: float, name: str, value: float | None, shape: Mark) -> None:
    middle = top + _BAR_TOP + _BAR_HEIGHT / 2
    width = float(axes.get_xlim()[1])
    score = words.probability(value)
    axes.text(0, middle, name, fontsize=11, fontweight="bold", color=style.INK, va="center_baseline")
    axes.text(width, middle, score, fontsize=11, color=style.INK, ha="right", va="center_baseline")
    room = width - _BAR_LEFT - _BAR_RIGHT
    if value is None:
        _bar_part(
            axes, top, room, facecolor="none", edgecolor=style.HAIRLINE, linestyle="dashed", linewidth=0.9
        )
        return
    length = max(value * room, 0.6)
    _bar_part(axes, top, room, facecolor=style.TRACK)
    _bar_part(axes, top, length, facecolor=shape.on_paper)
    if shape.hatch:
        _bar_part(axes, top, length, fill=False, hatch=shape.hatch, edgecolor="white", linewidth=0.0)


def _bar_part(axes: Axes, top: float, length: float, **look: Any) -> None:
    axes.add_patch(Rectangle((_BAR_LEFT, top + _BAR_TOP), length, _BAR_HEIGHT, **look))


def _bar_words(axes: Axes, top: float, text: str, shape: Mark) -> None:
    y = top + _BAR_TOP + _BAR_HEIGHT + 2.3
    label = f"{shape.sign} {text}"
    axes.text(_BAR_LEFT, y, label, fontsize=7.4, color=shape.on_paper, va="center_baseline")


def _threshold(axes: Axes, top: float, threshold: float) -> None:
    width = float(axes.get_xlim()[1])
    x = _BAR_LEFT + threshold * (width - _BAR_LEFT - _BAR_RIGHT)
    ends = [top + _BAR_TOP - 0.9, top + _BAR_TOP + _BAR_HEIGHT + 0.9]
    axes.plot([x, x], ends, color=style.INK, linewidth=1.1, solid_capstyle="butt")
