from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cspine.dicom import read_ct
from cspine.errors import InputError
from cspine.phantom.dicom_study import Order, StudyOptions, series_uid, study_uid
from cspine.volume import Grid, Volume


def assert_same(series, volume):
    assert series.volume.grid.same_as(volume.grid, 1e-6)
    np.testing.assert_array_equal(series.volume.hu, volume.hu)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
        JPEGLosslessSV1,
    ],
)
@pytest.mark.parametrize("enhanced", [False, True])
def test_every_lossless_syntax_is_read_bit_for_bit(write, volume, syntax, enhanced):
    paths = write(options=StudyOptions(transfer_syntax=syntax, enhanced=enhanced))
    series = read_ct(paths[0].parent)
    assert_same(series, volume)
    assert series.shear_px is None
    assert series.warnings == ()
    assert series.left_out == ()


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("enhanced", [False, True])
def test_slices_are_sorted_by_where_they_are_not_by_name_or_number(write, volume, order, enhanced):
    series = read_ct(write(options=StudyOptions(order=order, enhanced=enhanced))[0].parent)
    assert_same(series, volume)


def test_headers_uids_and_frame_numbers_follow_the_slices(write, volume):
    options = StudyOptions(order=Order.SHUFFLED)
    paths = write(options=options)
    series = read_ct(paths[0].parent)
    uids = [str(dcmread(path).SOPInstanceUID) for path in paths]
    assert list(series.volume.slice_uids) == uids
    assert [str(header.SOPInstanceUID) for header in series.headers] == uids
    assert series.frame_numbers == (1,) * 12
    assert series.source_shape == (40, 36)
    assert not series.is_multiframe
    assert (series.study_uid, series.series_uid) == (study_uid(options), series_uid(options))
    assert all("PixelData" not in header for header in series.headers)


def test_a_multi_frame_image_has_one_header_and_a_frame_for_each_slice(write, volume):
    series = read_ct(write(options=StudyOptions(enhanced=True, order=Order.DESCENDING))[0].parent)
    assert len(series.headers) == 1
    assert series.is_multiframe
    assert series.frame_numbers == tuple(range(12, 0, -1))
    assert len(set(series.volume.slice_uids)) == 1


def test_each_frame_of_a_multi_frame_image_may_have_its_own_rescaling(write, edit, volume):
    paths = write(options=StudyOptions(enhanced=True))

    def give_each_frame_its_own(ds, _):
        shared = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        for k, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
            groups.PixelValueTransformationSequence = [deepcopy(shared[0])]
            groups.PixelValueTransformationSequence[0].RescaleIntercept = -1024 + k

    edit(paths, give_each_frame_its_own)
    series = read_ct(paths[0])
    np.testing.assert_array_equal(series.volume.hu, volume.hu + np.arange(12, dtype=np.int16)[:, None, None])


def test_stack_numbers_of_a_multi_frame_image_do_not_move_its_frames(write, edit, volume):
    paths = write(options=StudyOptions(enhanced=True))

    def mix_up(ds, _):
        for k, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
            content = groups.FrameContentSequence[0]
            content.InStackPositionNumber = (k * 5) % 12 + 1
            content.DimensionIndexValues = [1, (k * 5) % 12 + 1]

    edit(paths, mix_up)
    assert_same(read_ct(paths[0]), volume)


def test_a_multi_frame_image_that_describes_too_few_frames_is_refused(write, edit):
    paths = write(options=StudyOptions(enhanced=True))
    edit(paths, lambda ds, _: ds.PerFrameFunctionalGroupsSequence.pop())
    with pytest.raises(InputError, match="says it has 12 frames but describes 11"):
        read_ct(paths[0])


def test_a_big_endian_series_is_read(write, edit, volume):
    paths = write()

    for path in paths:
        ds = dcmread(path)
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
        list(ds.iterall())  # parse every value while its bytes are still little endian
        dcmwrite(path, ds, implicit_vr=False, little_endian=False, force_encoding=True)
    assert_same(read_ct(paths[0].parent), volume)


def test_a_deflated_series_is_read(write, volume):
    paths = write()
    for path in paths:
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        ds.save_as(path)
    assert_same(read_ct(paths[0].parent), volume)


def test_files_without_preamble_are_read(write, volume):
    paths = write()
    for path in paths:
        path.write_bytes(path.read_bytes()[132:])
    assert_same(read_ct(paths[0].parent), volume)


def test_a_series_without_preamble_and_without_meta_information_is_read(write, volume):
    paths = write(options=StudyOptions(transfer_syntax=ImplicitVRLittleEndian))
    for path in paths:
        data = path.read_bytes()
        group_length = int.from_bytes(data[140:144], "little")
        path.write_bytes(data[144 + group_length :])
    assert_same(read_ct(paths[0].parent), volume)


def test_a_feet_first_series_is_read_where_it_lies(write, volume):
    """Feet first and turned: slices run to the feet along +normal, rows to the front."""
    affine = volume.grid.affine_lps.copy()
    affine[:3, :2] *= -1
    feet_first = Volume(Grid(volume.grid.shape, affine), volume.hu)
    assert_same(read_ct(write(of=feet_first)[0].parent), feet_first)


def test_slices_are_ordered_along_the_normal_of_the_images(write, volume):
    """A volume whose slices run against the normal comes back with its slices reversed, voxels in place."""
    flipped = Volume(volume.grid.cropped((11, 0, 0), volume.grid.shape), volume.hu)
    affine = flipped.grid.affine_lps.copy()
    affine[:3, 0] *= -1
    flipped = Volume(Grid(volume.grid.shape, affine), volume.hu)
    series = read_ct(write(of=flipped)[0].parent)
    assert series.volume.grid.same_as(volume.grid, 1e-6)
    np.testing.assert_array_equal(series.volume.hu, volume.hu[::-1])


def test_identical_copies_of_a_slice_are_dropped_and_counted(write, volume):
    paths = write()
    (paths[0].parent / "copy of a slice.dcm").write_bytes(paths[4].read_bytes())
    (paths[0].parent / "another.dcm").write_bytes(paths[7].read_bytes())
    series = read_ct(paths[0].parent)
    assert_same(series, volume)
    assert [(left.count, left.reason) for left in series.left_out] == [
        (2, "copies of slices that were already there")
    ]


def test_slices_that_differ_at_one_position_are_refused_by_name(write, edit):
    paths = write()
    other = paths[0].parent / "zz other.dcm"
    other.write_bytes(paths[4].read_bytes())

    def change_one_pixel(ds, _):
        pixels = np.frombuffer(ds.PixelData, "<u2").copy()
        pixels[77] ^= 1
        ds.PixelData = pixels.tobytes()
        ds.SOPInstanceUID += ".9"

    edit([other], change_one_pixel)
    with pytest.raises(InputError, match=r"'CT00005.dcm' and 'zz other.dcm'"):
        read_ct(paths[0].parent)


def test_a_second_acquisition_in_the_series_is_not_mixed_in(write, edit, set_position, volume):
    first = write("study/a")
    second = write("study/b", of=Volume(volume.grid, np.zeros_like(volume.hu)))

    def move(ds, k):
        ds.AcquisitionNumber, ds.SOPInstanceUID = 2, ds.SOPInstanceUID + ".2"
        set_position(ds, z=0.001)

    edit(second, move)
    series = read_ct(first[0].parents[1])
    assert_same(series, volume)
    assert [(left.count, left.reason) for left in series.left_out] == [
        (12, "Series 2, acquisition 2: Series 2, acquisition 1 was preferred")
    ]


def test_a_scanner_that_counts_every_step_as_an_acquisition_gives_one_series(write, edit, volume):
    paths = write()

    def number_steps(ds, k):
        ds.AcquisitionNumber = k // 2

    edit(paths, number_steps)
    assert_same(read_ct(paths[0].parent), volume)


def test_thick_slices_and_a_soft_kernel_are_warned_about(write):
    options = StudyOptions(slice_thickness_mm=2.5, kernel="STANDARD")
    series = read_ct(write(options=options)[0].parent)
    assert len(series.warnings) == 2
    assert "2.5 mm thick" in series.warnings[0]
    assert "soft-tissue kernel" in series.warnings[1]


def test_compression_that_may_be_lossy_is_warned_about(write, edit, volume):
    paths = write(options=StudyOptions(transfer_syntax=JPEG2000Lossless))
    edit(paths, lambda ds, _: setattr(ds.file_meta, "TransferSyntaxUID", JPEG2000))
    series = read_ct(paths[0].parent)
    np.testing.assert_array_equal(series.volume.hu, volume.hu)
    assert series.warnings == ("The images may have been compressed with loss (JPEG 2000).",)


def test_missing_identifiers_are_made_up_alike_each_time_and_said(write, edit):
    paths = write()

    def strip(ds, _):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            delattr(ds, keyword)

    edit(paths, strip)
    one, again = read_ct(paths[0].parent), read_ct(paths[0].parent)
    assert one.study_uid == again.study_uid != ""
    assert one.series_uid == again.series_uid != one.study_uid
    assert len({header.StudyInstanceUID for header in one.headers}) == 1
    assert "StudyInstanceUID" in one.warnings[0]


def test_another_number_of_threads_reads_the_same(write, volume):
    paths = write(options=StudyOptions(transfer_syntax=RLELossless))
    assert_same(read_ct(paths[0].parent, threads=1), volume)
    assert_same(read_ct(paths[0].parent, threads=5), volume)


def test_the_study_is_read_through_its_zip_as_from_its_folder(write, volume, tmp_path):
    folder = write(options=replace(StudyOptions(), order=Order.SHUFFLED))[0].parent
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", folder)

    assert_same(read_ct(Path(archive)), volume)
