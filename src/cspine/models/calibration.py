"""From logits to probabilities that mean what they say, and to the thresholds where they become decisions.

Pure functions on arrays; nothing here knows of networks. "At least" thresholds follow `assess`: a fracture is
called present from the threshold on, `probability >= threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cspine.volume import FloatArray

PRIOR_STRENGTH: Final = 1e-2
"""Pull of the fit towards temperature 1 and bias 0; keeps it finite where the classes separate perfectly."""
CLIP: Final = 1e-3
"""No probability is nearer than this to 0 or 1: no held-out set of ours could show that it should be."""


@dataclass(frozen=True)
class Calibration:
    """A logit's way to a probability: sigmoid((logit - bias) / temperature), clipped to [0.001, 0.999].

    Temperature alone cannot undo that fractures were shown more often in training than they occur; the bias
    does.

    Attributes:
        temperature: above 1 for a network that is too sure of itself.
        bias: the logit that stands for even odds.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0 and np.isfinite(self.bias)):
            raise ValueError(f"temperature {self.temperature} and bias {self.bias} calibrate nothing")

    def __call__(self, logits: ArrayLike) -> FloatArray:
        """Probabilities of logits, same shape."""
        scaled = (np.asarray(logits, np.float64) - self.bias) / self.temperature
        return np.clip(_sigmoid(scaled), CLIP, 1 - CLIP)


def fit_calibration(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Fit temperature and bias by likelihood (Platt scaling) on held-out cases.

    Args:
        logits: (N,) of a network.
        labels: (N,) 1 for a fracture, else 0.

    Raises:
        ValueError: the labels are all alike, the shapes differ, or a logit is not finite.
    """
    from scipy.optimize import minimize

    x, y = _pairs(logits, labels)

    def loss(parameters: FloatArray) -> float:
        log_temperature, bias = parameters
        scaled = (x - bias) * np.exp(-log_temperature)
        likelihood = np.logaddexp(0, scaled) - y * scaled
        return float(likelihood.mean() + PRIOR_STRENGTH * (log_temperature**2 + 0.01 * bias**2))

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3, 3), (-20, 20)])
    return Calibration(float(np.exp(found.x[0])), float(found.x[1]))


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean distance between said and seen frequency over equal-width bins, weighted by their cases.

    Guo et al. 2017, "On calibration of modern neural networks", with bins of the probability of a fracture.
    """
    p, y = _pairs(probabilities, labels, both=False)
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == b].mean() - y[which == b].mean()) * (which == b).sum() for b in np.unique(which)]
    return float(sum(gaps) / len(p))


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a case with a fracture scores higher than one without; ties count half."""
    from scipy.stats import rankdata

    x, y = _pairs(scores, labels)
    positives = y.sum()
    above = rankdata(x)[y == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(y) - positives)))


def sensitivity_at(probabilities: ArrayLike, labels: ArrayLike, threshold: float) -> float:
    """Part of the fractures that are called present at `threshold`."""
    p, y = _pairs(probabilities, labels)
    return float((p[y == 1] >= threshold).mean())


def specificity_at(probabilities: ArrayLike, labels: ArrayLike, threshold: float) -> float:
    """Part of the cases without fracture that are not called present at `threshold`."""
    p, y = _pairs(probabilities, labels)
    return float((p[y == 0] < threshold).mean())


@dataclass(frozen=True)
class Thresholds:
    """Probabilities from which a fracture is called present, least to most demanding.

    Attributes:
        rule_out: the highest that keeps the wanted sensitivity, never above `balanced`.
        balanced: the one with the largest sensitivity + specificity (Youden).
        rule_in: the lowest that reaches the wanted specificity, never below `balanced`.
    """

    rule_out: float
    balanced: float
    rule_in: float


def fit_thresholds(
    probabilities: ArrayLike, labels: ArrayLike, *, sensitivity: float = 0.95, specificity: float = 0.95
) -> Thresholds:
    """Choose the three thresholds on held-out cases.

    Raises:
        ValueError: the labels are all alike, the shapes differ, or a probability is not finite.
    """
    p, y = _pairs(probabilities, labels)
    candidates = _between(p)
    sens = np.array([(p[y == 1] >= t).mean() for t in candidates])
    spec = np.array([(p[y == 0] < t).mean() for t in candidates])
    balanced = float(candidates[np.argmax(sens + spec)])
    rule_out = float(candidates[sens >= sensitivity].max())
    rule_in = float(candidates[spec >= specificity].min())
    return Thresholds(min(rule_out, balanced), balanced, max(rule_in, balanced))


def _between(p: FloatArray) -> FloatArray:
    """Thresholds half-way between neighbouring probabilities, and one beyond each end."""
    values = np.unique(p)
    return np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2, [(values[-1] + 1) / 2]])


def _pairs(
    scores: ArrayLike, labels: ArrayLike, *, both: bool = True
) -> tuple[FloatArray, NDArray[np.int64]]:
    x, y = np.asarray(scores, np.float64), np.asarray(labels).astype(np.int64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"scores {x.shape} and labels {y.shape} must be two lists of the same length")
    if not np.isfinite(x).all() or not np.isin(y, (0, 1)).all():
        raise ValueError("scores must be finite and labels 0 or 1")
    if both and len(np.unique(y)) < 2:
        raise ValueError("cases with and without a fracture are needed")
    return x, y


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
