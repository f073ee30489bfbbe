"""What the method must reach on phantoms, and whether a set does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Target:
    """One line.

    Attributes:
        name: what it is called.
        path: where it stands in the metrics of a set.
        bound: what must be reached.
        at_most: whether `bound` is an upper bound.
        chance: where the metrics say what chance alone would show ("mean" and "p95") with as many cases.
    """

    name: str
    path: tuple[str, ...]
    bound: float
    at_most: bool = False
    chance: tuple[str, ...] = ()

    @property
    def required(self) -> str:
        """The bound in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.bound:g}"

    def check(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The line of a set: what was measured, and its verdict.

        That is "pass", "fail", "not measured", or "too few cases" where even a perfect method would be
        expected to miss the bound and what was measured is no more than chance would show.
        """
        found = _at(metrics, self.path)
        measured = found.get("value") if isinstance(found, Mapping) else found
        interval = (found.get("low"), found.get("high")) if isinstance(found, Mapping) else (None, None)
        return {
            "name": self.name,
            "required": self.required,
            "measured": measured,
            "low": interval[0],
            "high": interval[1],
            "verdict": self._verdict(measured, _at(metrics, self.chance) if self.chance else None),
        }

    def _verdict(self, measured: float | None, chance: Mapping[str, float] | None) -> str:
        if measured is None:
            return "not measured"
        if measured <= self.bound if self.at_most else measured >= self.bound:
            return "pass"
        if chance is not None and chance["mean"] > self.bound and measured <= chance["p95"]:
            return "too few cases"
        return "fail"


def _at(metrics: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = metrics
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


TARGETS: Final = (
    Target("Dice, mean over the levels in full view", ("masks", "dice"), 0.92),
    Target("All seven levels right, of studies with full view", ("masks", "all_levels_right"), 0.95),
    Target("AUC of levels", ("fractures", "level", "auc"), 0.95),
    Target("AUC of studies", ("fractures", "study", "auc"), 0.97),
    Target(
        "Calibration error (ECE) of levels",
        ("fractures", "level", "ece"),
        0.05,
        at_most=True,
        chance=("fractures", "level", "ece_if_calibrated"),
    ),
    Target(
        "Calibration error (ECE) of studies",
        ("fractures", "study", "ece"),
        0.05,
        at_most=True,
        chance=("fractures", "study", "ece_if_calibrated"),
    ),
    Target("Vertebra boxes in axial images, mAP50", ("boxes", "map50"), 0.93),
    Target("Vertebra boxes in axial images, mAP50-95", ("boxes", "map50_95"), 0.83),
    Target("Confounders flagged", ("confounders", "flagged"), 0.10, at_most=True),
)
"""Measured on unseen seeds of the default and of the shifted domain."""


def check_targets(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All lines of one set."""
    return [target.check(metrics) for target in TARGETS]
