"""Vertebrae as a scanner delivers them, on the classifier's crop grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cspine.anatomy import Vertebra
from cspine.crops import CropSpec
from cspine.datasets.phantom_crops import delivered, vertebra_box
from cspine.phantom import DEFAULT, PhantomProfile, render, sample_neck, sample_scanner
from cspine.preprocess.geometry import crop_grid
from cspine.volume import Grid

SPEC = CropSpec(15, 5, 64, 84.0, 2.0, (-500.0, 1500.0))
CLEAR = replace(
    DEFAULT, fractured=1.0, noise_hu=(1e-3, 1.1e-3), streak_hu=(0, 0), motion=0.0, metal=0.0,
    thick_slices=0.0, sharpening=(0, 0), kernel_mm=(0, 0), bias_hu=(0, 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def neck():
    return sample_neck(3, CLEAR)


@pytest.fixture(scope="module")
def grid(neck) -> Grid:
    return crop_grid(vertebra_box(neck, Vertebra.C4), SPEC)


def scanned(neck, grid: Grid, profile: PhantomProfile, seed: int):
    return delivered(neck, grid, sample_scanner(seed, profile), np.random.default_rng(seed))


def test_thin_slices_show_what_is_there_where_it_is(neck, grid):
    thin = replace(CLEAR, slice_thickness_mm=(0.5, 0.51), gain=(1, 1), shift_hu=(0, 0))
    truth = render(neck, grid)
    for seed in range(3):
        found = scanned(neck, grid, thin, seed)
        assert found.hu.dtype == truth.hu.dtype
        assert (found.labels == truth.labels).float().mean() > 0.97
        inner = slice(1, -1)  # without the blur's own border
        apart = (found.hu - truth.hu).abs().float()[inner, inner, inner]
        assert apart.median() < 15
        centers = [torch.nonzero(image.labels == Vertebra.C4).double().mean(0) for image in (found, truth)]
        assert torch.allclose(centers[0], centers[1], atol=0.35)


def test_between_thick_slices_lies_their_mean(neck, grid):
    thick = replace(CLEAR, slice_thickness_mm=(4.9, 5.0))

    def straight(image) -> int:
        hu = image.hu.float()
        return int(((hu[2:] - 2 * hu[1:-1] + hu[:-2]).abs().amax((1, 2)) <= 2).sum())

    assert straight(render(neck, grid, sample_scanner(0, thick))) == 0
    for seed in range(3):
        # Slices are 2.5 to 5 mm apart and planes less than one: every third plane at least lies between two.
        assert straight(scanned(neck, grid, thick, seed)) >= 3


def test_the_same_chance_gives_the_same_image_and_another_one_other_slices(neck, grid):
    scanner = sample_scanner(4, CLEAR)
    first, again, other = (delivered(neck, grid, scanner, np.random.default_rng(n)) for n in (1, 1, 2))
    assert torch.equal(first.hu, again.hu)
    assert not torch.equal(first.hu, other.hu)


def test_the_fracture_is_still_marked(neck, grid):
    level = neck.fractures[0].level
    place = crop_grid(vertebra_box(neck, level), SPEC)
    truth = int(render(neck, place).fracture.sum())
    found = int(scanned(neck, place, replace(CLEAR, slice_thickness_mm=(1.0, 1.1)), 5).fracture.sum())
    assert truth > 0
    assert found == pytest.approx(truth, rel=0.5)
