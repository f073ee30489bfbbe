"""Where the networks' voxels lie."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest

from cspine.anatomy import Vertebra
from cspine.crops import CropSpec, GridSpec
from cspine.errors import InputError
from cspine.preprocess.geometry import (
    canonical_axes,
    canonical_directions,
    crop_grid,
    index_box,
    level_box,
    model_grid,
    resampling,
)
from cspine.volume import Grid, Volume

HEAD_BACK_LEFT = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)


def test_the_axes_of_every_permuted_and_flipped_grid_are_put_in_the_order_head_back_left(grids):
    for order, signs in product(permutations(range(3)), product((-1, 1), repeat=3)):
        grid = grids.make((5, 6, 7), (0.5, 0.7, 1.1), (np.array(order) + 1) * signs)
        assert np.allclose(canonical_directions(grid), HEAD_BACK_LEFT)
        axes, _ = canonical_axes(grid)
        assert [order[axis] for axis in axes] == [0, 1, 2]


def test_axes_are_told_apart_as_nibabel_does_even_near_45_degrees(grids):
    from nibabel.orientations import io_orientation

    rng = np.random.default_rng(3)
    for _ in range(300):
        grid = grids.random(rng, tilt=180.0)
        axes, signs = canonical_axes(grid)
        toward = io_orientation(np.diag([-1.0, -1, 1, 1]) @ grid.affine_lps)  # (R, A, S) of each axis
        assert [int(toward[axis, 0]) for axis in axes] == [2, 1, 0]
        assert [toward[axis, 1] * way for axis, way in zip(axes, (1, -1, -1), strict=True)] == list(signs)


def test_a_model_grid_has_the_shape_and_affine_of_monai_on_120_random_grids(grids, monai_spl):
    rng = np.random.default_rng(0)
    for _ in range(120):
        grid = grids.random(rng, largest=24)
        spec = GridSpec(tuple(rng.uniform(0.5, 4.0, 3)), None, (0.0, 1.0))
        image, affine_lps = monai_spl(Volume(grid, np.zeros(grid.shape, np.int16)), spec)
        ours = model_grid(grid, spec.pixdim_mm).grid
        assert ours.shape == image.shape
        assert np.abs(ours.affine_lps - affine_lps).max() < 1e-9


def test_a_tie_in_the_number_of_voxels_is_rounded_as_monai_rounds_it(grids, monai_spl):
    grid = grids.make((8, 10, 12), (0.5, 0.5, 0.5))
    spec = GridSpec((1.0, 1.0, 1.0), None, (0.0, 1.0))
    image, _ = monai_spl(Volume(grid, np.zeros(grid.shape, np.int16)), spec)
    assert model_grid(grid, spec.pixdim_mm).grid.shape == image.shape == (4, 6, 6)


def test_noise_in_the_affine_does_not_decide_on_a_tie(grids):
    shapes = set()
    for degrees in np.linspace(0, 10, 50):
        grid = grids.make((400, 10, 12), (0.5, 0.5, 0.5), degrees=(degrees, 0, 0))
        shapes.add(model_grid(grid, (1.0, 1.0, 1.0)).grid.shape)
    assert shapes == {(200, 6, 6)}


def test_a_resampling_says_at_which_input_index_each_output_voxel_lies(grids):
    rng = np.random.default_rng(1)
    for _ in range(50):
        grid = grids.random(rng)
        plan = model_grid(grid, tuple(rng.uniform(0.5, 4.0, 3)))
        o = np.array([rng.integers(0, n) for n in plan.grid.shape])
        by_input_axis = np.empty(3, int)
        by_input_axis[list(plan.axes)] = o
        found = [plan.source_index(axis)[by_input_axis[axis]] for axis in range(3)]
        assert np.allclose(found, grid.to_index(plan.grid.to_lps_mm(o)), atol=1e-9)
        assert tuple(plan.size[list(plan.axes)]) == plan.grid.shape


def test_positions_that_would_need_a_million_voxels_are_refused_by_their_extent(grids):
    grid = grids.make((50, 10, 12), (1e8, 0.5, 0.5))
    with pytest.raises(InputError, match=r"4\.9e\+09 mm long"):
        model_grid(grid, (1.5, 1.5, 1.5))


SPEC = CropSpec(steps=15, window_planes=5, pixels=128, field_mm=90.0, margin_mm=4.0, window_hu=(-500, 1300))


def test_a_crop_spans_the_vertebra_and_its_margin_from_face_to_face(grids):
    grid = grids.make((60, 70, 80), (0.8, 0.5, 0.4))
    crop = crop_grid(index_box(grid, (10, 20, 30), (35, 60, 70)), SPEC)
    assert crop.shape == (33, 128, 128)
    assert np.allclose(crop.spacing_mm, ((25 * 0.8 + 8) / 33, 90 / 128, 90 / 128))
    bottom = crop.to_lps_mm([-0.5, 0, 0])[2]
    top = crop.to_lps_mm([32.5, 0, 0])[2]
    assert np.allclose([bottom, top], [(10 - 0.5) * 0.8 - 4, (35 - 0.5) * 0.8 + 4])


def test_a_crop_is_centred_on_the_box_and_keeps_the_axes_of_its_volume(grids):
    rng = np.random.default_rng(2)
    for _ in range(100):
        grid = grids.random(rng)
        start = np.array([rng.integers(0, n - 4) for n in grid.shape])
        stop = start + np.array([2, 3, 4])
        crop = crop_grid(index_box(grid, start, stop), SPEC)
        middle = crop.to_lps_mm((np.array(crop.shape) - 1) / 2)
        assert np.allclose(middle, grid.to_lps_mm((start + stop - 1) / 2))
        assert np.allclose(crop.affine_lps[:3, :3] / crop.spacing_mm, canonical_directions(grid))
        assert resampling(grid, crop).grid is crop


def test_an_oblique_scan_does_not_inflate_the_box_of_a_vertebra(grids, blocks):
    straight = grids.make((40, 50, 60), (0.8, 0.9, 1.0))
    tilted = grids.make((40, 50, 60), (0.8, 0.9, 1.0), degrees=(25, 0, 10), origin=(9, -70, 40))
    boxes = {Vertebra.C4: ((10, 12, 14), (30, 42, 50))}
    sizes = [level_box(blocks(grid, boxes), Vertebra.C4).size_mm for grid in (straight, tilted)]
    assert np.allclose(sizes, [[16.0, 27.0, 36.0]] * 2)


def test_the_box_of_a_level_that_was_not_seen_is_a_mistake_of_the_caller(grids, blocks):
    with pytest.raises(ValueError, match="C2 is absent"):
        level_box(blocks(grids.make((9, 10, 11), (1, 1, 1)), {}), Vertebra.C2)


def test_a_grid_at_an_angle_to_its_source_is_refused(grids):
    source, target = (grids.make((9, 10, 11), (1, 2, 3), degrees=(0, a, 0)) for a in (0, 1))
    with pytest.raises(ValueError, match="not parallel"):
        resampling(source, target)


def test_a_grid_of_one_slice_stays_one_slice(grids):
    plan = model_grid(grids.make((1, 20, 30), (5.0, 1, 1)), (1.5, 1.5, 1.5))
    assert plan.grid.shape[0] == 1
    assert isinstance(plan.grid, Grid)


def test_importing_the_geometry_loads_neither_torch_nor_dali():
    code = (
        "import sys, cspine.preprocess.geometry; "
        "assert not {'torch', 'nvidia.dali', 'monai'} & set(sys.modules), sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
