from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cspine.anatomy import CERVICAL
from cspine.cuda_runtime import preload
from cspine.datasets.crop_batches import as_vertebra_crops
from cspine.datasets.crop_samples import CropFile, save_crops
from cspine.datasets.phantom_crops import CropRecipe, make_crops
from cspine.models.bundle import WEIGHTS, load_bundle
from cspine.models.classifier import FractureClassifier
from cspine.models.classifier_network import FractureNet
from cspine.phantom import DEFAULT
from cspine.settings import CLASSIFICATION, models_dir
from cspine.training.classification import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(models_dir(), CLASSIFICATION)


@pytest.fixture(scope="module")
def neck_folder(bundle, tmp_path_factory) -> Path:
    """One phantom neck as the classifier sees it."""
    folder = tmp_path_factory.mktemp("necks")
    spec = bundle.crop_spec()
    save_crops(make_crops(41, CropRecipe(spec, DEFAULT, 41, 1))[0], folder / "neck-00000041.npz")
    return folder


def config(bundle, name: str):
    preload()
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle.path / "configs" / name))
    return parser


def test_the_weights_are_small_enough_to_be_kept_in_the_repository(bundle):
    assert (bundle.path / WEIGHTS).stat().st_size <= 16 * 2**20


def test_network_and_crop_of_the_bundle_belong_together(bundle):
    network = bundle.network(CPU)
    spec = bundle.crop_spec()
    assert isinstance(network, FractureNet)
    assert (network.steps, network.window_planes) == (spec.steps, spec.window_planes)
    assert spec.pixels % 32 == 0


def test_the_described_data_format_is_the_one_of_the_crop(bundle):
    described = bundle.metadata["network_data_format"]
    spec = bundle.crop_spec()
    assert described["inputs"]["crops"]["spatial_shape"] == [spec.planes, spec.pixels, spec.pixels]
    assert list(described["outputs"]["levels"]["channel_def"].values()) == [str(v) for v in CERVICAL]


def test_the_training_recipe_can_be_built_from_its_config(bundle):
    recipe = config(bundle, "train.json").get_parsed_content("recipe")
    assert isinstance(recipe, Recipe)
    assert recipe.crops(bundle.crop_spec(), 7)["training"].count == 7
    assert recipe.encoder.minutes is None


def test_a_phantom_neck_gets_calibrated_numbers_and_key_planes_inside_its_crops(bundle, neck_folder):
    crops = as_vertebra_crops(CropFile(neck_folder / "neck-00000041.npz"))
    scores = FractureClassifier(bundle, device=CPU)(crops)
    assert 0.001 <= scores.overall <= 0.999
    for crop in crops:
        score = scores.levels[crop.level]
        assert 0.001 <= score.probability <= 0.999
        plane = crop.grid.to_index(score.key_lps_mm)[0]
        assert 0 <= plane <= crop.grid.shape[0] - 1


def test_the_bundle_runs_with_monai_alone(bundle, neck_folder, tmp_path):
    program = "from cspine.cuda_runtime import preload; preload(); import monai.bundle as b; b.run("
    options = {
        "config_file": str(bundle.path / "configs" / "inference.json"),
        "meta_file": str(bundle.path / "configs" / "metadata.json"),
        "bundle_root": str(bundle.path),
        "data_dir": str(neck_folder),
        "output_file": str(tmp_path / "scores.json"),
        "device": "cpu",
    }
    command = [sys.executable, "-c", f"{program}**{options!r})"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    scores = json.loads((tmp_path / "scores.json").read_text())["neck-00000041"]
    assert list(scores["levels"]) == [str(v) for v in CERVICAL]
    assert 0 < scores["overall"] < 1
