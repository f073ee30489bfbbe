from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from cspine.anatomy import CERVICAL, Vertebra
from cspine.evaluation.masks import NOWHERE, all_right, dice, lies_on, off_by_one, score_masks, surface_dice
from cspine.volume import SpineMask

C = dict(zip(range(1, 8), CERVICAL, strict=True))


def cube(shape=(20, 20, 20), start=(5, 5, 5), side=8) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + side) for a in start)] = True
    return mask


def test_dice_is_twice_the_overlap_over_the_sum():
    assert dice(cube(), cube(start=(9, 5, 5))) == pytest.approx(2 * 4 * 64 / (512 + 512))
    assert dice(cube(), np.zeros((20, 20, 20), bool)) == 0.0
    assert np.isnan(dice(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)))


def test_equal_masks_have_a_surface_dice_of_one_and_distant_ones_of_zero():
    small = cube(side=4, start=(1, 1, 1))
    assert surface_dice(small, small, (1.0, 1.0, 1.0)) == pytest.approx(1.0)
    assert surface_dice(small, cube(side=4, start=(14, 14, 14)), (1.0, 1.0, 1.0)) == 0.0
    assert surface_dice(small, np.zeros_like(small), (1.0, 1.0, 1.0)) == 0.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_surface_dice_measures_in_millimetres_along_every_axis(axis: int):
    start = [5, 5, 5]
    start[axis] += 1
    spacing = [0.7, 0.7, 0.7]
    near = surface_dice(cube(), cube(start=tuple(start)), tuple(spacing))
    spacing[axis] = 1.6
    far = surface_dice(cube(), cube(start=tuple(start)), tuple(spacing))
    assert near == pytest.approx(1.0), "one voxel of 0.7 mm is within the tolerance of 1 mm"
    # Each surface has 8^3 - 6^3 voxels. One of its faces sticks out of the other cube: 8 x 8 voxels are
    # 1.6 mm off. The opposite one lies inside: all but its middle 4 x 4 are within 0.7 mm of its sides.
    assert far == pytest.approx(1 - (64 + 16) / 296)


def surface_dice_by_scipy(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float, float]) -> float:
    rims = [m & ~binary_erosion(m) for m in (a, b)]
    far = [distance_transform_edt(~rim, sampling=spacing) for rim in rims]
    near = (far[1][rims[0]] <= 1.0).sum() + (far[0][rims[1]] <= 1.0).sum()
    return float(near / (rims[0].sum() + rims[1].sum()))


@pytest.mark.parametrize("seed", range(4))
def test_surface_dice_agrees_with_a_second_implementation(seed: int):
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.arange(28.0)] * 3, indexing="ij")
    spacing = (1.0, 0.8, 0.9)

    def ellipsoid(center: np.ndarray, radii: np.ndarray) -> np.ndarray:
        return sum(((g - c) / r) ** 2 for g, c, r in zip((z, y, x), center, radii, strict=True)) < 1

    radii = rng.uniform(6, 10, 3)
    a = ellipsoid(np.full(3, 14.0), radii)
    b = ellipsoid(14 + rng.uniform(-1.5, 1.5, 3), radii * rng.uniform(0.85, 1.15))
    assert surface_dice(a, b, spacing) == pytest.approx(surface_dice_by_scipy(a, b, spacing), abs=1e-6)


def test_a_spine_against_itself_is_right_in_everything(spine):
    scores = score_masks(spine(), spine())
    assert list(scores) == list(CERVICAL)
    assert all(s.dice == 1 and s.surface_dice == pytest.approx(1) for s in scores.values())
    assert all(s.centroid_error_mm == pytest.approx(0) and s.identified for s in scores.values())
    assert all_right(scores)
    assert off_by_one(scores) == 0


def test_the_error_of_a_centre_is_in_millimetres(spine):
    scores = score_masks(spine(shift=(1, 2, -1)), spine())
    expected = float(np.linalg.norm([1.5, 2.2, 0.9]))
    assert scores[Vertebra.C4].centroid_error_mm == pytest.approx(expected)
    assert all_right(scores)


def test_names_that_slip_by_one_are_seen_as_such(spine):
    # What is C1 is called C2, and so on; C7 is called nothing.
    slipped = {vertebra: (Vertebra(int(vertebra) + 1) if vertebra < 7 else None) for vertebra in CERVICAL}
    scores = score_masks(spine(slipped), spine())
    assert scores[Vertebra.C2].lies_on == "C1"
    assert scores[Vertebra.C1].lies_on is None
    assert scores[Vertebra.C1].centroid_error_mm is None
    assert off_by_one(scores) == 6
    assert not all_right(scores)
    assert not any(score.identified for score in scores.values())


def test_one_wrong_name_makes_the_study_wrong(spine):
    scores = score_masks(spine({Vertebra.C6: None}), spine())
    assert not all_right(scores)
    assert sum(score.identified for score in scores.values()) == 6
    assert (scores[Vertebra.C6].dice, scores[Vertebra.C6].surface_dice) == (0.0, 0.0)


def test_a_thoracic_vertebra_called_c7_lies_on_none_although_it_is_near(spine):
    truth = spine()
    labels = truth.labels.copy()
    labels[labels == 7] = 0
    bottom = 86 - 12 * 6 - 10
    labels[: bottom - 1, 8:20, 10:24] = 7
    found = SpineMask.from_labels(truth.grid, labels)
    scores = score_masks(found, truth)
    assert scores[Vertebra.C7].centroid_error_mm < 20
    assert lies_on(found, truth)[Vertebra.C7] == NOWHERE
    assert not all_right(scores)


def test_levels_that_the_scan_cuts_are_not_scored(spine, grid):
    truth = spine()
    labels = truth.labels.copy()
    labels[86:] = labels[85]
    assert list(score_masks(truth, SpineMask.from_labels(grid, labels))) == list(CERVICAL[1:])


def test_masks_on_two_grids_are_a_defect(spine, grid):
    other = SpineMask.from_labels(grid.cropped((1, 0, 0), grid.shape), spine().labels)
    with pytest.raises(ValueError, match="one grid"):
        score_masks(other, spine())
