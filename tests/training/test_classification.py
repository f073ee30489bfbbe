from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec
from cspine.datasets.crop_augmentation import Augmentation, Voxels, augment, slice_and_heat_targets
from cspine.datasets.crop_batches import (
    NeckFiles,
    PlaneBatches,
    WindowPlan,
    as_vertebra_crops,
    vertebra_batch,
)
from cspine.datasets.phantom_crops import (
    CropRecipe,
    LabelledCrop,
    claim_folder,
    fill_folder,
    load_crop,
    load_fractured,
    make_crops,
    save_crops,
)
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
    Views,
    embed,
    encode_necks,
)
from cspine.training.classification_losses import (
    LossWeights,
    heat_loss,
    plane_loss,
    sequence_loss,
    study_loss,
)
from cspine.training.classification_scores import FIRST_SEED, TEST_SEED, Scored, evaluate, operating_points

SPEC = CropSpec(steps=4, window_planes=3, pixels=32, field_mm=64.0, margin_mm=2.0, window_hu=(-500.0, 1500.0))
STILL = Augmentation(
    rotation_deg=0, scale=0, shift=0, gain=0, gamma=0, offset=0, noise=0, blur=0, mask_shift=0, cut=0, mixup=0
)
SMALL = Widths(channels=(4, 6, 8, 8, 8), blocks=(1, 1, 1, 1, 1), merged=8, recurrent=8, study=8)


def crop(level: Vertebra, *, fractured: bool, seed: int = 0) -> LabelledCrop:
    """Noise with a mask in the middle and, when fractured, a break in plane 5."""
    rng = np.random.default_rng([seed, int(level)])
    shape = (SPEC.planes, SPEC.pixels, SPEC.pixels)
    mask, fracture = np.zeros(shape, bool), np.zeros(shape, bool)
    mask[:, 8:24, 6:26] = True
    fracture[5, 10:12, 18:20] = fractured
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
    save_crops(kept, tmp_path / "neck-00000007.npz")
    assert load_fractured(tmp_path / "neck-00000007.npz") == {Vertebra.C2: True, Vertebra.C6: False}
    for wanted in kept:
        found = load_crop(tmp_path / "neck-00000007.npz", wanted.level)
        assert found.fractured == wanted.fractured
        for name in ("image", "mask", "fracture"):
            assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_a_damaged_file_of_crops_is_refused_by_name(tmp_path):
    (tmp_path / "neck-00000001.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match=r"neck-00000001\.npz"):
        load_fractured(tmp_path / "neck-00000001.npz")


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    claim_folder(tmp_path, CropRecipe(SPEC, DEFAULT, 0, 2))
    claim_folder(tmp_path, CropRecipe(SPEC, DEFAULT, 5, 9))
    with pytest.raises(UsageError, match="another recipe"):
        claim_folder(tmp_path, CropRecipe(SPEC, DEFAULT, 0, 2, matched=True))


def test_a_phantom_neck_becomes_matched_crops_with_the_fracture_in_the_fractured_ones(tmp_path):
    recipe = Recipe(rich={"fractured": 1.0, "levels_fractured": [0.0, 0.0, 1.0]})
    job = recipe.crops(SPEC, 1)["training"]
    fill_folder(tmp_path, job)
    path = job.path(tmp_path, job.first_seed)
    fractured = load_fractured(path)
    assert sum(fractured.values()) == 3
    assert len(fractured) == 6
    for level, broken in fractured.items():
        found = load_crop(path, level)
        assert found.image.shape == found.mask.shape == (SPEC.planes, SPEC.pixels, SPEC.pixels)
        assert found.mask.any()
        assert found.fracture.any() == broken
        assert found.image[found.mask].mean() > found.image[~found.mask].mean()


def test_the_same_seed_makes_the_same_crops():
    job = CropRecipe(SPEC, DEFAULT, 3, 1, matched=True)
    for first, second in zip(make_crops(3, job), make_crops(3, job), strict=True):
        assert first.level == second.level
        assert np.array_equal(first.image, second.image)


def test_no_two_folders_share_a_seed():
    jobs = Recipe().crops(SPEC, 5000).values()
    seeds = [seed for job in jobs for seed in range(job.first_seed, job.first_seed + job.count)]
    assert len(seeds) == len(set(seeds))
    assert max(seeds) < FIRST_SEED + TEST_SEED


def test_targets_mark_the_windows_and_cells_around_the_break():
    fracture = torch.zeros(1, SPEC.planes, 32, 32)
    fracture[0, 5, 10, 19] = 1
    slices, heat = slice_and_heat_targets(fracture, SPEC, 8)
    # Middle planes are 1, 3, 5, 7; a window counts its middle plane and the two beside it.
    assert slices.tolist() == [[0, 0, 1, 0]]
    assert torch.nonzero(heat[0]).tolist() == [[2, 1, 2]]


def test_augmentation_without_strength_changes_nothing_but_the_side():
    source = crop(Vertebra.C3, fractured=True)
    batch = vertebra_batch([source] * 8, SPEC, STILL, torch.Generator().manual_seed(0))
    image = torch.from_numpy(source.image.astype(np.float32) / 255)
    sides = [
        any(torch.allclose(seen[0], wanted, atol=1e-4) for wanted in (image, image.flip(-1)))
        for seen in batch["crops"]
    ]
    assert all(sides)
    assert batch["slices"].tolist() == [[0, 0, 1, 0]] * 8


def test_a_fracture_that_is_cut_away_is_not_counted():
    mask = torch.ones(64, SPEC.planes, 32, 32)
    fracture = torch.zeros_like(mask)
    fracture[:, :2] = 1
    how = Augmentation(cut=1.0, mask_smooth=0)
    cut, visible = augment(
        Voxels(torch.rand_like(mask), mask, fracture), how, torch.Generator().manual_seed(1)
    )
    assert set(visible.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert 0 < (visible < 0.3).float().mean() < 1
    gone = cut.fracture.sum((1, 2, 3)) == 0
    assert torch.equal(gone, visible == 0)


def test_a_batch_of_windows_pairs_fractured_with_sound_vertebrae(folder):
    batches = PlaneBatches(folder, SPEC, WindowPlan(pairs=3), STILL, 4)
    batch = batches(0)
    assert batch["windows"].shape == (24, 4, 32, 32)
    assert batch["heat"].shape == (24, 4, 4)
    assert torch.equal(batch["heat"].amax((1, 2)), batch["slices"])
    broken = batch["slices"].view(3, 2, 4)
    assert (broken[:, 0].sum(1) >= 2).all()
    assert broken[:, 1].sum() == 0


def test_patches_lie_on_the_fracture_where_there_is_one(folder):
    how = Augmentation(rotation_deg=20, scale=0.1, shift=0, mixup=0)
    batch = PlaneBatches(folder, SPEC, WindowPlan(3, windows=4, patch=16), how, 4)(0)
    assert batch["windows"].shape == (24, 4, 16, 16)
    assert batch["heat"].shape == (24, 2, 2)
    assert (batch["slices"].view(3, 2, 4)[:, 0].sum(1) >= 2).all()


def test_the_same_step_gives_the_same_batch(folder):
    first, second = (PlaneBatches(folder, SPEC, WindowPlan(2), Augmentation(), 4)(7) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_crops_for_the_classifier_are_the_ones_on_disk(folder):
    path = NeckFiles(folder).refresh()[0].path
    crops = as_vertebra_crops(path)
    assert [found.level for found in crops] == list(CERVICAL)
    assert torch.equal(
        (crops[3].image * 255).round().byte(), torch.from_numpy(load_crop(path, Vertebra.C4).image)
    )


def test_the_heat_loss_falls_as_the_map_gets_right():
    target = torch.zeros(2, 4, 4)
    target[0, 1, 2] = 1
    right, wrong = 8 * (2 * target - 1), 8 * (1 - 2 * target)
    assert heat_loss(right, target) < 0.05 < 1 < heat_loss(wrong, target)


def test_every_stage_teaches_its_part_of_the_network(folder):
    torch.manual_seed(0)
    net = FractureNet(steps=4, window_planes=3, widths=SMALL)
    weights, how = LossWeights(), Augmentation()
    windows = PlaneBatches(folder, SPEC, WindowPlan(2), how, 1)(0)
    plane_loss(weights, net.encoder, windows)["loss"].backward()
    data = encode_necks(net, NeckFiles(folder).refresh(), Views(SPEC, how, 2, 5), torch.device("cpu"))
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
    net = FractureNet(steps=4, window_planes=3, widths=SMALL).eval()
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


def test_half_of_the_studies_are_shown_without_their_fractured_levels():
    known = np.tile(np.array([0, 1, 1, 1, 0, 1, 1], bool), (3, 1))
    fractured = torch.tensor([[0.0, 1, 0, 0, 0, 1, 0]]).repeat(3, 1)
    data = Embedded(torch.zeros(3, 1, 7, 16), torch.zeros(3, 1, 7), fractured, known)
    batch = StudyBatches(data, 400, 0, partial_view=0.0)(0)
    positive = (batch["fractured"] * batch["present"]).amax(1)
    assert 0.4 < positive.mean() < 0.6
    assert set(batch["present"][positive == 0].sum(1).tolist()) == {3.0}
    assert set(batch["present"][positive == 1].sum(1).tolist()) == {5.0}


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
    points = operating_points(Scored(levels, overall, truth), Calibration(), Calibration(), 0.25)
    p, whole = Calibration()(levels.mean(1)), Calibration()(overall.mean(1))
    at = points["rule_in"]
    called = (p >= at.level).any(1) | (whole >= at.overall)
    assert (~called[~truth.any(1)]).mean() >= 0.95
    cautious = points["rule_out"]
    called = (p >= cautious.level).any(1) | (whole >= cautious.overall)
    assert called[truth.any(1)].mean() >= 0.95
    assert cautious.level <= points["balanced"].level <= at.level
    assert {point.min_margin for point in points.values()} == {0.25}


def test_training_from_phantoms_to_a_calibrated_bundle_and_its_measurement(tmp_path):
    bundle = tmp_path / CLASSIFICATION
    (bundle / "configs").mkdir(parents=True)
    (bundle / "models").mkdir()
    crop_spec = dict(vars(SPEC), window_hu=list(SPEC.window_hu))
    widths = {"_target_": "cspine.models.classifier_network.Widths", **vars(SMALL)}
    network = {"_target_": "cspine.models.classifier_network.FractureNet", "steps": 4, "window_planes": 3}
    point = {"level": 0.5, "overall": 0.5}
    section = {
        "crop": crop_spec,
        "temperature": {"level": 1.0, "overall": 1.0},
        "operating_points": {"balanced": point},
        "default_operating_point": "balanced",
    }
    (bundle / "configs" / "metadata.json").write_text(json.dumps({"version": "0", "cspine": section}))
    (bundle / "configs" / "inference.json").write_text(
        json.dumps({"network_def": network | {"widths": widths}})
    )
    short = Plan(steps=2, log_steps=1)
    recipe = Recipe(
        *[short] * 4,
        rich={"fractured": 1.0},
        of_patches=WindowPlan(2, 2, 32),
        of_planes=WindowPlan(2, 2),
        batch=4,
        views=1,
        calibration_necks=6,
    )
    train(bundle, "phantom:5", tmp_path / "run", recipe, "cpu")
    evaluate(bundle, "phantom:6", tmp_path / "out", device="cpu")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["necks"] == 6
    assert 0 <= metrics["level_auc"] <= 1
    assert set(metrics["operating_points"]) == {"rule_out", "balanced", "rule_in"}
    trained = load_bundle(tmp_path, CLASSIFICATION).metadata["cspine"]
    assert trained["training"]["steps"] == 4
    assert trained["calibrated_on"]["necks"] == 6
