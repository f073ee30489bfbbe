"""Estimates with intervals that know that the vertebrae of one patient belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.volume import FloatArray

REPEATS: Final = 1000
LEVEL: Final = 0.95
Z: Final = 1.959964
"""Of a normal distribution, for `LEVEL`."""
MIN_DEFINED: Final = 0.5
"""An interval is given only where the statistic is defined in at least this part of the samples."""
SEED: Final = 20221127

Rows = NDArray[np.int64]
"""Indices of patients; one may come more than once."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: of all cases; None where it is not defined, as an AUC without a fracture is not.
        low, high: 95 % interval; None where there is none.
        count: what the number is a mean of (levels, studies...), for the reader.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0


def samples(patients: int, seed: int = SEED) -> NDArray[np.int64]:
    """Indices (repeats, patients) of a bootstrap; the same ones for every statistic of these patients."""
    return np.random.default_rng(seed).integers(0, patients, (REPEATS, patients))


def estimate(statistic: Callable[[Rows], float], patients: int, count: int) -> Estimate:
    """A statistic with its percentile interval from a bootstrap over patients.

    Args:
        statistic: of the patients with these indices; nan where it is not defined.
        patients: how many there are.
        count: for `Estimate.count`.
    """
    if patients == 0:
        return Estimate(None)
    value = statistic(np.arange(patients))
    if not np.isfinite(value):
        return Estimate(None, count=count)
    return with_interval(value, np.array([statistic(rows) for rows in samples(patients)]), patients, count)


def ratio_of(tops: FloatArray, bottoms: FloatArray) -> Estimate:
    """The sum of `tops` over the sum of `bottoms`, both (patients,), with its interval."""
    count, patients = int(bottoms.sum()), len(bottoms)
    if count == 0:
        return Estimate(None)
    rows, value = samples(patients), float(tops.sum() / bottoms.sum())
    sums = bottoms[rows].sum(1)
    values = np.where(sums > 0, tops[rows].sum(1) / np.maximum(sums, 1), np.nan)
    found = with_interval(value, values, patients, count)
    if found.low == found.high and value in (0.0, 1.0):
        low, high = wilson(value, int((bottoms > 0).sum()))
        return Estimate(value, low, high, count)
    return found


def wilson(share: float, patients: int) -> tuple[float, float]:
    """Wilson's interval: for 0 and 1, of which all bootstrap samples say the same."""
    z2 = Z * Z
    middle = (share + z2 / (2 * patients)) / (1 + z2 / patients)
    spread = share * (1 - share) / patients + z2 / (4 * patients * patients)
    half = Z * spread**0.5 / (1 + z2 / patients)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_of(values: FloatArray) -> Estimate:
    """The mean of the numbers in (patients, ...) with its interval; nan entries do not count."""
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    finite = np.isfinite(flat)
    return ratio_of(np.where(finite, flat, 0.0).sum(1), finite.sum(1).astype(np.float64))


def with_interval(value: float, sampled: FloatArray, patients: int, count: int) -> Estimate:
    """A value with the percentiles of what bootstrap samples gave; without, where few samples gave any."""
    defined = sampled[np.isfinite(sampled)]
    if patients < 2 or len(defined) < MIN_DEFINED * len(sampled):
        return Estimate(float(value), count=count)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high), count)
