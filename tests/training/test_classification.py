from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cspine.anatomy import CERVICAL
from cspine.crops import CropSpec
from cspine.datasets import phantom_crops
from cspine.datasets.crop_samples import LabelledCrop, save_crops
from cspine.errors import UsageError
from cspine.models.bundle import load_bundle
from cspine.models.classifier_network import FractureNet, Widths
from cspine.settings import CLASSIFICATION
from cspine.training import Plan
from cspine.training.classification import Recipe, train
from cspine.training.classification_scores import FIRST_SEED, TEST_SEED, evaluate

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


def test_no_two_folders_share_a_seed(spec):
    jobs = Recipe().crops(spec, 5000).values()
    seeds = [seed for job in jobs for seed in range(job.first_seed, job.first_seed + job.count)]
    assert len(seeds) == len(set(seeds))
    assert max(seeds) < FIRST_SEED + TEST_SEED


@pytest.fixture
def bundle(tmp_path: Path, spec: CropSpec, widths: Widths) -> Path:
    """A bundle without weights, for small crops and a small network."""
    root = tmp_path / CLASSIFICATION
    (root / "configs").mkdir(parents=True)
    module = "cspine.models.classifier_network"
    network = {"_target_": f"{module}.FractureNet", "steps": 4, "window_planes": 5}
    network["widths"] = {"_target_": f"{module}.Widths", **vars(widths)}
    section = {
        "crop": dict(vars(spec), window_hu=list(spec.window_hu)),
        "temperature": {"level": 1.0, "overall": 1.0},
        "operating_points": {"balanced": {"level": 0.5, "overall": 0.5}},
        "default_operating_point": "balanced",
    }
    (root / "configs" / "metadata.json").write_text(json.dumps({"version": "0", "cspine": section}))
    (root / "configs" / "inference.json").write_text(json.dumps({"network_def": network}))
    return root


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
def ready(crop_folder: Path, tmp_path: Path, crop: Callable[..., LabelledCrop]) -> Path:
    """Folders to train and to calibrate from; half of the necks of the latter are sound."""
    for name in ("training", "calibration"):
        (tmp_path / "ready" / name).mkdir(parents=True)
        for path in crop_folder.glob("neck-*.npz"):
            shutil.copy(path, tmp_path / "ready" / name)
    for path in sorted((tmp_path / "ready" / "calibration").iterdir())[:6]:
        save_crops([crop(v, fractured=False) for v in CERVICAL], path)
    return tmp_path / "ready"


def test_the_encoder_learns_again_from_its_mistakes_where_the_recipe_plans_it(bundle, ready, tmp_path):
    recipe = replace(TOY, vertebrae=None, mistakes=SHORT)
    train(bundle, f"crops:{ready}", tmp_path / "run", recipe, "cpu")
    found = json.loads((tmp_path / "run" / "mistakes.json").read_text())
    # Neck 0 has fractures of C1 and C4.
    assert set(found["neck-00000000"]) == {"C2", "C3", "C5", "C6", "C7"}
    assert (tmp_path / "run" / "mistakes" / "checkpoint.pt").is_file()
    assert load_bundle(tmp_path, CLASSIFICATION).metadata["cspine"]["training"]["steps"] == 4


def test_training_on_ready_crops_starts_from_given_weights_and_goes_on_where_it_stopped(
    bundle, ready, tmp_path, monkeypatch, widths
):
    torch.manual_seed(5)
    torch.save(FractureNet(steps=4, window_planes=5, widths=widths).state_dict(), tmp_path / "first.pt")
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
