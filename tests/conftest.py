"""Fixtures that every test may use: real data, outside services, a PACS, crops of vertebrae."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom import AE

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec
from cspine.datasets.crop_samples import LabelledCrop, save_crops

ROOT = Path(__file__).resolve().parents[1]
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC_START_S = 240.0


def real_data_root() -> Path:
    return Path(os.environ.get("CSPINE_REAL_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def real_data(request: pytest.FixtureRequest):
    """A function from a folder's name to its path; skips, by name, where that folder is absent."""

    def find(name: str) -> Path:
        path = real_data_root() / name
        if not path.exists():
            pytest.skip(f"real data '{name}' is not here (set CSPINE_REAL_DATA)")
        return path

    return find


def need_service(name: str, found: object) -> None:
    """Skip without the service `name`, or fail where services are required (CSPINE_REQUIRE_SERVICES=1)."""
    if found:
        return
    message = f"service '{name}' is not installed (tests/install-services.sh installs it)"
    if os.environ.get("CSPINE_REQUIRE_SERVICES") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def service():
    """The function `need_service`."""
    return need_service


@dataclass(eq=False)
class Orthanc:
    """Debian's Orthanc with its DICOMweb plugin, on loopback ports that stay the same when it starts again.

    What is moved by C-MOVE to FRACTUREMAP goes to `move_port`.
    """

    program: str
    folder: Path
    http_port: int
    dicom_port: int
    move_port: int
    process: subprocess.Popen[bytes] | None = None
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=300, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb(self) -> str:
        return f"{self.url}/dicom-web"

    def start(self) -> None:
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self._settings()))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.program, str(path)], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + ORTHANC_START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if self.http.get("/dicom-web/studies").status_code == httpx.codes.OK:
                    return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        pytest.fail(f"Orthanc did not start: {(self.folder / 'log').read_text(errors='replace')[-800:]}")

    def _settings(self) -> dict[str, object]:
        return {
            "Name": "fracture-map-test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "Plugins": [str(DICOMWEB_PLUGIN)],
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowGet": True,
            "DicomModalities": {"FRACTUREMAP": ["FRACTUREMAP", "127.0.0.1", self.move_port]},
            "StableAge": 1,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def empty(self) -> None:
        for identifier in self.http.get("/studies").json():
            self.http.delete(f"/studies/{identifier}").raise_for_status()

    def add(self, *paths: Path) -> None:
        for path in paths:
            self.http.post("/instances", content=path.read_bytes()).raise_for_status()

    def c_store(self, *paths: Path) -> None:
        """Send images as a scanner does."""
        ae = AE(ae_title="SCANNER")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.dicom_port, ae_title="ORTHANC")
        assert association.is_established
        try:
            assert {association.send_c_store(dcmread(path)).Status for path in paths} == {0}
        finally:
            association.release()

    def objects(self, study: str, sop_class: str) -> list[Dataset]:
        """The objects of a kind in a study, as the PACS has them."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study, "SOPClassUID": sop_class}}
        found = self.http.post("/tools/find", json=query).json()
        return [dcmread(io.BytesIO(self._file(identifier))) for identifier in found]

    def reports(self, study: str) -> list[Dataset]:
        return self.objects(study, Comprehensive3DSRStorage)

    def segmentations(self, study: str) -> list[Dataset]:
        return self.objects(study, SegmentationStorage)

    def instances(self, modality: str) -> list[bytes]:
        """The files of all objects of a modality, oldest first."""
        query = {"Level": "Instance", "Query": {"Modality": modality}}
        found = self.http.post("/tools/find", json=query).json()
        ages = {i: self.http.get(f"/instances/{i}/metadata/ReceptionDate").text for i in found}
        return [self._file(i) for i in sorted(found, key=lambda i: ages[i])]

    def _file(self, identifier: str) -> bytes:
        return self.http.get(f"/instances/{identifier}/file").content


@pytest.fixture(scope="session")
def one_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        http, dicom, move = (sock.getsockname()[1] for sock in sockets)
    orthanc = Orthanc(shutil.which("Orthanc") or "", tmp_path_factory.mktemp("orthanc"), http, dicom, move)
    yield orthanc
    orthanc.stop()
    orthanc.http.close()


@pytest.fixture
def orthanc(one_orthanc: Orthanc) -> Orthanc:
    """A running Orthanc, empty; the same one for all tests."""
    need_service("orthanc", one_orthanc.program)
    need_service("orthanc-dicomweb", DICOMWEB_PLUGIN.exists())
    if one_orthanc.process is None or one_orthanc.process.poll() is not None:
        one_orthanc.start()
    one_orthanc.empty()
    return one_orthanc


@pytest.fixture(scope="session")
def spec() -> CropSpec:
    """What small crops look like: 11 planes of 32 x 32 pixels."""
    return CropSpec(
        steps=4, window_planes=5, pixels=32, field_mm=64.0, margin_mm=2.0, window_hu=(-500.0, 1500.0)
    )


@pytest.fixture
def crop(spec: CropSpec) -> Callable[..., LabelledCrop]:
    """A function that makes a crop: noise or an even brightness, a mask in the middle, a break in plane 6."""

    def make(level: Vertebra, *, fractured: bool, seed: int = 0, brightness: int | None = None):
        rng = np.random.default_rng([seed, int(level)])
        shape = (spec.planes, spec.pixels, spec.pixels)
        image = rng.integers(0, 255, shape, np.uint8)
        if brightness is not None:
            image[:] = brightness
        mask, fracture = np.zeros(shape, bool), np.zeros(shape, bool)
        mask[:, 8:24, 6:26] = True
        fracture[6, 10:12, 18:20] = fractured
        return LabelledCrop(level, image, mask, fracture, fractured)

    return make


@pytest.fixture
def crop_folder(tmp_path: Path, crop: Callable[..., LabelledCrop]) -> Path:
    """Crops of twelve necks; neck n has fractures of levels 1 + n % 7 and 1 + (n + 3) % 7."""
    for n in range(12):
        broken = {1 + n % 7, 1 + (n + 3) % 7}
        save_crops(
            [crop(v, fractured=int(v) in broken, seed=n) for v in CERVICAL],
            tmp_path / f"neck-{n:08d}.npz",
        )
    return tmp_path
