"""Training in the background: candidates, what they are compared by, and what becomes of a killed one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cspine.anatomy import Vertebra
from cspine.datasets.crop_samples import CropFolder
from cspine_label.cli import main
from cspine_label.errors import ConflictError
from cspine_label.job import TrainingPlan, is_validation
from cspine_label.labels import LabelFolder, LabelRecord
from cspine_label.training import check

SEGMENTATION = "cspine_ct_segmentation"
CLASSIFICATION = "cspine_ct_fracture_classification"

pytestmark = pytest.mark.timeout(900)  # a server starts in ten seconds, on a busy machine in minutes


@pytest.mark.parametrize(
    ("model", "plan", "cases", "why"),
    [
        (SEGMENTATION, {}, [], "0 cases have a final label, and 0 of them"),
        (
            SEGMENTATION,
            {},
            ["case3"],
            "1 cases have a final label, and 1 of them belong to the fixed validation",
        ),
        (CLASSIFICATION, {}, [], "0 cases have a level judged present or absent"),
        (SEGMENTATION, {"validation_phantoms": 0}, ["case1"], "nothing to compare candidates on"),
        (CLASSIFICATION, {"phantoms": 0}, ["case1"], "set phantoms above 0"),
    ],
)
def test_a_training_that_could_teach_or_prove_nothing_is_refused(model, plan, cases, why):
    with pytest.raises(ConflictError, match=why):
        check(model, TrainingPlan(**plan), cases)


def test_judged_levels_are_written_as_the_classifier_s_training_reads_them(nifti_folder, neck, tmp_path):
    studies, crops = nifti_folder(3), tmp_path / "crops"
    point = [float(x) for x in neck.truth.center_lps_mm(Vertebra.C5)]
    said = {"C5": {"decision": "present", "points_lps_mm": [point]}, "C4": "absent", "C6": "undetermined"}
    labels = LabelFolder(studies / "labels")
    labels.save(neck.truth, LabelRecord("case1", "final", 0.0, "ann", ("C5",), fractures=said))
    labels.save(neck.truth, LabelRecord("case2", "final", 0.0, "ann", ("C5",)))
    assert main(["export-crops", "--studies", str(studies), "--device", "cpu", str(crops)]) == 0
    (study,) = CropFolder(crops / "training").refresh()
    assert study.fractured == {Vertebra.C4: False, Vertebra.C5: True}
    assert all(study.located.values())
    sample = study.load(Vertebra.C5)
    assert 0 < sample.fracture.sum() < sample.mask.sum()
    assert not (sample.fracture & ~sample.mask).any()
    assert CropFolder(crops / "calibration").refresh() == ()


def _saved(neck, path: Path) -> str:
    from cspine_label.images import write_image

    write_image(neck.truth.labels, neck.truth.grid, path)
    return str(path)


def _candidates(server) -> list[dict]:
    return server.http.get("/model/").json()["candidates"]


def _refused(answer, status: int) -> str:
    assert answer.status_code == status
    return answer.json()["detail"]


def test_training_beyond_bounds_or_on_nothing_is_refused_in_a_sentence(server):
    train = lambda model, **params: server.http.post(f"/train/{model}", json=params)  # noqa: E731
    assert "'steps' lies from 1" in _refused(train(SEGMENTATION, steps=0), 422)
    assert "choose cspine_ct_segmentation or" in _refused(train("cspine_ct_localization"), 404)
    assert "No training" in _refused(server.http.get("/train/", params={"check_if_running": True}), 404)
    assert "No training runs" in _refused(server.http.delete("/train/"), 404)


def test_one_round_of_training_makes_a_candidate_that_is_compared_and_promoted_by_hand(
    server, slicer, neck, tmp_path, until
):
    client, label = slicer(server), _saved(neck, tmp_path / "label.nii.gz")
    for case in ("case1", "case3"):
        client.save_label(case, label)
    released = {path: path.read_bytes() for path in Path("bundles").rglob("model.pt")}
    options = {"steps": 2, "phantoms": 0, "validation_phantoms": 0}
    started = client.train_start(SEGMENTATION, {**options, "pretrained": False})
    assert started["status"] == "RUNNING"
    with pytest.raises(slicer.error, match="runs already"):
        client.train_start(SEGMENTATION, {})
    assert client.train_status(check_if_running=True)
    until(lambda: not client.train_status(check_if_running=True), 800)
    ended = client.train_status()
    assert ended["status"] == "DONE", ended
    candidate = _candidates(server)[-1]
    assert server.http.get("/model/").json()["active"] == "released"
    assert candidate["validation"] == {"cases": ["case3"], "phantoms": 0}
    assert candidate["reference"]["sha256"] != candidate["candidate"]["sha256"]
    assert 0 <= candidate["candidate"]["mean"] <= 1
    promote = {"candidate": candidate["name"], "even_if_worse": True}
    assert server.http.post("/model/promote", params=promote).json() == {"active": candidate["name"]}
    client.infer(SEGMENTATION, "case0", {})
    assert {path: path.read_bytes() for path in released} == released
    back = server.http.post("/model/promote", params={"candidate": "released"})
    assert back.json() == {"active": "released"}


def test_judged_fractures_train_a_candidate_of_the_classifier_that_is_compared_and_promoted_by_hand(
    server, slicer, neck, tmp_path, until
):
    client, label = slicer(server), _saved(neck, tmp_path / "label.nii.gz")
    point = [float(x) for x in neck.truth.center_lps_mm(Vertebra.C5)]
    said = {"C5": {"decision": "present", "points_lps_mm": [point]}, "C4": "absent", "C6": "absent"}
    for case in ("case1", "case3"):
        client.save_label(case, label)
        assert server.http.put("/fractures", params={"image": case}, json=said).status_code == 200
    client.train_start(CLASSIFICATION, {"steps": 2, "phantoms": 1, "validation_phantoms": 0})
    until(lambda: not client.train_status(check_if_running=True), 800)
    ended = client.train_status()
    assert ended["status"] == "DONE", ended
    candidate = _candidates(server)[-1]
    assert candidate["model"] == CLASSIFICATION
    assert candidate["validation"] == {"cases": ["case3"], "phantoms": 0}
    assert (candidate["candidate"]["levels"], candidate["candidate"]["fractured"]) == (3, 1)
    assert candidate["reference"]["sha256"] != candidate["candidate"]["sha256"]
    assert 0 <= candidate["candidate"]["mean"] <= 1
    promote = {"candidate": candidate["name"], "even_if_worse": True}
    assert server.http.post("/model/promote", params=promote).json() == {"active": candidate["name"]}
    _, told = client.infer(CLASSIFICATION, "case1", {})
    assert told["fractures"]["C5"]["probability"] is not None
    server.http.post("/model/promote", params={"candidate": "released"})


def _start_training(server, save, neck) -> list[str]:
    """Start a long one; the folders of the candidates before it."""
    assert not is_validation("case0")
    assert save("case0", neck.truth.labels).status_code == 200
    before = _folders(server)
    started = server.http.post(f"/train/{SEGMENTATION}", json={"steps": 50_000, "phantoms": 0})
    assert started.status_code == 200
    return before


def _folders(server) -> list[str]:
    folder = server.workspace / "candidates"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def _job_of(server) -> int | None:
    """The process of the training."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if "cspine_label.training_job" in command and str(server.workspace) in command:
            return int(process.name)
    return None


def test_a_killed_training_leaves_the_server_alive_and_no_candidate(server, save, neck, until):
    before = _start_training(server, save, neck)
    os.kill(until(lambda: _job_of(server)), signal.SIGKILL)
    ended = until(lambda: (s := server.http.get("/train/").json())["status"] != "RUNNING" and s)
    assert ended["status"] == "ERROR"
    assert "killed by signal 9" in ended["message"]
    assert server.http.get("/model/").json()["active"] == "released"
    assert _folders(server) == before == [candidate["name"] for candidate in _candidates(server)]
    assert server.http.get("/info/").status_code == 200


def test_a_stopped_training_is_cancelled_and_leaves_no_candidate(server, save, neck, until):
    before = _start_training(server, save, neck)
    until(lambda: _job_of(server))
    server.http.delete("/train/")
    ended = until(lambda: (s := server.http.get("/train/").json())["status"] != "RUNNING" and s)
    assert ended["status"] == "CANCELED"
    assert _folders(server) == before
