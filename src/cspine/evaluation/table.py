"""Results of a set as arrays: one row a case, one column a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.evaluation.fractures import CODES, RSNA_LEVEL_PREVALENCE, RSNA_OVERALL_PREVALENCE
from cspine.evaluation.result import CaseResult, LevelResult
from cspine.volume import FloatArray

UNSEEN: Final = 0.0
"""Score, in ROC curves, of a level or study that the method gave none: no alarm is raised, whatever the
threshold, so a fracture there is missed."""


@dataclass(frozen=True, eq=False)
class Table:
    """S cases whose truth is known.

    Attributes:
        cases: their results.
        truth: (S, 7) 1 fractured, 0 sound, nan where the level does not count: its truth is not known, or
            the scan does not show it as a whole.
        probability: (S, 7); nan where the method gave none.
        any_truth: (S,) whether any level, even a cut one, is fractured.
        overall: (S,); nan where the method gave none.
    """

    cases: tuple[CaseResult, ...]
    truth: FloatArray
    probability: FloatArray
    any_truth: FloatArray
    overall: FloatArray

    @classmethod
    def of(cls, results: Sequence[CaseResult]) -> Table:
        """The results whose truth is known; failures among them stay in."""
        cases = tuple(result for result in results if result.levels)
        any_truth = [_number(case.fractured) for case in cases]
        return cls(
            cases=cases,
            truth=_array([[_truth(level) for level in case.levels] for case in cases]),
            probability=_array([[_number(level.probability) for level in case.levels] for case in cases]),
            any_truth=np.array(any_truth, np.float64),
            overall=np.array([_number(case.overall) for case in cases], np.float64),
        )

    def rows(self, chosen: NDArray[np.bool_]) -> Table:
        """Only the chosen cases."""
        return Table(
            tuple(case for case, wanted in zip(self.cases, chosen, strict=True) if wanted),
            self.truth[chosen],
            self.probability[chosen],
            self.any_truth[chosen],
            self.overall[chosen],
        )

    def level_decisions(self, point: str) -> FloatArray:
        """(S, 7) by `CODES`."""
        return _array([[CODES[level.decisions[point]] for level in case.levels] for case in self.cases])

    def study_decisions(self, point: str) -> FloatArray:
        """(S, 1) by `CODES`."""
        return np.array([CODES[case.decisions[point]] for case in self.cases], np.float64)[:, None]

    def rsna_columns(self) -> tuple[FloatArray, FloatArray]:
        """Probabilities and labels (S, 8) of patient_overall, C1..C7, for RSNA 2022's metric.

        Where the method gives no probability, the prevalence of RSNA 2022's training set stands.
        """
        priors = np.array([RSNA_OVERALL_PREVALENCE, *(RSNA_LEVEL_PREVALENCE[v] for v in CERVICAL)])
        said = np.column_stack([self.overall, self.probability])
        labels = np.column_stack([self.any_truth, self.truth])
        return np.where(np.isfinite(said), said, priors), labels


def _truth(level: LevelResult) -> float:
    return float(level.truth.fractured) if level.truth is not None and level.truth.counts else float("nan")


def _number(value: float | bool | None) -> float:
    return float("nan") if value is None else float(value)


def _array(rows: list[list[float]]) -> FloatArray:
    return np.array(rows, np.float64).reshape(-1, len(CERVICAL))
