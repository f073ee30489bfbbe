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
    """Probabilities from which a fracture is called present.

    Attributes:
        level: in any one level.
        overall: in the spine as a whole.
    """

    level: float
    overall: float


@dataclass(frozen=True)
class StudyThresholds:
    """Three pairs of thresholds, least to most demanding.

    Attributes:
        rule_out: the highest that keep the wanted sensitivity of the study.
        balanced: those with the larger of the study's two kinds of error as small as can be, so that
            sensitivity and specificity are nearly equal; of equal ones the most sensitive, for a miss costs
            more. (Of a weak classifier the largest sum, Youden's, is where it calls next to nothing.)
        rule_in: the lowest that reach the wanted specificity of the study.
    """

    rule_out: Thresholds
    balanced: Thresholds
    rule_in: Thresholds


def fit_study_thresholds(
    strongest: ArrayLike,
    overall: ArrayLike,
    labels: ArrayLike,
    *,
    sensitivity: float = 0.95,
    specificity: float = 0.95,
) -> StudyThresholds:
    """Choose thresholds by what they do to whole studies.

    A study is called present when one level or the spine as a whole is, so neither threshold can be chosen
    alone: a threshold that is right for one vertebra raises a false alarm in most studies of seven. Of all
    pairs those are tried in which both alone would flag the same part of the studies without fracture.

    Args:
        strongest: (S,) largest probability of a level in each study.
        overall: (S,) probability of the spine as a whole.
        labels: (S,) 1 for a study with a fracture.
        sensitivity: what rule-out promises on these studies.
        specificity: what rule-in promises on them.

    Raises:
        ValueError: the labels are all alike, the shapes differ, or a probability is not finite.
    """
    p, y = _pairs(strongest, labels)
    q, _ = _pairs(overall, labels)
    negatives = int((y == 0).sum())
    pairs = [
        Thresholds(_flagging(p, p[y == 0], count), _flagging(q, q[y == 0], count))
        for count in range(negatives + 1)
    ]
    called = np.array([(p >= pair.level) | (q >= pair.overall) for pair in pairs])
    sens, spec = called[:, y == 1].mean(1), 1 - called[:, y == 0].mean(1)
    # From the strictest pair to the most generous one; the last one calls every study present.
    enough = np.flatnonzero(sens >= sensitivity)
    rule_out = int(enough[0]) if len(enough) else negatives
    worse = np.minimum(sens, spec)
    balanced = int(np.flatnonzero(worse == worse.max())[-1])
    rule_in = int(np.flatnonzero(spec >= specificity)[-1])
    return StudyThresholds(pairs[max(rule_out, balanced)], pairs[balanced], pairs[min(rule_in, balanced)])


def _flagging(scores: FloatArray, negatives: FloatArray, count: int) -> float:
    """The lowest useful threshold that flags no more than the `count` highest of the negatives."""
    low = float(np.sort(negatives)[::-1][count]) if count < len(negatives) else 0.0
    above = scores[scores > low]
    return (low + (float(above.min()) if len(above) else 1.0)) / 2


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
