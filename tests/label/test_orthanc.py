"""A PACS behind the label server: Orthanc, with DICOM Segmentations and reports both ways."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from cspine.anatomy import Vertebra
from cspine.dicom import build_segmentation, codes, read_ct, to_bytes
from cspine.findings import StudyFindings
from cspine.volume import SpineMask
from cspine_label.segmentations import read_segmentation, segment_levels

SEGMENTATION = "cspine_ct_segmentation"
SEEDS = count(100)

pytestmark = pytest.mark.timeout(900)  # a server starts in ten seconds, on a busy machine in minutes


@dataclass(frozen=True, eq=False)
class Site:
    """Orthanc, the label server in front of it, and the ids of two series; their files are in folder/UID."""

    orthanc: Any
    server: Any
    cases: list[str]
    folder: Path


@pytest.fixture
def site(pacs_server, orthanc, write_dicom, tmp_path, until) -> Site:
    for seed in (next(SEEDS), next(SEEDS)):
        files = write_dicom(tmp_path / "new", seed)
        uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
        (tmp_path / "new").rename(tmp_path / uid)
        orthanc.add(*sorted((tmp_path / uid).iterdir()))
    uids = sorted(path.name for path in tmp_path.iterdir() if path.is_dir() and path.name[0].isdigit())
    listed = lambda: sorted(pacs_server.http.get("/datastore/?output=all").json()["objects"]) == uids  # noqa: E731
    until(listed)
    return Site(orthanc, pacs_server, uids, tmp_path)


def _upload(labels: np.ndarray) -> dict:
    """As OHIF sends it: the bytes of its label map, columns fastest."""
    return {"label": ("label.bin", labels.astype(np.uint8).tobytes())}


def _save(server, case: str, labels: np.ndarray, **params):
    return server.http.put(
        "/datastore/label", params={"image": case}, data={"params": json.dumps(params)}, files=_upload(labels)
    )


def _read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_only_c3_to_c7_are_stored_under_their_own_codes_and_the_next_case_moves_on(site, slicer, neck):
    client = slicer(site.server)
    given = client.next_sample("first", {})["id"]
    assert given == site.cases[0]
    file, _ = client.infer(SEGMENTATION, given, {})
    assert np.asarray(nibabel.load(file).dataobj).shape == (90, 90, 70)

    labels = np.where(neck.truth.labels >= 3, neck.truth.labels, 0)
    names = [{"name": f"C{level}", "idx": level} for level in range(1, 8)]
    saved = _save(site.server, given, labels, label_info=names, client_id="slicer")
    assert saved.json()["levels"] == ["C3", "C4", "C5", "C6", "C7"]

    (data,) = site.orthanc.instances("SEG")
    written = _read(data)
    by_code = {
        str(s.SegmentedPropertyTypeCodeSequence[0].CodeValue): str(s.SegmentLabel)
        for s in written.SegmentSequence
    }
    assert by_code == {codes.VERTEBRA[v].value: f"{v} vertebra" for v in list(Vertebra)[2:]}
    assert {str(s.SegmentAlgorithmType) for s in written.SegmentSequence} == {"SEMIAUTOMATIC"}
    read_back = read_segmentation(written, read_ct(site.folder / given))
    assert np.array_equal(read_back.labels, labels)

    assert client.next_sample("first", {})["id"] == site.cases[1]


def test_fractures_reach_the_pacs_as_a_report_of_the_segmentation_without_probabilities(site, neck):
    center = [float(x) for x in neck.truth.center_lps_mm(Vertebra.C5)]
    said = {"C5": {"decision": "present", "points_lps_mm": [center]}, "C6": {"decision": "absent"}}
    assert _save(site.server, site.cases[0], neck.truth.labels, fractures=said).status_code == 200
    (report,), (segmentation,) = (
        map(_read, site.orthanc.instances("SR")),
        map(_read, site.orthanc.instances("SEG")),
    )
    text = str(report)
    assert str(segmentation.SOPInstanceUID) in text
    assert codes.PROBABILITY.value not in text
    decisions = {v: d for v, d in _decisions(report).items() if v in (Vertebra.C4, Vertebra.C5, Vertebra.C6)}
    assert decisions == {Vertebra.C4: "Undetermined", Vertebra.C5: "Present", Vertebra.C6: "Absent"}


def _decisions(report: pydicom.Dataset) -> dict[Vertebra, str]:
    (groups,) = [i for i in report.ContentSequence if _meaning(i) == codes.MEASUREMENTS.meaning]
    found = {}
    for group in groups.ContentSequence:
        items = {_meaning(item): item for item in group.ContentSequence}
        finding = items[codes.FINDING.meaning].ConceptCodeSequence[0]
        if finding.CodeValue in codes.VERTEBRA_OF:
            decision = items[codes.FRACTURE.meaning].ConceptCodeSequence[0].CodeMeaning
            found[codes.VERTEBRA_OF[finding.CodeValue]] = str(decision)
    return found


def _meaning(item: pydicom.Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def test_a_segmentation_of_others_is_read_on_the_grid_of_the_image(site, slicer, neck, until):
    series = read_ct(site.folder / site.cases[1])
    mask = SpineMask.from_labels(
        series.volume.grid, np.where(neck.truth.labels >= 3, neck.truth.labels, 0).astype(np.uint8)
    )
    foreign = build_segmentation(series, mask, StudyFindings.failed("none"))
    for segment in foreign.SegmentSequence:
        segment.SegmentAlgorithmType = "MANUAL"
        segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "T-11500"
        segment.SegmentLabel = str(segment.SegmentLabel).replace(" vertebra", "").lower()
    site.orthanc.http.post("/instances", content=to_bytes(foreign)).raise_for_status()
    client = slicer(site.server)
    until(lambda: site.server.http.get("/datastore/").json()["completed"] == 1)
    assert client.next_sample("first", {})["id"] == site.cases[0]
    stored = np.asarray(nibabel.load(client.download_label(site.cases[1], "final")).dataobj)
    assert np.array_equal(stored.transpose(2, 1, 0), mask.labels)


def test_what_only_a_network_made_is_no_final_label(site, neck):
    series = read_ct(site.folder / site.cases[0])
    mask = SpineMask.from_labels(series.volume.grid, neck.truth.labels)
    network = build_segmentation(series, mask, StudyFindings.failed("none"))
    assert list(segment_levels(network).values()) == list(Vertebra)
    site.orthanc.http.post("/instances", content=to_bytes(network)).raise_for_status()
    assert site.server.http.get("/datastore/").json()["completed"] == 0


def test_a_label_that_is_saved_while_the_pacs_is_down_is_kept_and_sent_later(site, neck, until):
    opened, unopened = site.cases
    site.server.http.get("/datastore/image", params={"image": opened})
    site.orthanc.stop()
    until(lambda: site.server.http.post("/activelearning/first", json={}).status_code == 503)
    assert "does not answer" in site.server.http.post("/activelearning/first", json={}).json()["detail"]
    for case in site.cases:
        kept = _save(site.server, case, neck.truth.labels).json()
        assert kept["pending"] is True
        assert "will be sent" in kept["message"]
    assert site.server.http.get("/info/").status_code == 200
    waiting = site.server.http.get("/datastore/outbox").json()
    assert [entry["case"] for entry in waiting] == [opened, unopened]

    site.orthanc.start()
    # Asked to, or by itself as soon as the PACS is back, whichever comes first.
    until(lambda: site.server.http.post("/datastore/outbox").json()["waiting"] == 0)
    assert len(site.orthanc.instances("SEG")) == 2


def test_no_name_of_a_patient_is_in_the_log_of_the_server(site, slicer):
    slicer(site.server).infer(SEGMENTATION, site.cases[0], {})
    assert "Planted" not in site.server.log()
    assert "PLANTED" not in site.server.log()
    assert site.cases[0] not in site.server.log()
