"""Text and tables that flow over as many A4 pages as they need."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages

from cspine.page import style
from cspine.page.sheet import HEIGHT_MM, MARGIN_MM, RIGHT_MM, WIDTH_MM, Frame, Ink, Sheet, wrap

TOP_MM: Final = 18.0
BOTTOM_MM: Final = 283.0
FOOT: Final = Ink(6.6, style.QUIET)
BOLD: Final = Ink(style.BODY.size, style.INK, "bold")


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading and its width in millimetres."""

    heading: str
    width_mm: float


@dataclass(frozen=True)
class Cell:
    """A text with its own look."""

    text: str
    ink: Ink = style.BODY


@dataclass(eq=False)
class Flow:
    """Pages under work; everything is put below what is there already.

    Attributes:
        title: at the head of every page.
        foot: at the foot of every page.
        sheets: the pages so far.
        y: where the next thing goes on the last of them, mm.
    """

    title: str
    foot: str
    sheets: list[Sheet] = field(default_factory=list)
    y: float = BOTTOM_MM

    @property
    def sheet(self) -> Sheet:
        """The page under work."""
        return self.sheets[-1]

    def new_page(self) -> None:
        """Begin another page."""
        self.sheets.append(Sheet())
        self.sheet.text(MARGIN_MM, 11.5, self.title, style.TITLE)
        self.sheet.text(RIGHT_MM, 11.5, str(len(self.sheets)), style.TITLE, ha="right")
        self.sheet.rule(13.6, color=style.HAIRLINE)
        self.sheet.text(MARGIN_MM, 290.0, self.foot, FOOT)
        self.y = TOP_MM

    def need(self, height_mm: float) -> None:
        """Begin another page unless so much is left of this one."""
        if self.y + height_mm > BOTTOM_MM:
            self.new_page()

    def heading(self, text: str, keep_mm: float = 24.0) -> None:
        """A heading that stays with at least `keep_mm` of what follows."""
        self.need(keep_mm)
        ink = Ink(10.5, style.INK, "bold")
        self.y = (
            self.sheet.paragraph(MARGIN_MM, self.y + 2.0, wrap(text, RIGHT_MM - MARGIN_MM, ink), ink) + 1.0
        )

    def paragraph(self, text: str, ink: Ink = style.BODY) -> None:
        """A paragraph over the whole width."""
        lines = wrap(text, RIGHT_MM - MARGIN_MM, ink)
        self.need(len(lines) * ink.line_mm)
        self.y = self.sheet.paragraph(MARGIN_MM, self.y, lines, ink) + 1.2

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]]) -> None:
        """A table; its heading comes again on every page."""
        self.need(20.0)
        self._heading(columns)
        for row in rows:
            cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
            lines = [
                wrap(c.text, column.width_mm - 1.5, c.ink) for c, column in zip(cells, columns, strict=True)
            ]
            height = max((len(found) for found in lines), default=1) * style.BODY.line_mm + 0.9
            if self.y + height > BOTTOM_MM:
                self.new_page()
                self._heading(columns)
            x = MARGIN_MM
            for cell, found, column in zip(cells, lines, columns, strict=True):
                self.sheet.paragraph(x, self.y, found, cell.ink)
                x += column.width_mm
            self.y += height
        self.y += 2.5

    def _heading(self, columns: Sequence[Column]) -> None:
        lines = [wrap(column.heading, column.width_mm - 1.5, BOLD) for column in columns]
        x = MARGIN_MM
        for found, column in zip(lines, columns, strict=True):
            self.sheet.paragraph(x, self.y, found, BOLD)
            x += column.width_mm
        self.y += max(len(found) for found in lines) * BOLD.line_mm + 0.8
        self.sheet.rule(self.y, color=style.HAIRLINE)
        self.y += 0.8

    def axes(self, frame: Frame) -> Axes:
        """Axes for a plot in a frame of the page, ticks outside of it."""
        box = (
            frame.x / WIDTH_MM,
            1 - (frame.y + frame.height) / HEIGHT_MM,
            frame.width / WIDTH_MM,
            frame.height / HEIGHT_MM,
        )
        axes = self.sheet.figure.add_axes(box)
        axes.tick_params(labelsize=6.5, colors=style.QUIET, length=2)
        for spine in axes.spines.values():
            spine.set_color(style.HAIRLINE)
        return axes

    def pdf(self) -> bytes:
        """All pages; the same pages always give the same bytes."""
        stream = io.BytesIO()
        metadata = {"Title": self.title, "CreationDate": None, "Producer": None}
        with PdfPages(stream, metadata=metadata) as pages:
            for sheet in self.sheets:
                pages.savefig(sheet.figure)
        return stream.getvalue()
