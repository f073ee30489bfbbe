"""Images and labels as files."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from cspine.errors import InputError
from cspine.volume import Grid
from cspine_label.errors import ConflictError, RefusedLabelError, UnknownNameError
from cspine_label.folder_images import FolderImages
from cspine_label.images import read_label, read_volume, write_image


@pytest.fixture
def grid() -> Grid:
    """Oblique, all axes different."""
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, 0] = 2.0 * np.array([0, -np.sin(angle), np.cos(angle)])
    affine[:3, 1] = 0.7 * np.array([0, np.cos(angle), np.sin(angle)])
    affine[:3, 2] = 0.5 * np.array([1, 0, 0])
    affine[:3, 3] = (-11, 22, 33)
    return Grid((4, 5, 6), affine)


@pytest.fixture
def values(grid) -> np.ndarray:
    return np.arange(120, dtype=np.int16).reshape(grid.shape)


def test_a_nifti_file_comes_back_on_the_same_grid(grid, values, tmp_path):
    write_image(values, grid, tmp_path / "image.nii.gz")
    volume = read_volume(tmp_path / "image.nii.gz")
    assert volume.grid.same_as(grid)
    assert np.array_equal(volume.hu, values)


def test_nifti_voxels_stand_where_nibabel_says_in_ras(grid, values, tmp_path):
    write_image(values, grid, tmp_path / "image.nii")
    image = nibabel.load(tmp_path / "image.nii")
    ras = image.affine @ (5, 1, 3, 1)
    assert np.allclose(ras[:3] * (-1, -1, 1), grid.to_lps_mm((3, 1, 5)))
    assert image.get_fdata()[5, 1, 3] == values[3, 1, 5]


def test_a_label_saved_in_another_orientation_is_put_on_the_image(grid, values, tmp_path):
    write_image(values.astype(np.uint8), grid, tmp_path / "label.nii.gz")
    turned = nibabel.as_closest_canonical(nibabel.load(tmp_path / "label.nii.gz"))
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    assert np.array_equal(read_label(tmp_path / "turned.nii.gz", grid), values)


def test_raw_bytes_are_taken_for_the_image_s_voxels_or_refused_by_count(grid, values, tmp_path):
    (tmp_path / "label.bin").write_bytes(values.astype(np.uint8).tobytes())
    assert np.array_equal(read_label(tmp_path / "label.bin", grid), values)
    (tmp_path / "label.bin").write_bytes(bytes(119))
    with pytest.raises(RefusedLabelError, match="119 voxels, the image 6 x 5 x 4"):
        read_label(tmp_path / "label.bin", grid)


def test_several_images_in_one_file_and_damaged_files_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 2)), np.eye(4)), tmp_path / "two.nii.gz")
    with pytest.raises(InputError, match="4 axes"):
        read_volume(tmp_path / "two.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_volume(tmp_path / "broken.nii.gz")


def test_a_folder_s_cases_are_files_and_dicom_folders_but_no_labels(grid, values, tmp_path):
    for name in ("a.nii.gz", "deep/er/b.nii", "labels/final/a.nii.gz", ".hidden/c.nii.gz", ".part-d.nii.gz"):
        write_image(values, grid, tmp_path / name)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    images = FolderImages(tmp_path)
    assert images.cases() == ("a", "deep__er__b", "series")
    assert images.read("deep__er__b").volume.grid.same_as(grid)
    with pytest.raises(UnknownNameError):
        images.read("deep/er/b")


def test_an_image_is_added_once_and_only_when_it_can_be_read(grid, values, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(values, grid, tmp_path / "new.nii.gz")
    images = FolderImages(studies)
    assert images.add("new.nii.gz", tmp_path / "new.nii.gz") == "new"
    with pytest.raises(ConflictError, match="already"):
        images.add("new", tmp_path / "new.nii.gz")
    with pytest.raises(InputError, match="letters, digits"):
        images.add("../up", tmp_path / "new.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read"):
        images.add("broken", tmp_path / "broken.nii.gz")
    assert images.cases() == ("new",)
