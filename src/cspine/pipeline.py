"""The method on one page: a volume in, findings out.

The hospital graph, the command, the label app and the evaluation all go this way. The graph runs the same
steps as operators of their own, which is why each step is a function or a callable of its own here.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cspine.anatomy import CERVICAL, Vertebra
from cspine.findings import (
    Decision,
    FractureScores,
    LevelScore,
    OperatingPoint,
    Overall,
    PointMm,
    StudyFindings,
    VertebraFinding,
)
from cspine.volume import SpineMask, Visibility, Volume


class Segment(Protocol):
    """Names the vertebrae of a volume, on the volume's own grid."""

    def __call__(self, volume: Volume, /) -> SpineMask:
        """Return the mask of `volume`."""
        ...


class Classify(Protocol):
    """Scores the vertebrae of a volume that the mask shows."""

    def __call__(self, volume: Volume, mask: SpineMask, /) -> FractureScores | None:
        """Return the scores of the levels that `mask` shows; None when it shows none."""
        ...


def find_fractures(
    volume: Volume, segment: Segment, classify: Classify, at: OperatingPoint | None = None
) -> StudyFindings:
    """Find the fractures of one volume."""
    mask = segment(volume)
    return assess(volume, mask, classify(volume, mask), at or OperatingPoint())


def assess(
    volume: Volume, mask: SpineMask, scores: FractureScores | None, at: OperatingPoint
) -> StudyFindings:
    """Turn mask and scores into decisions.

    A level that was not seen, is cut by the edge, has no trusted name or no steady score is undetermined,
    never absent. The spine as a whole is called present even where the level it comes from could not be
    named.

    Args:
        volume: the CT.
        mask: its vertebrae, on the same grid.
        scores: what the classifier says; None when no vertebra was seen, so that it was not asked.
        at: the operating point.

    Returns:
        The findings; who calls adds what only it knows (UIDs, models, warnings, seconds) by
        `dataclasses.replace`.
    """
    levels = tuple(
        _assess_level(volume, mask, v, scores.levels.get(v) if scores else None, at) for v in CERVICAL
    )
    failure = None
    if all(found.visibility is Visibility.ABSENT for found in levels):
        failure = "No cervical vertebra was found in the images."
    overall = _assess_overall(levels, scores, at)
    return StudyFindings("", "", overall, levels, failure=failure)


def _assess_overall(
    levels: tuple[VertebraFinding, ...], scores: FractureScores | None, at: OperatingPoint
) -> Overall:
    if scores is None:
        return Overall(None, Decision.UNDETERMINED)
    suspicious = any(f.probability is not None and f.probability >= at.level for f in levels)
    if suspicious or scores.overall >= at.overall:
        return Overall(scores.overall, Decision.PRESENT)
    if all(found.decision is Decision.ABSENT for found in levels):
        return Overall(scores.overall, Decision.ABSENT)
    return Overall(scores.overall, Decision.UNDETERMINED)


def _assess_level(
    volume: Volume, mask: SpineMask, vertebra: Vertebra, score: LevelScore | None, at: OperatingPoint
) -> VertebraFinding:
    found = mask.level(vertebra)
    if found.visibility is Visibility.ABSENT:
        reason = f"{vertebra} was not found in the images."
        return VertebraFinding(vertebra, Visibility.ABSENT, None, Decision.UNDETERMINED, reason)
    decision, reason_if_any = _decide(vertebra, found.visibility, found.margin, score, at)
    box, center = found.box_lps_mm(mask.grid), mask.center_lps_mm(vertebra)
    assert box is not None
    assert center is not None
    key = _slice_at(volume, score.key_lps_mm if score else _point(center))
    return VertebraFinding(
        level=vertebra,
        visibility=found.visibility,
        probability=score.probability if score else None,
        decision=decision,
        reason=reason_if_any,
        box_lps_mm=(_point(box[0]), _point(box[1])),
        center_lps_mm=_point(center),
        key_slice=key,
        key_sop_instance_uid=volume.slice_uids[key] if volume.slice_uids else None,
    )


def _decide(
    vertebra: Vertebra,
    visibility: Visibility,
    margin: float | None,
    score: LevelScore | None,
    at: OperatingPoint,
) -> tuple[Decision, str | None]:
    if score is None:
        return Decision.UNDETERMINED, f"{vertebra} was not classified."
    if margin is not None and margin < at.min_margin:
        return Decision.UNDETERMINED, f"It is not certain that this vertebra is {vertebra}."
    if score.spread is not None and score.spread > at.max_spread:
        return (
            Decision.UNDETERMINED,
            f"The probability for {vertebra} changes with small changes of the image.",
        )
    if score.probability >= at.level:
        return Decision.PRESENT, None
    if visibility is Visibility.PARTIAL:
        return Decision.UNDETERMINED, f"{vertebra} is cut by the edge of the images."
    return Decision.ABSENT, None


def _slice_at(volume: Volume, lps_mm: PointMm) -> int:
    last = volume.grid.shape[0] - 1
    return int(np.clip(round(float(volume.grid.to_index(lps_mm)[0])), 0, last))


def _point(values: np.ndarray) -> PointMm:
    return float(values[0]), float(values[1]), float(values[2])
