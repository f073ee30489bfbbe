from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cspine.anatomy import Vertebra
from cspine.crops import CropSpec, GridSpec
from cspine.datasets.rsna.boxes import VoxelBox
from cspine.datasets.rsna.crops import Truth, labelled_crops
from cspine.datasets.rsna.resampling import centered_grid, linear, nearest
from cspine.preprocess.geometry import crop_grid, level_box, model_grid, resampling
from cspine.preprocess.preprocessor import Preprocessor
from cspine.volume import Grid, SpineMask, Volume

SPEC = CropSpec(5, 3, 24, 36.0, 2.0, (-500.0, 1300.0))
GRIDS = GridSpec((3.0, 2.6, 2.2), None, (-1000.0, 1000.0)), GridSpec((1.1, 0.9, 1.3), None, (-500.0, 1300.0))
NO_FRACTURE = Truth(dict.fromkeys(Vertebra, False))


def random_case(rng: np.random.Generator) -> tuple[Volume, SpineMask]:
    """Noise on a grid of any order, direction and tilt, with two blocks, one at the edge."""
    shape = tuple(rng.permutation([26, 33, 40]).tolist())
    axes = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3) * rng.uniform(0.5, 2, 3)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-15, 15, 3), degrees=True).as_matrix() @ axes
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    labels = np.zeros(shape, np.uint8)
    labels[8:18, 10:20, 9:19] = Vertebra.C4
    labels[0:8, 0:12, 0:10] = Vertebra.C6
    grid = Grid(shape, affine)
    return Volume(grid, rng.integers(-1500, 2500, shape).astype(np.int16)), SpineMask.from_labels(
        grid, labels
    )


@pytest.fixture(scope="module")
def dali():
    with Preprocessor(*GRIDS, SPEC, device="cpu", threads=2) as made:
        yield made


def test_crops_are_those_that_dali_cuts_for_inference(dali: Preprocessor):
    rng = np.random.default_rng(4)
    for _ in range(12):
        volume, mask = random_case(rng)
        ours = labelled_crops(volume, mask, NO_FRACTURE, SPEC)
        for made, wanted in zip(ours, dali.crops(volume, mask), strict=True):
            assert made.level is wanted.level
            assert np.array_equal(made.mask, wanted.mask.numpy() > 0)
            assert np.abs(made.image / 255 - wanted.image.numpy()).max() < 0.5 / 255 + 1e-4
            plan = resampling(volume.grid, crop_grid(level_box(mask, made.level), SPEC))
            image = linear(volume.hu, plan, SPEC.window_hu)
            assert np.abs(image - wanted.image.numpy()).max() < 1e-4


def test_model_grids_are_those_that_dali_makes_for_inference(dali: Preprocessor):
    rng = np.random.default_rng(5)
    for _ in range(6):
        volume, _ = random_case(rng)
        wanted = dali.model_grids(volume)
        for spec, made in zip(GRIDS, (wanted.localization, wanted.segmentation), strict=True):
            plan = model_grid(volume.grid, spec.pixdim_mm)
            image = linear(volume.hu, plan, spec.window_hu, repeat_border=True)
            assert plan.grid.same_as(made.grid)
            assert np.abs(image - made.image.numpy()).max() < 1e-4


def test_labels_move_to_the_nearest_voxel_and_are_0_outside():
    volume, mask = random_case(np.random.default_rng(6))
    same = nearest(mask.labels, resampling(volume.grid, volume.grid))
    assert np.array_equal(same, mask.labels)
    beyond = centered_grid(volume.grid, (200, 8, 8), (1.0, 1.0, 1.0), volume.grid.to_lps_mm((13, 15, 14)))
    moved = nearest(np.full_like(mask.labels, 5), resampling(volume.grid, beyond))
    assert moved[100, 4, 4] == 5
    assert not moved[0].any()


def axial() -> tuple[Volume, SpineMask]:
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    labels = np.zeros((30, 60, 60), np.uint8)
    labels[15:23, 20:40, 20:40] = Vertebra.C4
    labels[5:13, 20:40, 20:40] = Vertebra.C5
    grid = Grid(labels.shape, affine)
    return Volume(grid, np.zeros(labels.shape, np.int16)), SpineMask.from_labels(grid, labels)


def test_a_box_marks_the_part_of_it_that_lies_on_the_fractured_vertebra():
    volume, mask = axial()
    truth = Truth({v: v is Vertebra.C5 for v in Vertebra}, (VoxelBox(9, (-0.5, 29.5), (24.5, 34.5)),))
    sound, broken = labelled_crops(volume, mask, truth, CropSpec(9, 3, 48, 48.0, 2.0, (-500.0, 1300.0)))
    assert (sound.level, sound.fractured, sound.located) == (Vertebra.C4, False, True)
    assert not sound.fracture.any()
    assert (broken.level, broken.fractured, broken.located) == (Vertebra.C5, True, True)
    planes, rows, columns = np.nonzero(broken.fracture)
    # The crop's planes are 20 mm / 19 apart, its pixels 1 mm; its centre is that of C5.
    assert np.ptp(planes) == 1
    assert 9 <= np.ptp(rows) <= 12
    assert np.ptp(columns) == 9


def test_a_fractured_level_without_a_box_is_known_by_its_label_alone():
    volume, mask = axial()
    truth = Truth({v: v is Vertebra.C5 for v in Vertebra})
    _, broken = labelled_crops(volume, mask, truth, SPEC)
    assert (broken.fractured, broken.located) == (True, False)
    assert not broken.fracture.any()


def test_errors_of_the_box_come_from_the_generator_alone():
    volume, mask = random_case(np.random.default_rng(7))
    first, again, other = (
        labelled_crops(volume, mask, NO_FRACTURE, SPEC, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first[0].image, again[0].image)
    assert not np.array_equal(first[0].image, other[0].image)
    assert torch.from_numpy(first[0].image).dtype == torch.uint8
