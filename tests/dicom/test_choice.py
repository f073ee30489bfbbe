from __future__ import annotations

import numpy as np
import pytest

from cspine.dicom import read_ct
from cspine.dicom.choice import Kernel
from cspine.errors import InputError, NoUsableSeriesError
from cspine.phantom.dicom_study import StudyOptions
from cspine.volume import Grid, Volume

THIN = {"slice_thickness_mm": 1.0}


@pytest.fixture
def chosen(write):
    """A function that writes several series of one study and returns the Series Number that is read."""

    def choose(*options: dict) -> int:
        for number, series in enumerate(options, start=1):
            paths = write(f"study/{number}", StudyOptions(series_number=number, **series))
        return int(read_ct(paths[0].parents[1]).headers[0].SeriesNumber)

    return choose


def test_a_bone_kernel_goes_before_a_soft_one(chosen):
    assert chosen({"kernel": "STANDARD"}, {"kernel": "BONE"}, {"kernel": "SOFT"}) == 2


def test_thin_slices_go_before_thick_ones(chosen):
    assert chosen({"slice_thickness_mm": 3.0}, {"slice_thickness_mm": 1.25}, {"slice_thickness_mm": 2.0}) == 2


def test_thin_soft_slices_go_before_limited_bone_ones(chosen):
    assert chosen({"kernel": "BONE", "slice_thickness_mm": 2.0}, {"kernel": "STANDARD"}) == 2


def test_a_series_called_neck_goes_before_one_called_head(chosen):
    head = {"series_description": "Head bone 0.6", "body_part": "HEAD"}
    neck = {"series_description": "HWS 1.0", "body_part": "", "kernel": "STANDARD"}
    assert chosen(head, neck) == 2


def test_equal_series_are_chosen_by_number_whatever_the_order_of_files(write):
    for folder, number in (("z", 1), ("a", 2)):
        paths = write(f"study/{folder}", StudyOptions(series_number=number))
    assert read_ct(paths[0].parents[1]).headers[0].SeriesNumber == 1


def test_every_other_series_is_accounted_for(write):
    write("study/1", StudyOptions(series_number=1, kernel="STANDARD"))
    paths = write("study/2", StudyOptions(series_number=2))
    left_out = read_ct(paths[0].parents[1]).left_out
    assert [(left.count, left.reason) for left in left_out] == [(12, "Series 1: Series 2 was preferred")]


def test_a_broken_best_series_is_passed_over_with_a_warning(write):
    paths = write("study/1", StudyOptions(series_number=1))
    paths[5].unlink()
    write("study/2", StudyOptions(series_number=2, kernel="STANDARD"))
    series = read_ct(paths[0].parents[1])
    assert series.headers[0].SeriesNumber == 2
    assert series.warnings[0].startswith("Series 1 was not used: Slices are missing")
    assert series.left_out[0].count == 11


def test_the_error_of_the_best_series_is_given_where_none_can_be_used(write):
    for number, kernel in ((1, "STANDARD"), (2, "BONE")):
        paths = write(f"study/{number}", StudyOptions(series_number=number, kernel=kernel))
        paths[5 + number].unlink()
    with pytest.raises(InputError, match="between slices 7 and 8 of 11"):
        read_ct(paths[0].parents[1])


def test_a_broken_axial_series_tells_more_than_a_sagittal_one(write, volume):
    affine = volume.grid.affine_lps[:, [2, 1, 0, 3]]
    sagittal = Volume(Grid(volume.grid.shape[::-1], affine), np.ascontiguousarray(volume.hu.T))
    write("study/1", StudyOptions(series_number=1), sagittal)
    paths = write("study/2", StudyOptions(series_number=2, kernel="STANDARD"))
    paths[5].unlink()
    with pytest.raises(InputError, match="Slices are missing"):
        read_ct(paths[0].parents[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "derived images"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"]}, "derived images"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]}, "parametric maps such as perfusion"),
        ({"Modality": "MR"}, "modality MR, not CT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary captures"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour images"),
        ({"RescaleType": "HU_MOD"}, "not Hounsfield units"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_original_ct_is_left_out_and_said(write, edit, change, words):
    paths = write("study/1", StudyOptions(series_number=1))

    def apply(ds, _):
        for keyword, value in change.items():
            setattr(ds, keyword, value)

    edit(paths, apply)
    with pytest.raises(NoUsableSeriesError, match=f"12 x .*{words}"):
        read_ct(paths[0].parents[1])
    write("study/2", StudyOptions(series_number=2, kernel="STANDARD"))
    series = read_ct(paths[0].parents[1])
    assert series.headers[0].SeriesNumber == 2
    assert series.left_out[0].count == 12
    assert words in series.left_out[0].reason


def test_a_localizer_inside_the_series_is_left_out(write, edit, volume):
    paths = write()
    scout = paths[0].parent / "scout.dcm"
    scout.write_bytes(paths[0].read_bytes())

    def to_scout(ds, _):
        ds.ImageType, ds.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [0, 1, 0, 0, 0, -1]

    edit([scout], to_scout)
    series = read_ct(paths[0].parent)
    assert series.volume.grid.same_as(volume.grid)
    assert [(left.count, left.reason) for left in series.left_out] == [(1, "localizer (scout) images")]


def test_perfusion_maps_in_a_multi_frame_image_are_refused_for_what_they_are(write, edit):
    paths = write(options=StudyOptions(enhanced=True))
    edit(paths, lambda ds, _: setattr(ds, "ImageType", ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]))
    with pytest.raises(NoUsableSeriesError, match="parametric maps such as perfusion"):
        read_ct(paths[0])


def test_multi_energy_values_in_a_multi_frame_image_are_refused_for_what_they_are(write, edit):
    paths = write(options=StudyOptions(enhanced=True))

    def to_effective_number(ds, _):
        shared = ds.SharedFunctionalGroupsSequence[0]
        shared.PixelValueTransformationSequence[0].RescaleType = "Z_EFF"

    edit(paths, to_effective_number)
    with pytest.raises(NoUsableSeriesError, match="not Hounsfield units"):
        read_ct(paths[0])


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("BONE", Kernel.BONE),
        ("BONEPLUS", Kernel.BONE),
        ("EDGE", Kernel.BONE),
        ("B60s", Kernel.BONE),
        ("H70h", Kernel.BONE),
        (["Br64d", "3"], Kernel.BONE),
        ("FC30", Kernel.BONE),
        ("FC81", Kernel.BONE),
        ("YB", Kernel.BONE),
        ("D", Kernel.BONE),
        ("STANDARD", Kernel.SOFT),
        ("SOFT", Kernel.SOFT),
        ("B30s", Kernel.SOFT),
        (["Br38f", "3"], Kernel.SOFT),
        ("FC08", Kernel.SOFT),
        ("UB", Kernel.SOFT),
        ("B", Kernel.SOFT),
    ],
)
def test_vendors_kernels_are_told_apart(write, edit, kernel, kind):
    paths = write()
    edit(paths, lambda ds, _: setattr(ds, "ConvolutionKernel", kernel))
    warned = any("soft-tissue kernel" in warning for warning in read_ct(paths[0].parent).warnings)
    assert warned == (kind is Kernel.SOFT)
