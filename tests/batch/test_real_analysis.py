"""A warm process says what a fresh one says, with the networks that come along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_study import write_study
from cspine.settings import models_dir
from cspine.volume import Grid, Volume
from fracture_map import names
from fracture_map.batch.entries import entries_of
from fracture_map.batch.one import Plan
from fracture_map.batch.pool import run_on_machine
from fracture_map.phantom_study import write_neck
from fracture_map.study import StudyOptions, run_study
from fracture_map.supervise import StopFlag

SEED = 7


def write_noise(folder: Path) -> None:
    affine = np.array([[0, 0, 0.75, -15], [0, 1.25, 0, -30], [2, 0, 0, 100], [0, 0, 0, 1]], float)
    hu = np.random.default_rng(3).integers(-1000, 1200, (12, 40, 48)).astype(np.int16)
    write_study(Volume(Grid(hu.shape, affine), hu), folder, PhantomOptions(seed=SEED + 1))


def findings(folder: Path) -> dict[str, object]:
    content = json.loads((folder / names.FINDINGS).read_bytes())
    del content["seconds"]
    return content


def masks(folder: Path) -> np.ndarray:
    return dcmread(folder / names.SEGMENTATION).pixel_array


@pytest.mark.timeout(3000)
def test_the_second_study_of_a_warm_process_gets_what_a_fresh_process_finds(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    write_neck(root / "a", PhantomOptions(seed=SEED), (64, 72, 72), (3.2, 2.2, 2.0))
    write_noise(root / "b")
    shutil.copytree(root / "a", root / "c")
    options = StudyOptions(root / "a", tmp_path / "alone", models_dir(), device="cpu", timeout_s=900)
    rows = {row["study"]: row for row in run_on_machine(entries_of(root, out), Plan(options, 1), StopFlag())}
    assert [rows[name]["exit_code"] for name in "abc"] == [0, 3, 0]
    assert run_study(options, StopFlag()).error is None
    assert findings(out / "a") == findings(out / "c") == findings(tmp_path / "alone")
    alone = masks(tmp_path / "alone")
    assert alone.any()
    for warm in "ac":
        np.testing.assert_array_equal(masks(out / warm), alone)
