from __future__ import annotations

import io
import os
import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.fileset import FileSet

from cspine.dicom import archive, read_ct, read_evidence, read_identity
from cspine.errors import InputError
from cspine.phantom.dicom_study import StudyOptions


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in members:
            target.writestr(name, data)
    return path


def study_zip(paths, target: Path) -> Path:
    return zip_of(target, *((f"study/a/{path.name}", path.read_bytes()) for path in paths))


def test_an_input_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_ct(tmp_path / "nothing")


def test_an_input_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read_ct(tmp_path / "pipe")


def test_an_input_whose_name_is_too_long_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_ct(tmp_path / ("x" * 300))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no DICOM file"):
        read_ct(tmp_path)


def test_a_file_of_noise_is_refused(tmp_path):
    noise = tmp_path / "noise.dcm"
    noise.write_bytes(np.random.default_rng(0).bytes(70_000))
    with pytest.raises(InputError, match="holds no DICOM file"):
        read_ct(noise)


def test_stray_files_in_any_folder_are_ignored_and_counted(write, volume):
    folder = write()[0].parent
    (folder / "README.txt").write_text("hello")
    (folder / "empty.dcm").touch()
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "Thumbs.db").write_bytes(b"\0" * 999)
    series = read_ct(folder)
    np.testing.assert_array_equal(series.volume.hu, volume.hu)
    assert [(left.count, left.reason) for left in series.left_out] == [(3, "files that are not DICOM")]


def test_a_truncated_slice_is_refused_by_its_name_without_its_folders(write):
    paths = write()
    paths[3].write_bytes(paths[3].read_bytes()[:-100])
    with pytest.raises(InputError, match=r"'CT00004.dcm' is truncated") as caught:
        read_ct(paths[0].parent)
    assert str(paths[0].parent) not in str(caught.value)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"]
)
def test_a_truncated_compressed_slice_is_refused_by_its_name(write, syntax):
    paths = write(options=StudyOptions(transfer_syntax=syntax))
    paths[3].write_bytes(paths[3].read_bytes()[:-500])
    with pytest.raises(InputError, match=r"'CT00004.dcm'"):
        read_ct(paths[0].parent)


@pytest.mark.parametrize("size", [140, 300, 700, 1000])
def test_a_slice_that_ends_in_its_header_is_refused_by_its_name(write, size):
    paths = write()
    paths[3].write_bytes(paths[3].read_bytes()[:size])
    with pytest.raises(InputError, match=r"'CT00004.dcm'"):
        read_ct(paths[0].parent)


def test_slices_without_pixels_are_refused(write, edit):
    paths = write()
    edit(paths[2:5], lambda ds, _: ds.__delitem__("PixelData"))
    with pytest.raises(InputError, match=r"3 of 12 CT images hold no pixels \('CT00003.dcm'\)"):
        read_ct(paths[0].parent)


def test_nothing_is_written_beside_the_input(write, tmp_path):
    paths = write()
    before = sorted(tmp_path.rglob("*"))
    folder = paths[0].parent
    folder.chmod(0o555)
    try:
        read_ct(folder)
    finally:
        folder.chmod(0o755)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_is_unpacked_elsewhere_and_nothing_stays(write, volume, tmp_path, monkeypatch):
    source = study_zip(write(), tmp_path / "study.zip")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    np.testing.assert_array_equal(read_ct(source).volume.hu, volume.hu)
    assert list(scratch.iterdir()) == []


def test_a_zip_is_known_by_its_content_not_its_name(write, volume, tmp_path):
    source = study_zip(write(), tmp_path / "study.download")
    np.testing.assert_array_equal(read_ct(source).volume.hu, volume.hu)


@pytest.mark.parametrize(
    "name", ["../evil.dcm", "/etc/evil.dcm", "a/../../evil.dcm", "..\\evil.dcm", "C:\\evil.dcm"]
)
def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path, name):
    source = zip_of(tmp_path / "evil.zip", (zipfile.ZipInfo(name), b"evil"))
    with pytest.raises(InputError, match="name that leads out"):
        read_ct(source)
    assert not list(tmp_path.parent.rglob("evil.dcm"))


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match="link"):
        read_ct(zip_of(tmp_path / "link.zip", (link, b"/etc/passwd")))


def test_an_encrypted_zip_is_refused(write, tmp_path):
    source = study_zip(write(), tmp_path / "study.zip")
    data = bytearray(source.read_bytes())
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 8] |= 1
    source.write_bytes(data)
    with pytest.raises(InputError, match="encrypted"):
        read_ct(source)


def test_a_zip_that_unpacks_to_too_much_is_stopped_by_what_comes_out(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "RATIO_FREE_BYTES", 2**20)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    bomb = zip_of(tmp_path / "bomb.zip", ("zeros.dcm", bytes(64 * 2**20)))
    with pytest.raises(InputError, match="far more than a study"):
        read_ct(bomb)
    assert list(scratch.iterdir()) == []


def test_a_zip_with_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 5)
    source = zip_of(tmp_path / "many.zip", *((f"{k}.dcm", b"") for k in range(6)))
    with pytest.raises(InputError, match="holds 6 files; at most 5"):
        read_ct(source)


def test_a_damaged_zip_is_refused(write, tmp_path):
    source = study_zip(write(), tmp_path / "study.zip")
    data = bytearray(source.read_bytes())
    data[200:260] = bytes(60)
    source.write_bytes(data)
    with pytest.raises(InputError, match="zip file is damaged"):
        read_ct(source)


def test_a_zip_in_a_zip_is_a_stray_file(write, tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as target:
        target.writestr("x", b"y" * 1000)
    paths = write()
    source = zip_of(
        tmp_path / "study.zip", *((p.name, p.read_bytes()) for p in paths), ("inner.zip", inner.getvalue())
    )
    assert read_ct(source).left_out[0].count == 1


@pytest.fixture
def medium(write, tmp_path) -> Path:
    files = FileSet()
    for path in write():
        files.add(path)
    files.write(tmp_path / "medium")
    return tmp_path / "medium"


def test_a_dicomdir_stands_for_the_files_beside_it(medium, volume):
    for source in (medium / "DICOMDIR", medium):
        series = read_ct(source)
        np.testing.assert_array_equal(series.volume.hu, volume.hu)
        assert [left.reason for left in series.left_out] == ["DICOMDIR, not an image"]


def test_a_dicomdir_whose_files_are_missing_is_refused_by_how_many(medium):
    images = sorted(path for path in medium.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    for path in images[-2:]:
        path.unlink()
    with pytest.raises(InputError, match="names 12 files and 2 of them are missing"):
        read_ct(medium / "DICOMDIR")


def test_a_dicomdir_copied_to_lower_case_still_finds_its_files(medium, volume):
    for path in sorted(medium.rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    np.testing.assert_array_equal(read_ct(medium / "DICOMDIR").volume.hu, volume.hu)


def test_links_to_folders_are_not_followed(write, tmp_path):
    folder = write()[0].parent
    (folder / "again").symlink_to(folder)
    assert read_ct(folder).left_out == ()


def test_evidence_of_a_study_that_cannot_be_analysed_is_a_few_headers(write, edit):
    paths = write()
    paths[5].unlink()
    (header,) = read_evidence(paths[0].parent)
    assert header.PatientID == "PHANTOM-1"
    assert "PixelData" not in header
    assert read_identity(paths[0].parent).SOPInstanceUID == header.SOPInstanceUID


def test_there_is_no_identity_where_there_is_no_study(tmp_path):
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    assert read_identity(tmp_path) is None
    assert read_identity(tmp_path / "nothing") is None
    assert read_evidence(zip_of(tmp_path / "x.zip", ("../x", b""))) == ()
