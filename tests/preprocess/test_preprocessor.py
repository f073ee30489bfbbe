"""What the networks see: values, positions, edges, and that they stay what they were."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec, GridSpec
from cspine.device import pick_device
from cspine.errors import CspineError, InputError, ModelError
from cspine.preprocess.preprocessor import Preprocessor
from cspine.volume import Grid, SpineMask, Volume

OBLIQUE = {"degrees": (12, -8, 15), "origin": (-40, 25, 310)}
NECK = {
    Vertebra.C4: ((30, 12, 10), (39, 30, 40)),
    Vertebra.C5: ((20, 12, 10), (29, 30, 40)),
    Vertebra.C7: ((0, 0, 0), (9, 20, 30)),
}


def test_model_grids_hold_the_values_of_monai_on_120_random_grids(grids, noise, preprocessor, monai_spl):
    rng = np.random.default_rng(5)
    for case in range(120):
        volume = noise(grids.random(rng), rng)
        made = preprocessor.model_grids(volume)
        pairs = (
            (made.localization, preprocessor.localization),
            (made.segmentation, preprocessor.segmentation),
        )
        image, spec = pairs[case % 2]
        expected, affine_lps = monai_spl(volume, spec)
        assert image.grid.shape == tuple(image.image.shape) == expected.shape
        assert np.abs(image.grid.affine_lps - affine_lps).max() < 1e-9
        assert np.abs(image.image.numpy() - expected).max() < 1e-4


def test_a_whole_neck_is_the_same_in_monai_though_it_is_made_in_many_regions(grids, noise, monai_spl):
    grid = grids.make((90, 200, 230), (0.7, 0.5, 0.4), (1, 2, -3), **OBLIQUE)
    volume = noise(grid, np.random.default_rng(1))
    spec = GridSpec((1.0, 0.8, 0.9), None, (-1000.0, 1000.0))
    with Preprocessor(spec, spec, CROP, device="cpu", threads=5) as five:
        made = five.model_grids(volume).segmentation.image
    assert np.abs(made.numpy() - monai_spl(volume, spec)[0]).max() < 1e-4


def test_a_part_of_the_segmentations_grid_is_that_part_of_the_whole(grids, noise, preprocessor):
    volume = noise(grids.make((48, 50, 60), (0.9, 0.7, 0.6), (-3, 1, -2)), np.random.default_rng(4))
    whole = preprocessor.model_grids(volume).segmentation
    shape = tuple(n // 2 for n in whole.grid.shape)
    part = whole.part((3, 2, 5), shape)
    expected = whole.image[3 : 3 + shape[0], 2 : 2 + shape[1], 5 : 5 + shape[2]]
    assert (part.image - expected).abs().max() < 1e-5
    assert np.allclose(part.grid.to_lps_mm((0, 0, 0)), whole.grid.to_lps_mm((3, 2, 5)))


CROP = CropSpec(steps=4, window_planes=5, pixels=32, field_mm=40.0, margin_mm=3.0, window_hu=(-500.0, 1300.0))


def test_images_are_contiguous_float32_between_0_and_1(grids, noise, blocks, preprocessor):
    volume = noise(grids.make((48, 50, 60), (0.8, 0.7, 0.6), (-3, 1, -2)), np.random.default_rng(2))
    made = preprocessor.model_grids(volume)
    crops = preprocessor.crops(volume, blocks(volume.grid, NECK))
    images = [made.localization.image, made.segmentation.image]
    images += [tensor for crop in crops for tensor in (crop.image, crop.mask)]
    assert len(images) == 2 + 2 * 3
    for image in images:
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert image.min() == 0
        assert image.max() == 1


@pytest.mark.parametrize("ways", [(1, 2, 3), (-1, 2, -3), (3, -1, 2), (-2, -3, 1)])
def test_a_bright_voxel_is_found_at_its_place_in_the_patient_on_every_grid_and_crop(grids, blocks, ways):
    grid = grids.make((48, 50, 60), (0.9, 0.7, 0.6), ways, **OBLIQUE)
    hu = np.full(grid.shape, -500, np.int16)
    hu[25, 21, 27] = 1300
    fine = [GridSpec(p, None, (-500.0, 1300.0)) for p in ((0.5, 0.7, 0.4), (0.65, 0.35, 0.45))]
    fine_crop = dataclasses.replace(CROP, steps=20, pixels=80)
    with Preprocessor(fine[0], fine[1], fine_crop, device="cpu") as made_fine:
        made = made_fine.model_grids(Volume(grid, hu))
        (crop,) = made_fine.crops(Volume(grid, hu), blocks(grid, {Vertebra.C5: NECK[Vertebra.C5]}))
        found = (
            (made.localization.grid, made.localization.image),
            (made.segmentation.grid, made.segmentation.image),
        )
    for where, image in (*found, (crop.grid, crop.image)):
        index = grid.to_index(where.to_lps_mm(np.moveaxis(np.indices(where.shape), 0, -1)))
        tent = np.prod(np.clip(1 - np.abs(index - [25, 21, 27]), 0, None), axis=-1)
        assert tent.max() > 0.2
        assert np.abs(image.numpy() - tent).max() < 1e-4


def test_the_mask_of_a_crop_is_its_own_vertebra_by_nearest_neighbour(grids, blocks, preprocessor, noise):
    grid = grids.make((48, 50, 60), (0.9, 0.7, 0.6), (2, -1, 3), **OBLIQUE)
    mask = blocks(grid, NECK)
    for crop in preprocessor.crops(noise(grid, np.random.default_rng(3)), mask):
        points = crop.grid.to_lps_mm(np.moveaxis(np.indices(crop.grid.shape), 0, -1))
        index = np.floor(mask.grid.to_index(points) + 0.5).astype(int)
        inside = ((index >= 0) & (index < grid.shape)).all(-1)
        expected = np.zeros(crop.grid.shape)
        expected[inside] = mask.labels[tuple(index[inside].T)] == crop.level
        assert (crop.mask.numpy() != expected).mean() < 1e-3  # ties between two voxels may fall either way
        assert expected.sum() > 100


def test_crops_come_in_order_for_the_levels_that_were_seen(grids, blocks, preprocessor, noise):
    grid = grids.make((48, 50, 60), (0.9, 0.7, 0.6))
    crops = preprocessor.crops(noise(grid, np.random.default_rng(4)), blocks(grid, NECK))
    assert [crop.level for crop in crops] == [Vertebra.C4, Vertebra.C5, Vertebra.C7]
    assert {tuple(crop.image.shape) for crop in crops} == {(preprocessor.crop.planes, 24, 24)}
    assert preprocessor.crops(noise(grid, np.random.default_rng(4)), blocks(grid, {})) == ()


@pytest.mark.parametrize("ways", [(1, 2, 3), (-3, 1, -2)])
def test_what_of_a_crop_lies_outside_the_volume_is_exactly_0_and_nothing_else_is(
    grids, blocks, preprocessor, ways
):
    grid = grids.make((48, 50, 60), (0.9, 0.7, 0.6), ways, **OBLIQUE)
    corner = blocks(grid, {Vertebra.C7: ((0, 0, 0), (9, 20, 30)), Vertebra.C1: ((40, 41, 50), (48, 50, 60))})
    for crop in preprocessor.crops(Volume(grid, np.full(grid.shape, 3000, np.int16)), corner):
        index = grid.to_index(crop.grid.to_lps_mm(np.moveaxis(np.indices(crop.grid.shape), 0, -1)))
        inside = ((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(-1)
        assert 0.02 < inside.mean() < 0.8
        assert np.array_equal(crop.image.numpy(), inside.astype(np.float32))


def test_a_crop_of_a_flat_slab_thinner_than_its_margin_is_filled_with_0(grids, preprocessor):
    grid = grids.make((1, 50, 60), (3.0, 0.7, 0.6))
    labels = np.full(grid.shape, 4, np.uint8)
    (crop,) = preprocessor.crops(
        Volume(grid, np.full(grid.shape, 3000, np.int16)), SpineMask.from_labels(grid, labels)
    )
    lit = crop.image.amax((1, 2)).numpy() > 0
    heights = np.abs(np.arange(len(lit)) - (len(lit) - 1) / 2) * crop.grid.spacing_mm[0]
    assert np.array_equal(lit, heights <= 1.5)


def test_the_number_of_threads_does_not_change_the_images(grids, noise, localization, segmentation, blocks):
    volume = noise(
        grids.make((48, 50, 60), (0.9, 0.7, 0.6), (-3, 1, -2), **OBLIQUE), np.random.default_rng(6)
    )
    mask = blocks(volume.grid, NECK)
    images = []
    for threads in (1, 2, 7):
        with Preprocessor(localization, segmentation, CROP, device="cpu", threads=threads) as one:
            made = one.model_grids(volume)
            crops = one.crops(volume, mask)
            images.append([made.localization.image, made.segmentation.image, *(c.image for c in crops)])
    for one, two, seven in zip(*images, strict=True):
        assert (one - two).abs().max() < 1e-5
        assert (one - seven).abs().max() < 1e-5


def test_images_stay_what_they_were_while_later_studies_run(grids, noise, blocks, preprocessor):
    rng = np.random.default_rng(7)
    kept = []
    for _ in range(6):
        volume = noise(grids.make((48, 50, 60), (0.9, 0.7, 0.6)), rng)
        made = preprocessor.model_grids(volume)
        crop = preprocessor.crops(volume, blocks(volume.grid, NECK))[0]
        kept += [
            (image, image.clone()) for image in (made.localization.image, made.segmentation.image, crop.image)
        ]
    assert all(torch.equal(image, as_made) for image, as_made in kept)
    assert len({image.data_ptr() for image, _ in kept}) == len(kept)


def test_the_volume_itself_is_not_changed_nor_kept(grids, noise, preprocessor):
    import gc
    import weakref

    volume = noise(grids.make((48, 50, 60), (0.9, 0.7, 0.6)), np.random.default_rng(8))
    before = volume.hu.copy()
    preprocessor.model_grids(volume)
    assert np.array_equal(volume.hu, before)
    gone = weakref.ref(volume.hu.base)
    del volume
    gc.collect()
    assert gone() is None


def test_four_threads_sharing_one_preprocessor_each_get_their_own_images(grids, blocks, preprocessor):
    wrong: list[float] = []

    def work(number: int) -> None:
        grid = grids.make((40 + number, 50, 60), (0.9, 0.7, 0.6))
        volume = Volume(grid, np.full(grid.shape, 100 * number, np.int16))
        mask = blocks(grid, {Vertebra.C5: NECK[Vertebra.C5]})
        for _ in range(10):
            made = preprocessor.model_grids(volume)
            (crop,) = preprocessor.crops(volume, mask)
            for image, (low, high) in (
                (made.localization.image, preprocessor.localization.window_hu),
                (made.segmentation.image, preprocessor.segmentation.window_hu),
                (crop.image[4:8, 8:16, 8:16], preprocessor.crop.window_hu),
            ):
                wrong.append(float((image - (100 * number - low) / (high - low)).abs().max()))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(wrong) == 4 * 10 * 3
    assert max(wrong) < 1e-5


def test_a_hundred_studies_do_not_fill_the_memory(grids, noise, blocks, preprocessor):
    import psutil

    volume = noise(grids.make((80, 90, 100), (0.9, 0.7, 0.6)), np.random.default_rng(9))
    mask = blocks(volume.grid, NECK)
    mb = []
    for _ in range(100):
        preprocessor.model_grids(volume)
        preprocessor.crops(volume, mask)
        mb.append(psutil.Process().memory_info().rss / 2**20)
    assert mb[-1] - mb[30] < 20


def test_a_mask_on_another_grid_is_refused(grids, noise, blocks, preprocessor):
    volume = noise(grids.make((48, 50, 60), (0.9, 0.7, 0.6)), np.random.default_rng(0))
    moved = grids.make((48, 50, 60), (0.9, 0.7, 0.6), origin=(0, 0, 1))
    with pytest.raises(InputError, match="does not lie on the grid of the images"):
        preprocessor.crops(volume, blocks(moved, NECK))


def test_a_gantry_tilt_that_was_not_taken_out_is_refused_by_its_angle(grids, preprocessor):
    affine = grids.make((48, 50, 60), (0.9, 0.7, 0.6)).affine_lps.copy()
    affine[1, 0] = 0.9 * np.tan(np.radians(12))
    volume = Volume(Grid((48, 50, 60), affine), np.zeros((48, 50, 60), np.int16))
    with pytest.raises(InputError, match=r"12\.0 degrees from right angles"):
        preprocessor.model_grids(volume)


def test_a_volume_too_large_for_memory_is_refused_before_memory_is_taken(grids, preprocessor):
    grid = grids.make((60, 60, 60), (20.0, 21.0, 22.0))
    with pytest.raises(InputError, match="1478 million voxels, more than 537 million"):
        _ = preprocessor.model_grids(Volume(grid, np.zeros(grid.shape, np.int16))).segmentation.image


def test_a_closed_preprocessor_says_so(grids, noise, localization, segmentation):
    volume = noise(grids.make((9, 10, 11), (1, 2, 3)), np.random.default_rng(0))
    with Preprocessor(localization, segmentation, CROP, device="cpu") as made:
        made.model_grids(volume)
    with pytest.raises(CspineError, match="after it was closed"):
        made.model_grids(volume)


@pytest.mark.parametrize(
    ("pixdim", "window"),
    [
        ((1, 1, 0), (0, 1)),
        ((1, 1, float("nan")), (0, 1)),
        ((1, 1, 1), (5, 5)),
        ((1, 1, 1), (float("-inf"), 0)),
    ],
)
def test_a_bundle_that_asks_for_an_impossible_grid_is_refused(localization, pixdim, window):
    with pytest.raises(ModelError, match="A bundle asks for"):
        Preprocessor(localization, GridSpec(pixdim, None, window), CROP, device="cpu")


def test_a_bundle_that_asks_for_an_impossible_crop_is_refused(localization):
    with pytest.raises(ModelError, match="A bundle asks for crops"):
        Preprocessor(localization, localization, CropSpec(4, 5, 32, 40.0, -1.0, (0, 1)), device="cpu")


def test_the_device_that_was_used_is_told(preprocessor, localization):
    assert preprocessor.device == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    with Preprocessor(localization, localization, CROP, device="auto") as auto:
        assert auto.device.type == expected


@pytest.mark.parametrize("device", ["mps", "gpu", "cuda:99", torch.device("meta")])
def test_a_device_that_is_not_there_is_an_error_and_never_replaced(device):
    with pytest.raises(ModelError, match="choose"):
        pick_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_gpu_is_an_error_and_never_the_cpu(localization):
    with pytest.raises(ModelError, match="'cuda' was asked for"):
        Preprocessor(localization, localization, CROP, device="cuda")


def test_every_level_can_be_cropped_at_once(grids, noise, blocks, preprocessor):
    grid = grids.make((90, 40, 50), (1.0, 0.9, 0.8), (-1, 2, 3))
    boxes = {v: ((10 * n, 10, 10), (10 * n + 9, 30, 40)) for n, v in enumerate(CERVICAL)}
    crops = preprocessor.crops(noise(grid, np.random.default_rng(0)), blocks(grid, boxes))
    assert [crop.level for crop in crops] == list(CERVICAL)
