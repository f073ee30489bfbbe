"""ROC and reliability curves; areas and calibration error are those of `cspine.models.calibration`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from cspine.volume import FloatArray

BINS: Final = 10
"""Of the reliability curve."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Cases with about the same probability.

    Attributes:
        said: their mean probability.
        seen: part of them that is fractured.
        count: how many they are.
    """

    said: float
    seen: float
    count: int


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """False-positive and true-positive rates (M,), from (0, 0) to (1, 1), one point for each score."""
    x, y = np.asarray(scores, np.float64), np.asarray(labels, bool)
    order = np.argsort(-x, kind="stable")
    last_of_score = np.append(np.diff(x[order]) != 0, True)
    hits, alarms = np.cumsum(y[order])[last_of_score], np.cumsum(~y[order])[last_of_score]
    return np.append(0.0, alarms / max(1, (~y).sum())), np.append(0.0, hits / max(1, y.sum()))


def roc_at(curve: tuple[FloatArray, FloatArray], false_positives: FloatArray) -> FloatArray:
    """True-positive rates of a curve at given false-positive rates: the highest reached there."""
    place = np.searchsorted(curve[0], false_positives, side="right") - 1
    return np.asarray(curve[1][place])


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> list[ReliabilityBin]:
    """Said and seen frequency in bins of equal width; empty bins are left out."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    which = np.minimum((p * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(float(p[which == b].mean()), float(y[which == b].mean()), int((which == b).sum()))
        for b in np.unique(which)
    ]
