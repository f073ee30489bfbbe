"""The parts of the page that show something: the spine and the key slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from cspine.anatomy import Vertebra
from cspine.findings import StudyFindings, VertebraFinding
from cspine.page import style, words
from cspine.page.planes import OUTLINE_STEP_MM, KeyPicture, SpinePicture
from cspine.page.sheet import Frame, Ink, Sheet
from cspine.page.style import Mark

_HALO = [withStroke(linewidth=2.2, foreground=style.NIGHT)]
SCALE_MM = 20.0


def draw_spine(sheet: Sheet, frame: Frame, picture: SpinePicture, findings: StudyFindings) -> None:
    """Draw the picture along the spine with outlines, names, letters and scale."""
    axes = sheet.panel(frame)
    axes.set_xlim(0, picture.width_mm)
    axes.set_ylim(picture.height_mm, 0)
    _show(axes, picture.hu, picture.width_mm, picture.height_mm)
    for vertebra, mask in picture.masks.items():
        _outline(axes, mask, style.mark(findings.level(vertebra)))
    _names(axes, picture, findings, picture.height_mm / frame.height)
    _letters(axes, ("A", "P", "H", "F"))
    _scale_bar(axes, picture.width_mm / frame.width)


def draw_key(sheet: Sheet, frame: Frame, picture: KeyPicture, finding: VertebraFinding) -> None:
    """Draw a key slice with the vertebra's box, and its caption below."""
    axes = sheet.panel(frame)
    axes.set_xlim(0, picture.side_mm)
    axes.set_ylim(picture.side_mm, 0)
    _show(axes, picture.hu, picture.side_mm, picture.side_mm)
    shape = style.mark(finding)
    _box(axes, picture, shape)
    _letters(axes, picture.letters)
    _scale_bar(axes, picture.side_mm / frame.width)
    x, y = frame.x, frame.y + frame.height
    name = f"{shape.sign} {finding.level}   {words.probability(finding.probability)}"
    sheet.text(x, y + 4.0, name, Ink(8.4, shape.on_paper, "bold"))
    sheet.text(x, y + 7.4, words.STATUS[finding.decision], style.BODY)
    sheet.text(x, y + 10.6, words.place(picture), style.SMALL)


def spread(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Move sorted positions until neighbours are `distance` apart, each near to where it was."""
    if not wanted:
        return []
    distance = min(distance, (high - low) / max(len(wanted) - 1, 1))
    placed = list(wanted)
    for i in range(len(placed)):
        placed[i] = max(placed[i], low if i == 0 else placed[i - 1] + distance)
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], high if i == len(placed) - 1 else placed[i + 1] - distance)
    return placed


def _show(axes: Axes, hu: np.ndarray, width: float, height: float) -> None:
    low, high = style.WINDOW_HU
    grey = np.clip((hu - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    axes.imshow(
        grey,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(0, width, height, 0),
        aspect="auto",
        interpolation="bilinear",
    )
    axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=style.NIGHT, linewidth=1.0))


def _box(axes: Axes, picture: KeyPicture, shape: Mark) -> None:
    left, top, width, height = picture.box_mm
    line = max(0.8 * shape.width, 1.0)
    box = Rectangle((left, top), width, height, fill=False, edgecolor=shape.on_image, linewidth=line)
    box.set_linestyle(shape.line)
    box.set_path_effects([withStroke(linewidth=line + 1.2, foreground=style.NIGHT, alpha=0.6)])
    axes.add_patch(box)


def _outline(axes: Axes, mask: np.ndarray, shape: Mark) -> None:
    if mask.max() <= 0.5:
        return
    rows, columns = mask.shape
    x, y = ((np.arange(n) + 0.5) * OUTLINE_STEP_MM for n in (columns, rows))
    axes.contour(
        x, y, mask, levels=[0.5], colors=[shape.on_image], linewidths=shape.width, linestyles=shape.line
    )


def _names(axes: Axes, picture: SpinePicture, findings: StudyFindings, mm_per_paper_mm: float) -> None:
    """Name the levels in a column at the right edge, each joined to its vertebra by a thin line."""
    order = sorted(picture.centers_mm, key=lambda v: picture.centers_mm[v][1])
    line = 5.4 * mm_per_paper_mm
    heights = spread(
        [picture.centers_mm[v][1] for v in order], line, 1.5 * line, picture.height_mm - 2 * line
    )
    column = picture.width_mm * 0.86
    for vertebra, height in zip(order, heights, strict=True):
        finding = findings.level(vertebra)
        shape = style.mark(finding)
        start = _hind_end(picture.masks, vertebra, picture.centers_mm[vertebra])
        axes.plot(
            [start[0], column - 1.5],
            [start[1], height],
            color=shape.on_image,
            linewidth=0.6,
            alpha=0.85,
            linestyle=shape.line,
        )
        axes.text(
            column,
            height,
            f"{shape.sign} {vertebra}",
            color=shape.on_image,
            fontsize=8.2,
            fontweight="bold",
            va="center_baseline",
            path_effects=_HALO,
        )


def _hind_end(
    masks: Mapping[Vertebra, np.ndarray], vertebra: Vertebra, center: tuple[float, float]
) -> tuple[float, float]:
    """Where the line to a level's name starts: the hindmost point of its outline, else its centre."""
    mask = masks.get(vertebra)
    if mask is None or mask.max() <= 0.5:
        return center
    rows, columns = np.nonzero(mask > 0.5)
    last = columns.argmax()
    return (float(columns[last]) + 1.0) * OUTLINE_STEP_MM, (float(rows[last]) + 0.5) * OUTLINE_STEP_MM


def _letters(axes: Axes, letters: tuple[str, str, str, str]) -> None:
    places = (
        (0.025, 0.5, "left", "center"),
        (0.975, 0.5, "right", "center"),
        (0.5, 0.975, "center", "top"),
        (0.5, 0.025, "center", "bottom"),
    )
    for letter, (x, y, ha, va) in zip(letters, places, strict=True):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=ha,
            va=va,
            color=style.LIGHT,
            fontsize=8.5,
            fontweight="bold",
            path_effects=_HALO,
        )


def _scale_bar(axes: Axes, mm_per_paper_mm: float) -> None:
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    x, y = left + 2.5 * mm_per_paper_mm, bottom - 2.5 * mm_per_paper_mm
    axes.plot(
        [x, x + SCALE_MM], [y, y], color=style.LIGHT, linewidth=1.8, solid_capstyle="butt", path_effects=_HALO
    )
    axes.text(
        x,
        y - 1.3 * mm_per_paper_mm,
        f"{SCALE_MM:.0f} mm",
        color=style.LIGHT,
        fontsize=6.4,
        va="bottom",
        path_effects=_HALO,
    )
