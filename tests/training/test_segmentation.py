from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cspine.crops import GridSpec
from cspine.datasets.phantom_spines import (
    SampleFolder,
    SampleSpec,
    being_written,
    render_sample,
    windowed,
    write_samples,
    written_by_thread,
)
from cspine.errors import InputError
from cspine.training.augment import Augmentation, centers_of_levels, sliced
from cspine.training.segmentation import SpineBatches

SPEC = SampleSpec(GridSpec((5.0, 6.0, 7.0), None, (-500.0, 1300.0)), (40, 32, 24))
STILL = Augmentation(
    shift_mm=(0, 0, 0), rotation_deg=0, scale=(1, 1), stretch=(1, 1), cut_ends=0, cut_sides=0, gamma=(1, 1),
    hollow=0, gain=(1, 1), shift=(0, 0), noise=0, streaky=0, ghost=0, blur=0, sharpen=0, slice_mm=(0, 0),
    flip=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return render_sample(3, SPEC)


def test_a_sample_shows_all_levels_in_order_from_head_to_feet(sample: np.ndarray):
    assert sample.shape == (2, 40, 32, 24)
    heights = [np.nonzero(sample[1] == level)[0].mean() for level in range(1, 8)]
    assert heights == sorted(heights, reverse=True)


def test_the_same_seed_gives_the_same_sample_and_another_one_another(sample: np.ndarray):
    assert np.array_equal(render_sample(3, SPEC), sample)
    assert not np.array_equal(render_sample(4, SPEC)[0], sample[0])


def test_samples_without_spine_hold_no_cervical_vertebra():
    spec = SampleSpec(SPEC.grid, SPEC.shape, without_spine=1.0)
    for seed in range(6):
        labels = render_sample(seed, spec)[1]
        assert not ((labels > 0) & (labels < 8)).any()


def test_the_ends_of_the_window_become_0_and_255():
    hu = np.array([-2000, -500, 400, 1300, 3000], np.int16)
    assert windowed(hu, (-500.0, 1300.0)).tolist() == [0, 0, 128, 255, 255]


def test_samples_are_written_once_and_counted_without_gaps(tmp_path: Path):
    write_samples(tmp_path, range(5, 8), SPEC)
    (tmp_path / "0000009.npy").write_bytes(b"")
    samples = SampleFolder(tmp_path, 5, 10)
    assert samples.available() == 3
    before = (tmp_path / "0000005.npy").stat().st_mtime_ns
    write_samples(tmp_path, [5], SPEC)
    assert (tmp_path / "0000005.npy").stat().st_mtime_ns == before
    assert np.array_equal(samples.read(0), render_sample(5, SPEC))


def test_a_damaged_sample_is_named(tmp_path: Path):
    (tmp_path / "0000000.npy").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"0000000\.npy' cannot be read"):
        SampleFolder(tmp_path, 0, 1).read(0)


def test_a_process_of_its_own_writes_samples_while_training_waits(tmp_path: Path):
    samples = SampleFolder(tmp_path / "made", 0, 2)
    with being_written(samples, SPEC, 2):
        assert samples.available() == 2


def test_a_thread_writes_the_same_samples_and_stops_with_the_training(tmp_path: Path):
    samples = SampleFolder(tmp_path / "made", 0, 10**6)
    with written_by_thread(samples, SPEC, "cpu") as is_alive:
        deadline = time.monotonic() + 120
        while samples.available() < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert is_alive()
    assert not is_alive()
    assert 2 <= samples.available() < 100
    assert np.array_equal(samples.read(1), render_sample(1, SPEC))


def test_phantoms_that_cannot_be_made_end_the_wait(tmp_path: Path):
    spec = SampleSpec(SPEC.grid, SPEC.shape, anatomy=str(tmp_path / "no meshes here"))
    with (
        pytest.raises(InputError, match="could not be made"),
        being_written(SampleFolder(tmp_path, 0, 2), spec, 2),
    ):
        pass


def test_without_augmentation_a_patch_is_the_middle_of_the_sample(sample: np.ndarray):
    image, labels, _ = STILL(
        torch.from_numpy(sample), (32, 16, 16), SPEC.grid.pixdim_mm, np.random.default_rng(0)
    )
    window = (slice(4, 36), slice(8, 24), slice(4, 20))
    assert np.array_equal(labels.numpy(), sample[1][window])
    assert np.allclose(image.numpy() * 255, sample[0][window], atol=0.01)


def test_image_and_labels_move_together(sample: np.ndarray):
    marked = np.stack([np.where(sample[1] > 0, 255, 0).astype(np.uint8), sample[1]])
    moved = replace(STILL, shift_mm=(22, 14, 14), rotation_deg=9, scale=(0.85, 1.2), flip=0.5)
    for seed in range(4):
        image, labels, _ = moved(
            torch.from_numpy(marked), (32, 32, 16), SPEC.grid.pixdim_mm, np.random.default_rng(seed)
        )
        bone = labels > 0
        assert image[bone].mean() > 0.6
        assert image[~bone].mean() < 0.05


def test_the_centers_move_with_the_labels(sample: np.ndarray):
    moved = Augmentation(cut_ends=0, cut_sides=0)
    shape = (64, 48, 48)  # all of the sample, wherever it moves
    for seed in range(4):
        _, labels, centers = moved(
            torch.from_numpy(sample), shape, SPEC.grid.pixdim_mm, np.random.default_rng(seed)
        )
        for level in range(1, 8):
            if torch.isfinite(centers[level]):
                found = torch.nonzero(labels == level)[:, 0].double().mean()
                assert float(centers[level]) == pytest.approx(float(found), abs=0.25)
        assert torch.isfinite(centers[1:8]).sum() >= 6
        assert not torch.isfinite(centers[[0, 8, 9]]).any()


def test_a_vertebra_at_the_edge_of_the_sample_has_no_known_center():
    labels = torch.zeros((12, 8, 8), dtype=torch.uint8)
    labels[0:3, 2:6, 2:6], labels[5:8, 2:6, 2:6] = 7, 6
    centers = centers_of_levels(labels)
    assert centers[6].tolist() == [6, 3.5, 3.5]
    assert torch.isnan(centers[7]).all()


def test_beyond_the_field_of_view_there_is_neither_image_nor_label(sample: np.ndarray):
    full = np.stack([np.full_like(sample[0], 200), np.full_like(sample[1], 8)])
    cut = Augmentation(cut_ends=1.0, noise=0.0, streaky=0, shift_mm=(0, 0, 0), scale=(1, 1))
    image, labels, _ = cut(
        torch.from_numpy(full), (32, 16, 16), SPEC.grid.pixdim_mm, np.random.default_rng(2)
    )
    bare = (labels == 0).all(-1).all(-1)
    assert bare.any()
    assert not bare.all()
    assert (image[bare] == 0).all()


HEAD, FEET = slice(-2, None), slice(2)


@pytest.mark.parametrize(("at_head", "bare", "seen"), [(1.0, HEAD, FEET), (0.0, FEET, HEAD)])
def test_the_end_at_which_a_scan_stops_short_can_be_chosen(
    sample: np.ndarray, at_head: float, bare: slice, seen: slice
):
    cut = replace(STILL, cut_ends=1.0, cut_head=at_head)
    even = torch.from_numpy(np.stack([np.full_like(sample[0], 128), sample[1]]))
    for seed in range(6):
        image, _, _ = cut(even, (40, 32, 24), SPEC.grid.pixdim_mm, np.random.default_rng(seed))
        assert (image[bare] == 0).all()
        assert (image[seen] > 0).all()


def test_streaks_run_from_side_to_side_and_lie_below_the_shoulders(sample: np.ndarray):
    even = torch.from_numpy(np.stack([np.full_like(sample[0], 128), sample[1]]))
    striped = replace(STILL, streaky=1.0, streaks=0.1)
    unequal = []
    for seed in range(8):
        image, _, _ = striped(even, (40, 32, 24), SPEC.grid.pixdim_mm, np.random.default_rng(seed))
        along, across = (image.diff(dim=axis).abs().mean() for axis in (2, 1))
        assert along <= across / 2
        lower, upper = (float(part.std()) for part in (image[:20], image[20:]))
        assert lower >= upper
        unequal.append(lower - upper)
    assert max(unequal) > 0.01


def test_hollow_bone_is_a_shell_around_marrow_that_is_as_light_as_what_surrounds_it(sample: np.ndarray):
    image, labels, _ = STILL(
        torch.from_numpy(sample), sample.shape[1:], SPEC.grid.pixdim_mm, np.random.default_rng(0)
    )
    shell = replace(STILL, hollow=1.0, marrow=(0.3, 0.3))
    found, same, _ = shell(
        torch.from_numpy(sample), sample.shape[1:], SPEC.grid.pixdim_mm, np.random.default_rng(0)
    )
    assert torch.equal(same, labels)
    assert torch.equal(found[labels == 0], image[labels == 0])
    assert (found <= image).all()
    bone = labels > 0
    lost = (image - found)[bone & (image > 0.35)]
    assert lost.max() > 0.1
    assert (found[bone & (image > 0.3)] >= 0.3 - 1e-6).all()
    assert torch.equal(found[bone & (image <= 0.3)], image[bone & (image <= 0.3)])


def test_a_neck_that_moved_is_seen_a_second_time_fainter(sample: np.ndarray):
    spot = np.zeros_like(sample)
    spot[0, 20, 16, 12] = 200
    moved = replace(STILL, ghost=1.0)
    image, _, _ = moved(torch.from_numpy(spot), (40, 32, 24), SPEC.grid.pixdim_mm, np.random.default_rng(0))
    assert image[20, 16:18, 12].tolist() == pytest.approx([0.65 * 200 / 255, 0.35 * 200 / 255])


def test_between_slices_that_are_far_apart_lies_their_mean():
    height = torch.arange(10.0)[:, None, None].expand(-1, 2, 2)
    found = sliced(height**2, 3, np.random.default_rng(0))[:, 0, 0]
    known = [int(value) ** 0.5 for value in found[1:9] if float(value) ** 0.5 % 1 == 0]
    assert [b - a for a, b in pairwise(known)] == [3] * (len(known) - 1)
    assert torch.allclose(sliced(height, 2, np.random.default_rng(0))[1:9], height[1:9])
    assert torch.equal(sliced(height, 1, np.random.default_rng(0)), height)


def test_eased_augmentation_starts_from_nothing():
    assert Augmentation().eased(0.0).shift_mm == (0, 0, 0)
    assert Augmentation().eased(0.0).scale == (1, 1)
    assert Augmentation().eased(1.0) == Augmentation()


def test_a_step_always_gives_the_same_batch(tmp_path: Path):
    write_samples(tmp_path, range(2), SPEC)
    batches = SpineBatches(SampleFolder(tmp_path, 0, 2), ((16, 16, 16), (32, 16, 16)), SPEC.grid.pixdim_mm)
    first, again, other = batches(7), batches(7), batches(8)
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert first["image"].shape != other["image"].shape or not torch.equal(first["image"], other["image"])


def test_a_batch_knows_where_the_levels_have_their_centers(tmp_path: Path):
    write_samples(tmp_path, [0], SPEC)
    batch = SpineBatches(SampleFolder(tmp_path, 0, 1), ((32, 32, 16),), SPEC.grid.pixdim_mm, 2, 0, STILL)(0)
    truth = render_sample(0, SPEC)[1, 4:36]
    c5 = np.argwhere(truth == 5)[:, 0].mean() * 0.5
    assert batch["center_cm"][:, 5].tolist() == pytest.approx([c5, c5], abs=0.02)
    c6, c7 = batch["center_cm"][0, 6], batch["center_cm"][0, 7]
    assert torch.isnan(c7) or float(batch["center_cm"][0, 8]) == pytest.approx(float(c7 - 0.75 * (c6 - c7)))
    assert batch["height_cm"][1, :3].tolist() == [0, 0.5, 1.0]
