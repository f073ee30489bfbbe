from __future__ import annotations

import numpy as np
import pytest

from cspine.models.upsample import labels_onto
from cspine.volume import Grid

MODEL = Grid((40, 32, 28), np.array([[0, 0, 2.0, -30], [0, 2.0, 0, 10], [2.0, 0, 0, 5], [0, 0, 0, 1]]))


def ball(grid: Grid, center_lps_mm, radius_mm: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    return np.linalg.norm(grid.to_lps_mm(index) - center_lps_mm, axis=-1) - radius_mm


def native(axes: str, spacing=(0.9, 0.6, 0.5)) -> Grid:
    """A finer grid over the same place whose axes run as named, e.g. "IAR"."""
    ways = {"S": (0, 0, 1), "I": (0, 0, -1), "P": (0, 1, 0), "A": (0, -1, 0), "L": (1, 0, 0), "R": (-1, 0, 0)}
    size = {"S": 80, "I": 80, "P": 64, "A": 64, "L": 56, "R": 56}
    affine = np.eye(4)
    corner = MODEL.to_lps_mm((0, 0, 0)).copy()
    shape = []
    for column, (way, step) in enumerate(zip(axes, spacing, strict=True)):
        affine[:3, column] = np.array(ways[way]) * step
        shape.append(int(size[way] / step))
        if way in "IAR":
            corner = corner - np.array(ways[way]) * step * (shape[-1] - 1)
    affine[:3, 3] = corner
    return Grid((shape[0], shape[1], shape[2]), affine)


@pytest.mark.parametrize("axes", ["SPL", "IPL", "LSP", "RAI", "PRS"])
def test_a_ball_keeps_its_place_and_size_on_a_grid_of_any_orientation(axes: str):
    center, radius = MODEL.to_lps_mm((19, 15, 13)), 14.0
    distance = ball(MODEL, center, radius)
    foreground = np.clip(0.5 - distance / 2, 0, 1).astype(np.float32)
    labels = np.where(distance < 3, 4, 0).astype(np.uint8)
    onto = native(axes)
    found = labels_onto(foreground, labels, MODEL, onto)
    truth = ball(onto, center, radius) < 0
    assert found.shape == onto.shape
    assert set(np.unique(found)) == {0, 4}
    assert 2 * ((found == 4) & truth).sum() / ((found == 4).sum() + truth.sum()) > 0.97


def test_neighbours_meet_halfway_without_a_gap():
    labels = np.zeros(MODEL.shape, np.uint8)
    labels[10:20, 8:20, 8:20], labels[20:30, 8:20, 8:20] = 3, 2
    onto = native("SPL")
    found = labels_onto((labels > 0).astype(np.float32), labels, MODEL, onto)
    middle = found[:, onto.shape[1] // 2 - 8, onto.shape[2] // 2]
    border = np.flatnonzero(np.diff(middle.astype(int)) == -1)
    assert len(border) == 1
    z_mm = onto.to_lps_mm((border[0] + 0.5, 0, 0))[2]
    assert z_mm == pytest.approx(MODEL.to_lps_mm((19.5, 0, 0))[2], abs=0.5)


def test_bone_at_the_grids_last_voxel_reaches_half_a_voxel_further_and_no_more():
    labels = np.zeros(MODEL.shape, np.uint8)
    labels[34:] = 7
    affine = native("SPL").affine_lps.copy()
    onto = Grid((100, 20, 20), affine)
    found = labels_onto((labels > 0).astype(np.float32), labels, MODEL, onto)
    highest = np.flatnonzero(found.any((1, 2))).max() * 0.9
    last = (MODEL.shape[0] - 1) * 2.0
    assert last + 0.5 <= highest <= last + 2.0


def test_grids_that_are_turned_against_each_other_are_refused():
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    onto = Grid((20, 20, 20), turn @ MODEL.affine_lps)
    zeros = np.zeros(MODEL.shape)
    with pytest.raises(ValueError, match="same axes"):
        labels_onto(zeros.astype(np.float32), zeros.astype(np.uint8), MODEL, onto)
