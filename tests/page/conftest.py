"""A made-up neck of seven egg-shaped vertebrae on grids whose three axes all differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cspine.anatomy import CERVICAL
from cspine.findings import FractureScores, LevelScore, OperatingPoint, StudyFindings
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Volume

STRAIGHT = np.array([[0, 0, 0.9, -38], [0, 1.1, 0, -55], [2.0, 0, 0, -180], [0, 0, 0, 1.0]])
HALF_MM = np.array([20.0, 16.0, 7.0])

Neck = tuple[Volume, SpineMask]


def level_centers_mm() -> np.ndarray:
    """Centres of C1..C7, (7, 3) LPS mm: a spine that bends to the left and to the back."""
    steps = np.arange(7)
    return np.stack([steps - 3.0, 4.0 - 1.5 * steps, -60.0 - 17.0 * steps], 1)


def draw_neck(grid: Grid, levels: Sequence[int] = range(7)) -> Neck:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = grid.to_lps_mm(index)
    labels = np.zeros(grid.shape, np.uint8)
    for i in levels:
        inside = (((points - level_centers_mm()[i]) / HALF_MM) ** 2).sum(-1) < 1
        labels[inside] = i + 1
    hu = np.where(labels > 0, 700, 40).astype(np.int16)
    uids = tuple(f"1.2.3.{i}" for i in range(grid.shape[0]))
    return Volume(grid, hu, uids), SpineMask.from_labels(grid, labels)


@pytest.fixture
def neck() -> Neck:
    return draw_neck(Grid((76, 96, 84), STRAIGHT))


@pytest.fixture
def make_neck() -> Callable[..., Neck]:
    return draw_neck


@pytest.fixture
def found() -> Callable[..., StudyFindings]:
    """Findings of a neck from seven probabilities."""

    def find(neck: Neck, *probabilities: float, overall: float | None = None) -> StudyFindings:
        volume, mask = neck
        centers = {v: mask.center_lps_mm(v) for v in CERVICAL}
        scores = {
            v: LevelScore(p, (c[0], c[1], c[2]))
            for v, p in zip(CERVICAL, probabilities, strict=True)
            if (c := centers[v]) is not None
        }
        whole = max(probabilities) if overall is None else overall
        return assess(volume, mask, FractureScores(scores, whole), OperatingPoint())

    return find
