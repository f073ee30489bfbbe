"""All metrics of a set of cases, as plain values for JSON; docs/reference/evaluation.md says what each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.evaluation.boxes import FALSE_ALARMS, Mark, average_precision, froc, sensitivity_at
from cspine.evaluation.fracture_summary import measure_fractures
from cspine.evaluation.fractures import ratio
from cspine.evaluation.intervals import REPEATS, SEED, Estimate, Rows, mean_of, samples, with_interval
from cspine.evaluation.masks import NOWHERE, all_right, off_by_one
from cspine.evaluation.plain import as_json, mean_or_none, number
from cspine.evaluation.result import CaseResult
from cspine.evaluation.subgroups import measure_subgroups
from cspine.evaluation.table import Table
from cspine.volume import FloatArray

NOT_FOUND: Final = "not found"


def summarise(results: Sequence[CaseResult], default_point: str) -> dict[str, Any]:
    """Measure a set.

    Args:
        results: of all its cases, failures too.
        default_point: the operating point that the product uses.
    """
    table = Table.of(results)
    return {
        "cases": count_cases(results, table),
        "failures": [{"case": r.identifier, "sentence": r.failure} for r in results if r.failure is not None],
        "masks": measure_masks(results),
        "fractures": measure_fractures(table),
        "boxes": measure_boxes(results),
        "confounders": measure_confounders(table, default_point),
        "subgroups": measure_subgroups(table, default_point),
        "seconds": measure_seconds(results),
    }


def count_cases(results: Sequence[CaseResult], table: Table) -> dict[str, int]:
    """How many there are of everything."""
    return {
        "asked": len(results),
        "failed": sum(result.failure is not None for result in results),
        "truth_unknown": len(results) - len(table.cases),
        "with_fracture": int((table.any_truth == 1).sum()),
        "full_view": sum(result.full_view for result in results),
        "levels": int(np.isfinite(table.truth).sum()),
        "fractured_levels": int((table.truth == 1).sum()),
    }


def measure_masks(results: Sequence[CaseResult]) -> dict[str, Any] | None:
    """Dice and the like of the levels in full view; None where no case has a true mask."""
    drawn = [result for result in results if result.has_mask]
    if not drawn:
        return None

    def column(name: str) -> FloatArray:
        return np.array(
            [
                [number(getattr(level.mask, name)) if level.mask else np.nan for level in result.levels]
                for result in drawn
            ]
        )

    dice, surface, identified = column("dice"), column("surface_dice"), column("identified")
    full = [_scores(result) for result in drawn if result.full_view]
    return {
        "dice": as_json(mean_of(dice)),
        "surface_dice_1mm": as_json(mean_of(surface)),
        "id_rate": as_json(mean_of(identified)),
        "centroid_error_mm": as_json(mean_of(column("centroid_error_mm"))),
        "all_levels_right": as_json(
            mean_of(np.array([[float(all_right(scores))] for scores in full] or [[np.nan]]))
        ),
        "off_by_one": as_json(
            mean_of(np.array([[float(off_by_one(_scores(result)) > 0)] for result in drawn]))
        ),
        "by_level": {
            str(vertebra): {
                "dice": mean_or_none(dice[:, i]),
                "surface_dice_1mm": mean_or_none(surface[:, i]),
                "id_rate": mean_or_none(identified[:, i]),
            }
            for i, vertebra in enumerate(CERVICAL)
        },
        "confusion": confusion(drawn),
    }


def confusion(results: Sequence[CaseResult]) -> dict[str, dict[str, int]]:
    """How many called levels (inner name) lie on each true vertebra (outer name).

    A true vertebra whose own name was given to nothing counts once as "not found"; what lies on no cervical
    vertebra stands under "none".
    """
    names = [str(v) for v in CERVICAL]
    table = {true: dict.fromkeys((*names, NOT_FOUND), 0) for true in (*names, NOWHERE)}
    for result in results:
        for level in result.levels:
            if level.mask is None:
                continue
            if level.mask.lies_on is None:
                table[str(level.level)][NOT_FOUND] += 1
            else:
                table[level.mask.lies_on][str(level.level)] += 1
    return table


def measure_boxes(results: Sequence[CaseResult]) -> dict[str, Any]:
    """COCO's average precision of vertebra boxes, FROC of marks on fractures, and key slices."""
    precision = average_precision([(r.boxes.found, r.boxes.truth) for r in results if r.boxes is not None])
    marked = [r.marks for r in results if r.marks is not None]
    studies = [(m.marks, m.fractures) for m in marked]
    shows = np.array([[number(level.key_slice_shows) for level in r.levels] for r in results if r.levels])
    return {
        "map50": precision.at_50 if precision else None,
        "map50_95": precision.from_50_to_95 if precision else None,
        "by_level": precision.by_level if precision else {},
        "fractures": sum(count for _, count in studies),
        "froc": _froc(studies) if any(count for _, count in studies) else None,
        "key_slice_shows_fracture": as_json(mean_of(shows)) if len(shows) else as_json(Estimate(None)),
    }


def _froc(studies: Sequence[tuple[Sequence[Mark], int]]) -> dict[str, Any]:
    def at(rows: Rows) -> list[float]:
        chosen = [studies[row] for row in rows]
        if not any(count for _, count in chosen):
            return [float("nan")] * len(FALSE_ALARMS)
        curve = froc(chosen)
        return [sensitivity_at(curve, alarms) for alarms in FALSE_ALARMS]

    alarms, sensitivity = froc(studies)
    patients, fractures = len(studies), sum(count for _, count in studies)
    values, sampled = at(np.arange(patients)), np.array([at(rows) for rows in samples(patients)])
    points = [
        {"false_alarms": limit, "sensitivity": as_json(with_interval(value, found, patients, fractures))}
        for limit, value, found in zip(FALSE_ALARMS, values, sampled.T, strict=True)
    ]
    curve = {"false_alarms": alarms.round(4).tolist(), "sensitivity": sensitivity.round(4).tolist()}
    return {"points": points, **curve}


def measure_confounders(table: Table, point: str) -> dict[str, Any] | None:
    """How many sound levels with something that resembles a fracture are called present; None without any."""
    named = {
        kind
        for case in table.cases
        for level in case.levels
        if level.truth is not None
        for kind in level.truth.confounders
    }
    if not named:
        return None
    sound = table.truth == 0
    called = table.level_decisions(point) == 1

    def has(wanted: set[str]) -> NDArray[np.bool_]:
        return np.array(
            [
                [
                    level.truth is not None and bool(wanted & set(level.truth.confounders))
                    for level in case.levels
                ]
                for case in table.cases
            ]
        )

    some = has(named)
    return {
        "operating_point": point,
        "flagged": as_json(ratio(called & sound & some, sound & some)),
        "flagged_without": as_json(ratio(called & sound & ~some, sound & ~some)),
        "by_kind": {
            kind: as_json(ratio(called & sound & has({kind}), sound & has({kind}))) for kind in sorted(named)
        },
    }


def measure_seconds(results: Sequence[CaseResult]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of the seconds of each step."""
    steps: dict[str, list[float]] = {}
    for result in results:
        for name, seconds in result.seconds.items():
            steps.setdefault(name, []).append(seconds)
    return {
        name: {"median": round(float(np.median(s)), 2), "p95": round(float(np.quantile(s, 0.95)), 2)}
        for name, s in steps.items()
    }


def settings() -> Mapping[str, Any]:
    """How intervals were made."""
    return {"interval": 0.95, "bootstrap": "percentile, over patients", "repeats": REPEATS, "seed": SEED}


def _scores(result: CaseResult) -> dict[Any, Any]:
    return {level.level: level.mask for level in result.levels if level.mask is not None}
