"""The same numbers of parts of the cases: by scan, by level, by kind and width of the fracture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.evaluation.fracture_summary import auc_of
from cspine.evaluation.fractures import ratio
from cspine.evaluation.masks import all_right
from cspine.evaluation.plain import as_json, mean_or_none, number
from cspine.evaluation.result import CaseResult, LevelResult
from cspine.evaluation.table import UNSEEN, Table
from cspine.volume import FloatArray

GAPS_MM: Final = ((0.0, 1.0, "up to 1 mm"), (1.0, 2.0, "1 to 2 mm"), (2.0, np.inf, "over 2 mm"))
"""Classes of the widest gap of a fracture; hairlines are narrower than 1 mm."""
DETECTABILITY: Final = (
    (-1.0, 10.0, "up to 10"),
    (10.0, 20.0, "10 to 20"),
    (20.0, 50.0, "20 to 50"),
    (50.0, np.inf, "over 50"),
)
"""Classes of how plainly a fracture shows; to search for it takes several times what to confirm it does."""


def measure_subgroups(table: Table, point: str) -> list[dict[str, Any]]:
    """One entry for each subgroup.

    Args:
        table: the cases.
        point: the operating point of sensitivity and specificity.

    Returns:
        Entries with "group", "value", number of cases, levels and fractured levels, and what can be measured
        of them; None for what cannot.
    """
    whole = np.ones_like(table.truth, bool)
    entries = [_entry(table, point, ("all", "all"), whole)]
    names = sorted({name for case in table.cases for name in case.attributes})
    for name in names:
        values = [case.attributes.get(name, "not known") for case in table.cases]
        for value in sorted(set(values)):
            rows = np.array([v == value for v in values])
            entries.append(_entry(table.rows(rows), point, (name, value), whole[rows]))
    for place, vertebra in enumerate(CERVICAL):
        cells = np.zeros_like(whole)
        cells[:, place] = True
        entries.append(_entry(table, point, ("level", str(vertebra)), cells))
    entries += [_fractures(table, point, names_of, cells) for names_of, cells in _fracture_groups(table)]
    return entries


def _entry(table: Table, point: str, name: tuple[str, str], cells: NDArray[np.bool_]) -> dict[str, Any]:
    """Everything of the chosen cells (S, 7)."""
    known = np.isfinite(table.truth) & cells
    broken, sound = known & (table.truth == 1), known & (table.truth == 0)
    called = table.level_decisions(point) == 1
    scores = np.where(np.isfinite(table.probability), table.probability, UNSEEN)
    auc = auc_of(scores[known], table.truth[known]) if known.any() else float("nan")
    full = [case for case in table.cases if case.full_view]
    right = np.array([float(all_right({x.level: x.mask for x in case.levels if x.mask})) for case in full])
    return {
        "group": name[0],
        "value": name[1],
        "cases": len(table.cases),
        "levels": int(known.sum()),
        "fractured_levels": int(broken.sum()),
        "level_auc": round(auc, 4) if np.isfinite(auc) else None,
        "sensitivity": as_json(ratio(called & broken, broken)),
        "specificity": as_json(ratio(~called & sound, sound)),
        "dice": mean_or_none(_dice(table)[cells]),
        "all_levels_right": mean_or_none(right) if cells.all() else None,
        "full_view": len(full),
    }


def _fractures(table: Table, point: str, name: tuple[str, str], cells: NDArray[np.bool_]) -> dict[str, Any]:
    """Of a kind of fracture: sensitivity, and the AUC against every sound level, for none has that kind."""
    sound = table.truth == 0
    entry = _entry(table, point, name, cells | sound)
    broken = cells & (table.truth == 1)
    return entry | {
        "cases": int(broken.any(1).sum()),
        "levels": int(broken.sum()),
        "specificity": None,
        "dice": mean_or_none(_dice(table)[broken]),
        "all_levels_right": None,
    }


def _fracture_groups(table: Table) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    kinds = sorted({kind for case in table.cases for x in case.levels if x.truth for kind in x.truth.kinds})
    for kind in kinds:
        yield ("fracture", kind), _cells(table, lambda x, k=kind: x.truth is not None and k in x.truth.kinds)  # type: ignore[misc]
    measures = (("gap", "gap_mm", GAPS_MM), ("detectability d'", "detectability", DETECTABILITY))
    for name, attribute, classes in measures:
        for low, high, label in classes:
            cells = _cells(table, lambda x, n=attribute, a=low, b=high: _within(x, n, a, b))  # type: ignore[misc]
            if cells.any():
                yield (name, label), cells


def _within(level: LevelResult, attribute: str, low: float, high: float) -> bool:
    value = getattr(level.truth, attribute, None)
    return value is not None and low < value <= high


def _cells(table: Table, wanted: Callable[[LevelResult], bool]) -> NDArray[np.bool_]:
    return np.array([[wanted(level) for level in case.levels] for case in table.cases], bool)


def _dice(table: Table) -> FloatArray:
    def row(case: CaseResult) -> list[float]:
        return [number(level.mask.dice if level.mask else None) for level in case.levels]

    return np.array([row(case) for case in table.cases], np.float64).reshape(-1, len(CERVICAL))
