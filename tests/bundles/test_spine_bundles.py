"""What must hold of the localization and the segmentation bundle as they are in the repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cspine.anatomy import NETWORK_CHANNELS, RISE_CHANNEL
from cspine.crops import CropSpec
from cspine.cuda_runtime import preload
from cspine.datasets.phantom_spines import HELD_OUT_SEED, spl_grid
from cspine.errors import UsageError
from cspine.models.bundle import Bundle, build_network, load_bundle
from cspine.models.inference import fold_of
from cspine.models.segmenter import SpineSegmenter
from cspine.phantom import render, sample_neck, sample_scanner
from cspine.preprocess.preprocessor import Preprocessor
from cspine.settings import LOCALIZATION, SEGMENTATION, models_dir
from cspine.training.checkpoint import MAX_WEIGHTS_BYTES
from cspine.training.recipe import run_config
from cspine.volume import Grid, SpineMask, Visibility, Volume

BUNDLES = (LOCALIZATION, SEGMENTATION)
CROP = CropSpec(15, 5, 64, 96.0, 4.0, (-500.0, 1300.0))


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(models_dir(), request.param)


def config(bundle: Bundle, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle.path / f"configs/{name}.json").read_text("utf-8"))
    return content


def transforms(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {t["_target_"].rsplit(".", 1)[-1]: t for t in content["preprocessing"]["transforms"]}


def test_the_channels_are_the_networks_classes_by_name(bundle: Bundle):
    channels = bundle.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(channels) == [str(index) for index in range(len(channels))]
    assert tuple(channels.values())[:RISE_CHANNEL] == NETWORK_CHANNELS
    more = tuple(channels.values())[RISE_CHANNEL:]
    assert [name.split(" ")[0] for name in more] == (
        ["rise", *["bone"] * 8, *["rise"] * 8] if bundle.name == SEGMENTATION else []
    )


def test_inference_prepares_images_as_the_grid_in_the_metadata_says(bundle: Bundle):
    spec, steps = bundle.grid_spec(), transforms(config(bundle, "inference"))
    window = steps["ScaleIntensityRanged"]
    assert steps["Orientationd"]["axcodes"] == "SPL"
    assert tuple(steps["Spacingd"]["pixdim"]) == spec.pixdim_mm
    assert (window["a_min"], window["a_max"]) == spec.window_hu
    assert (window["b_min"], window["b_max"], window["clip"]) == (0.0, 1.0, True)


def test_training_cuts_patches_of_the_size_that_inference_cuts_and_smaller_ones(bundle: Bundle):
    patch = bundle.grid_spec().patch
    shapes = config(bundle, "train")["spine_data"]["patch_shapes"]
    step = 16 * fold_of(build_network(bundle.path))
    assert all(n % step == 0 for shape in shapes for n in shape)
    if patch is not None:
        assert max(tuple(shape) for shape in shapes) == patch
        assert tuple(config(bundle, "inference")["inferer"]["roi_size"]) == patch


def test_the_network_gives_every_channel_for_every_voxel_or_cell(bundle: Bundle):
    network = bundle.network(torch.device("cpu"))
    channels = bundle.metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    fold = fold_of(network)
    with torch.inference_mode():
        found = network(torch.zeros((1, 1, 32 * fold, 16 * fold, 48 * fold)))
    assert found.shape == (1, channels, 32, 16, 48)


def test_the_weights_are_small_enough_for_the_repository(bundle: Bundle):
    assert (bundle.path / "models/model.pt").stat().st_size <= MAX_WEIGHTS_BYTES


@pytest.mark.parametrize("file", ["LICENSE", "docs/README.md", "docs/data_license.txt"])
def test_a_bundle_brings_licence_and_documents(bundle: Bundle, file: str):
    assert (bundle.path / file).stat().st_size > 200


def test_the_model_card_says_that_the_data_are_synthetic_and_that_it_is_no_medical_device(bundle: Bundle):
    card = " ".join((bundle.path / "docs/README.md").read_text("utf-8").split())
    assert "synthetic" in card
    assert "not a medical device" in card
    assert "BodyParts3D" in card


def test_a_bundle_has_no_scripts_of_its_own(bundle: Bundle):
    assert not (bundle.path / "scripts").exists()


def test_monai_runs_the_inference_config_on_a_nifti(bundle: Bundle, tmp_path: Path):
    nibabel = pytest.importorskip("nibabel")
    hu = np.random.default_rng(1).integers(-1000, 1500, (40, 36, 44)).astype(np.int16)
    affine = np.array([[-2.5, 0, 0, 30], [0, 2.0, 0, -10], [0, 0, 3.5, 5], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "case.nii.gz")
    preload()
    from monai.bundle import run

    run(
        run_id="run",
        config_file=str(bundle.path / "configs/inference.json"),
        meta_file=str(bundle.path / "configs/metadata.json"),
        bundle_root=str(bundle.path),
        image=str(tmp_path / "case.nii.gz"),
        output_dir=str(tmp_path / "out"),
        device="$torch.device('cpu')",
    )
    saved = nibabel.load(tmp_path / "out/case_levels.nii.gz")
    labels = np.asarray(saved.dataobj)
    assert labels.shape == hu.shape
    assert np.allclose(saved.affine, affine)
    assert set(np.unique(labels)) <= set(range(10))


def copied(bundle: Bundle, folder: Path) -> Path:
    """The bundle with a tiny network and tiny samples, in a folder that may be written to."""
    path = Path(shutil.copytree(bundle.path, folder / bundle.name))
    inference, metadata = config(bundle, "inference"), dict(bundle.metadata)
    inference["network_def"]["channels"] = [4, 4, 4, 4, 4]
    fold = inference["network_def"].get("fold", 1)
    patch, sample = [32 * fold] * 3, [40 * fold, 32 * fold, 36 * fold]
    metadata["cspine"]["grid"] |= {"pixdim_mm": [9.0 / fold] * 3}
    if metadata["cspine"]["grid"]["patch"]:
        metadata["cspine"]["grid"]["patch"] = patch
    for name in ("train", "evaluate"):
        content = config(bundle, name)
        content["spine_data"] |= {"sample_shape": sample, "patch_shapes": [patch]}
        (path / f"configs/{name}.json").write_text(json.dumps(content))
    (path / "configs/inference.json").write_text(json.dumps(inference))
    (path / "configs/metadata.json").write_text(json.dumps(metadata))
    return path


def test_the_train_config_trains_and_the_evaluate_config_measures(bundle: Bundle, tmp_path: Path):
    path, out = copied(bundle, tmp_path), tmp_path / "out"
    given = {"data": "phantom:2", "output": str(out), "device": "cpu"}
    run_config(path, "train", {**given, "steps": 2})
    trained = load_bundle(tmp_path, path.name)
    assert trained.metadata["cspine"]["training"]["steps"] == 2
    run_config(path, "evaluate", given)
    report = json.loads((out / "metrics.json").read_text())
    assert report["sha256"] == trained.sha256
    assert all(0 <= value <= 1 for value in report["dice"].values())


def test_data_that_are_not_understood_are_refused_by_name(bundle: Bundle, tmp_path: Path):
    path = copied(bundle, tmp_path)
    with pytest.raises(UsageError, match="'verse:3' are not understood"):
        run_config(path, "train", {"data": "verse:3", "output": str(tmp_path / "out")})


def test_a_setting_that_the_config_does_not_have_is_refused_by_name(bundle: Bundle, tmp_path: Path):
    with pytest.raises(UsageError, match="no setting 'epochs'"):
        run_config(copied(bundle, tmp_path), "train", {"epochs": 3})


def test_the_network_of_the_config_is_the_one_of_the_weights(bundle: Bundle):
    assert (
        build_network(bundle.path).state_dict().keys()
        == bundle.network(torch.device("cpu")).state_dict().keys()
    )


@pytest.fixture(scope="module")
def segmenter() -> SpineSegmenter:
    bundles = (load_bundle(models_dir(), name) for name in BUNDLES)
    return SpineSegmenter(*bundles, device=torch.device("cpu"))


def phantom(seed: int, grid_of) -> tuple[Volume, np.ndarray]:
    neck = sample_neck(seed)
    grid: Grid = grid_of(neck.spine_box_lps_mm)
    image = render(neck, grid, sample_scanner(seed))
    return Volume(grid, image.hu.numpy()), image.labels.numpy()


def segmented(segmenter: SpineSegmenter, volume: Volume) -> SpineMask:
    with Preprocessor(segmenter.localization_spec, segmenter.segmentation_spec, CROP, device="cpu") as made:
        return segmenter(made.model_grids(volume), volume)


def whole_neck(box: np.ndarray) -> Grid:
    """Feet first, rows to the front: axes that differ from the networks' in order and direction."""
    grid = spl_grid((110, 90, 80), (2.1, 1.7, 1.9), box.mean(0))
    affine = grid.affine_lps.copy()
    affine[:3, 1] *= -1
    affine[:3, 3] = grid.to_lps_mm((0, 89, 0))
    return Grid(grid.shape, affine)


def test_most_levels_of_a_phantom_are_found_where_they_are(segmenter: SpineSegmenter):
    volume, truth = phantom(HELD_OUT_SEED + 1, whole_neck)
    mask = segmented(segmenter, volume)
    assert mask.grid.same_as(volume.grid)
    right = 0
    for found in mask.levels:
        center = mask.center_lps_mm(found.level)
        if center is None:
            continue
        wanted = volume.grid.to_lps_mm(np.argwhere(truth == found.level).mean(0))
        right += bool(np.linalg.norm(center - wanted) < 10)
        assert found.margin is not None
    assert right >= 5


def test_a_scan_that_ends_in_the_spine_shows_the_last_level_as_cut(segmenter: SpineSegmenter):
    volume, _ = phantom(HELD_OUT_SEED + 1, whole_neck)
    middle = volume.grid.shape[0] // 2
    upper = Volume(
        volume.grid.cropped((middle, 0, 0), (middle, 90, 80)), volume.hu[middle : 2 * middle].copy()
    )
    mask = segmented(segmenter, upper)
    seen = [found for found in mask.levels if found.visibility is not Visibility.ABSENT]
    assert seen
    assert Visibility.PARTIAL in {found.visibility for found in seen}


def test_air_and_noise_hold_no_cervical_spine(segmenter: SpineSegmenter):
    grid = spl_grid((60, 70, 80), (3.0, 2.5, 2.0), np.zeros(3))
    noise = np.random.default_rng(0).normal(0, 60, grid.shape).astype(np.int16)
    for hu in (np.full(grid.shape, -1000, np.int16), noise):
        mask = segmented(segmenter, Volume(grid, hu))
        assert not mask.labels.any()
        assert all(found.visibility is Visibility.ABSENT for found in mask.levels)
