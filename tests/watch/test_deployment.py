"""What docker/ brings up: the configuration that is shipped, with a real Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from pydicom import dcmread
from pynetdicom import AE, StoragePresentationContexts, evt

from fracture_map import cli
from fracture_map.watch.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
LOGIN = ("watcher", "a-long-password")


def test_the_watcher_of_the_compose_file_is_called_as_the_command_wants_it():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    options = cli._parser().parse_args(services["watcher"]["command"])
    assert options.dicomweb == "http://orthanc:8042/dicom-web"
    assert options.listen == ("0.0.0.0", 8080)
    mounted = dict(entry.split(":")[:2] for entry in services["watcher"]["volumes"])
    assert mounted["./watcher/watch.toml"] == str(options.settings)
    assert mounted["watcher"] == str(options.state)


def test_the_settings_that_are_shipped_are_valid():
    assert read_settings(DOCKER / "watcher" / "watch.toml").studies.body_parts


def test_the_lock_of_the_watcher_holds_what_the_project_asks_for():
    lines = (DOCKER / "watcher" / "requirements.lock").read_text().splitlines()
    locked = dict(line.split(" ")[0].split("==") for line in lines if "==" in line)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for wanted in map(Requirement, extras["serve"]):
        assert wanted.specifier.contains(locked[wanted.name]), wanted.name


@pytest.fixture
def pacs():
    """A PACS that knows nothing but C-STORE: its port, and what it received."""
    received = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    ae = AE(ae_title="PACS")
    ae.supported_contexts = StoragePresentationContexts
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    yield server.server_address[1], received
    server.shutdown()


@pytest.fixture
def shipped_orthanc(service, pacs, tmp_path, site):
    """Orthanc with the configuration that is shipped, beside that PACS."""
    program = shutil.which("Orthanc")
    service("orthanc", program)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    http, dicom = (sock.getsockname()[1] for sock in sockets)
    for sock in sockets:
        sock.close()
    folder = tmp_path / "etc"
    folder.mkdir()
    shutil.copy(DOCKER / "orthanc" / "orthanc.json", folder)
    here = {
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http,
        "DicomPort": dicom,
    }
    (folder / "here.json").write_text(json.dumps(here))
    environment = {
        **os.environ,
        "WATCHER_PASSWORD": LOGIN[1],
        "PACS_HOST": "127.0.0.1",
        "PACS_PORT": str(pacs[0]),
        "FORWARD_SCRIPT": str(DOCKER / "orthanc" / "forward.lua"),
    }
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([program, str(folder)], env=environment, stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://127.0.0.1:{http}", auth=LOGIN, trust_env=False)

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
        try:
            return client.get("/system").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    site.wait_until(answers)
    yield client
    client.close()
    process.kill()
    process.wait()


def test_results_and_nothing_else_go_on_to_the_pacs(shipped_orthanc, pacs, site, templates, tmp_path):
    study = site.make_study(400, slices=2)
    report = dcmread(templates / "sr.dcm")
    report.Manufacturer = "Fracture Map"
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    for path in (*study.files, tmp_path / "sr.dcm"):
        shipped_orthanc.post("/instances", content=path.read_bytes()).raise_for_status()
    _, received = pacs
    site.wait_until(lambda: received)
    jobs = [shipped_orthanc.get(f"/jobs/{job}").json() for job in shipped_orthanc.get("/jobs").json()]
    assert len(jobs) == len(received) == 1
    assert received[0].SOPInstanceUID == report.SOPInstanceUID


def test_orthanc_answers_only_who_has_the_password(shipped_orthanc):
    anonymous = httpx.get(f"{shipped_orthanc.base_url}/system", trust_env=False)
    assert anonymous.status_code == httpx.codes.UNAUTHORIZED
