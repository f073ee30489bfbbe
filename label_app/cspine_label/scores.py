"""Scores of labels: Dice of each vertebra against the final label, and whether a label can be a spine at all.

Every score lies in [0, 1]; where nothing can be said there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from cspine.anatomy import CERVICAL, Vertebra
from cspine.volume import SpineMask, Visibility

VOLUME_ML: Final = (2.0, 40.0)
"""Whole cervical vertebrae of adults have 5 to 20 ml; beyond this something else was drawn."""
PITCH_MM: Final = (8.0, 30.0)
"""From one vertebra's centre to the next: 12 to 22 mm are normal."""


def dice_by_level(proposed: SpineMask, final: SpineMask) -> dict[Vertebra, float]:
    """Dice of each level that either of two masks on one grid holds."""
    found = {}
    for vertebra in CERVICAL:
        a, b = proposed.labels == vertebra, final.labels == vertebra
        total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
        if total:
            found[vertebra] = 2 * int(np.count_nonzero(a & b)) / total
    return found


def mean_dice(by_level: Mapping[Vertebra, float]) -> float | None:
    """Their mean; None where there is no level."""
    return float(np.mean(list(by_level.values()))) if by_level else None


@dataclass(frozen=True)
class Sanity:
    """How a label fares as a spine.

    Attributes:
        score: part of the checks that it passed.
        remarks: a sentence for each that it did not.
    """

    score: float
    remarks: tuple[str, ...]


def sanity(mask: SpineMask) -> Sanity:
    """Check a label: levels in order and about a pitch apart, none left out between, plausible volumes."""
    seen = [found.level for found in mask.levels if found.visibility is not Visibility.ABSENT]
    if not seen:
        return Sanity(0.0, ("No level is drawn.",))
    heights = {vertebra: _height_mm(mask, vertebra) for vertebra in seen}
    checks: list[tuple[bool, str]] = []
    for upper, lower in pairwise(seen):
        checks.append((int(lower) - int(upper) == 1, f"Between {upper} and {lower} a level is not drawn."))
        apart = (heights[upper] - heights[lower]) / (int(lower) - int(upper))
        checks.append((apart > 0, f"{lower} does not lie below {upper}."))
        checks.append(
            (
                apart <= 0 or PITCH_MM[0] <= apart <= PITCH_MM[1],
                f"{upper} and {lower} are {apart:.0f} mm apart.",
            )
        )
    for vertebra in seen:
        volume_ml = int(np.count_nonzero(mask.labels == vertebra)) * mask.grid.voxel_mm3 / 1000
        cut = mask.level(vertebra).visibility is Visibility.PARTIAL
        enough = cut or volume_ml >= VOLUME_ML[0]
        checks.append((enough and volume_ml <= VOLUME_ML[1], f"{vertebra} has {volume_ml:.1f} ml."))
    remarks = tuple(remark for passed, remark in checks if not passed)
    return Sanity(1 - len(remarks) / len(checks), remarks)


def _height_mm(mask: SpineMask, vertebra: Vertebra) -> float:
    center = mask.center_lps_mm(vertebra)
    assert center is not None
    return float(center[2])
