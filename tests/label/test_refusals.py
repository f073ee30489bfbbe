"""Bad input gets a 4xx with a sentence; a slow inference harms nobody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from cspine_label.cli import main

SEGMENTATION = "cspine_ct_segmentation"

pytestmark = pytest.mark.timeout(900)  # a server starts in ten seconds, on a busy machine in minutes


def _sentence(answer, status: int) -> str:
    detail = answer.json()["detail"]
    assert answer.status_code == status, detail
    assert isinstance(detail, str)
    assert detail.endswith(".")
    return detail


def test_an_unknown_case_model_strategy_score_or_candidate_is_refused_by_name(server):
    http = server.http
    assert "'nobody'" in _sentence(http.post(f"/infer/{SEGMENTATION}", params={"image": "nobody"}), 404)
    assert "'other'" in _sentence(http.post("/infer/other", params={"image": "case0"}), 404)
    assert "choose first, random" in _sentence(http.post("/activelearning/best", json={}), 404)
    assert "'sum'" in _sentence(http.post("/scoring/sum"), 404)
    assert "'20200101-000000'" in _sentence(
        http.post("/model/promote", params={"candidate": "20200101-000000"}), 404
    )
    assert "'other'" in _sentence(http.post("/train/other", json={}), 404)


@pytest.mark.parametrize("path", ["/etc/hostname", "../case0", "labels/final/case0", "..", "case0.nii.gz"])
def test_paths_are_no_ids(server, path):
    for ask in (
        lambda: server.http.post(f"/infer/{SEGMENTATION}", params={"image": path}),
        lambda: server.http.get("/datastore/image", params={"image": path}),
        lambda: server.http.get("/datastore/label", params={"label": path}),
        lambda: server.http.put(
            "/datastore/label", params={"image": path}, files={"label": ("label.nii.gz", b"x")}
        ),
    ):
        assert "There is no case" in _sentence(ask(), 404)


def test_an_existing_file_outside_the_datastore_is_not_read(server, neck, tmp_path):
    from cspine_label.images import write_image

    secret = tmp_path / "secret.nii.gz"
    write_image(neck.volume.hu, neck.volume.grid, secret)
    answer = server.http.post(f"/infer/{SEGMENTATION}", params={"image": str(secret)})
    assert answer.status_code == 404


def test_a_label_of_another_size_is_refused_with_both_sizes(save, neck):
    from cspine.volume import Grid

    small = neck.truth.labels[:-1].copy()
    refused = save("case0", small, Grid(small.shape, neck.truth.grid.affine_lps))
    assert "90 x 90 x 69 voxels, the image 90 x 90 x 70" in _sentence(refused, 422)


def test_a_label_that_lies_elsewhere_is_refused(save, neck):
    from cspine.volume import Grid

    moved = neck.truth.grid.affine_lps.copy()
    moved[0, 3] += 30
    assert "does not lie where the image lies" in _sentence(
        save("case0", neck.truth.labels, Grid(neck.truth.grid.shape, moved)), 422
    )


def test_values_that_are_no_level_an_empty_label_and_a_stray_stroke_are_refused(save, neck):
    odd = neck.truth.labels.copy()
    odd[odd == 3] = 44
    assert "the value 44" in _sentence(save("case0", odd), 422)
    assert "empty" in _sentence(save("case0", np.zeros_like(odd)), 422)
    stray = np.where(neck.truth.labels == 2, 2, 0).astype(np.uint8)
    stray[0, 0, 0] = 5
    assert "C5 has only" in _sentence(save("case0", stray), 422)


def test_names_that_are_no_level_are_refused(save, neck):
    names = [{"name": "tumour", "idx": 1}]
    assert "'tumour' is no level" in _sentence(save("case0", neck.truth.labels, label_info=names), 422)


def test_a_file_that_is_no_label_and_parameters_that_are_no_json_are_refused(server):
    files = {"label": ("label.nii.gz", b"not a gzip file")}
    broken = server.http.put("/datastore/label", params={"image": "case0"}, files=files)
    assert "cannot be read" in _sentence(broken, 422)
    files = {"label": ("C:\\label.exe", b"MZ")}
    assert "no NIfTI, NRRD or raw file" in _sentence(
        server.http.put("/datastore/label", params={"image": "case0"}, files=files), 422
    )
    answer = server.http.post(f"/infer/{SEGMENTATION}", params={"image": "case0"}, data={"params": "{"})
    assert "JSON" in _sentence(answer, 400)


def test_what_cannot_be_said_of_fractures_is_refused(server, save, neck):
    put = lambda said: server.http.put("/fractures", params={"image": "case5"}, json=said)  # noqa: E731
    assert "not labelled yet" in _sentence(put({"C1": "absent"}), 409)
    lower = np.where(neck.truth.labels > 2, neck.truth.labels, 0).astype(np.uint8)
    assert save("case5", lower).status_code == 200
    assert "'T1' is no level" in _sentence(put({"T1": "present"}), 422)
    assert "present, absent or undetermined" in _sentence(put({"C5": "maybe"}), 422)
    assert "C1 is not drawn" in _sentence(put({"C1": "absent"}), 422)
    far = {"C5": {"decision": "present", "points_lps_mm": [[900, 0, 0]]}}
    assert "far from that vertebra" in _sentence(put(far), 422)


def test_only_own_pages_may_change_anything_and_only_by_this_name(server):
    answer = server.http.post("/activelearning/first", json={}, headers={"Origin": "http://evil.example"})
    assert "other sites" in _sentence(answer, 403)
    assert server.http.get("/info/", headers={"Host": "evil.example"}).status_code == 403


def test_images_are_not_removed_and_there_are_no_sessions(server):
    answer = server.http.delete("/datastore/", params={"id": "case0", "type": "image"})
    assert "images stay" in _sentence(answer, 403)
    assert "PUT /datastore/" in _sentence(server.http.put("/session/"), 403)


@pytest.mark.parametrize(
    "path", ["/reload", "/batch/infer/x", "/infer/wsi/x", "/logs/", "/model/x", "/docs/../etc"]
)
def test_what_of_monai_label_harms_or_is_not_needed_is_not_there(server, path):
    for method in ("GET", "POST"):
        assert server.http.request(method, path).status_code in (404, 405)


def test_asking_for_a_case_starts_no_process(server):
    """MONAI Label starts all scorers anew with each sample."""
    server.http.post("/activelearning/first", json={"client_id": "ann"}).raise_for_status()
    assert psutil.Process(server.process.pid).children(recursive=True) == []


def test_there_is_one_worker_and_no_way_to_ask_for_more():
    """With --workers 2 MONAI Label's server restarts for ever."""
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--studies", ".", "--workers", "2"])


def test_a_slow_inference_does_not_hold_up_info(server):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.http.post, f"/infer/{SEGMENTATION}", params={"image": "case0"})
        answered = 0
        while not slow.done():
            assert server.http.get("/info/").status_code == 200
            answered += 1
        assert slow.result().status_code == 200
    assert answered >= 2
