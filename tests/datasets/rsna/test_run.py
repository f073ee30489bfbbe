"""From the layout to trained and measured bundles, with networks that are tiny and know nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cspine import cli
from cspine.datasets.rsna.folds import deal, split
from cspine.datasets.rsna.records import Labels, Prepared
from cspine.errors import InputError, ModelError, UsageError
from cspine.evaluation.rsna_cases import fracture_boxes, rsna_set
from cspine.models.bundle import build_network, load_bundle, read_json
from cspine.phantom.rsna_layout import write_mask
from cspine.settings import BUNDLES, CLASSIFICATION, LOCALIZATION, SEGMENTATION, models_dir
from cspine.training.checkpoint import export_weights
from cspine.training.rsna import Fold, Profile, link_samples, make_bundles, train_fold

UNET = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "channels": [4, 8],
    "strides": [2],
}
WIDTHS = {"channels": [4, 4, 8, 8], "blocks": [1] * 3, "merged": 8, "recurrent": 4, "study": 8}
CROP = {
    "steps": 4,
    "window_planes": 5,
    "pixels": 32,
    "field_mm": 84.0,
    "margin_mm": 2.0,
    "window_hu": [-500, 1500],
}


def shrink_spine(configs: dict[str, Any], patch: list[int] | None) -> None:
    channels = 10 if patch is None else 11
    configs["inference"]["network_def"] = UNET | {"out_channels": channels}
    configs["metadata"]["cspine"]["grid"] |= {"pixdim_mm": [4.0, 4.0, 4.0], "patch": patch}
    configs["train"]["spine_data"] |= {
        "sample_shape": [48, 32, 32],
        "patch_shapes": [[32, 32, 32]],
        "batch_size": 1,
    }


def shrink_classifier(configs: dict[str, Any]) -> None:
    network = configs["inference"]["network_def"] | {"steps": 4, "window_planes": 5}
    network["widths"] = {"_target_": "cspine.models.classifier_network.Widths", **WIDTHS}
    configs["inference"]["network_def"] = network
    configs["metadata"]["cspine"]["crop"] = CROP
    recipe = configs["train"]["recipe"]
    recipe |= {"patch_pairs": 1, "patch_pixels": 32, "pairs": 1}
    recipe["sequence"]["steps"] = 2
    # The bundle's own recipe leaves this stage out, RSNA's has it.
    recipe["study"] = recipe["sequence"]
    recipe |= {"batch": 4, "views": 1}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three bundles with tiny networks and random weights."""
    root = tmp_path_factory.mktemp("models")
    for bundle in BUNDLES:
        shutil.copytree(models_dir() / bundle, root / bundle, ignore=shutil.ignore_patterns("train*.pt"))
        files = {name: root / bundle / f"configs/{name}.json" for name in ("train", "inference", "metadata")}
        configs = {name: json.loads(path.read_text()) for name, path in files.items()}
        if bundle == CLASSIFICATION:
            shrink_classifier(configs)
        else:
            shrink_spine(configs, [32, 32, 32] if bundle == SEGMENTATION else None)
            configs["train"]["spine_data"]["without_spine"] = 0.5 if bundle == LOCALIZATION else 0.0
        for name, path in files.items():
            path.write_text(json.dumps(configs[name]))
        torch.manual_seed(0)
        export_weights(build_network(root / bundle).state_dict(), root / bundle)
    return root


def contents(folder: Path) -> dict[Path, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def masked(copied):
    """All studies; a mask for each but 106, which the tiny networks cannot label."""
    small = copied(101, 102, 103, 104, 105, 106)
    for number in (104, 105):
        _, labels, _ = small.truth(number)
        study = small.written[number]
        write_mask(small.root / "segmentations" / f"{study.uid}.nii", labels, study.grid)
    return small


def seed_and_fold(small) -> tuple[int, int]:
    """A seed and fold with 106 held out and located and missing fractures to train and calibrate on."""
    uid = {number: study.uid for number, study in small.written.items()}
    for seed in range(50):
        fold_of = deal(small.data.studies, 3, seed)
        found = split(fold_of, fold_of[uid[106]])
        training, calibration = set(found.training), set(found.calibration)
        broken = {uid[101], uid[103], uid[105]}
        located = training & {uid[101], uid[103]}
        if located and training - broken and calibration & broken and calibration - broken:
            return seed, fold_of[uid[106]]
    raise AssertionError("no seed deals the six studies as the test needs it")


@pytest.mark.timeout(900)  # three trainings and the whole method
def test_one_command_leads_from_the_layout_to_trained_and_measured_bundles(
    masked, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    seed, number = seed_and_fold(masked)
    before, run = contents(tiny), tmp_path / "run"
    command = ["rsna", str(masked.root), "--out", str(run), "--models", str(tiny), "--folds", "3"]
    command += ["--fold", str(number), "--seed", str(seed), "--steps", "2", "--device", "cpu"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "6 studies: 5 with masks, 0 with pseudo-labels, 1 skipped; 0 unreadable slices left out" in said
    assert contents(tiny) == before

    fold = run / f"fold-{number}"
    for bundle in BUNDLES:
        trained = load_bundle(fold / "bundles", bundle)
        trained.network(torch.device("cpu"))
        assert trained.sha256 != load_bundle(tiny, bundle).sha256
        assert "RSNA 2022" in trained.metadata["data_source"]
        assert "non-commercial" in (trained.path / "docs/README.md").read_text()
    for bundle, samples in ((LOCALIZATION, 4), (SEGMENTATION, 2)):
        assert load_bundle(fold / "bundles", bundle).metadata["cspine"]["training"]["samples"] == samples
    assert load_bundle(fold / "bundles", CLASSIFICATION).metadata["cspine"]["calibrated_on"]["necks"] == 2

    metrics = json.loads((fold / "evaluation/metrics.json").read_text())
    (measured,) = metrics["sets"]
    assert measured["name"] == f"rsna-fold-{number}"
    assert measured["synthetic"] is False
    assert measured["cases"]["asked"] == 2
    assert measured["cases"]["failed"] == 0
    assert (fold / "evaluation/report.pdf").read_bytes().startswith(b"%PDF")

    together = json.loads((run / "evaluation/metrics.json").read_text())
    assert together["sets"][0]["name"] == "rsna-1-of-3-folds"
    assert together["sets"][0]["cases"] == measured["cases"]
    assert len(together["models"]) == 3

    made = {path: path.stat().st_mtime_ns for path in (fold / "training").rglob("checkpoint.pt")}
    assert cli.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    capsys.readouterr()
    assert cli.main([*command[:-6], "--seed", str(seed + 1)]) == 2
    assert "was prepared with other settings (seed)" in capsys.readouterr().err


def prepared(small, *numbers: int) -> tuple[Prepared, ...]:
    known = (Labels.MASK if number in numbers else Labels.NONE for number in small.written)
    return tuple(Prepared(s.uid, kind) for s, kind in zip(small.written.values(), known, strict=True))


def test_a_fold_sees_the_samples_of_its_own_studies_only(small, tmp_path: Path):
    fold_of = deal(small.data.studies, 3, 0)
    for folder, suffix in (("localization", "npy"), ("segmentation", "npy"), ("crops", "npz")):
        (tmp_path / folder).mkdir()
        for uid in fold_of:
            (tmp_path / folder / f"{uid}.{suffix}").write_text(uid)
    fold = Fold(tmp_path, 1, split(fold_of, 1))
    link_samples(fold, prepared(small, *small.written))
    data = fold.folder / "data"
    for bundle in (LOCALIZATION, SEGMENTATION):
        assert {path.read_text() for path in (data / bundle).iterdir()} == set(fold.split.training)
        assert sorted(path.name for path in (data / bundle).iterdir()) == ["0000000.npy", "0000001.npy"]
    for part, uids in (("training", fold.split.training), ("calibration", fold.split.calibration)):
        assert {path.read_text() for path in (data / CLASSIFICATION / part).iterdir()} == set(uids)


def test_a_fold_without_vertebrae_to_train_on_is_refused(small, tmp_path: Path):
    fold = Fold(tmp_path, 0, split(deal(small.data.studies, 3, 0), 0))
    with pytest.raises(InputError, match="0 studies with vertebrae to train on and 0 to calibrate on"):
        link_samples(fold, prepared(small))


def test_the_full_profile_is_a_config_larger_networks_that_see_more(small, tmp_path: Path):
    profile = Profile(models_dir(), "full")
    plan, compact = profile.plan(folds=5, seed=0), Profile(models_dir(), "compact").plan(folds=5, seed=0)
    assert plan.segmentation.grid.pixdim_mm <= compact.segmentation.grid.pixdim_mm
    assert plan.crop.pixels > compact.crop.pixels
    fold = Fold(tmp_path, 0, split(deal(small.data.studies, 3, 0), 0))
    make_bundles(profile, fold)
    for bundle in (SEGMENTATION, CLASSIFICATION):
        theirs = build_network(models_dir() / bundle)
        ours = build_network(fold.models / bundle)
        sizes = [sum(p.numel() for p in network.parameters()) for network in (theirs, ours)]
        assert sizes[1] > sizes[0]
        assert profile.has_other_network(bundle)
        assert (
            read_json(fold.models / bundle, Path("configs/train.json"))["training"]["bundle"]
            == "@bundle_root"
        )
    inference = read_json(fold.models / SEGMENTATION, Path("configs/inference.json"))
    spacing = next(t for t in inference["preprocessing"]["transforms"] if t["_target_"].endswith("Spacingd"))
    assert tuple(spacing["pixdim"]) == plan.segmentation.grid.pixdim_mm
    assert tuple(inference["inferer"]["roi_size"]) == plan.segmentation.grid.patch


def test_a_fold_begun_with_another_profile_is_refused(small, tmp_path: Path):
    fold = Fold(tmp_path, 0, split(deal(small.data.studies, 3, 0), 0))
    make_bundles(Profile(models_dir(), "compact"), fold)
    make_bundles(Profile(models_dir(), "compact"), fold)
    with pytest.raises(UsageError, match="was begun with another config"):
        make_bundles(Profile(models_dir(), "full"), fold)


def test_weights_of_another_architecture_are_refused_by_name(small, tiny: Path, tmp_path: Path):
    fold = Fold(tmp_path, 0, split(deal(small.data.studies, 3, 0), 0))
    make_bundles(Profile(tiny, "compact"), fold)
    for uid in fold.split.training + fold.split.calibration:
        for folder, suffix in (("localization", "npy"), ("segmentation", "npy"), ("crops", "npz")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{uid}.{suffix}").touch()
    link_samples(fold, prepared(small, *small.written))
    other = shutil.copytree(tiny, tmp_path / "other")
    shutil.copy(models_dir() / LOCALIZATION / "models/model.pt", other / LOCALIZATION / "models/model.pt")
    with pytest.raises(ModelError, match="holds weights of another architecture than this UNet: '"):
        train_fold(Profile(other, "compact"), fold, {"steps": 1, "device": "cpu"})


def test_a_case_is_measured_against_mask_labels_and_boxes(small, tmp_path: Path):
    uids = [small.written[number].uid for number in (101, 105, 106)]
    content = {"data": str(small.root), "studies": uids}
    (tmp_path / "held-out.json").write_text(json.dumps(content))
    cases = rsna_set(tmp_path)
    whole, unboxed, sound = (cases.load(uid) for uid in cases.identifiers())
    broken = small.written[101].neck.fractured
    assert {level for level, truth in whole.levels.items() if truth.fractured} == set(broken)
    assert whole.mask is not None
    assert whole.boxes
    zones = np.stack([fracture.box_lps_mm for fracture in small.written[101].neck.fractures])
    for box in whole.boxes:
        center = box.box_lps_mm.mean(0)
        assert ((center >= zones[:, 0] - 3) & (center <= zones[:, 1] + 3)).all(1).any()
    assert (unboxed.mask, unboxed.boxes) == (None, None)
    assert sound.boxes == ()


def test_boxes_that_touch_in_neighbouring_slices_are_one_fracture(small):
    ct = small.study(101).read()
    found = fracture_boxes(ct.boxes, ct.series.volume.grid)
    assert 1 <= len(found) <= len(ct.boxes)
