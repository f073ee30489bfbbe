from __future__ import annotations

import numpy as np
import pytest

from cspine.models.edges import BoneEdges, bone_edges
from cspine.models.upsample import labels_onto
from cspine.volume import Grid, Volume

MODEL = Grid((40, 32, 28), np.array([[0, 0, 2.0, -30], [0, 2.0, 0, 10], [2.0, 0, 0, 5], [0, 0, 0, 1]]))


def ball(grid: Grid, center_lps_mm, radius_mm: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    return np.linalg.norm(grid.to_lps_mm(index) - center_lps_mm, axis=-1) - radius_mm


NO_EDGES = BoneEdges(np.zeros(MODEL.shape, np.float32), np.zeros(MODEL.shape, np.float32))


def dark(grid: Grid) -> Volume:
    return Volume(grid, np.zeros(grid.shape, np.int16))


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
    found = labels_onto(foreground, labels, MODEL, NO_EDGES, dark(onto))
    truth = ball(onto, center, radius) < 0
    assert found.shape == onto.shape
    assert set(np.unique(found)) == {0, 4}
    assert 2 * ((found == 4) & truth).sum() / ((found == 4).sum() + truth.sum()) > 0.97


def test_neighbours_meet_halfway_without_a_gap():
    labels = np.zeros(MODEL.shape, np.uint8)
    labels[10:20, 8:20, 8:20], labels[20:30, 8:20, 8:20] = 3, 2
    onto = native("SPL")
    found = labels_onto((labels > 0).astype(np.float32), labels, MODEL, NO_EDGES, dark(onto))
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
    found = labels_onto((labels > 0).astype(np.float32), labels, MODEL, NO_EDGES, dark(onto))
    highest = np.flatnonzero(found.any((1, 2))).max() * 0.9
    last = (MODEL.shape[0] - 1) * 2.0
    assert last + 0.5 <= highest <= last + 2.0


def test_grids_that_are_turned_against_each_other_are_refused():
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    onto = Grid((20, 20, 20), turn @ MODEL.affine_lps)
    zeros = np.zeros(MODEL.shape)
    with pytest.raises(ValueError, match="same axes"):
        labels_onto(zeros.astype(np.float32), zeros.astype(np.uint8), MODEL, NO_EDGES, dark(onto))


BONE_HU, MUSCLE_HU, VESSEL_HU, METAL_HU = 700, 60, 300, 2500


def seen(grid: Grid, radius_mm: float, blur_mm: float = 0.6) -> np.ndarray:
    """HU of a ball of bone in muscle, its surface blurred."""
    distance = ball(grid, MODEL.to_lps_mm((19, 15, 13)), radius_mm)
    return MUSCLE_HU + (BONE_HU - MUSCLE_HU) * np.clip(0.5 - distance / (2 * blur_mm), 0, 1)


def said(radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A network's probability of a ball of bone, with a soft edge, and the labels around it."""
    distance = ball(MODEL, MODEL.to_lps_mm((19, 15, 13)), radius_mm)
    return np.clip(0.5 - distance / 4, 0, 1).astype(np.float32), np.where(distance < 5, 4, 0).astype(np.uint8)


@pytest.mark.parametrize("said_mm", [13.0, 14.0, 15.0])
def test_a_surface_lies_where_the_ct_shows_it_also_where_the_network_is_a_little_off(said_mm: float):
    foreground, labels = said(said_mm)
    edges = bone_edges(seen(MODEL, 14.0).astype(np.float32), foreground, (2.0, 2.0, 2.0))
    volume = Volume(native("SPL"), seen(native("SPL"), 14.0).astype(np.int16))
    found = labels_onto(foreground, labels, MODEL, edges, volume) == 4
    # Within half a voxel of the volume's, where the network alone would be 1 mm off.
    radius_mm = (found.sum() * 0.9 * 0.6 * 0.5 * 3 / (4 * np.pi)) ** (1 / 3)
    assert radius_mm == pytest.approx(14.0, abs=0.4)


def test_what_is_bright_far_from_bone_and_what_is_dark_inside_it_change_nothing():
    foreground, labels = said(14.0)
    grid = native("SPL")
    away = ball(grid, MODEL.to_lps_mm((19, 15, 13)), 14.0)
    hu = np.where(away < -5, -100, seen(grid, 14.0))
    hu[(away > 2.5) & (away < 3.5)] = VESSEL_HU
    hu[(away > 3.5) & (away < 5)] = METAL_HU
    edges = bone_edges(seen(MODEL, 14.0).astype(np.float32), foreground, (2.0, 2.0, 2.0))
    found = labels_onto(foreground, labels, MODEL, edges, Volume(grid, hu.astype(np.int16))) == 4
    assert found[away < -5].all()
    assert not found[away > 2.5].any()


def test_where_bone_is_no_brighter_than_what_surrounds_it_the_network_decides():
    foreground, labels = said(14.0)
    even = bone_edges(np.full(MODEL.shape, 50, np.float32), foreground, (2.0, 2.0, 2.0))
    onto = native("SPL")
    volume = Volume(onto, np.full(onto.shape, 50, np.int16))
    assert (
        labels_onto(foreground, labels, MODEL, even, volume)
        == labels_onto(foreground, labels, MODEL, NO_EDGES, volume)
    ).all()


def test_far_from_bone_nothing_is_said_of_its_edge():
    foreground = np.zeros(MODEL.shape, np.float32)
    foreground[:4, :4, :4] = 1
    edges = bone_edges(700 * foreground, foreground, (2.0, 2.0, 2.0))
    assert edges.gain[3, 3, 5] > 0
    assert not edges.gain[20:].any()
