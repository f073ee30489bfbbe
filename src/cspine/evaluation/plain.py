"""Numbers as `json` and arrays want them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from cspine.evaluation.intervals import Estimate
from cspine.volume import FloatArray

DIGITS = 4


def as_json(value: Estimate) -> dict[str, float | int | None]:
    """An estimate as plain values."""
    return {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in asdict(value).items()}


def number(value: float | bool | None) -> float:
    """A number for an array: nan for None."""
    return float("nan") if value is None else float(value)


def mean_or_none(values: FloatArray) -> float | None:
    """The mean of what is finite; None where nothing is."""
    finite = values[np.isfinite(values)]
    return round(float(finite.mean()), DIGITS) if len(finite) else None
