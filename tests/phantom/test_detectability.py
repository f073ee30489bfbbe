"""How plainly a fracture shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cspine.anatomy import CERVICAL
from cspine.phantom import DEFAULT, detectability, render, sample_neck, sample_scanner
from cspine.volume import Grid

BROKEN = replace(DEFAULT, fractured=1.0)
SCANNER = replace(
    sample_scanner(1), noise_hu=60.0, averaging=0.0, streak_hu=0.0, motion_mm=0.0, metal_lps_mm=(),
    bias_hu=0.0, slice_thickness_mm=1.5, noise_correlation_mm=0.6, kernel_mm=0.5, sharpening=0.0,
    gain=1.0, shift_hu=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def neck():
    return sample_neck(6, BROKEN)


@pytest.fixture
def level(neck):
    return neck.fractures[0].level


@pytest.fixture
def grid(neck, level, upright) -> Grid:
    middle = np.asarray(neck.vertebra_box_lps_mm(level)).mean(0)
    return upright((40, 90, 100), (1.2, 0.8, 0.8), tuple(middle))


def test_it_is_what_an_observer_who_knows_the_fracture_reaches(neck, level, grid):
    bones = {**neck.bones, level.name: replace(neck.bones[level.name], cracks=(), compression=None)}
    sound = replace(neck, bones=bones)
    quiet = replace(SCANNER, noise_hu=0.0)
    template = (render(neck, grid, quiet).hu - render(sound, grid, quiet).hu).double()
    noisy = replace(SCANNER, noise_hu=400.0)  # so much that rounding and chance matter little
    broken = render(neck, grid, quiet).hu.double()
    outputs = [
        float((template * (render(neck, grid, replace(noisy, seed=n)).hu.double() - broken)).sum())
        for n in range(60)
    ]
    measured = float(template.pow(2).sum()) / np.std(outputs)
    assert detectability(neck, level, noisy, grid) == pytest.approx(measured, rel=0.25)


def test_twice_the_noise_halves_it_and_streaks_lower_it(neck, level, grid):
    once = detectability(neck, level, SCANNER, grid)
    assert once > 1
    assert detectability(neck, level, replace(SCANNER, noise_hu=120.0), grid) == pytest.approx(once / 2)
    streaky = replace(SCANNER, streak_hu=100.0, streak_z_mm=200.0)
    assert detectability(neck, level, streaky, grid) < 0.6 * once


def test_a_sound_vertebra_and_one_out_of_view_show_nothing(neck, level, grid, upright):
    sound = next(v for v in CERVICAL if v not in neck.fractured)
    assert detectability(neck, sound, SCANNER, grid) == 0.0
    elsewhere = upright((10, 20, 20), (1.2, 0.8, 0.8), (0.0, 0.0, 900.0))
    assert detectability(neck, level, SCANNER, elsewhere) == 0.0


def test_a_hairline_shows_less_than_a_wide_gap(upright):
    found = []
    for gap in (0.4, 3.0):
        profile = replace(BROKEN, displaced=1.0, gap_mm=(gap, gap), displacement_mm=(0.5, 0.6))
        neck = sample_neck(6, profile)
        level = neck.fractures[0].level
        middle = np.asarray(neck.vertebra_box_lps_mm(level)).mean(0)
        grid = upright((40, 90, 100), (1.2, 0.8, 0.8), tuple(middle))
        found.append(detectability(neck, level, SCANNER, grid))
    assert found[0] < 0.8 * found[1]
