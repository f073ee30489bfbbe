"""RSNA 2022's metric, and right and wrong calls at an operating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cspine.anatomy import Vertebra
from cspine.evaluation.intervals import Estimate, ratio_of
from cspine.findings import Decision
from cspine.volume import FloatArray

NEGATIVE_WEIGHTS: Final = np.array([7.0, 1, 1, 1, 1, 1, 1, 1])
POSITIVE_WEIGHTS: Final = np.array([14.0, 2, 2, 2, 2, 2, 2, 2])
"""Of patient_overall, C1..C7 in the metric of the RSNA 2022 Cervical Spine Fracture Detection challenge."""
CLIP: Final = 1e-15
RSNA_LEVEL_PREVALENCE: Final[Mapping[Vertebra, float]] = {
    Vertebra.C1: 0.071,
    Vertebra.C2: 0.140,
    Vertebra.C3: 0.036,
    Vertebra.C4: 0.053,
    Vertebra.C5: 0.080,
    Vertebra.C6: 0.136,
    Vertebra.C7: 0.194,
}
RSNA_OVERALL_PREVALENCE: Final = 0.474
"""Part of the studies of RSNA 2022's training set with a fracture of that level, and with any: what stands in
the metric for a probability that the method does not give."""
PREVALENCES: Final = (0.02, 0.05, 0.10, 0.474)
"""Stated with predictive values: low-risk trauma, an emergency department, a trauma centre, RSNA 2022."""


def rsna_loss(probabilities: ArrayLike, labels: ArrayLike) -> FloatArray:
    """RSNA 2022's weighted log loss of each study, (S,); the challenge's score is their mean.

    Args:
        probabilities: (S, 8) of patient_overall, C1..C7.
        labels: (S, 8), 0 or 1; nan where the truth is not known (a level that the scan cuts), which then
            weighs nothing. The challenge knows every label.
    """
    p = np.clip(np.asarray(probabilities, np.float64), CLIP, 1 - CLIP)
    y = np.asarray(labels, np.float64)
    weights = np.where(y == 1, POSITIVE_WEIGHTS, NEGATIVE_WEIGHTS) * np.isfinite(y)
    loss = -np.where(y == 1, np.log(p), np.log1p(-p))
    return np.asarray((weights * loss).sum(1) / weights.sum(1))


def constant_loss(labels: FloatArray, constants: ArrayLike | None = None) -> FloatArray:
    """The loss of saying the same of every study, (S,): by default each column's own prevalence here.

    The prevalence of the very studies that are scored is more than any method may know.
    """
    answer = np.nanmean(labels, axis=0) if constants is None else np.asarray(constants, np.float64)
    return rsna_loss(np.broadcast_to(np.nan_to_num(answer, nan=0.5), labels.shape), labels)


@dataclass(frozen=True)
class Calls:
    """What is called at one operating point, against the truth.

    A fracture whose level is left undetermined is not found, and a sound level left undetermined is no false
    alarm; the rates among what was determined, and how much was not, stand beside.

    Attributes:
        sensitivity: present among the fractured.
        specificity: not present among the sound.
        sensitivity_determined: present among the fractured that were called present or absent.
        specificity_determined: absent among the sound that were called present or absent.
        undetermined_fractured, undetermined_sound: part of each that was left undetermined.
        counts: number by "fractured" or "sound" and decision.
    """

    sensitivity: Estimate
    specificity: Estimate
    sensitivity_determined: Estimate
    specificity_determined: Estimate
    undetermined_fractured: Estimate
    undetermined_sound: Estimate
    counts: Mapping[str, Mapping[str, int]]


CODES: Final = {Decision.ABSENT: 0.0, Decision.PRESENT: 1.0, Decision.UNDETERMINED: 2.0}
"""How decisions stand in arrays."""


def calls(decisions: FloatArray, truth: FloatArray) -> Calls:
    """Measure decisions.

    Args:
        decisions: (S, K) by `CODES`.
        truth: (S, K), 0 or 1; nan where it does not count.
    """
    broken, sound = truth == 1, truth == 0
    called, absent, open_ = decisions == 1, decisions == 0, decisions == 2

    def part(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> Estimate:
        return ratio(of & among, among)

    counts = {
        name: {str(decision): int((among & (decisions == code)).sum()) for decision, code in CODES.items()}
        for name, among in (("fractured", broken), ("sound", sound))
    }
    return Calls(
        sensitivity=part(called, broken),
        specificity=part(~called, sound),
        sensitivity_determined=part(called, broken & ~open_),
        specificity_determined=part(absent, sound & ~open_),
        undetermined_fractured=part(open_, broken),
        undetermined_sound=part(open_, sound),
        counts=counts,
    )


def ratio(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> Estimate:
    """Part of `among` (S, K) that is in `of`, with an interval over studies."""
    return ratio_of(of.sum(1).astype(np.float64), among.sum(1).astype(np.float64))


@dataclass(frozen=True)
class PredictiveValues:
    """What a call would mean where `prevalence` of the studies have a fracture (Bayes' rule)."""

    prevalence: float
    ppv: float | None
    npv: float | None


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> PredictiveValues:
    """Predictive values of studies called present, and of those not called present."""
    hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    misses, quiet = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    return PredictiveValues(
        prevalence,
        hits / (hits + alarms) if hits + alarms else None,
        quiet / (quiet + misses) if quiet + misses else None,
    )
