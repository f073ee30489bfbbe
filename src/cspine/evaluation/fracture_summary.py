"""How well fractured levels and studies are told apart, as plain values for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.evaluation.curves import reliability, roc_at, roc_curve
from cspine.evaluation.fractures import (
    PREVALENCES,
    RSNA_LEVEL_PREVALENCE,
    RSNA_OVERALL_PREVALENCE,
    Calls,
    calls,
    constant_loss,
    predictive_values,
    rsna_loss,
)
from cspine.evaluation.intervals import SEED, Estimate, Rows, estimate, mean_of
from cspine.evaluation.plain import as_json, mean_or_none
from cspine.evaluation.table import UNSEEN, Table
from cspine.models.calibration import expected_calibration_error, roc_auc
from cspine.volume import FloatArray

ROC_GRID: Final = 101
"""False-positive rates at which the band of a ROC curve is given."""
ROC_REPEATS: Final = 300
ECE_REPEATS: Final = 1000


def measure_fractures(table: Table) -> dict[str, Any]:
    """The challenge's loss, and how well levels and studies are told apart."""
    said, labels = table.rsna_columns()
    constants = [RSNA_OVERALL_PREVALENCE, *(RSNA_LEVEL_PREVALENCE[v] for v in CERVICAL)]
    known = np.isfinite(labels).any(1) if len(labels) else np.zeros(0, bool)
    said, labels = said[known], labels[known]
    losses = rsna_loss(said, labels) if len(labels) else np.zeros(0)
    return {
        "rsna_loss": as_json(mean_of(losses[:, None])),
        "rsna_loss_of_prevalence": mean_or_none(constant_loss(labels)) if len(labels) else None,
        "rsna_loss_of_rsna_prevalence": mean_or_none(constant_loss(labels, constants))
        if len(labels)
        else None,
        "without_probability": {
            "levels": int((np.isfinite(table.truth) & ~np.isfinite(table.probability)).sum()),
            "studies": int((~np.isfinite(table.overall)).sum()),
        },
        "level": _measure_unit(table.probability, table.truth)
        | {"operating_points": _points(table, study=False)},
        "study": _measure_unit(table.overall[:, None], table.any_truth[:, None])
        | {"operating_points": _points(table, study=True)},
    }


def _measure_unit(probability: FloatArray, truth: FloatArray) -> dict[str, Any]:
    """AUC, calibration and curves of (S, K) probabilities."""
    known = np.isfinite(truth)
    said = known & np.isfinite(probability)
    scores = np.where(np.isfinite(probability), probability, UNSEEN)

    def auc(rows: Rows) -> float:
        return auc_of(scores[rows][known[rows]], truth[rows][known[rows]])

    def error(rows: Rows) -> float:
        chosen = said[rows]
        if not chosen.any():
            return float("nan")
        return expected_calibration_error(probability[rows][chosen], truth[rows][chosen])

    return {
        "auc": as_json(estimate(auc, len(truth), int(known.sum()))),
        "ece": as_json(estimate(error, len(truth), int(said.sum()))),
        "ece_if_calibrated": ece_if_calibrated(probability[said]),
        "reliability": [asdict(b) for b in reliability(probability[said], truth[said])] if said.any() else [],
        "roc": _roc(scores, truth, known),
    }


def ece_if_calibrated(probability: FloatArray) -> dict[str, float] | None:
    """The calibration error that so few cases show where every probability (N,) is exactly right.

    A bin of four cases is never half a fracture: with 15 bins, 60 cases and well spread probabilities the
    error of a perfectly calibrated method is above .1. Outcomes are drawn from the probabilities
    themselves (consistency sampling, Broecker and Smith 2007, doi:10.1175/WAF993.1).

    Returns:
        "mean" and "p95" of the error; None without cases.
    """
    if not len(probability):
        return None
    rng = np.random.default_rng(SEED)
    outcomes = rng.random((ECE_REPEATS, len(probability))) < probability
    errors = [expected_calibration_error(probability, drawn) for drawn in outcomes]
    return {"mean": float(np.mean(errors)), "p95": float(np.quantile(errors, 0.95))}


def auc_of(scores: FloatArray, labels: FloatArray) -> float:
    """Area under the ROC curve; nan without both kinds."""
    return roc_auc(scores, labels) if len(np.unique(labels)) == 2 else float("nan")


def _roc(scores: FloatArray, truth: FloatArray, known: NDArray[np.bool_]) -> dict[str, list[float]] | None:
    """The curve, and its 95 % band over patients at given false-positive rates."""
    if len(np.unique(truth[known])) < 2:
        return None
    grid = np.linspace(0, 1, ROC_GRID)
    rng = np.random.default_rng(SEED)
    bands = []
    for _ in range(ROC_REPEATS):
        rows = rng.integers(0, len(truth), len(truth))
        labels = truth[rows][known[rows]]
        if len(np.unique(labels)) == 2:
            bands.append(roc_at(roc_curve(scores[rows][known[rows]], labels), grid))
    curve = roc_curve(scores[known], truth[known])
    low, high = np.quantile(bands, [0.025, 0.975], axis=0)
    parts = {"false_positives": curve[0], "true_positives": curve[1], "grid": grid, "low": low, "high": high}
    return {name: np.round(values, 4).tolist() for name, values in parts.items()}


def _points(table: Table, *, study: bool) -> dict[str, Any]:
    names = list(table.cases[0].decisions) if table.cases else []
    found = {}
    for name in names:
        if study:
            measured = calls(table.study_decisions(name), table.any_truth[:, None])
        else:
            measured = calls(table.level_decisions(name), table.truth)
        found[name] = callsas_json(measured) | ({"predictive_values": _predictive(measured)} if study else {})
    return found


def callsas_json(measured: Calls) -> dict[str, Any]:
    """Calls as plain values."""
    return {name: as_json(v) if isinstance(v, Estimate) else v for name, v in vars(measured).items()}


def _predictive(measured: Calls) -> list[dict[str, float | None]]:
    sensitivity, specificity = measured.sensitivity.value, measured.specificity.value
    if sensitivity is None or specificity is None:
        return []
    return [asdict(predictive_values(sensitivity, specificity, p)) for p in PREVALENCES]
