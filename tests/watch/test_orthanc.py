"""The watcher beside a real PACS, with an analysis that takes no time."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import httpx
import pytest

from fracture_map.watch.settings import Spool

pytestmark = pytest.mark.service("orthanc")


@pytest.mark.parametrize("by_changes", [False, True])
def test_a_study_gets_one_report_and_one_segmentation_in_series_of_their_own(site, by_changes):
    study = site.make_study(1)
    wanted = site.options(orthanc=site.orthanc.url if by_changes else None)
    site.orthanc.add(*study.files)
    with site.running(wanted):
        site.wait_for(wanted, study, "done")
        count = site.orthanc.http.get("/statistics").json()["CountInstances"]
        assert count == len(study.files) + 2
        (report,), (segmentation,) = site.reports(study), site.segmentations(study)
        assert len({report.SeriesInstanceUID, segmentation.SeriesInstanceUID}) == 2


def test_a_study_that_comes_in_pieces_waits_until_its_images_form_a_volume(site, with_settings):
    study = site.make_study(2)
    wanted = with_settings(site.options("gap"), incomplete_after_s=3600.0)
    with site.running(wanted):
        site.orthanc.c_store(*study.files[:2])
        site.wait_for(wanted, study, "incomplete")
        assert not site.reports(study)
        site.orthanc.c_store(*study.files[2:])
        site.wait_for(wanted, study, "done")
    assert len(site.reports(study)) == len(site.segmentations(study)) == 1


def test_half_a_study_and_then_silence_is_reported_as_incomplete(site):
    study = site.make_study(3)
    wanted = site.options("gap")
    site.orthanc.add(*study.files[:2])
    with site.running(wanted):
        site.wait_for(wanted, study, "done")
    (report,) = site.reports(study)
    assert "111245" in str(report)
    assert "A slice is missing" in report.to_json()
    assert not site.segmentations(study)


def test_the_same_study_again_changes_nothing(site):
    study = site.make_study(4)
    wanted = site.options()
    site.orthanc.add(*study.files)
    with site.running(wanted):
        site.wait_for(wanted, study, "done")
        site.orthanc.add(*study.files)
        other = site.make_study(5)
        site.orthanc.add(*other.files)
        site.wait_for(wanted, other, "done")
    assert site.states(wanted)[study.uid] == "done"
    assert len(site.reports(study)) == 1


def test_a_study_that_changes_after_its_result_gets_a_new_one_that_names_the_old(site):
    study = site.make_study(6)
    wanted = site.options()
    site.orthanc.add(*study.files[:3])
    with site.running(wanted):
        site.wait_for(wanted, study, "done")
        (first,) = site.reports(study)
        site.orthanc.add(*study.files[3:])
        site.wait_until(lambda: len(site.reports(study)) == 2)
        site.wait_for(wanted, study, "done")
    (current,) = site.current_reports(study)
    (before,) = current.PredecessorDocumentsSequence
    reference = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_a_queue_that_was_lost_finds_the_result_in_the_pacs_and_replaces_it(site, tmp_path):
    study = site.make_study(7)
    site.orthanc.add(*study.files)
    for name in ("first", "second"):
        wanted = site.options(state=tmp_path / name)
        with site.running(wanted):
            site.wait_for(wanted, study, "done")
    assert len(site.reports(study)) == 2
    assert len(site.current_reports(study)) == 1


def test_an_analysis_that_crashes_every_time_ends_as_a_dead_letter_with_a_report_of_the_failure(
    site, with_settings
):
    study = site.make_study(8)
    wanted = with_settings(site.options("crash"), max_attempts=3)
    site.orthanc.add(*study.files)
    with site.running(wanted) as watcher:
        site.wait_for(wanted, study, "dead")
        (letter,) = httpx.get(f"http://127.0.0.1:{watcher.port}/dead", trust_env=False).json()
    assert "exit code 7" in letter["reason"]
    (report,) = site.reports(study)
    assert "111245" in str(report)
    lines = [json.loads(line) for line in (wanted.state / "audit.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines].count("claimed") == 3


def test_a_pacs_that_is_away_for_a_while_loses_nothing(site):
    studies = [site.make_study(seed) for seed in (9, 10, 11)]
    wanted = site.options("slow")
    with site.running(wanted) as watcher:
        url = f"http://127.0.0.1:{watcher.port}/healthz"
        for study in studies:
            site.orthanc.add(*study.files)
        site.wait_until(lambda: "done" in site.states(wanted).values())
        site.orthanc.stop()
        site.wait_until(lambda: "pacs" in httpx.get(url, trust_env=False).json()["troubles"])
        assert httpx.get(url, trust_env=False).status_code == httpx.codes.OK
        site.orthanc.start()
        site.wait_until(lambda: [*site.states(wanted).values()] == ["done"] * 3)
        site.wait_until(lambda: not httpx.get(url, trust_env=False).json()["troubles"])
    for study in studies:
        assert len(site.reports(study)) == len(site.segmentations(study)) == 1


def test_nothing_is_fetched_while_there_is_no_room(site):
    study = site.make_study(12)
    wanted = site.options()
    full = replace(wanted, settings=replace(wanted.settings, spool=Spool(min_free_gb=1e9)))
    site.orthanc.add(*study.files)
    with site.running(full) as watcher:
        url = f"http://127.0.0.1:{watcher.port}/healthz"
        site.wait_for(full, study, "ready")
        site.wait_until(lambda: "room" in httpx.get(url, trust_env=False).json()["troubles"].get("spool", ""))
    assert site.states(full)[study.uid] == "ready"
    with site.running(wanted):
        site.wait_for(wanted, study, "done")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB; a function that makes it larger comes with it."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], check=False)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield path, lambda: subprocess.run(["mount", "-o", "remount,size=64m", path], check=True)
    subprocess.run(["umount", "--lazy", path], check=True)


def test_a_disk_that_is_full_costs_a_study_nothing_but_time(site, small_disk):
    disk, enlarge = small_disk
    study = site.make_study(15, slices=60)
    database = f"sqlite:///{disk.parent / 'queue.sqlite'}"
    wanted = site.options(state=disk / "state", database=database)
    site.orthanc.add(*study.files)
    with site.running(wanted) as watcher:
        url = f"http://127.0.0.1:{watcher.port}/healthz"
        site.wait_until(lambda: "full" in httpx.get(url, trust_env=False).json()["troubles"].get("spool", ""))
        assert site.states(wanted)[study.uid] == "ready"
        enlarge()
        site.wait_for(wanted, study, "done")
    assert len(site.reports(study)) == 1


def test_the_audit_log_and_the_metrics_hold_nothing_of_the_patient(site):
    study = site.make_study(13)
    wanted = site.options()
    site.orthanc.add(*study.files)
    with site.running(wanted) as watcher:
        site.wait_for(wanted, study, "done")
        metrics = httpx.get(f"http://127.0.0.1:{watcher.port}/metrics", trust_env=False).text
    audit = (wanted.state / "audit.jsonl").read_text()
    assert [json.loads(line)["what"] for line in audit.splitlines()] == [
        "seen",
        "seen",
        "claimed",
        "analysed",
        "stored",
    ]
    assert 'fracture_map_studies{state="done"} 1.0' in metrics
    assert 'fracture_map_analyses_total{exit_code="0"} 1.0' in metrics
    for secret in (study.uid, "Doe", "SECRET", *(path.stem for path in study.files)):
        assert secret not in audit + metrics


def test_a_reader_takes_the_study_from_the_worklist_and_closes_it(site):
    study = site.make_study(16)
    wanted = site.options()
    site.orthanc.add(*study.files)
    with site.running(wanted) as watcher:
        site.wait_for(wanted, study, "done")
        with httpx.Client(base_url=f"http://127.0.0.1:{watcher.port}", trust_env=False) as client:
            (listed,) = client.get("/worklist").json()
            assert listed["study_uid"] == study.uid
            assert (listed["probability"], listed["overdue"]) == (0.25, False)
            assert client.post(f"/worklist/{listed['id']}/close").json() == {"done": True}
            assert client.get("/worklist").json() == []


def test_rules_leave_out_what_they_do_not_want(site, with_settings):
    study = site.make_study(14)
    wanted = with_settings(site.options(), rules={"body_parts": ("HEAD",)})
    site.orthanc.add(*study.files)
    with site.running(wanted):
        site.wait_for(wanted, study, "skipped")
    wanted = with_settings(wanted, rules={"body_parts": ("CSPINE",)})
    with site.running(wanted):
        site.wait_for(wanted, study, "done")
