"""The report's long tables: operating points, predictive values, subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cspine.evaluation.flow import Cell, Column, Flow
from cspine.evaluation.plots import short, spread
from cspine.page.sheet import MARGIN_MM, RIGHT_MM

_WIDTH_MM: Final = RIGHT_MM - MARGIN_MM


def put_operating_points(flow: Flow, entry: Mapping[str, Any]) -> None:
    """Right and wrong calls of a set at each operating point, and what a call would mean elsewhere."""
    flow.heading(f"Operating points, {entry['name']}", 60)
    flow.paragraph(
        "A fractured level or study that is left undetermined counts as not found; a sound one left "
        "undetermined as no false alarm. The last columns give how much was left open, of fractured and of "
        "sound ones."
    )
    columns = [
        Column("", 32),
        Column("sensitivity", 34),
        Column("specificity", 34),
        Column("sens. / spec. of what was determined", 44),
        Column("open: fractured / sound", _WIDTH_MM - 144),
    ]
    rows = []
    for unit in ("level", "study"):
        for name, point in entry["fractures"][unit]["operating_points"].items():
            determined = [
                short(point[f"{kind}_determined"]["value"]) for kind in ("sensitivity", "specificity")
            ]
            left = [short(point[f"undetermined_{kind}"]["value"]) for kind in ("fractured", "sound")]
            rows.append(
                [
                    f"{unit}, {name.replace('_', '-')}",
                    spread(point["sensitivity"]),
                    spread(point["specificity"]),
                    " / ".join(determined),
                    " / ".join(left),
                ]
            )
    flow.table(columns, rows)
    _predictive_values(flow, entry)


def _predictive_values(flow: Flow, entry: Mapping[str, Any]) -> None:
    points = entry["fractures"]["study"]["operating_points"]
    stated = [value["prevalence"] for point in points.values() for value in point["predictive_values"]]
    stated = sorted(set(stated))
    if not stated:
        return
    columns = [Column("PPV / NPV of studies where this part has a fracture", 58)]
    columns += [Column(f"{100 * prevalence:g} %", (_WIDTH_MM - 58) / len(stated)) for prevalence in stated]
    rows = [
        [
            name.replace("_", "-"),
            *(f"{short(v['ppv'])} / {short(v['npv'])}" for v in point["predictive_values"]),
        ]
        for name, point in points.items()
    ]
    flow.table(columns, rows)


def put_subgroups(flow: Flow, entry: Mapping[str, Any], point: str) -> None:
    """The subgroups of a set at one operating point."""
    flow.heading(f"Subgroups, {entry['name']} (operating point {point.replace('_', '-')})", 40)
    columns = [
        Column("group", 25),
        Column("", 33),
        Column("cases", 11),
        Column("levels, fractured", 17),
        Column("level AUC", 12),
        Column("sensitivity", 30),
        Column("specificity", 30),
        Column("Dice", 11),
        Column("all right", _WIDTH_MM - 169),
    ]
    flow.table(columns, [_subgroup(line) for line in entry["subgroups"]])


def _subgroup(line: Mapping[str, Any]) -> list[str | Cell]:
    nothing = {"value": None, "low": None, "high": None}

    def rate(name: str) -> str:
        found = line[name] or nothing
        return "-" if found["value"] is None else spread(found)

    return [
        line["group"],
        line["value"],
        str(line["cases"]),
        f"{line['levels']}, {line['fractured_levels']}",
        short(line["level_auc"]),
        rate("sensitivity"),
        rate("specificity"),
        short(line["dice"]),
        short(line["all_levels_right"]),
    ]
