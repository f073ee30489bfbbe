from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from cspine.crops import CropSpec, GridSpec
from cspine.device import pick_device
from cspine.errors import ModelError
from cspine.models.bundle import load_bundle

CPU = torch.device("cpu")


def test_a_bundle_gives_its_network_with_weights_in_evaluation_mode(make_bundle):
    path = make_bundle()
    bundle = load_bundle(path.parent, path.name)
    network = bundle.network(CPU)
    assert not network.training
    stored = torch.load(path / "models/model.pt", weights_only=True)
    loaded = network.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(value.dtype == torch.float16 for value in stored.values())
    assert all(torch.equal(loaded[name], stored[name].float()) for name in stored)


def test_results_name_a_bundle_by_name_version_and_the_hash_of_its_weights(make_bundle):
    path = make_bundle()
    model = load_bundle(path.parent, path.name).model_version()
    expected = hashlib.sha256((path / "models/model.pt").read_bytes()).hexdigest()
    assert (model.name, model.version, model.sha256) == ("tiny_bundle", "1.2.3", expected)


def test_the_grid_comes_from_the_metadata(make_bundle):
    path = make_bundle()
    found = load_bundle(path.parent, path.name).grid_spec()
    assert found == GridSpec((3.0, 2.5, 2.0), (32, 16, 48), (-500.0, 1300.0))


def test_the_crop_comes_from_the_metadata(make_bundle):
    crop = {
        "steps": 15,
        "window_planes": 5,
        "pixels": 64,
        "field_mm": 96,
        "margin_mm": 4,
        "window_hu": [-1, 9],
    }
    path = make_bundle(crop=crop)
    assert load_bundle(path.parent, path.name).crop_spec() == CropSpec(15, 5, 64, 96.0, 4.0, (-1.0, 9.0))


@pytest.mark.parametrize(
    "grid", [None, {}, {"pixdim_mm": [1, 2], "patch": None, "window_hu": [0, 1]}, {"pixdim_mm": "abc"}, 7]
)
def test_a_malformed_grid_is_an_error_that_names_bundle_and_file(make_bundle, grid):
    path = make_bundle(grid=grid)
    with pytest.raises(ModelError, match=r"tiny_bundle: configs/metadata.json has no valid cspine.grid"):
        load_bundle(path.parent, path.name).grid_spec()


def test_a_bundle_without_a_crop_says_so(make_bundle):
    path = make_bundle()
    with pytest.raises(ModelError, match=r"tiny_bundle.*cspine\.crop"):
        load_bundle(path.parent, path.name).crop_spec()


def test_a_missing_bundle_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match="Bundle nothing_here: there is no such folder"):
        load_bundle(tmp_path, "nothing_here")


@pytest.mark.parametrize("file", ["configs/metadata.json", "models/model.pt"])
def test_a_missing_file_is_named(make_bundle, file: str):
    path = make_bundle()
    (path / file).unlink()
    with pytest.raises(ModelError, match=f"tiny_bundle: {file} is missing"):
        load_bundle(path.parent, path.name)


@pytest.mark.parametrize(("content", "said"), [("{", "not valid JSON"), ("[1]", "not hold a JSON object")])
def test_malformed_metadata_are_refused(make_bundle, content: str, said: str):
    path = make_bundle()
    (path / "configs/metadata.json").write_text(content)
    with pytest.raises(ModelError, match=said):
        load_bundle(path.parent, path.name)


def test_metadata_that_name_no_hash_are_refused(make_bundle):
    path = make_bundle()
    (path / "configs/metadata.json").write_text(json.dumps({"version": "1", "cspine": {}}))
    with pytest.raises(ModelError, match="weights_sha256"):
        load_bundle(path.parent, path.name)


def test_one_changed_bit_in_the_weights_is_refused_before_they_are_loaded(make_bundle):
    path = make_bundle()
    weights = bytearray((path / "models/model.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (path / "models/model.pt").write_bytes(weights)
    with pytest.raises(ModelError, match=r"tiny_bundle: models/model\.pt is not the file"):
        load_bundle(path.parent, path.name)


def test_weights_of_another_architecture_are_refused_by_name(make_bundle):
    path = make_bundle()
    config = json.loads((path / "configs/inference.json").read_text())
    config["network_def"]["channels"] = [4, 8, 4]
    (path / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"tiny_bundle: models/model\.pt does not hold the weights"):
        load_bundle(path.parent, path.name).network(CPU)


def test_a_file_that_is_no_weights_is_refused_even_with_the_right_hash(make_bundle):
    path = make_bundle()
    noise = b"not a pickle at all"
    (path / "models/model.pt").write_bytes(noise)
    metadata = json.loads((path / "configs/metadata.json").read_text())
    metadata["cspine"]["weights_sha256"] = hashlib.sha256(noise).hexdigest()
    (path / "configs/metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match=r"tiny_bundle: models/model\.pt"):
        load_bundle(path.parent, path.name).network(CPU)


@pytest.mark.parametrize("config", [{}, {"network_def": {"_target_": "monai.no.Such"}}, {"network_def": 3}])
def test_a_config_without_a_network_is_refused(make_bundle, config: dict[str, object]):
    path = make_bundle()
    (path / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"tiny_bundle: network_def in configs/inference.json"):
        load_bundle(path.parent, path.name).network(CPU)


def test_cuda_without_cuda_is_an_error_and_never_the_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="CUDA does not offer it"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == CPU


def test_an_unknown_device_is_an_error():
    with pytest.raises(ModelError, match=r"no device .tpu."):
        pick_device("tpu")
