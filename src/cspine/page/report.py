"""The one-page report: what was found in a study, for people who look first and read second."""

from __future__ import annotations

import io
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from cspine.findings import OperatingPoint, StudyFindings
from cspine.page import style, words
from cspine.page.bars import draw_bars
from cspine.page.panels import draw_key, draw_spine
from cspine.page.planes import key_picture, spine_picture
from cspine.page.sheet import MARGIN_MM, RIGHT_MM, Frame, Ink, Sheet, fit, fixed_style, wrap, wrap_all
from cspine.settings import DISCLAIMER, PRODUCT
from cspine.volume import SpineMask, Volume

TITLE = "CT of the cervical spine: fracture report"
PNG_DPI = 120
PDF_DPI = 200
KEY_PICTURES = 4
"""Slices on the page: one row."""

_SPINE_MM = (96.0, 108.0)
_KEY_MM = 43.0
_GAP_MM = 10.0 / 3
_FOOT_MM = 281.0
_WIDTH_MM = RIGHT_MM - MARGIN_MM
_MOST_REASON_LINES = 8
_DRAWING = Lock()
"""matplotlib keeps its settings for the whole process, so pages are drawn one after the other."""
_MORE = "\N{HORIZONTAL ELLIPSIS} more of this in findings.json"


@dataclass(frozen=True)
class ReportPage:
    """The page twice.

    Attributes:
        pdf: A4, one page, text as text.
        png: A4 at 120 dpi, 8-bit RGB.
    """

    pdf: bytes
    png: bytes


@dataclass(frozen=True, eq=False)
class _Study:
    volume: Volume | None
    mask: SpineMask | None
    findings: StudyFindings
    at: OperatingPoint | None


def draw_report(
    volume: Volume | None, mask: SpineMask | None, findings: StudyFindings, at: OperatingPoint | None = None
) -> ReportPage:
    """Draw the report of a study. It holds nothing about the patient: only what these arguments hold.

    The same arguments always give the same bytes.

    Args:
        volume: the CT; None where it could not be read, which leaves the pictures out.
        mask: its vertebrae; None leaves the outlines out.
        findings: what was found.
        at: the operating point that made the decisions; None leaves the thresholds out.
    """
    with _DRAWING, fixed_style():
        sheet = Sheet()
        study = _Study(volume, mask, findings, at)
        y = _head(sheet, study)
        if volume is not None:
            y = _pictures(sheet, y, study, volume)
        _notes(sheet, y, findings)
        _foot(sheet)
        return ReportPage(sheet.pdf(TITLE, PRODUCT, PDF_DPI), sheet.png(PNG_DPI))


def png_to_rgb(png: bytes) -> NDArray[np.uint8]:
    """Decode a PNG into uint8 (rows, columns, 3), as a secondary capture wants it."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def _head(sheet: Sheet, study: _Study) -> float:
    findings = study.findings
    sheet.text(MARGIN_MM, 15.5, PRODUCT.upper(), style.TITLE)
    sheet.text(RIGHT_MM, 15.5, TITLE, Ink(9.0, style.QUIET), ha="right")
    sheet.rule(18.2, color=style.HAIRLINE)
    shape = style.decision_mark(findings.overall.decision)
    headline = f"{shape.sign} {words.verdict(findings)}"
    ink = fit(
        headline, _WIDTH_MM, Ink(style.VERDICT.size, shape.on_paper, style.VERDICT.weight), smallest=12.0
    )
    y = sheet.paragraph(MARGIN_MM, 21.0, wrap(headline, _WIDTH_MM, ink), ink) + 0.6
    if findings.failure is None:
        second = wrap(words.second_sentence(findings), _WIDTH_MM, style.LEAD)
        y = sheet.paragraph(MARGIN_MM, y, second, style.LEAD) + 1.4
    else:
        y = _why(sheet, y + 1.4, findings.failure) + 3.0
    grid = None if study.volume is None else study.volume.grid
    for name, value in words.facts(grid, findings.models, study.at if findings.failure is None else None):
        sheet.paragraph(MARGIN_MM, y, [name], style.SMALL)
        y = sheet.paragraph(MARGIN_MM + 16, y, wrap(value, _WIDTH_MM - 16, style.SMALL), style.SMALL)
    return y + 3.0


def _why(sheet: Sheet, y: float, reason: str) -> float:
    lines = wrap(reason, _WIDTH_MM - 12.0, style.REASON)
    if len(lines) > _MOST_REASON_LINES:
        lines = [*lines[: _MOST_REASON_LINES - 1], _MORE]
    height = len(lines) * style.REASON.line_mm + 6.0
    sheet.block(Frame(MARGIN_MM, y, _WIDTH_MM, height), style.TRACK)
    sheet.block(Frame(MARGIN_MM, y, 1.6, height), style.OPEN.on_paper)
    sheet.paragraph(MARGIN_MM + 6.0, y + 3.0, lines, style.REASON)
    return y + height


def _pictures(sheet: Sheet, y: float, study: _Study, volume: Volume) -> float:
    width, height = _SPINE_MM
    left = MARGIN_MM + width + 8.0
    sheet.paragraph(left, y, ["Probability of a fracture"], style.HEADING)
    y = sheet.paragraph(MARGIN_MM, y, [words.picture_heading(study.findings)], style.HEADING) + 1.4
    spine = spine_picture(volume, study.mask, study.findings, aspect=width / height)
    draw_spine(sheet, Frame(MARGIN_MM, y, width, height), spine, study.findings)
    draw_bars(sheet, Frame(left, y, RIGHT_MM - left, height), study.findings, study.at)
    return _key_pictures(sheet, y + height + 4.0, study.findings, volume)


def _key_pictures(sheet: Sheet, y: float, findings: StudyFindings, volume: Volume) -> float:
    chosen = words.most_suspicious(findings, KEY_PICTURES)
    if not chosen:
        return y
    y = sheet.paragraph(MARGIN_MM, y, [words.key_heading(findings)], style.HEADING) + 1.4
    for i, finding in enumerate(chosen):
        frame = Frame(MARGIN_MM + i * (_KEY_MM + _GAP_MM), y, _KEY_MM, _KEY_MM)
        draw_key(sheet, frame, key_picture(volume, finding), finding)
    return y + _KEY_MM + 15.0


def _notes(sheet: Sheet, y: float, findings: StudyFindings) -> None:
    half = (_WIDTH_MM - 10.0) / 2
    most = int((_FOOT_MM - 4.0 - y - style.HEADING.line_mm - 1.0) / style.BODY.line_mm)
    failed = findings.failure is not None
    open_points = [*([] if failed else words.reasons(findings)), *findings.warnings]
    columns = (
        (
            "What to know about this study",
            open_points or ["There are no warnings."],
        ),
        ("How to read this page", words.HOW_TO_READ_A_FAILURE if failed else words.HOW_TO_READ),
    )
    for i, (heading, points) in enumerate(columns):
        x = MARGIN_MM + i * (half + 10.0)
        below = sheet.paragraph(x, y, [heading], style.HEADING) + 1.0
        lines = wrap_all(points, half, style.BODY, most, _MORE)
        sheet.paragraph(x, below, lines, style.BODY)


def _foot(sheet: Sheet) -> None:
    sheet.rule(_FOOT_MM, color=style.HAIRLINE)
    ink = Ink(7.4, style.INK, "bold")
    sheet.paragraph(MARGIN_MM, _FOOT_MM + 1.2, wrap(DISCLAIMER, _WIDTH_MM, ink), ink)
