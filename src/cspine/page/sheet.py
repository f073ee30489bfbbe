"""An A4 sheet measured in millimetres from its upper left corner, on a figure of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

WIDTH_MM: Final = 210.0
HEIGHT_MM: Final = 297.0
MARGIN_MM: Final = 14.0
RIGHT_MM: Final = WIDTH_MM - MARGIN_MM
MM_PER_POINT: Final = 25.4 / 72
LEADING: Final = 1.32
"""Distance of lines in type sizes."""

# Whatever a matplotlibrc of the user says, the page looks the same; DejaVu comes with matplotlib.
STYLE: Final[dict[str, Any]] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "text.usetex": False,
    "text.parse_math": False,
    "path.simplify": True,
    "hatch.linewidth": 0.9,
    "pdf.fonttype": 3,
    "pdf.compression": 6,
    "image.resample": True,
    "savefig.bbox": None,
}


@dataclass(frozen=True)
class Ink:
    """How a text looks: size in points, colour, weight."""

    size: float = 7.6
    color: str = "#20262d"
    weight: str = "normal"

    @property
    def line_mm(self) -> float:
        """Height of a line."""
        return self.size * MM_PER_POINT * LEADING


@dataclass(frozen=True)
class Frame:
    """A rectangle on the sheet: its upper left corner and its size, in millimetres."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Sheet:
    """One empty A4 page; x runs to the right and y down, both in millimetres."""

    figure: Figure = field(default_factory=lambda: Figure(figsize=(WIDTH_MM / 25.4, HEIGHT_MM / 25.4)))

    def text(self, x: float, y: float, text: str, ink: Ink, **how: Any) -> None:
        """Write one line with its baseline at y."""
        self.figure.text(
            x / WIDTH_MM,
            1 - y / HEIGHT_MM,
            text,
            fontsize=ink.size,
            color=ink.color,
            fontweight=ink.weight,
            **{"va": "baseline", **how},
        )

    def paragraph(self, x: float, y: float, lines: Iterable[str], ink: Ink) -> float:
        """Write lines, the first with its top at y; returns the y below the last."""
        for line in lines:
            y += ink.line_mm
            self.text(x, y - 0.28 * ink.line_mm, line, ink)
        return y

    def rule(self, y: float, *, color: str, width: float = 0.6) -> None:
        """Draw a line from margin to margin."""
        axes = self.panel(Frame(MARGIN_MM, y - 0.5, RIGHT_MM - MARGIN_MM, 1.0))
        axes.axhline(0.5, color=color, linewidth=width)

    def block(self, frame: Frame, color: str) -> None:
        """Fill a rectangle; what is written later stands on it."""
        self.panel(frame).axhspan(0, frame.height, color=color, linewidth=0)

    def panel(self, frame: Frame) -> Axes:
        """Axes without ticks in millimetres of paper, (0, 0) at the upper left corner."""
        x, bottom = frame.x / WIDTH_MM, 1 - (frame.y + frame.height) / HEIGHT_MM
        axes = self.figure.add_axes((x, bottom, frame.width / WIDTH_MM, frame.height / HEIGHT_MM))
        axes.set_axis_off()
        axes.set_xlim(0, frame.width)
        axes.set_ylim(frame.height, 0)
        return axes

    def pdf(self, title: str, producer: str, dpi: int) -> bytes:
        """The page as PDF; the same page always gives the same bytes."""
        stream = io.BytesIO()
        metadata = {"Title": title, "Creator": producer, "Producer": None, "CreationDate": None}
        self.figure.set_dpi(dpi)
        FigureCanvasPdf(self.figure).print_pdf(stream, metadata=metadata)
        return stream.getvalue()

    def png(self, dpi: int) -> bytes:
        """The page as PNG of 8-bit RGB; the same page always gives the same bytes."""
        from PIL import Image

        self.figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        stream = io.BytesIO()
        Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(
            stream, "png", compress_level=4, dpi=(dpi, dpi)
        )
        return stream.getvalue()


@lru_cache(maxsize=4096)
def text_width_mm(text: str, ink: Ink) -> float:
    """Width of a line of text, with a little to spare for the rounding of letters to pixels."""
    font = get_font(_font_file(ink.weight))
    font.set_size(ink.size, 72 * 8)  # Eight times finer than a point, so that hinting does not round.
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 8 * MM_PER_POINT * 1.03


def wrap(text: str, width_mm: float, ink: Ink) -> list[str]:
    """Break a text into lines of at most `width_mm`; words that are too long are broken too."""
    space = text_width_mm("n n", ink) - text_width_mm("nn", ink)
    lines: list[str] = []
    room = 0.0
    for word in (piece for whole in text.split() for piece in _pieces(whole, width_mm, ink)):
        needed = text_width_mm(word, ink)
        if lines and room >= space + needed:
            lines[-1] += f" {word}"
            room -= space + needed
        else:
            lines.append(word)
            room = width_mm - needed
    return lines


def fit(text: str, width_mm: float, ink: Ink, smallest: float) -> Ink:
    """The ink in which a text fits on one line, or at its smallest size."""
    share = width_mm / max(text_width_mm(text, ink), 1e-6)
    return replace(ink, size=max(min(ink.size, ink.size * share), smallest))


def wrap_all(texts: Sequence[str], width_mm: float, ink: Ink, most_lines: int, more: str) -> list[str]:
    """Break bullet points into at most `most_lines` lines; what does not fit is announced by `more`.

    Args:
        texts: one a bullet point.
        width_mm: of the column.
        ink: how it will look.
        most_lines: lines that fit.
        more: the last line when something was left out.
    """
    indent = "\N{NO-BREAK SPACE}" * 3
    lines: list[str] = []
    for text in texts:
        wrapped = wrap(text, width_mm - text_width_mm(indent, ink), ink)
        lines += [("\N{BULLET} " if i == 0 else indent) + line for i, line in enumerate(wrapped)]
    return lines if len(lines) <= most_lines else [*lines[: max(most_lines - 1, 0)], more]


def fixed_style() -> Any:
    """A context in which matplotlib's defaults and `STYLE` hold, whatever the user's settings are."""
    return matplotlib.rc_context(
        {**matplotlib.rcParamsDefault, **STYLE, "backend": matplotlib.rcParams["backend"]}
    )


@lru_cache(maxsize=4)
def _font_file(weight: str) -> str:
    return str(findfont(FontProperties(family="DejaVu Sans", weight=weight)))


def _pieces(word: str, width_mm: float, ink: Ink) -> list[str]:
    if text_width_mm(word, ink) <= width_mm:
        return [word]
    letters = max(int(len(word) * width_mm / text_width_mm(word, ink) * 0.8), 1)
    return [word[i : i + letters] for i in range(0, len(word), letters)]
