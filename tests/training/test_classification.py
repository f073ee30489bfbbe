from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec
from cspine.datasets import crop_batches, phantom_crops
from cspine.datasets.crop_augmentation import (
    Augmentation,
    Voxels,
    augment,
    resliced,
    slice_and_heat_targets,
)
from cspine.datasets.crop_batches import (
    PatchBatches,
    VertebraBatches,
    Views,
    as_vertebra_crops,
    vertebra_batch,
)
from cspine.datasets.crop_mask_errors import MaskErrors, mistaken
from cspine.datasets.crop_samples import CropFile, CropFolder, LabelledCrop, save_crops
from cspine.datasets.phantom_crops import CropRecipe, claim_folder, fill_folder, filling, make_crops
from cspine.errors import InputError, UsageError
from cspine.models.bundle import load_bundle
from cspine.models.calibration import Calibration
from cspine.models.classifier_network import FractureNet, Widths
from cspine.phantom import DEFAULT
from cspine.settings import CLASSIFICATION
from cspine.training import Plan
from cspine.training.classification import Recipe, train
from cspine.training.classification_features import (
    Embedded,
    SequenceBatches,
    StudyBatches,
    embed,
    encode_studies,
)
from cspine.training.classification_losses import (
    LossWeights,
    encoder_loss,
    heat_loss,
    sequence_loss,
    study_loss,
    vertebra_loss,
)
from cspine.training.classification_scores import FIRST_SEED, TEST_SEED, Scored, evaluate, operating_points

SPEC = CropSpec(steps=4, window_planes=5, pixels=32, field_mm=64.0, margin_mm=2.0, window_hu=(-500.0, 1500.0))
TRUE_MASK = MaskErrors(smooth=(1, 1), wobble=0, level=0, half=0, islands=0, shift=0, none=0)
STILL = Augmentation(
    rotation_deg=0,
    scale=0,
    shift=0,
    gain=0,
    gamma=0,
    offset=0,
    noise=0,
    streaks=0,
    blur=0,
    sharpen=0,
    thick=0,
    coarse=0,
    dense=0,
    blotches=0,
    mask=TRUE_MASK,
    cut=0,
    mixup=0,
)
CPU = torch.device("cpu")
SMALL = Widths(channels=(4, 6, 8, 8), blocks=(1, 1, 1), merged=8, recurrent=8, study=8)


def crop(level: Vertebra, *, fractured: bool, seed: int = 0) -> LabelledCrop:
    """Noise with a mask in the middle and, when fractured, a break in plane 6."""
    rng = np.random.default_rng([seed, int(level)])
    shape = (SPEC.planes, SPEC.pixels, SPEC.pixels)
    mask, fracture = np.zeros(shape, bool), np.zeros(shape, bool)
    mask[:, 8:24, 6:26] = True
    fracture[6, 10:12, 18:20] = fractured
    return LabelledCrop(level, rng.integers(0, 255, shape, dtype=np.uint8), mask, fracture, fractured)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve necks; neck n has fractures of levels 1 + n % 7 and 1 + (n + 3) % 7."""
    for n in range(12):
        broken = {1 + n % 7, 1 + (n + 3) % 7}
        save_crops(
            [crop(v, fractured=int(v) in broken, seed=n) for v in CERVICAL],
            tmp_path / f"neck-{n:08d}.npz",
        )
    return tmp_path


def test_crops_are_read_back_from_disk_as_they_were(tmp_path):
    kept = [crop(Vertebra.C2, fractured=True), crop(Vertebra.C6, fractured=False)]
    kept.append(replace(crop(Vertebra.C7, fractured=True), located=False))
    save_crops(kept, tmp_path / "neck-00000007.npz")
    file = CropFile(tmp_path / "neck-00000007.npz")
    assert file.fractured == {Vertebra.C2: True, Vertebra.C6: False, Vertebra.C7: True}
    assert file.located == {Vertebra.C2: True, Vertebra.C6: True, Vertebra.C7: False}
    for wanted in kept:
        found = file.load(wanted.level)
        assert (found.fractured, found.located) == (wanted.fractured, wanted.located)
        for name in ("image", "mask", "fracture"):
            assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_a_damaged_file_of_crops_is_refused_by_name(tmp_path):
    (tmp_path / "neck-00000001.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match=r"neck-00000001\.npz"):
        _ = CropFile(tmp_path / "neck-00000001.npz").fractured


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    claim_folder(tmp_path, CropRecipe(SPEC, DEFAULT, 0, 2))
    claim_folder(tmp_path, CropRecipe(SPEC, DEFAULT, 5, 9))
    with pytest.raises(UsageError, match="another recipe"):
        claim_folder(tmp_path, CropRecipe(SPEC, DEFAULT, 0, 2, twins=True))


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> list[CropFile]:
    """Both studies of a neck with three fractures."""
    folder = tmp_path_factory.mktemp("twins")
    job = Recipe(rich={"fractured": 1.0, "levels_fractured": [0.0, 0.0, 1.0]}).crops(SPEC, 1)["training"]
    fill_folder(folder, job)
    return [CropFile(path) for path in job.paths(folder, job.first_seed)]


def test_twins_show_every_vertebra_once_broken_and_once_not(twins):
    first, second = (study.fractured for study in twins)
    assert len(first) == len(second) == 6
    assert sum(first.values()) == 3
    stays = {v for v in first if first[v] and second[v]}
    assert all(first[v] != second[v] for v in first if v not in stays)
    assert len(stays) < 3


def test_a_phantom_s_crop_shows_bone_in_its_mask_and_a_fracture_where_there_is_one(twins):
    for study in twins:
        for level, broken in study.fractured.items():
            found = study.load(level)
            assert found.image.shape == found.mask.shape == (SPEC.planes, SPEC.pixels, SPEC.pixels)
            assert found.mask.any()
            assert found.fracture.any() == broken
            assert found.image[found.mask].mean() > found.image[~found.mask].mean()


def test_the_same_seed_makes_the_same_crops():
    job = CropRecipe(SPEC, DEFAULT, 3, 1)
    for first, second in zip(make_crops(3, job)[0], make_crops(3, job)[0], strict=True):
        assert first.level == second.level
        assert np.array_equal(first.image, second.image)


def test_a_worker_process_makes_phantoms_while_training_waits_for_them(tmp_path):
    with filling([(tmp_path, CropRecipe(SPEC, DEFAULT, 5, 1))], CPU):
        (study,) = CropFolder(tmp_path).wait_for(1)
    assert set(study.fractured) == set(CERVICAL)


def test_a_thread_that_makes_phantoms_on_the_device_tells_what_went_wrong(tmp_path, monkeypatch):
    tried = threading.Event()

    def broken(*_: object) -> None:
        tried.set()
        raise InputError("no anatomy")

    monkeypatch.setattr(phantom_crops, "make_crops", broken)
    with (
        pytest.raises(InputError, match="no anatomy"),
        phantom_crops.rendering_thread([(tmp_path, CropRecipe(SPEC, DEFAULT, 0, 2))], CPU),
    ):
        assert tried.wait(60)


def test_no_two_folders_share_a_seed():
    jobs = Recipe().crops(SPEC, 5000).values()
    seeds = [seed for job in jobs for seed in range(job.first_seed, job.first_seed + job.count)]
    assert len(seeds) == len(set(seeds))
    assert max(seeds) < FIRST_SEED + TEST_SEED


def test_targets_mark_the_planes_and_cells_around_the_break():
    fracture = torch.zeros(1, SPEC.planes, 32, 32)
    fracture[0, 6, 10, 19] = 1
    slices, heat = slice_and_heat_targets(fracture, SPEC, 8)
    # Planes 2, 4, 6 and 8 are answered for; each counts itself and the two beside it.
    assert slices.tolist() == [[0, 0, 1, 0]]
    assert torch.nonzero(heat[0]).tolist() == [[2, 1, 2]]


def test_augmentation_without_strength_changes_nothing_but_the_side():
    source = crop(Vertebra.C3, fractured=True)
    batch = vertebra_batch([source] * 8, Views(SPEC, STILL, 0), torch.Generator().manual_seed(0))
    image = torch.from_numpy(source.image.astype(np.float32) / 255)
    sides = [
        any(torch.allclose(seen[0], wanted, atol=1e-4) for wanted in (image, image.flip(-1)))
        for seen in batch["crops"]
    ]
    assert all(sides)
    assert batch["slices"].tolist() == [[0, 0, 1, 0]] * 8


def test_noise_is_as_strong_as_drawn_whatever_the_size_of_its_grain():
    gray = [replace(crop(Vertebra.C3, fractured=False), image=np.full((11, 32, 32), 128, np.uint8))] * 48
    views = Views(SPEC, replace(STILL, noise=0.04, noisy=1.0), 0)
    strengths, grains = [], []
    for seed in range(12):
        seen = vertebra_batch(gray, views, torch.Generator().manual_seed(seed))["crops"][:, 0] - 128 / 255
        strengths.append(float((seen**2).mean() ** 0.5))
        grains.append(float((seen[:, :, 1:] * seen[:, :, :-1]).mean() / (seen**2).mean()))
    # The root mean square of what is drawn evenly up to .04 is .023; five pixels share four of their values.
    assert all(0.015 < strength < 0.03 for strength in strengths)
    assert min(grains) < 0.05
    assert max(grains) > 0.7


def test_streaks_run_from_side_to_side():
    gray = [replace(crop(Vertebra.C3, fractured=False), image=np.full((11, 32, 32), 128, np.uint8))] * 4
    views = Views(SPEC, replace(STILL, streaks=0.04, streaky=1.0), 0)
    seen = vertebra_batch(gray, views, torch.Generator().manual_seed(1))["crops"][:, 0]
    assert seen.std(-1).max() < 1e-6
    assert seen.std(-2).min() > 1e-4


def test_no_mask_of_training_shows_the_gap_of_a_fracture():
    whole = torch.zeros(16, 1, 64, 64)
    whole[:, :, 16:48, 16:48] = 1
    broken = whole.clone()
    broken[:, :, 31:33] = 0
    calm = MaskErrors(wobble=0.0, level=0.2, half=0.0, islands=0.0, none=0.0)
    drawn = [mistaken(mask, mask, calm, torch.Generator().manual_seed(3)) for mask in (whole, broken)]
    assert (drawn[1][:, 0, 28:36, 24:40] == 1).all()
    assert torch.equal(drawn[0][:, :, :24], drawn[1][:, :, :24])


def test_mistaken_masks_are_ragged_but_stay_on_bone():
    mask = torch.zeros(64, 5, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    image = torch.full_like(mask, 0.3)
    image[:, :, :, 10:60] = 0.6
    how = MaskErrors(none=0.0, shift=0)
    drawn = mistaken(mask, image, how, torch.Generator().manual_seed(3))
    overlap = 2 * (drawn * mask).sum((1, 2, 3)) / (drawn.sum((1, 2, 3)) + mask.sum((1, 2, 3)))
    assert 0.6 < overlap.mean() < 0.95
    assert drawn[:, :, :8, 10:60].any()
    assert not drawn[:, :, :, :8].any()


def test_now_and_then_one_side_of_a_vertebra_is_not_in_its_mask():
    mask = torch.zeros(64, 5, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    how = replace(TRUE_MASK, half=0.5)
    drawn = mistaken(mask, mask, how, torch.Generator().manual_seed(3))
    left = drawn.sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert 0.3 < (left == 1).float().mean() < 0.7
    assert 0.3 < left[left < 1].mean() < 0.7


def test_a_fracture_that_is_cut_away_is_not_counted():
    mask = torch.ones(64, SPEC.planes, 32, 32)
    fracture = torch.zeros_like(mask)
    fracture[:, :2] = 1
    how = Augmentation(cut=1.0)
    cut, visible = augment(
        Voxels(torch.rand_like(mask), mask, fracture), how, torch.Generator().manual_seed(1)
    )
    assert set(visible.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert 0 < (visible < 0.3).float().mean() < 1
    gone = cut.fracture.sum((1, 2, 3)) == 0
    assert torch.equal(gone, visible == 0)


def test_a_batch_of_parts_pairs_fractured_with_sound_vertebrae(folder):
    batch = PatchBatches(CropFolder(folder), 3, 32, Views(SPEC, STILL, 4))(0)
    assert batch["crops"].shape == (6, 2, SPEC.planes, 32, 32)
    assert batch["heat"].shape == (6, 4, 8, 8)
    assert torch.equal(batch["heat"].amax((2, 3)), batch["slices"])
    broken = batch["slices"].view(3, 2, 4)
    assert broken[:, 1].sum() == 0


def test_parts_lie_on_the_fracture_where_there_is_one(folder):
    how = Augmentation(rotation_deg=20, scale=0.1, shift=0, mixup=0)
    batch = PatchBatches(CropFolder(folder), 3, 16, Views(SPEC, how, 4))(0)
    assert batch["crops"].shape == (6, 2, SPEC.planes, 16, 16)
    assert (batch["slices"].view(3, 2, 4)[:, 0].sum(1) >= 1).all()


def test_a_sound_vertebra_is_seen_where_its_partner_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(crop_batches, "SHAKE", 0.0)
    rows = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 4, (SPEC.planes, 32, 32))
    for n in range(4):
        # The sound vertebra lies three pixels lower in its crop.
        source = replace(crop(Vertebra.C5, fractured=n % 2 == 0), image=rows)
        moved = replace(source, mask=np.roll(source.mask, 3, 1))
        save_crops([source if n % 2 == 0 else moved], tmp_path / f"neck-{n}.npz")
    batch = PatchBatches(CropFolder(tmp_path), 2, 16, Views(SPEC, STILL, 4))(0)
    middle = (batch["crops"][:, 0, 4, 7:9] * 255 / 4).mean((1, 2)).view(2, 2)
    assert torch.allclose(middle[:, 1] - middle[:, 0], torch.full((2,), 3.0), atol=1e-3)


def test_beyond_a_crop_its_edge_repeats_without_mask(tmp_path):
    source = crop(Vertebra.C5, fractured=True)
    source.mask[:], source.fracture[:] = False, False
    source.mask[:, :4, :4] = source.fracture[6, :2, :2] = True
    for n, fractured in enumerate((True, False) * 2):
        save_crops([replace(source, fractured=fractured)], tmp_path / f"neck-{n}.npz")
    batch = PatchBatches(CropFolder(tmp_path), 2, 16, Views(SPEC, STILL, 4))(0)
    # Repeated as well, the mask would fill the corner of the patch beyond the crop: 36 pixels and more.
    assert ((batch["crops"][:, 1].sum((2, 3)) - 16).abs() <= 9).all()
    assert (batch["crops"][:, 0, :, 0, 0] > 0).any()


def test_the_same_step_gives_the_same_batch(folder):
    first, second = (
        PatchBatches(CropFolder(folder), 2, 16, Views(SPEC, Augmentation(), 4))(7) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_crops_for_the_classifier_are_the_ones_on_disk_with_the_same_mask_errors_every_time(folder):
    study = CropFolder(folder).refresh()[0]
    crops = as_vertebra_crops(study)
    assert [found.level for found in crops] == list(CERVICAL)
    assert torch.equal((crops[3].image * 255).round().byte(), torch.from_numpy(study.load(Vertebra.C4).image))
    again = as_vertebra_crops(study)
    assert all(torch.equal(one.mask, other.mask) for one, other in zip(crops, again, strict=True))


def test_the_heat_loss_falls_as_the_map_gets_right():
    target = torch.zeros(2, 4, 4)
    target[0, 1, 2] = 1
    right, wrong = 8 * (2 * target - 1), 8 * (1 - 2 * target)
    assert heat_loss(right, target) < 0.05 < 1 < heat_loss(wrong, target)


def test_planes_of_thick_slices_lie_between_their_slices_and_keep_the_mean():
    ramp = torch.arange(9.0)[None, :, None, None].expand(64, 9, 4, 4) / 8
    how = replace(STILL, thick=1.0, slices=(2.0, 4.0))
    seen = resliced(ramp, how, torch.Generator().manual_seed(2))
    # A ramp stays a ramp between the first and the last slice; a single bright plane spreads and fades.
    assert (seen.diff(dim=1) >= -1e-5).all()
    assert (seen[:, 4] - 0.5).abs().max() < 0.13
    plane = torch.zeros(64, 9, 4, 4)
    plane[:, 4] = 1
    spread = resliced(plane, how, torch.Generator().manual_seed(2))[:, :, 0, 0]
    assert (spread.amax(1) < 1).float().mean() > 0.9
    assert ((spread > 0.05).sum(1) >= 2).all()


def test_fractures_of_unknown_place_teach_levels_but_no_planes(folder):
    hidden = replace(crop(Vertebra.C4, fractured=True, seed=50), located=False)
    hidden = replace(hidden, fracture=np.zeros_like(hidden.fracture))
    save_crops([hidden], folder / "other.npz")
    studies, views = CropFolder(folder), Views(SPEC, STILL, 4)
    drawn = [VertebraBatches(studies, 6, views)(step) for step in range(12)]
    located = torch.cat([batch["located"] for batch in drawn])
    fractured = torch.cat([batch["fractured"] for batch in drawn])
    assert 0 < (located == 0).sum() < len(located) / 4
    assert (fractured[located == 0] == 1).all()
    parts = PatchBatches(studies, 6, 16, views)
    assert all((parts(step)["slices"].view(6, 2, 4)[:, 0].sum(1) >= 1).all() for step in range(12))
    loss = vertebra_loss(LossWeights(), _Encode(), {**drawn[0], "located": torch.zeros(12)})
    assert loss["slices"] == 0


class _Encode(torch.nn.Module):
    def forward(self, crops):
        return FractureNet(steps=4, window_planes=5, widths=SMALL).encode(crops)


def test_every_stage_teaches_its_part_of_the_network(folder):
    torch.manual_seed(0)
    net = FractureNet(steps=4, window_planes=5, widths=SMALL)
    weights, views, studies = LossWeights(), Views(SPEC, Augmentation(), 5, 2), CropFolder(folder)
    parts = PatchBatches(studies, 2, 16, views)(0)
    encoder_loss(weights, net.encoder, parts)["loss"].backward()
    data = encode_studies(net, studies.refresh(), views)
    assert data.features.shape == (84, 2, 4, net.encoder.features)
    net.train()
    sequence_loss(weights, net.sequence, SequenceBatches(data, 16, 2)(0))["loss"].backward()
    embedded = embed(net, data)
    assert embedded.level.shape == (12, 2, 7)
    assert torch.equal(embedded.fractured.sum(1), torch.full((12,), 2.0))
    net.train()
    study_loss(weights, net.study, StudyBatches(embedded, 8, 3)(0))["loss"].backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert idle == set()


def test_absent_levels_do_not_count_in_the_loss_of_a_study():
    torch.manual_seed(1)
    net = FractureNet(steps=4, window_planes=5, widths=SMALL).eval()
    present = torch.tensor([[1.0, 1, 1, 0, 0, 0, 0]])
    batch = {
        "embedding": torch.randn(1, 7, 16),
        "level": torch.randn(1, 7),
        "fractured": torch.tensor([[0.0, 1, 0, 0, 0, 0, 0]]),
        "present": present,
    }
    other = {**batch, "fractured": batch["fractured"] + (1 - present)}
    same = study_loss(LossWeights(), net.study, batch)["loss"]
    assert torch.isfinite(same)
    assert torch.equal(same, study_loss(LossWeights(), net.study, other)["loss"])


def test_half_of_the_studies_have_sound_levels_of_other_necks_in_place_of_their_fractured_ones():
    known = np.array([[0, 1, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 1], [1, 0, 1, 1, 1, 0, 0]], bool)
    fractured = torch.tensor([[0.0, 1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]])
    number = torch.arange(3.0)[:, None, None].expand(3, 1, 7)
    data = Embedded(number[..., None].expand(3, 1, 7, 16), number, fractured, known)
    batch = StudyBatches(data, 400, 0, partial_view=0.0)(0)
    assert (batch["present"] == 1).all()
    assert 0.4 < batch["fractured"].amax(1).mean() < 0.6
    healed = batch["level"][batch["fractured"].amax(1) == 0]
    # C2 of neck 0 is fractured and only neck 1 has a sound one; C7 comes from where it is known.
    assert set(healed[:, 1].tolist()) == {1.0}
    assert set(healed[:, 6].tolist()) == {0.0, 1.0}
    broken = batch["level"][batch["fractured"][:, 1] == 1]
    assert set(broken[:, 1].tolist()) == {0.0}


def test_studies_in_part_keep_neighbouring_levels_and_are_never_empty():
    known = np.ones((3, 7), bool)
    data = Embedded(torch.zeros(3, 1, 7, 16), torch.zeros(3, 1, 7), torch.zeros(3, 7), known)
    present = StudyBatches(data, 200, 0)(0)["present"]
    assert 0.1 < (present.sum(1) < 7).float().mean() < 0.5
    assert ((present.diff(dim=1) != 0).sum(1) <= 2).all()
    assert (present.sum(1) >= 1).all()


def test_operating_points_keep_their_promises_for_the_study_where_any_level_may_raise_the_alarm():
    rng = np.random.default_rng(2)
    truth = rng.random((400, 7)) < 0.09
    levels = rng.normal(-2, 1, (400, 2, 7)) + 2.5 * truth[:, None]
    overall = levels.max(2)
    points = operating_points(
        Scored(levels, overall, truth, np.ones_like(truth)), Calibration(), Calibration(), 0.25
    )
    p, whole = Calibration()(levels.mean(1)), Calibration()(overall.mean(1))
    at = points["rule_in"]
    called = (p >= at.level).any(1) | (whole >= at.overall)
    assert (~called[~truth.any(1)]).mean() >= 0.95
    cautious = points["rule_out"]
    called = (p >= cautious.level).any(1) | (whole >= cautious.overall)
    assert called[truth.any(1)].mean() >= 0.95
    assert cautious.level <= points["balanced"].level <= at.level
    assert {point.min_margin for point in points.values()} == {0.25}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle without weights, for small crops and a small network."""
    root = tmp_path / CLASSIFICATION
    (root / "configs").mkdir(parents=True)
    widths = {"_target_": "cspine.models.classifier_network.Widths", **vars(SMALL)}
    network = {"_target_": "cspine.models.classifier_network.FractureNet", "steps": 4, "window_planes": 5}
    section = {
        "crop": dict(vars(SPEC), window_hu=list(SPEC.window_hu)),
        "temperature": {"level": 1.0, "overall": 1.0},
        "operating_points": {"balanced": {"level": 0.5, "overall": 0.5}},
        "default_operating_point": "balanced",
    }
    (root / "configs" / "metadata.json").write_text(json.dumps({"version": "0", "cspine": section}))
    (root / "configs" / "inference.json").write_text(
        json.dumps({"network_def": network | {"widths": widths}})
    )
    return root


SHORT = Plan(steps=2, log_steps=1)
TOY = Recipe(
    *[SHORT] * 3,
    vertebrae=SHORT,
    rich={"fractured": 1.0},
    patch_pairs=2,
    patch_pixels=32,
    pairs=2,
    batch=4,
    views=1,
    calibration_necks=8,
)


def test_training_from_phantoms_in_this_process_to_a_calibrated_bundle_and_its_measurement(
    bundle, tmp_path, monkeypatch
):
    # As on a GPU: a thread makes the necks on the device that trains.
    monkeypatch.setattr("cspine.training.classification.filling", phantom_crops.rendering_thread)
    train(bundle, "phantom:3", tmp_path / "run", TOY, "cpu")
    evaluate(bundle, "phantom:8", tmp_path / "out", device="cpu")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["necks"] == 8
    assert 0 <= metrics["level_auc"] <= 1
    assert set(metrics["operating_points"]) == {"rule_out", "balanced", "rule_in"}
    trained = load_bundle(tmp_path, CLASSIFICATION).metadata["cspine"]
    assert trained["training"]["steps"] == 4
    assert trained["calibrated_on"]["necks"] == 8


@pytest.fixture
def ready(folder: Path, tmp_path: Path) -> Path:
    """Folders to train and to calibrate from; half of the necks of the latter are sound."""
    for name in ("training", "calibration"):
        (tmp_path / "ready" / name).mkdir(parents=True)
        for path in folder.glob("neck-*.npz"):
            shutil.copy(path, tmp_path / "ready" / name)
    for path in sorted((tmp_path / "ready" / "calibration").iterdir())[:6]:
        save_crops([crop(v, fractured=False) for v in CERVICAL], path)
    return tmp_path / "ready"


def test_the_encoder_learns_again_from_its_mistakes_where_the_recipe_plans_it(bundle, ready, tmp_path):
    recipe = replace(TOY, vertebrae=None, mistakes=SHORT)
    train(bundle, f"crops:{ready}", tmp_path / "run", recipe, "cpu")
    found = json.loads((tmp_path / "run" / "mistakes.json").read_text())
    # Neck 0 has fractures of C1 and C4: C6 and C7 alone are sound beside sound ones.
    assert set(found["neck-00000000"]) == {"C6", "C7"}
    assert (tmp_path / "run" / "mistakes" / "checkpoint.pt").is_file()
    assert load_bundle(tmp_path, CLASSIFICATION).metadata["cspine"]["training"]["steps"] == 4


def test_training_on_ready_crops_starts_from_given_weights_and_goes_on_where_it_stopped(
    bundle, ready, tmp_path, monkeypatch
):
    torch.manual_seed(5)
    torch.save(FractureNet(steps=4, window_planes=5, widths=SMALL).state_dict(), tmp_path / "first.pt")
    recipe = replace(TOY, initial=str(tmp_path / "first.pt"))
    data = f"crops:{ready}"
    with monkeypatch.context() as patched:
        patched.setattr("cspine.training.classification.encode_studies", _stop)
        with pytest.raises(KeyboardInterrupt):
            train(bundle, data, tmp_path / "run", recipe, "cpu")
    kept = {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/checkpoint.pt")}
    assert set(kept) == {"encoder", "vertebrae"}
    train(bundle, data, tmp_path / "run", recipe, "cpu")
    assert load_bundle(tmp_path, CLASSIFICATION).metadata["cspine"]["calibrated_on"]["necks"] == 12
    with pytest.raises(UsageError, match="another config"):
        train(bundle, data, tmp_path / "run", TOY, "cpu")


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_without_crops_is_refused(bundle, tmp_path):
    with pytest.raises(UsageError, match="no crops in 'training'"):
        train(bundle, f"crops:{tmp_path}", tmp_path / "run", TOY, "cpu")
