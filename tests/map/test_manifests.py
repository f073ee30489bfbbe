"""app.json, pkg.json and the image say what the software says of itself."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import cspine
from cspine.settings import BUNDLES, TIMEOUT_S, models_dir
from fracture_map.map.manifests import app_manifest, config_text, package_manifest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_there_is_one_version():
    stated = {
        PROJECT["version"],
        cspine.__version__,
        app_manifest()["version"],
        package_manifest(models_dir())["version"],
        yaml.safe_load(config_text())["application"]["version"],
    }
    assert stated == {PROJECT["version"]}


def test_the_sdk_is_the_one_that_is_installed():
    assert app_manifest()["sdkVersion"] == version("monai-deploy-app-sdk")


def test_the_time_limit_is_that_of_the_command():
    assert app_manifest()["timeout"] == TIMEOUT_S


def test_every_bundle_is_a_model_and_the_resources_are_those_of_app_yaml():
    package = package_manifest(models_dir())
    assert [model["name"] for model in package["models"]] == list(BUNDLES)
    assert package["resources"] == yaml.safe_load(config_text())["resources"]


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "docker" / "map" / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", text, re.M))


def test_the_locks_satisfy_every_dependency_of_the_project():
    for name in ("requirements.lock", "requirements-cpu.lock"):
        pins = locked(name)
        for requirement in map(Requirement, PROJECT["dependencies"]):
            found = pins.get(requirement.name.lower().replace("_", "-"))
            assert found is not None, f"{name} lacks {requirement.name}: run `make map-lock`"
            assert requirement.specifier.contains(found), (
                f"{name} is older than pyproject: run `make map-lock`"
            )


def test_the_locks_differ_in_cuda_alone():
    cuda, cpu = locked("requirements.lock"), locked("requirements-cpu.lock")
    assert cpu["torch"] == cuda["torch"] + "+cpu"
    assert {name: cuda[name] for name in cpu if name != "torch"} == {
        name: cpu[name] for name in cpu if name != "torch"
    }
    assert all(re.match(r"nvidia-|cuda-|triton", name) for name in cuda.keys() - cpu.keys())


def test_no_lock_says_where_files_come_from():
    for path in (ROOT / "docker" / "map").glob("*.lock"):
        assert not re.search(r"://|^-", path.read_text(), re.M)
