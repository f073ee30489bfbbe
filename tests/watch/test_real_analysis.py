"""From a scanner's C-STORE to SR and SEG in the PACS, with the networks that come along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_attributes import study_uid
from fracture_map.phantom_study import write_neck
from fracture_map.supervise import CHILD

pytestmark = pytest.mark.service("orthanc")
SEED = 7


@pytest.fixture(scope="module")
def neck(tmp_path_factory) -> tuple[Path, ...]:
    """The images of a small synthetic neck."""
    folder = tmp_path_factory.mktemp("neck")
    options = PhantomOptions(patient_name="Doe^Jane", patient_id="SECRET-4711", seed=SEED)
    write_neck(folder, options, (64, 72, 72), (3.2, 2.2, 2.0))
    return tuple(sorted(folder.iterdir()))


@pytest.mark.timeout(3000)
def test_a_neck_sent_in_pieces_to_a_watcher_that_is_killed_gets_one_report_and_one_segmentation(
    site, neck, start_process, with_settings
):
    uid = str(study_uid(PhantomOptions(seed=SEED)))
    wanted = with_settings(site.options(), incomplete_after_s=3600.0, lease_s=2.0)
    wanted = replace(wanted, study=replace(wanted.study, command=CHILD, device="cpu", timeout_s=900.0))
    process = start_process(wanted)
    site.orthanc.c_store(*neck[:25], *neck[40:])  # the middle is still on its way
    site.wait_until(lambda: site.states(wanted).get(uid) == "incomplete")
    assert not site.orthanc.reports(uid)
    site.orthanc.c_store(*neck[25:40])
    site.wait_until(lambda: site.is_claimed(wanted, uid))
    process.kill()
    process.join()
    start_process(wanted)
    site.wait_until(lambda: site.states(wanted).get(uid) == "done", 900)
    (report,), (segmentation,) = site.orthanc.reports(uid), site.orthanc.segmentations(uid)
    assert report.StudyInstanceUID == segmentation.StudyInstanceUID == uid
    assert report.PatientName == segmentation.PatientName == "Doe^Jane"
    assert len(segmentation.SegmentSequence) >= 5
    assert "111245" not in report.to_json()
