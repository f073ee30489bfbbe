from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cspine.phantom.dicom_study import Order, StudyOptions, series_uid, study_uid, write_study
from cspine.volume import Grid, Volume

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
]


@pytest.fixture
def volume() -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 0.5], [0, 0.7, 0], [1.25, 0, 0]])
    affine[:3, 3] = (-10, -20.123456789, 30)
    hu = np.random.default_rng(0).integers(-1024, 3000, (6, 40, 46)).astype(np.int16)
    return Volume(Grid(hu.shape, affine), hu)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_keeps_every_value(tmp_path, volume, syntax):
    paths = write_study(volume, tmp_path, StudyOptions(transfer_syntax=syntax))
    images = [dcmread(path) for path in paths]
    assert {ds.file_meta.TransferSyntaxUID for ds in images} == {syntax}
    stored = np.stack([ds.pixel_array for ds in images]).astype(int)
    np.testing.assert_array_equal(stored - 1024, volume.hu)


def test_slices_stand_where_the_grid_says(tmp_path, volume):
    paths = write_study(volume, tmp_path)
    for k, path in enumerate(paths):
        np.testing.assert_allclose(
            dcmread(path).ImagePositionPatient, volume.grid.to_lps_mm((k, 0, 0)), atol=1e-9
        )
    first = dcmread(paths[0])
    assert list(first.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert list(first.PixelSpacing) == [0.7, 0.5]
    assert first.SliceThickness == 1.25


def test_the_order_changes_numbers_and_names_but_not_places(tmp_path, volume):
    ascending = write_study(volume, tmp_path / "a")
    descending = write_study(volume, tmp_path / "d", StudyOptions(order=Order.DESCENDING))
    shuffled = write_study(volume, tmp_path / "s", StudyOptions(order=Order.SHUFFLED))
    assert [path.name for path in descending] == [path.name for path in reversed(ascending)]
    assert sorted(path.name for path in shuffled) == [path.name for path in ascending] != list(shuffled)
    for path in (ascending[2], descending[2], shuffled[2]):
        assert dcmread(path).ImagePositionPatient[2] == volume.grid.to_lps_mm((2, 0, 0))[2]


def test_the_same_options_give_the_same_uids_and_another_series_shares_the_study(tmp_path, volume):
    options = StudyOptions(seed=3)
    other = replace(options, series_number=5)
    one = dcmread(write_study(volume, tmp_path / "1", options)[0])
    again = dcmread(write_study(volume, tmp_path / "2", options)[0])
    second = dcmread(write_study(volume, tmp_path / "3", other)[0])
    assert one.SOPInstanceUID == again.SOPInstanceUID
    assert (one.StudyInstanceUID, one.SeriesInstanceUID) == (study_uid(options), series_uid(options))
    assert second.StudyInstanceUID == one.StudyInstanceUID
    assert second.SeriesInstanceUID != one.SeriesInstanceUID


def test_a_tilted_study_is_sheared_along_its_columns(tmp_path, volume):
    images = [dcmread(path) for path in write_study(volume, tmp_path, StudyOptions(tilt_deg=20))]
    along, down = np.array(images[0].ImageOrientationPatient).reshape(2, 3)
    step = np.subtract(images[1].ImagePositionPatient, images[0].ImagePositionPatient)
    np.testing.assert_allclose(step, (0, 0, 1.25), atol=1e-9)
    assert step @ down == pytest.approx(-1.25 * np.sin(np.deg2rad(20)))
    assert step @ np.cross(along, down) == pytest.approx(1.25 * np.cos(np.deg2rad(20)))


def test_a_volume_with_slanted_axes_is_refused(tmp_path, volume):
    slanted = volume.grid.affine_lps.copy()
    slanted[0, 0] = 0.3
    with pytest.raises(ValueError, match="right angles"):
        write_study(Volume(Grid(volume.grid.shape, slanted), volume.hu), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        *(StudyOptions(transfer_syntax=syntax) for syntax in SYNTAXES),
        StudyOptions(tilt_deg=-15, order=Order.SHUFFLED, patient_name="Mustermann^Jürgen=山田"),
        StudyOptions(enhanced=True),
        StudyOptions(enhanced=True, transfer_syntax=RLELossless, order=Order.DESCENDING),
    ],
    ids=lambda options: f"{options.transfer_syntax}-{options.tilt_deg}-{options.enhanced}",
)
def test_the_validator_finds_no_error(tmp_path, volume, options, service):
    service("dciodvfy", shutil.which("dciodvfy"))
    path = write_study(volume, tmp_path, options)[0]
    report = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False).stderr
    assert "Error" not in report
    assert "Warning" not in report
