"""3D Slicer's calls, by the client of its module, against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

SEGMENTATION = "cspine_ct_segmentation"
CLASSIFICATION = "cspine_ct_fracture_classification"
LEVELS = [f"C{number}" for number in range(1, 8)]

pytestmark = pytest.mark.timeout(900)  # a server starts in ten seconds, on a busy machine in minutes


def _save(neck, path: Path, keep: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7), by_order: bool = False) -> str:
    from cspine_label.images import write_image

    labels = np.where(np.isin(neck.truth.labels, keep), neck.truth.labels, 0).astype(np.uint8)
    if by_order:
        for number, level in enumerate(keep, start=1):
            labels[neck.truth.labels == level] = number
    write_image(labels, neck.truth.grid, path)
    return str(path)


def test_the_server_describes_itself_with_c1_to_c7_as_1_to_7(server, slicer):
    info = slicer(server).info()
    assert info["labels"] == {name: number for number, name in enumerate(LEVELS, start=1)}
    assert info["models"][SEGMENTATION]["labels"] == info["labels"]
    assert set(info["trainers"]) == {SEGMENTATION, CLASSIFICATION}
    assert set(info["strategies"]) == {"first", "random", "uncertainty", "tta", "disagreement"}
    assert set(info["scoring"]) == {"dice", "sanity", "uncertainty", "tta", "disagreement"}


def test_a_network_s_label_lies_on_the_image_and_names_what_it_holds(server, slicer, neck):
    file, told = slicer(server).infer(SEGMENTATION, "case0", {})
    image = nibabel.load(file)
    voxels = np.asarray(image.dataobj)
    assert voxels.shape == (90, 90, 70)
    assert np.allclose(image.affine, nibabel.load(Path(server.studies) / "case0.nii.gz").affine)
    assert set(np.unique(voxels)) == {0, *told["label_names"].values()}
    assert len(set(told["colors"].values())) == len(told["label_names"])
    truth = neck.truth.labels.transpose(2, 1, 0)
    assert (voxels[truth > 0] > 0).mean() > 0.25


def test_a_label_goes_out_and_comes_back_as_nrrd(server, slicer):
    client = slicer(server)
    file, told = client.infer(SEGMENTATION, "case4", {"result_extension": ".nrrd", "result_dtype": "uint16"})
    assert file.endswith(".nrrd")
    assert client.save_label("case4", file)["levels"] == list(told["label_names"])


def test_the_classifier_answers_with_a_decision_for_each_level(server, slicer):
    _, told = slicer(server).infer(CLASSIFICATION, "case0", {})
    assert list(told["fractures"]) == LEVELS
    assert {level["decision"] for level in told["fractures"].values()} <= {
        "present",
        "absent",
        "undetermined",
    }


def test_two_annotators_never_get_the_same_case_and_the_history_says_who_got_what(server, slicer):
    first, second = slicer(server, "ann"), slicer(server, "bob")
    given = [first.next_sample("first", {})["id"], second.next_sample("first", {})["id"]]
    assert len(set(given)) == 2
    events = server.http.get("/history").json()
    assert [(e["who"], e["case"]) for e in events if e["event"] == "asked"][-2:] == [
        ("ann", given[0]),
        ("bob", given[1]),
    ]


def test_what_slicer_numbers_by_order_is_stored_by_name(server, slicer, neck, tmp_path):
    client = slicer(server)
    file = _save(neck, tmp_path / "label.nii.gz", keep=(3, 4, 5, 6, 7), by_order=True)
    names = [{"name": f"C{level}", "idx": order} for order, level in enumerate(range(3, 8), start=1)]
    said = client.save_label("case1", file, params={"label_info": names})
    assert said["levels"] == ["C3", "C4", "C5", "C6", "C7"]
    stored = np.asarray(nibabel.load(client.download_label("case1", "final")).dataobj)
    truth = neck.truth.labels.transpose(2, 1, 0)
    assert np.array_equal(stored, np.where(truth >= 3, truth, 0))


def test_a_saved_case_is_not_asked_for_again(server, slicer, neck, tmp_path):
    client = slicer(server)
    given = client.next_sample("first", {})["id"]
    client.save_label(given, _save(neck, tmp_path / "label.nii.gz"))
    assert client.next_sample("first", {})["id"] != given
    assert given in [e["case"] for e in server.http.get("/history").json() if e["event"] == "saved"]


def test_fractures_are_kept_beside_the_mask_and_offered_to_the_classifier_s_training(
    server, slicer, neck, tmp_path
):
    from cspine.anatomy import Vertebra

    slicer(server).save_label("case2", _save(neck, tmp_path / "label.nii.gz"))
    point = [float(x) for x in neck.truth.center_lps_mm(Vertebra.C5)]
    said = {"C5": {"decision": "present", "points_lps_mm": [point]}, "C4": {"decision": "absent"}}
    answer = server.http.put("/fractures", params={"image": "case2"}, json=said)
    assert answer.status_code == 200
    kept = json.loads((Path(server.studies) / "labels" / "final" / "case2.json").read_text())
    assert kept["fractures"] == said
    assert server.http.get("/fractures", params={"image": "case2"}).json() == said


def test_scores_are_parts_of_one(server, slicer, neck, tmp_path, until):
    slicer(server).save_label("case2", _save(neck, tmp_path / "label.nii.gz"))
    sane = server.http.post("/scoring/sanity").json()["scores"]["case2"]
    assert sane["score"] == 1.0
    file, told = slicer(server).infer(SEGMENTATION, "case4", {})
    slicer(server).save_label("case4", file)
    dice = server.http.post("/scoring/dice").json()["scores"]
    assert dice["case4"] == {"score": 1.0, "levels": dict.fromkeys(told["label_names"], 1.0)}
    assert dice["case2"] == {"score": None, "levels": {}}
    server.http.post("/scoring/uncertainty")
    doubts = until(lambda: server.http.post("/scoring/tta").json()["scores"], 800)
    for kind in ("uncertainty", "tta", "disagreement"):
        scores = server.http.post(f"/scoring/{kind}").json()["scores"]
        assert set(doubts) <= set(scores)
        assert all(0 <= value <= 1 for value in scores.values())
