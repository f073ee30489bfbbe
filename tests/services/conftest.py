"""Programs outside Python: DICOM validators and a real PACS (Orthanc), and one study to show them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom import CtSeries, read_ct
from cspine.dicom.failure_report import build_failure_report
from cspine.dicom.provenance import from_bytes, to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation
from cspine.findings import FractureScores, LevelScore, ModelVersion, OperatingPoint, StudyFindings
from cspine.phantom.dicom_study import write_study
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Volume

START_S = 30.0
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Study:
    """A CT as files, the series read from them, and what was written, by kind."""

    ct_files: tuple[Path, ...]
    series: CtSeries
    objects: dict[str, bytes]


def _labels(grid: Grid, last: Vertebra) -> np.ndarray:
    """C1 on top: blocks of three slices."""
    labels = np.zeros(grid.shape, np.uint8)
    for vertebra in CERVICAL:
        if vertebra <= last:
            first = 1 + 3 * (7 - int(vertebra))
            labels[first : first + 3, 12:26, 9:24] = vertebra
    return labels


def _findings(series: CtSeries, mask: SpineMask, fractured: Vertebra | None) -> StudyFindings:
    scores = {}
    for vertebra in CERVICAL:
        center = mask.center_lps_mm(vertebra)
        if center is not None:
            scores[vertebra] = LevelScore(0.83 if vertebra is fractured else 0.04, tuple(map(float, center)))
    overall = max(score.probability for score in scores.values())
    found = assess(series.volume, mask, FractureScores(scores, overall), OperatingPoint())
    models = (
        ModelVersion("cspine_ct_segmentation", "0.1.0", "a" * 64),
        ModelVersion("cspine_ct_fracture_classification", "0.1.0", "b" * 64),
    )
    return replace(found, models=models, warnings=("Slices are thick, which can hide fine fractures.",))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One phantom study with its results: positive, negative, partial, failed and re-run."""
    folder = tmp_path_factory.mktemp("study")
    affine = np.array([[0, 0, 0.5, -9], [0, 0.75, 0, -14], [1.5, 0, 0, 30], [0, 0, 0, 1]], float)
    grid = Grid((24, 40, 36), affine)
    hu = np.random.default_rng(5).integers(-900, 1500, grid.shape).astype(np.int16)
    files = write_study(Volume(grid, hu), folder)
    series = read_ct(folder)
    objects = {}
    for kind, last, fractured in (
        ("positive", Vertebra.C7, Vertebra.C2),
        ("negative", Vertebra.C7, None),
        ("partial", Vertebra.C4, None),
    ):
        mask = SpineMask.from_labels(series.volume.grid, _labels(series.volume.grid, last))
        findings = _findings(series, mask, fractured)
        segmentation = build_segmentation(series, mask, findings)
        objects[f"{kind}.seg"] = to_bytes(segmentation)
        objects[f"{kind}.sr"] = to_bytes(build_report(series, findings, segmentation))
    previous = from_bytes(objects["partial.sr"])
    objects["re-run.sr"] = to_bytes(build_report(series, findings, segmentation, previous=previous))
    failure = build_failure_report(
        series.headers, "A slice is missing: the gap is 5.0 mm; send the series again."
    )
    objects["failed.sr"] = to_bytes(failure)
    return Study(files, series, objects)


@pytest.fixture(scope="session")
def study_folder(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every result as a file."""
    folder = tmp_path_factory.mktemp("objects")
    for name, data in study.objects.items():
        (folder / f"{name}.dcm").write_bytes(data)
    return folder


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its REST address, its DICOM port, and the port where it sends what is moved."""

    url: str
    dicom_port: int
    move_port: int
    http: httpx.Client


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _configuration(folder: Path, http: int, dicom: int, move: int) -> dict[str, object]:
    return {
        "Name": "fracture-map-test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowGet": True,
        "DicomModalities": {"FRACTUREMAP": ["FRACTUREMAP", "127.0.0.1", move]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


@pytest.fixture(scope="session")
def start_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Orthanc]]:
    """A function from the program to a running Orthanc, the same one for every test; killed in the end."""
    started: list[tuple[Orthanc, subprocess.Popen[bytes]]] = []

    def start(program: str) -> Orthanc:
        if started:
            return started[0][0]
        folder = tmp_path_factory.mktemp("orthanc")
        http, dicom, move = _free_ports(3)
        settings = folder / "orthanc.json"
        settings.write_text(json.dumps(_configuration(folder, http, dicom, move)))
        log = (folder / "log").open("wb")
        process = subprocess.Popen([program, str(settings)], stdout=log, stderr=subprocess.STDOUT)
        client = httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=30, trust_env=False)
        orthanc = Orthanc(str(client.base_url), dicom, move, client)
        started.append((orthanc, process))
        _wait_for(orthanc, process, folder / "log")
        return orthanc

    yield start
    for orthanc, process in started:
        orthanc.http.close()
        process.kill()
        process.wait()


def _wait_for(orthanc: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if orthanc.http.get("/dicom-web/studies").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    pytest.fail(f"Orthanc did not start: {log.read_text(errors='replace')[-800:]}")


@pytest.fixture
def orthanc(service, start_orthanc: Callable[[str], Orthanc]) -> Orthanc:
    """Debian's Orthanc with its DICOMweb plugin on free loopback ports, empty."""
    program = shutil.which("Orthanc")
    service("orthanc", program)
    service("orthanc-dicomweb", DICOMWEB_PLUGIN.exists())
    running = start_orthanc(program or "")
    for identifier in running.http.get("/studies").json():
        running.http.delete(f"/studies/{identifier}").raise_for_status()
    return running
