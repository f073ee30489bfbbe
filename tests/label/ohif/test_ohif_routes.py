"""What is served under /ohif, without a browser."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.timeout(600)
UNREACHABLE_PACS = "http://127.0.0.1:9/dicom-web"


@pytest.fixture
def viewer(viewer_alone):
    """OHIF's routes in front of a PACS that does not answer."""
    return viewer_alone(UNREACHABLE_PACS)


def test_files_in_folders_of_the_build_are_themselves_and_not_the_start_page(viewer):
    icon = viewer.get("/ohif/assets/favicon.ico")
    assert icon.status_code == 200
    assert b"<html" not in icon.content
    assert icon.headers["content-type"].startswith("image/")


@pytest.mark.parametrize("path", ["/ohif/", "/ohif/monai-label?StudyInstanceUIDs=1.2.3", "/ohif/viewer"])
def test_addresses_inside_the_viewer_open_it(viewer, path):
    answer = viewer.get(path)
    assert answer.status_code == 200
    assert "<title>OHIF Viewer</title>" in answer.text
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    ["/ohif/assets/none.png", "/ohif/..%2f..%2fohif.py", "/ohif/cspine/..%2fsite.py", "/ohif/cspine/none.js"],
)
def test_a_file_that_is_not_the_viewers_is_not_found(viewer, path):
    answer = viewer.get(path)
    assert answer.status_code == 404
    assert answer.json() == {"detail": "The viewer has no such file."}


def test_pages_may_run_scripts_of_this_server_only(viewer):
    policy = dict(
        part.strip().split(" ", 1)
        for part in viewer.get("/ohif/").headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert "unsafe-inline" not in policy["script-src"]
    assert "'unsafe-eval'" not in policy["script-src"]
    assert policy["script-src"].count("'sha256-") == 2
    assert policy["connect-src"] == "'self' data: blob:"


def test_only_workers_may_make_functions_from_text(viewer):
    script = re.search(r'src="(/ohif/app\.bundle[^"]+)"', viewer.get("/ohif/").text)
    assert script is not None
    assert "'unsafe-eval'" in viewer.get(script[1]).headers["content-security-policy"]
    for page in ("/ohif/next", "/ohif/viewer", "/ohif/index.html"):
        assert "'unsafe-eval'" not in viewer.get(page).headers["content-security-policy"], page


def test_the_viewer_is_told_this_server_and_no_other_address(viewer):
    config = viewer.get("/ohif/app-config.js").text
    assert '"wadoRoot": "/proxy/dicom/wado"' in config
    assert "http" not in config


def test_the_panel_knows_the_levels_with_the_colours_of_the_dicom_segmentation(viewer):
    from cspine.dicom.segmentation import LEVEL_RGB

    settings = viewer.get("/ohif/cspine/site.js").text
    for level, rgb in LEVEL_RGB.items():
        assert f'{{"name": "{level.name}", "value": {int(level)}, "rgb": {list(rgb)}}}' in settings


def test_a_pacs_that_does_not_answer_is_said_to_the_viewer(viewer):
    answer = viewer.get("/proxy/dicom/qido/studies")
    assert answer.status_code == 502
    assert answer.json() == {"detail": "The PACS does not answer; check that it runs, then try again."}


@pytest.mark.parametrize("path", ["system", "%2e%2e/system", "studies/%2e%2e/%2e%2e/system"])
def test_only_studies_series_and_instances_are_read_from_the_pacs(viewer, path):
    answer = viewer.get(f"/proxy/dicom/qido/{path}")
    assert answer.status_code == 404


def test_nothing_is_written_to_the_pacs_through_the_viewers_way(viewer):
    assert viewer.post("/proxy/dicom/stow/studies", content=b"x").status_code == 405


def test_the_way_to_the_pacs_keeps_query_and_content_type(viewer_alone, orthanc, write_dicom, tmp_path):
    for seed in (1, 2):
        orthanc.add(*write_dicom(tmp_path / str(seed), seed))
    viewer = viewer_alone(orthanc.dicomweb)
    found = viewer.get("/proxy/dicom/qido/studies", params={"PatientID": "PLANTED2"})
    assert found.headers["content-type"].startswith("application/dicom+json")
    assert [study["00100020"]["Value"] for study in found.json()] == [["PLANTED2"]]


def test_without_a_pacs_ohif_says_what_to_do(viewer_alone):
    answer = viewer_alone().get("/ohif/")
    assert answer.status_code == 404
    assert "OHIF needs a PACS" in answer.text
    assert "make label STUDIES=" in answer.text
