from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1

from cspine.anatomy import CERVICAL
from cspine.datasets.rsna.boxes import VoxelBox
from cspine.datasets.rsna.masks import read_mask
from cspine.datasets.rsna.study import DEFECTIVE, RsnaData
from cspine.datasets.rsna.tables import read_boxes, read_labels
from cspine.dicom import build_report, build_segmentation, to_bytes, verify_report, verify_segmentation
from cspine.errors import InputError
from cspine.findings import FractureScores, LevelScore, ModelVersion, OperatingPoint
from cspine.pipeline import assess

COLUMNS = "StudyInstanceUID,patient_overall,C1,C2,C3,C4,C5,C6,C7"
ALL = (101, 102, 103, 104, 105, 106)


def table(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("number", ALL)
def test_every_study_is_read_as_it_was_rendered_however_it_is_stored(small, number: int):
    ct = small.study(number).read()
    volume, labels, _ = small.truth(number)
    assert ct.unreadable == ()
    assert ct.series.volume.grid.same_as(volume.grid)
    assert np.array_equal(ct.series.volume.hu, volume.hu)
    if small.written[number].masked:
        assert np.array_equal(ct.labels, np.where(labels <= 8, labels, 0))
    else:
        assert ct.labels is None


def test_the_layout_has_the_quirks_of_the_real_one(small):
    images = {n: small.root / "train_images" / small.written[n].uid / "1.dcm" for n in ALL}
    assert dcmread(images[102]).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    first, reversed_ = (dcmread(images[n]).ImagePositionPatient[2] for n in (101, 103))
    last = dcmread(images[103].with_name(f"{small.written[103].grid.shape[0]}.dcm")).ImagePositionPatient[2]
    assert first > dcmread(images[101].with_name("2.dcm")).ImagePositionPatient[2]
    assert reversed_ < last
    for absent in ("SOPClassUID", "Modality", "ImageType", "ConvolutionKernel", "FrameOfReferenceUID"):
        assert absent not in dcmread(images[101])
    import nibabel

    mask = nibabel.load(small.root / "segmentations" / f"{small.written[101].uid}.nii")
    assert nibabel.aff2axcodes(mask.affine) != ("L", "P", "S")
    assert mask.shape != small.written[101].grid.shape
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}


def test_headers_that_say_neither_modality_nor_sop_class_are_enough_to_write_results(small, as_mask):
    series = small.study(101).read().series
    volume, labels, _ = small.truth(101)
    mask = as_mask(volume, labels)
    scores = {v: LevelScore(0.2, tuple(mask.center_lps_mm(v).tolist())) for v in CERVICAL}
    found = assess(series.volume, mask, FractureScores(scores, 0.2), OperatingPoint())
    models = (ModelVersion("network", "1", "0" * 64),)
    found = replace(found, study_uid=series.study_uid, series_uid=series.series_uid, models=models)
    segmentation = build_segmentation(series, mask, found)
    verify_segmentation(to_bytes(segmentation), series, mask)
    verify_report(to_bytes(build_report(series, found, segmentation)), found)


@pytest.mark.parametrize("number", [101, 103])
def test_boxes_enclose_the_broken_voxels_of_their_slices(small, number: int):
    ct = small.study(number).read()
    _, _, broken = small.truth(number)
    assert ct.boxes
    assert ct.lost_boxes == 0
    for box in ct.boxes:
        rows, columns = np.nonzero(broken[box.slice])
        inside = (
            (rows > box.rows[0])
            & (rows < box.rows[1])
            & (columns > box.columns[0])
            & (columns < box.columns[1])
        )
        assert inside.sum() >= 3


def test_a_box_has_its_place_in_millimetres(small):
    grid = small.written[101].grid
    box = VoxelBox(4, (9.5, 12.5), (19.5, 21.5))
    low, high = box.box_lps_mm(grid)
    assert np.allclose((low + high) / 2, grid.to_lps_mm((4, 11, 20.5)))
    assert np.allclose(high - low, (2 * 2.0, 3 * 2.0, 2.5))


def test_a_box_in_an_image_that_is_not_there_is_counted(copied):
    small = copied(101)
    path, boxes = small.root / "train_bounding_boxes.csv", small.study(101).boxes
    table(path, f"{path.read_text()}{small.written[101].uid},1,1,5,5,9999\n")
    ct = small.study(101).read()
    assert ct.lost_boxes == 1
    assert len(ct.boxes) == len(boxes)


def test_labels_say_which_levels_are_broken(small):
    for number in ALL:
        broken = {v for v in CERVICAL if small.study(number).fractured[v]}
        assert broken == set(small.written[number].neck.fractured)


def test_an_unreadable_slice_at_an_end_is_left_out_and_named(copied):
    small = copied(101)
    (small.study(101).images / "1.dcm").write_bytes(b"cut off")
    ct = small.study(101).read()
    assert ct.unreadable == ("1.dcm",)
    assert ct.series.volume.grid.shape[0] == small.written[101].grid.shape[0] - 1


def test_a_truncated_slice_at_an_end_is_left_out_and_named(copied):
    small = copied(102)
    path = small.study(102).images / "1.dcm"
    path.write_bytes(path.read_bytes()[:-2000])
    ct = small.study(102).read()
    assert ct.unreadable == ("1.dcm",)
    assert ct.labels is not None


def test_an_unreadable_slice_in_the_middle_is_a_gap_that_is_refused(copied):
    small = copied(101)
    path = small.study(101).images / "30.dcm"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"1 slices cannot be read \('30.dcm'\), and without them: "):
        small.study(101).read()


def test_studies_without_images_and_defective_ones_are_counted(copied):
    small = copied(101, 102)
    lines = (small.root / "train.csv").read_text().splitlines()
    table(small.root / "train.csv", "\n".join([*lines, f"{DEFECTIVE[0]},0,0,0,0,0,0,0,0"]))
    data = small.data
    assert (len(data.studies), data.without_images, data.excluded) == (2, 4, 1)


def test_data_without_any_mask_are_refused(copied):
    small = copied(104)
    with pytest.raises(InputError, match="holds no mask of a study"):
        RsnaData.open(small.root)


def test_a_folder_without_images_is_refused(copied):
    with pytest.raises(InputError, match=r"holds no study of train\.csv"):
        RsnaData.open(copied().root)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="is no folder"):
        RsnaData.open(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"train\.csv cannot be read \(No such file"):
        RsnaData.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("StudyInstanceUID,patient_overall,C1,C2,C3,C5,C6,C7\n1,0,0,0,0,0,0,0\n", "no column 'C4'"),
        (COLUMNS + "\n", "holds no study"),
        (COLUMNS + "\n1,0,0,0,x,0,0,0,0\n", "line 2: the labels"),
        (
            COLUMNS + "\n1,0,0,0,1,0,0,0,0\n",
            "line 2: patient_overall",
        ),
        (
            COLUMNS + "\n1,0,0,0,0,0,0,0,0\n1,0,0,0,0,0,0,0,0\n",
            "twice",
        ),
        (COLUMNS + "\n1,0,0\n", "line 2: the labels"),
    ],
)
def test_a_malformed_table_of_labels_is_refused_by_what_is_wrong(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        read_labels(table(tmp_path / "train.csv", text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("StudyInstanceUID,x,y,width,height\n1,2,3,4,5\n", "no column 'slice_number'"),
        ("StudyInstanceUID,x,y,width,height,slice_number\n1,2,a,4,5,6\n", "line 2: not all are numbers"),
        ("StudyInstanceUID,x,y,width,height,slice_number\n1,2,3,0,5,6\n", "line 2: the box is empty"),
    ],
)
def test_a_malformed_table_of_boxes_is_refused_by_what_is_wrong(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        read_boxes(table(tmp_path / "boxes.csv", text))


def test_a_damaged_mask_is_refused(copied):
    small = copied(101)
    study = small.study(101)
    study.mask.write_bytes(study.mask.read_bytes()[:500])
    with pytest.raises(InputError, match="mask cannot be read"):
        study.read()


def test_a_mask_with_unknown_labels_or_beside_the_images_is_refused(small, tmp_path: Path):
    import nibabel

    grid = small.written[101].grid
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), 33, np.uint8), np.eye(4)), tmp_path / "labels.nii")
    with pytest.raises(InputError, match="other labels than 0 to 19"):
        read_mask(tmp_path / "labels.nii", grid)
    far = np.eye(4)
    far[:3, 3] = 5000
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), 3, np.uint8), far), tmp_path / "far.nii")
    with pytest.raises(InputError, match="does not lie on the images"):
        read_mask(tmp_path / "far.nii", grid)
