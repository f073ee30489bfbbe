"""Label servers in their own environment, .venv-label, phantom necks, and an Orthanc to stop and start."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cspine.cuda_runtime import preload
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, SpineMask, Volume
from cspine_label.images import write_image

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-label" / "bin" / "python"
START_S = 240.0
SEED = 13


@dataclass(frozen=True, eq=False)
class Neck:
    """A phantom neck of 70 x 90 x 90 voxels and its truth, 1..7."""

    volume: Volume
    truth: SpineMask


@pytest.fixture(scope="session")
def neck() -> Neck:
    preload()
    from cspine.phantom import DEFAULT, render, sample_neck, sample_scanner

    profile = replace(DEFAULT, metal=0.0, motion=0.0, thick_slices=0.0)
    made = sample_neck(SEED, profile)
    affine = np.array([[0, 0, 1.6, 0], [0, 1.6, 0, 0], [2.2, 0, 0, 0], [0, 0, 0, 1]], float)
    shape = (70, 90, 90)
    affine[:3, 3] = made.spine_box_lps_mm.mean(0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    image = render(made, grid, sample_scanner(SEED, profile))
    labels = image.labels.numpy()
    truth = SpineMask.from_labels(grid, np.where(labels > 7, 0, labels).astype(np.uint8))
    return Neck(Volume(grid, image.hu.numpy()), truth)


@pytest.fixture(scope="session")
def write_dicom(neck: Neck) -> Callable[[Path, int], tuple[Path, ...]]:
    """A function that writes the neck as a DICOM series of its own, by seed."""

    def write(folder: Path, seed: int) -> tuple[Path, ...]:
        options = StudyOptions(patient_name=f"Planted^Name{seed}", patient_id=f"PLANTED{seed}", seed=seed)
        return write_study(neck.volume, folder, options)

    return write


@pytest.fixture(scope="session")
def nifti_folder(neck: Neck, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A function that makes a folder with the neck as so many NIfTI cases: case0, case1, ..."""

    def make(count: int) -> Path:
        folder = tmp_path_factory.mktemp("studies")
        write_image(neck.volume.hu, neck.volume.grid, folder / "case0.nii.gz")
        for number in range(1, count):
            shutil.copyfile(folder / "case0.nii.gz", folder / f"case{number}.nii.gz")
        return folder

    return make


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def answers(process: subprocess.Popen[bytes], http: httpx.Client, path: str) -> bool:
    """Wait until a process that was just started answers; False where it ended or took too long."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if http.get(path).status_code == httpx.codes.OK:
                return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return False


@dataclass(eq=False)
class Server:
    """A label server in a process of its own."""

    studies: str
    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=600, trust_env=False)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def start(self) -> Server:
        command = [str(PYTHON), "-m", "cspine_label.cli", "serve", f"--studies={self.studies}"]
        command += [f"--port={self.port}", f"--workspace={self.workspace}", "--device=cpu", *self.options]
        with (self.folder / "log.txt").open("ab") as output:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        assert answers(self.process, self.http, "/health"), self.log()[-2000:]
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="session")
def run_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A function from studies and options to a running server; all are stopped in the end."""
    started: list[Server] = []

    def run(studies: Path | str, *options: str) -> Server:
        server = Server(str(studies), tmp_path_factory.mktemp("server"), options)
        started.append(server)
        return server.start()

    yield run
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def folder_servers(
    run_server: Callable[..., Server], nifti_folder: Callable[[int], Path]
) -> Callable[[], Server]:
    """A function to the one label server on a folder: case0 to case5, of which case3 is for validation."""
    return cache(lambda: run_server(nifti_folder(6)))


@pytest.fixture
def server(label_environment: None, folder_servers: Callable[[], Server]) -> Server:
    """The label server on a folder, one for all tests; what one test saves the next one meets."""
    return folder_servers()


@pytest.fixture
def save(server: Server, neck: Neck, tmp_path: Path) -> Callable[..., httpx.Response]:
    """A function that sends a label as a program without MONAI Label's client would."""

    def send(case: str, labels: np.ndarray, grid: Grid | None = None, **params: object) -> httpx.Response:
        path = tmp_path / "label.nii.gz"
        write_image(labels, grid or neck.truth.grid, path)
        return server.http.put(
            "/datastore/label",
            params={"image": case},
            data={"params": json.dumps(params)},
            files={"label": ("label.nii.gz", path.read_bytes())},
        )

    return send


@pytest.fixture
def label_environment(service) -> None:
    """Skips, or fails, without the label server's environment."""
    service("label server (make .venv-label/ready)", PYTHON.exists() and _client_file())


def _client_file() -> Path | None:
    found = list((ROOT / ".venv-label").glob("lib/python3*/site-packages/monailabel/client/client.py"))
    return found[0] if found else None


@pytest.fixture
def slicer(label_environment, tmp_path: Path) -> Callable[..., Any]:
    """A function from a server to the client that 3D Slicer's module uses: MONAI Label's own, unchanged."""
    spec = importlib.util.spec_from_file_location("monailabel_client", _client_file() or "")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("monailabel_client", module)
    spec.loader.exec_module(module)

    def connect(server: Server, name: str = "slicer") -> Any:
        # On one machine client and server must not share a folder: the client overwrites by name.
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return module.MONAILabelClient(server.url, tmpdir=str(folder), client_id=name)

    connect.error = module.MONAILabelClientException  # type: ignore[attr-defined]
    return connect


@pytest.fixture(scope="session")
def pacs_servers(run_server: Callable[..., Server]) -> Callable[[str], Server]:
    """A function from a PACS to the label server in front of it, one for all tests."""
    return cache(run_server)


@pytest.fixture
def pacs_server(label_environment: None, orthanc: Any, pacs_servers: Callable[[str], Server]) -> Server:
    """The label server in front of Orthanc."""
    return pacs_servers(orthanc.dicomweb)


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """A function that asks until the answer is true, and fails when it takes too long."""

    def wait(ask: Callable[[], Any], seconds: float = 300.0) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := ask():
                return found
            time.sleep(0.2)
        raise AssertionError("it took too long")

    return wait
