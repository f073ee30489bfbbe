"""From a scanner's C-STORE to SR and SEG in the PACS, with the networks that come along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from cspine.phantom import render, sample_neck, sample_scanner
from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_attributes import study_uid
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, Volume
from fracture_map.phantom_study import PROFILE
from fracture_map.supervise import CHILD

pytestmark = pytest.mark.service("orthanc")
SEED = 7


@pytest.fixture(scope="module")
def neck(tmp_path_factory) -> tuple[Path, ...]:
    """The images of a small synthetic neck."""
    found = sample_neck(SEED, PROFILE)
    shape, spacing = (64, 72, 72), np.diag([2.0, 2.2, 3.2])[:, ::-1]
    affine = np.eye(4)
    affine[:3, :3] = spacing
    affine[:3, 3] = found.spine_box_lps_mm.mean(0) - spacing @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    image = render(found, grid, sample_scanner(SEED, PROFILE))
    options = PhantomOptions(patient_name="Doe^Jane", patient_id="SECRET-4711", seed=SEED)
    return write_study(Volume(grid, image.hu.numpy()), tmp_path_factory.mktemp("neck"), options)


def c_store(orthanc, paths) -> None:
    ae = AE(ae_title="SCANNER")
    ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title="ORTHANC")
    assert association.is_established
    try:
        assert {association.send_c_store(dcmread(path)).Status for path in paths} == {0}
    finally:
        association.release()


@pytest.mark.timeout(3000)
def test_a_neck_sent_in_pieces_to_a_watcher_that_is_killed_gets_one_report_and_one_segmentation(
    site, neck, start_process, with_settings
):
    uid = str(study_uid(PhantomOptions(seed=SEED)))
    wanted = with_settings(site.options(), incomplete_after_s=3600.0)
    wanted = replace(wanted, study=replace(wanted.study, command=CHILD, device="cpu", timeout_s=900.0))
    process = start_process(wanted)
    c_store(site.orthanc, [*neck[:25], *neck[40:]])  # the middle is still on its way
    site.wait_until(lambda: site.states(wanted).get(uid) == "incomplete", 900)
    assert not site.orthanc.reports(uid)
    c_store(site.orthanc, neck[25:40])
    site.wait_until(lambda: site.is_claimed(wanted, uid), 900)
    process.kill()
    process.join()
    start_process(wanted)
    site.wait_until(lambda: site.states(wanted).get(uid) == "done", 900)
    (report,), (segmentation,) = site.orthanc.reports(uid), site.orthanc.segmentations(uid)
    assert report.StudyInstanceUID == segmentation.StudyInstanceUID == uid
    assert report.PatientName == segmentation.PatientName == "Doe^Jane"
    assert len(segmentation.SegmentSequence) >= 5
    assert "111245" not in report.to_json()
