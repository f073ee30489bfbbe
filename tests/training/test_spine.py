"""The recipe of the localization and the segmentation bundle, at toy size."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from cspine.crops import GridSpec
from cspine.datasets.phantom_spines import write_samples
from cspine.errors import ModelError, UsageError
from cspine.models.bundle import load_bundle
from cspine.training import Plan
from cspine.training.segmentation import DiceCe
from cspine.training.spine import SpineData, phantom_count, train

DATA = SpineData(sample_shape=(24, 20, 20), patch_shapes=((16, 16, 16),), batch_size=1)


GRID = GridSpec((12.0, 12.0, 12.0), (16, 16, 16), (-500.0, 1300.0))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples of seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, range(2), DATA.spec(GRID, None))
    return folder


@pytest.fixture
def run(tmp_path: Path, rendered: Path) -> str:
    """A run's output folder that already holds its samples."""
    shutil.copytree(rendered, tmp_path / "run/samples")
    return str(tmp_path / "run")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a tiny network on a grid of 12 mm, without weights."""
    path = tmp_path / "bundles/tiny"
    (path / "configs").mkdir(parents=True)
    grid = asdict(GRID)
    (path / "configs/metadata.json").write_text(json.dumps({"version": "1", "cspine": {"grid": grid}}))
    network = {
        "_target_": "cspine.models.spine_network.RefinedUNet",
        "out_channels": 11,
        "channels": [4, 4, 4],
        "detail_channels": 4,
    }
    (path / "configs/inference.json").write_text(json.dumps({"network_def": network}))
    return path


def recipe(**changed: object) -> dict[str, Any]:
    return {
        "plan": Plan(steps=2),
        "data": DATA,
        "loss": DiceCe(),
        "anatomy": None,
        "initial": None,
        **changed,
    }


def test_a_gpu_takes_larger_batches_than_the_cpu():
    assert DATA.batch_on(torch.device("cpu")) == 1
    assert DATA.batch_on(torch.device("cuda")) == 8


def test_a_trained_bundle_names_seed_phantoms_and_steps(bundle: Path, run: str):
    done = train(str(bundle), "phantom:2", run, recipe(), device="cpu")
    opened = load_bundle(bundle.parent, bundle.name)
    assert done.step == 2
    said = opened.metadata["cspine"]["training"]
    assert (said["seed"], said["phantoms"], said["steps"]) == (0, 2, 2)
    state = opened.network(torch.device("cpu")).state_dict()
    assert all(torch.allclose(value, done.average[name], atol=1e-3) for name, value in state.items())


def test_a_stopped_run_goes_on_and_one_with_another_loss_is_refused(bundle: Path, run: str):
    train(str(bundle), "phantom:2", run, recipe(), device="cpu")
    more = train(str(bundle), "phantom:2", run, recipe(plan=Plan(steps=3)), device="cpu")
    assert more.step == 3
    weighted = DiceCe(weights=(1.0, *[2.0] * 9))
    with pytest.raises(UsageError, match="another config"):
        train(str(bundle), "phantom:2", run, recipe(loss=weighted), device="cpu")


def test_initial_weights_of_another_architecture_are_refused_by_name(bundle: Path, run: str, tmp_path: Path):
    torch.save({"model.0.conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    other = recipe(initial=str(tmp_path / "other.pt"))
    with pytest.raises(ModelError, match="another architecture than this RefinedUNet"):
        train(str(bundle), "phantom:2", run, other, device="cpu")


@pytest.mark.gpu
def test_training_on_a_gpu_renders_its_phantoms_there(bundle: Path, tmp_path: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    done = train(str(bundle), "phantom:3", str(tmp_path / "run"), recipe(), device="cuda")
    assert done.step == 2
    assert len(list((tmp_path / "run/samples").glob("*.npy"))) >= 3


@pytest.mark.parametrize("data", ["phantom", "phantom:0", "phantom:-3", "phantom:many", "rsna:5"])
def test_data_that_are_not_understood_are_refused(data: str):
    with pytest.raises(UsageError, match="not understood"):
        phantom_count(data)
