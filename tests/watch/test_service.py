"""The watcher as a whole, beside a PACS that is not there: what it says of itself, how it begins and ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from cspine.errors import OutputError, UsageError
from cspine.settings import models_dir
from fracture_map.study import StudyOptions
from fracture_map.watch.claims import Claims
from fracture_map.watch.database import Database
from fracture_map.watch.intake import Intake
from fracture_map.watch.metrics import Metrics
from fracture_map.watch.pulse import ALIVE_S, Pulse
from fracture_map.watch.seen import SeriesSeen, StudySeen
from fracture_map.watch.service import Watcher, WatchOptions
from fracture_map.watch.settings import Worklist
from fracture_map.watch.spool import Spool
from fracture_map.watch.status_server import StatusPages, StatusServer

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def pages(database):
    pulse = Pulse()
    metrics = Metrics(database, pulse, Worklist())
    return StatusPages(database, Claims(database, 60.0), pulse, metrics, Worklist())


@pytest.fixture
def client(pages):
    server = StatusServer(pages, "127.0.0.1", 0)
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as made:
        yield made
    server.stop()


def test_a_dead_letter_is_listed_with_its_reason_and_tried_again_when_a_person_asks(pages, client):
    seen = StudySeen("1.2.3", "20260101", "CT", 1, (SeriesSeen("1.2.3.4", "CT", 1),))
    Intake(pages.database, 0.0).observe(seen, None, stable=True)
    claim = pages.claims.take()
    pages.claims.bury(claim, "The PACS did not take a result.")
    (letter,) = client.get("/dead").json()
    assert letter == {
        "id": claim.id,
        "study_uid": "1.2.3",
        "reason": "The PACS did not take a result.",
        "attempts": 1,
    }
    assert client.post(f"/dead/{claim.id}/retry").json() == {"done": True}
    assert client.get("/dead").json() == []
    assert client.post(f"/dead/{claim.id}/retry").status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("path", ["/", "/worklist/1/retry", "/dead/x/retry", "/healthz/"])
def test_there_is_nothing_at_other_addresses(client, path):
    assert client.get(path).status_code == client.post(path).status_code == httpx.codes.NOT_FOUND


def test_troubles_are_told_but_only_a_silent_thread_is_unhealthy(pages, client, monkeypatch):
    pages.pulse.trouble("pacs", "The PACS does not answer; it is asked again.")
    pages.pulse.beat("worker 1")
    health = client.get("/healthz")
    assert health.status_code == httpx.codes.OK
    assert health.json()["troubles"] == {"pacs": "The PACS does not answer; it is asked again."}
    assert "fracture_map_troubles 1.0" in client.get("/metrics").text
    monkeypatch.setattr(pages.pulse, "_last_beat", {"worker 1": -ALIVE_S})
    health = client.get("/healthz")
    assert health.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert health.json()["silent"] == ["worker 1"]


def test_what_a_killed_watcher_left_in_the_spool_goes_and_what_a_living_one_uses_stays(tmp_path):
    living = Spool(tmp_path, 0.0)
    (in_use,) = tmp_path.iterdir()
    (tmp_path / "watcher-dead" / "images").mkdir(parents=True)
    other = Spool(tmp_path, 0.0)
    assert not (tmp_path / "watcher-dead").exists()
    assert in_use.exists()
    living.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("database", "kind", "words"),
    [
        ("nonsense", UsageError, "address"),
        ("mysterydb://x", UsageError, "address"),
        ("sqlite:////nowhere/at/all/q.sqlite", OutputError, "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_one_sentence(database, kind, words):
    with pytest.raises(kind, match=words):
        Database(database)


def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path):
    study = StudyOptions(Path(), Path(), models_dir())
    first = Watcher(WatchOptions(NOWHERE, tmp_path, study, listen=("127.0.0.1", 0)))
    with pytest.raises(UsageError, match="Cannot listen"):
        Watcher(WatchOptions(NOWHERE, tmp_path, study, listen=("127.0.0.1", first.port)))
    first.run(lambda: True)


def test_the_command_ends_well_when_it_is_asked_to(tmp_path):
    command = [sys.executable, "-m", "fracture_map", "watch", "--dicomweb", NOWHERE]
    command += ["--listen", "127.0.0.1:0", "--state", str(tmp_path / "state")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 600
        while not (tmp_path / "state" / "spool").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
    assert list((tmp_path / "state" / "spool").iterdir()) == []


def test_without_its_packages_the_command_says_which_to_install(tmp_path):
    program = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from fracture_map.cli import main\n"
        f"sys.exit(main(['watch', '--dicomweb', '{NOWHERE}']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "fracture-map[serve]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_audit_log_that_cannot_be_written_loses_no_line(database, tmp_path):
    from fracture_map.watch import audit

    with database.transaction() as connection:
        audit.note(connection, 7, "seen", state="ready", reason=None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="audit log"):
        audit.write_out(database, tmp_path / "folder")
    assert audit.write_out(database, tmp_path / "audit.jsonl") == 1
    assert audit.write_out(database, tmp_path / "audit.jsonl") == 0
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert {key: value for key, value in json.loads(line).items() if key != "at"} == {
        "event": 1,
        "study": 7,
        "what": "seen",
        "state": "ready",
    }
    shutil.rmtree(tmp_path / "folder")
