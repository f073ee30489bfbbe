"""The report's curves; each set of cases has one colour and one line style throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes

from cspine.anatomy import CERVICAL
from cspine.evaluation.masks import NOWHERE
from cspine.evaluation.summary import NOT_FOUND
from cspine.page import style

LOOKS: Final = (("#2f6f9f", "solid"), ("#c4400a", "dashed"), ("#3f7d3a", "dashdot"), ("#8a6d00", "dotted"))
"""Colour-blind safe, and told apart by the line too."""

Sets = Sequence[Mapping[str, Any]]


def draw_roc(axes: Axes, sets: Sets, unit: str) -> None:
    """ROC curves with their 95 % bands over patients; `unit` is "level" or "study"."""
    axes.plot([0, 1], [0, 1], color=style.HAIRLINE, linewidth=0.8)
    for (color, line), entry in zip(LOOKS, sets, strict=False):
        measured = entry["fractures"][unit]
        curve = measured["roc"]
        if curve is None:
            continue
        axes.fill_between(curve["grid"], curve["low"], curve["high"], color=color, alpha=0.15, linewidth=0)
        name = f"{entry['name']}: AUC {spread(measured['auc'])}"
        axes.plot(
            curve["false_positives"],
            curve["true_positives"],
            color=color,
            linestyle=line,
            linewidth=1.3,
            label=name,
        )
    _finish(axes, f"ROC, {unit}", ("1 - specificity", "sensitivity"))


def draw_reliability(axes: Axes, sets: Sets, unit: str) -> None:
    """Said against seen frequency; the size of a dot is the number of its cases."""
    axes.plot([0, 1], [0, 1], color=style.HAIRLINE, linewidth=0.8)
    for (color, line), entry in zip(LOOKS, sets, strict=False):
        measured = entry["fractures"][unit]
        bins = measured["reliability"]
        said, seen = [b["said"] for b in bins], [b["seen"] for b in bins]
        sizes = [6 + 60 * b["count"] / max(1, sum(x["count"] for x in bins)) for b in bins]
        axes.plot(
            said,
            seen,
            color=color,
            linestyle=line,
            linewidth=1.0,
            label=f"{entry['name']}: ECE {spread(measured['ece'])}",
        )
        axes.scatter(said, seen, s=sizes, color=color, linewidths=0)
    _finish(axes, f"Reliability, {unit}", ("probability said", "part fractured"), "upper left")


def draw_froc(axes: Axes, sets: Sets) -> None:
    """Part of the fractures hit against false alarms per study."""
    for (color, line), entry in zip(LOOKS, sets, strict=False):
        found = entry["boxes"]["froc"]
        if found is None:
            continue
        axes.step(
            found["false_alarms"],
            found["sensitivity"],
            where="post",
            color=color,
            linestyle=line,
            linewidth=1.3,
            label=entry["name"],
        )
        for point in found["points"]:
            at = point["sensitivity"]
            if at["low"] is not None:
                axes.plot([point["false_alarms"]] * 2, [at["low"], at["high"]], color=color, linewidth=0.8)
    _finish(axes, "FROC: marks on fractures", ("false alarms per study", "part of the fractures hit"))
    axes.set_xlim(0, 3)


def draw_dice(axes: Axes, sets: Sets) -> None:
    """Dice by level."""
    places = np.arange(len(CERVICAL))
    drawn = [(look, entry) for look, entry in zip(LOOKS, sets, strict=False) if entry["masks"] is not None]
    for number, ((color, _), entry) in enumerate(drawn):
        values = [entry["masks"]["by_level"][str(v)]["dice"] or 0.0 for v in CERVICAL]
        width = 0.8 / len(drawn)
        axes.bar(
            places - 0.4 + width * (number + 0.5), values, width * 0.9, color=color, alpha=0.85,
            hatch=("", "////", "....", "xxxx")[number % 4], edgecolor="white",
            label=f"{entry['name']}: {spread(entry['masks']['dice'])}",
        )  # fmt: skip
    _finish(axes, "Dice by level", ("", ""), "upper right")
    axes.set_ylim(0, 1.25)
    axes.set_xticks(places, [str(v) for v in CERVICAL])
    axes.set_xlim(-0.6, len(CERVICAL) - 0.4)


def draw_confusion(axes: Axes, entry: Mapping[str, Any]) -> None:
    """Called levels (columns) by the true vertebra that they lie on (rows)."""
    names = [str(v) for v in CERVICAL]
    rows, columns = [*names, NOWHERE], [*names, NOT_FOUND]
    table = np.array([[entry["masks"]["confusion"][row][column] for column in columns] for row in rows])
    axes.imshow(table, cmap="Blues", vmin=0, vmax=max(1, table.max()), aspect="auto")
    for i, row in enumerate(table):
        for j, count in enumerate(row):
            color = "white" if count > 0.6 * table.max() else style.INK
            axes.text(
                j,
                i,
                str(count),
                ha="center",
                va="center",
                fontsize=7,
                color=color if count else style.HAIRLINE,
            )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(f"Levels, {entry['name']}", fontsize=8.5, color=style.INK, loc="left")
    axes.set_xlabel("name that was given", fontsize=7, color=style.QUIET)
    axes.set_ylabel("vertebra that it lies on", fontsize=7, color=style.QUIET)


def spread(value: Mapping[str, Any]) -> str:
    """A value with its interval, in words."""
    if value["value"] is None:
        return "not measured"
    text = short(value["value"])
    return text if value["low"] is None else f"{text} ({short(value['low'])} to {short(value['high'])})"


def short(value: float | None) -> str:
    """A number of three digits or so."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _finish(axes: Axes, title: str, labels: tuple[str, str], legend: str = "lower right") -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_title(title, fontsize=8.5, color=style.INK, loc="left")
    axes.set_xlabel(labels[0], fontsize=7, color=style.QUIET)
    axes.set_ylabel(labels[1], fontsize=7, color=style.QUIET)
    axes.grid(color=style.TRACK, linewidth=0.6)
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6.0, loc=legend, frameon=True, framealpha=0.85, edgecolor="none")
