"""The image itself, built and run: `make map-test` (FRACTURE_MAP_IMAGE names it).

Every container runs as docker/map/run.sh runs it: without network, capabilities and a writable root.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest

import cspine
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.settings import BUNDLES
from cspine.volume import Grid, Volume
from fracture_map import names
from fracture_map.map import layout
from fracture_map.summary import encode_checked

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "docker" / "map" / "run.sh"
USER = 54321
PATIENCE_S = 600
IMAGE = os.environ.get("FRACTURE_MAP_IMAGE")

pytestmark = pytest.mark.skipif(not IMAGE, reason="the image is only built by `make map-test`")


def podman(*arguments: str) -> str:
    """Ask the engine that has the image."""
    command = ["docker" if docker_runs() else "podman", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def docker_runs() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Container:
    """Runs the image, as a user that it does not know, who owns the output folder."""

    output: Path
    environment: dict[str, str] = field(default_factory=lambda: {"RUN_AS": f"{USER}:{USER}"})

    def command(self, source: Path, *arguments: str) -> list[str]:
        return [str(RUN), str(IMAGE), str(source), str(self.output), *arguments]

    def run(self, source: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(source, *arguments),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment, **environment},
        )

    def names(self) -> set[str]:
        return {path.name for path in self.output.iterdir()}


@pytest.fixture
def container(tmp_path) -> Container:
    output = tmp_path / "output"
    output.mkdir()
    output.chmod(0o700)
    os.chown(output, USER, USER)
    return Container(output)


def noise(folder: Path) -> Path:
    """A readable study that shows nothing."""
    affine = np.array([[0, 0, 0.75, -15], [0, 1.25, 0, -30], [2, 0, 0, 100], [0, 0, 0, 1]], float)
    hu = np.random.default_rng(3).integers(-1000, 1200, (12, 40, 48)).astype(np.int16)
    write_study(Volume(Grid(hu.shape, affine), hu), folder, StudyOptions(patient_name="Doe^Jane"))
    return folder


@pytest.fixture(scope="module")
def neck(tmp_path_factory) -> Path:
    """A small synthetic neck, as the Informatics Gateway leaves a study: with JSON beside every image."""
    from fracture_map.demo import SEED
    from fracture_map.phantom_study import write_neck

    folder = tmp_path_factory.mktemp("neck") / "study" / "series"
    write_neck(folder, StudyOptions(seed=SEED), (110, 150, 160), (1.6, 1.1, 1.2))
    for path in sorted(folder.iterdir()):
        path.with_name(f"{path.name}.json").write_text("{}")
    return folder.parent


@pytest.fixture
def image_config(tmp_path) -> Callable[[], Path]:
    """A function that writes the configuration of the image."""

    def write() -> Path:
        (tmp_path / "config.json").write_text(podman("image", "inspect", str(IMAGE)))
        return tmp_path / "config.json"

    return write


def test_a_study_is_analysed_without_network_by_a_user_that_the_image_does_not_know(container, neck):
    done = container.run(neck)
    assert done.returncode == 0, done.stderr
    assert container.names() == set(names.RESULTS)
    assert encode_checked(json.loads((container.output / names.FINDINGS).read_bytes()))
    account = json.loads((container.output / names.RUN).read_bytes())
    assert account["software"]["version"] == cspine.__version__
    report = pydicom.dcmread(container.output / names.REPORT)
    assert report.StudyInstanceUID == pydicom.dcmread(next(neck.rglob("*.dcm"))).StudyInstanceUID
    assert {path.stat().st_uid for path in container.output.iterdir()} == {USER}


def test_a_study_that_shows_no_spine_is_exit_code_3_with_a_report_of_it(container, tmp_path):
    done = container.run(noise(tmp_path / "study"))
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert names.REPORT in container.names()


def test_a_study_with_a_gap_is_exit_code_4_with_a_report_of_it(container, tmp_path):
    study = noise(tmp_path / "study")
    sorted(study.iterdir())[5].unlink()
    done = container.run(study)
    assert done.returncode == 4, done.stderr
    assert container.names() == {names.REPORT, names.FINDINGS, names.RUN}


def test_an_output_folder_that_cannot_be_written_is_exit_code_6(container, tmp_path):
    os.chown(container.output, 0, 0)
    done = container.run(noise(tmp_path / "study"))
    assert done.returncode == 6
    assert container.names() == set()


def test_a_gpu_that_is_asked_for_and_not_there_is_exit_code_5(container, tmp_path):
    study = noise(tmp_path / "study")
    done = container.run(study, "run", layout.INPUT, layout.OUTPUT, "--device", "cuda")
    assert done.returncode == 5, done.stderr


def test_the_time_limit_is_exit_code_124(container, neck):
    done = container.run(neck, "run", layout.INPUT, layout.OUTPUT, "--timeout", "0.5")
    assert done.returncode == 124, done.stderr


def test_stopping_the_container_is_exit_code_143_and_leaves_nothing(container, neck):
    process = subprocess.Popen(
        container.command(neck),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **container.environment, "OPTIONS": "--name fracture-map-test"},
    )
    deadline = time.monotonic() + PATIENCE_S
    while "fracture_map.child" not in running_processes():
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM" in process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 143
    assert container.names() == set()


def running_processes() -> str:
    engine = "docker" if docker_runs() else "podman"
    command = [engine, "top", "fracture-map-test", "args"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_show_prints_what_the_image_was_built_from(container, tmp_path):
    (tmp_path / "in").mkdir()
    done = container.run(tmp_path / "in", "show", "app")
    assert json.loads(done.stdout)["version"] == cspine.__version__
    done = container.run(tmp_path / "in", "show", "pkg")
    assert [model["name"] for model in json.loads(done.stdout)["models"]] == list(BUNDLES)


def test_extract_copies_the_parts_that_are_asked_for(container, tmp_path):
    export = container.output
    for part in ("config", "docs"):
        (export / part).mkdir()
        os.chown(export / part, USER, USER)
    mount = f"--volume {export}:{layout.EXPORT}"
    (tmp_path / "in").mkdir()
    done = container.run(tmp_path / "in", "extract", OPTIONS=mount)
    assert done.returncode == 0, done.stderr
    assert container.names() == {"config", "docs"}
    assert {path.name for path in (export / "config").iterdir()} == {"app.json", "pkg.json", "app.yaml"}
    assert (export / "docs" / "LICENSE").is_file()
    assert (export / "docs" / "sbom" / "python.cdx.json").is_file()


def test_extract_copies_everything_otherwise(container, tmp_path):
    mount = f"--volume {container.output}:{layout.EXPORT}"
    (tmp_path / "in").mkdir()
    done = container.run(tmp_path / "in", "extract", OPTIONS=mount)
    assert done.returncode == 0, done.stderr
    assert container.names() == {"app", "config", "models", "docs"}
    assert {path.name for path in (container.output / "models").iterdir()} == set(BUNDLES)


def test_the_workflow_manager_s_entry_point_works_too(container, tmp_path):
    study = noise(tmp_path / "study")
    done = container.run(study, "-c", "python3 -m fracture_map", OPTIONS="--entrypoint /bin/bash")
    assert done.returncode == 3, done.stderr


def test_info_finds_every_bundle_and_decoder(container, tmp_path):
    (tmp_path / "in").mkdir()
    done = container.run(tmp_path / "in", "info", "--json")
    found = json.loads(done.stdout)
    assert found["python"].startswith("3.11.")
    assert [bundle["problem"] for bundle in found["bundles"]] == [None] * len(BUNDLES)
    assert all(found["codecs"].values())


def test_the_image_passes_the_checklist(image_config):
    if docker_runs():
        pytest.skip("with docker, check the archive that `docker save` writes")
    folder = podman("image", "mount", str(IMAGE)).strip()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fracture_map", "map-check", folder, "--config", str(image_config())],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        podman("image", "unmount", str(IMAGE))
    assert done.returncode == 0, done.stdout
