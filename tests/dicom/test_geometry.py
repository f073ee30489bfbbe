from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cspine.dicom import read_ct
from cspine.errors import InputError, NoUsableSeriesError
from cspine.phantom.dicom_study import Order, StudyOptions
from cspine.volume import Grid, Volume


def folder_of(paths):
    return paths[0].parent


def test_a_missing_slice_is_refused_by_the_size_and_place_of_the_gap(write, volume):
    paths = write()
    paths[5].unlink()
    z = volume.grid.to_lps_mm([(4, 0, 0), (6, 0, 0)])[:, 2]
    with pytest.raises(InputError) as caught:
        read_ct(folder_of(paths))
    message = str(caught.value)
    assert "between slices 5 and 6 of 11" in message
    assert f"z = {z[0]:.1f} and {z[1]:.1f} mm" in message
    assert "2.50 mm where 1.25 mm are usual" in message


def test_of_several_gaps_the_widest_is_named(write):
    paths = write()
    for k in (2, 7, 8):
        paths[k].unlink()
    with pytest.raises(InputError, match=r"3\.75 mm where 1\.25 mm are usual \(2 gaps in all\)"):
        read_ct(folder_of(paths))


def test_jitter_of_some_micrometres_is_rounding(write, edit, set_position, volume):
    paths = write()
    edit(paths, lambda ds, k: set_position(ds, x=0.004 * (-1) ** k, z=0.004 * (-1) ** (k // 2)))
    series = read_ct(folder_of(paths))
    assert series.volume.grid.same_as(volume.grid, 0.01)
    np.testing.assert_array_equal(series.volume.hu, volume.hu)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(write, edit, volume):
    paths = write()

    def rounded(ds, _):
        ds.ImagePositionPatient = [f"{float(x):.1f}" for x in ds.ImagePositionPatient]

    edit(paths, rounded)
    assert read_ct(folder_of(paths)).volume.grid.same_as(volume.grid, 0.06)


def test_jitter_along_the_stack_is_refused_by_its_size(write, edit, set_position):
    paths = write()
    edit(paths[5:6], lambda ds, _: set_position(ds, z=0.2))
    with pytest.raises(InputError, match=r"unevenly spaced: one lies 0\.1\d mm off"):
        read_ct(folder_of(paths))


def test_jitter_within_the_plane_is_refused(write, edit, set_position):
    paths = write()
    edit(paths[5:6], lambda ds, _: set_position(ds, x=0.2))
    with pytest.raises(InputError, match="shifted sideways unevenly"):
        read_ct(folder_of(paths))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("pixel spacings", lambda ds: setattr(ds, "PixelSpacing", [0.6, 0.51])),
        ("orientations", lambda ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0, 0.995, 0.0998749])),
        ("frames of reference", lambda ds: setattr(ds, "FrameOfReferenceUID", "2.25.42")),
    ],
)
def test_a_series_that_mixes_images_is_refused_by_what_differs(write, edit, what, change):
    paths = write()
    edit(paths[6:], lambda ds, _: change(ds))
    with pytest.raises(InputError, match=f"mixes images of different {what}"):
        read_ct(folder_of(paths))


def test_a_series_that_mixes_matrix_sizes_is_refused(write, edit):
    paths = write()

    def crop(ds, _):
        ds.PixelData = ds.pixel_array[:30].tobytes()
        ds.Rows = 30

    edit(paths[6:], crop)
    with pytest.raises(InputError, match="mixes images of different matrix sizes"):
        read_ct(folder_of(paths))


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("ImagePositionPatient", r"Image Position \(Patient\)"),
        ("ImageOrientationPatient", r"Image Orientation \(Patient\)"),
        ("PixelSpacing", "Pixel Spacing"),
        ("RescaleSlope", "Rescale Slope"),
        ("RescaleIntercept", "Rescale Intercept"),
    ],
)
def test_images_that_lack_what_places_them_are_refused_by_its_name(write, edit, keyword, words):
    paths = write()
    edit(paths[3:5], lambda ds, _: delattr(ds, keyword))
    with pytest.raises(InputError, match=f"2 of 12 images have no .*{words}"):
        read_ct(folder_of(paths))


def test_an_orientation_that_is_no_pair_of_directions_is_refused(write, edit):
    paths = write()
    edit(paths, lambda ds, _: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0.5, 0.8, 0]))
    with pytest.raises(InputError, match="two perpendicular unit vectors"):
        read_ct(folder_of(paths))


def test_a_single_slice_is_no_volume(write):
    with pytest.raises(NoUsableSeriesError, match="single slice"):
        read_ct(write()[3])


def test_slices_all_at_one_position_are_refused_as_bolus_monitoring(write, edit, volume):
    paths = write()
    at = list(volume.grid.to_lps_mm((0, 0, 0)))

    def monitor(ds, k):
        ds.ImagePositionPatient, ds.AcquisitionNumber = at, k

    edit(paths, monitor)
    with pytest.raises(NoUsableSeriesError, match="All 12 slices lie at one position, as in bolus"):
        read_ct(folder_of(paths))


def test_slices_at_one_height_but_not_one_place_are_refused(write, edit, set_position):
    paths = write()
    extra = paths[0].parent / "extra.dcm"
    extra.write_bytes(paths[3].read_bytes())
    edit([extra], lambda ds, _: set_position(ds, x=20))
    with pytest.raises(InputError, match="same height but not at the same place"):
        read_ct(folder_of(paths))


def test_slices_that_are_too_thick_are_refused_by_their_thickness(write):
    with pytest.raises(NoUsableSeriesError, match=r"7\.0 mm thick; at most 5 mm"):
        read_ct(folder_of(write(options=StudyOptions(slice_thickness_mm=7))))


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 0, 2)], ids=["sagittal", "coronal"])
def test_sagittal_and_coronal_slices_are_refused(write, volume, axes):
    affine = volume.grid.affine_lps.copy()
    affine[:3, :3] = affine[:3, list(axes)]
    shape = tuple(volume.grid.shape[axis] for axis in axes)
    turned = Volume(Grid(shape, affine), np.ascontiguousarray(volume.hu.transpose(axes)))
    with pytest.raises(NoUsableSeriesError, match="sagittal or coronal"):
        read_ct(folder_of(write(of=turned)))


@pytest.mark.parametrize("order", [Order.ASCENDING, Order.DESCENDING])
@pytest.mark.parametrize("tilt", [20.0, -15.0])
@pytest.mark.parametrize("enhanced", [False, True])
def test_a_tilted_stack_comes_back_with_everything_in_its_place(write, smooth, tilt, order, enhanced):
    options = StudyOptions(tilt_deg=tilt, order=order, enhanced=enhanced)
    series = read_ct(folder_of(write(options=options, of=smooth)))
    grid, hu = series.volume.grid, series.volume.hu
    axes = grid.affine_lps[:3, :3] / grid.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert grid.spacing_mm[0] == pytest.approx(1.5 * np.cos(np.deg2rad(tilt)))
    # Ask both volumes for the same points in the patient, but at the edge of a slice, which is half air.
    k, i, j = np.nonzero(hu >= 30)
    inside = smooth.grid.to_index(grid.to_lps_mm(np.stack([k, i, j], -1)))
    kept = np.all((inside >= 1) & (inside <= np.array(smooth.grid.shape) - 2), axis=1)
    truth = map_coordinates(smooth.hu.astype(float), inside[kept].T, order=1)
    error = np.abs(truth - hu[k[kept], i[kept], j[kept]])
    assert kept.sum() > 20_000
    # Linear interpolation, twice, of a rod of 6 mm radius and 1000 HU.
    assert np.percentile(error, 99) < 25


def test_slices_of_a_tilted_stack_go_back_to_their_own_pixels(write, smooth):
    series = read_ct(folder_of(write(options=StudyOptions(tilt_deg=18), of=smooth)))
    rows, columns = series.source_shape
    assert (rows, columns) == smooth.grid.shape[1:]
    assert series.volume.grid.shape[1] > rows
    assert series.volume.grid.shape[2] == columns
    positions = [header.ImagePositionPatient for header in series.headers]
    for index, position in enumerate(positions):
        first_pixel = series.volume.grid.to_lps_mm((index, *series.shear_px[index]))
        np.testing.assert_allclose(first_pixel, np.array(position, float), atol=1e-6)
        labels = np.zeros(series.volume.grid.shape, np.uint8)
        row, column = np.rint(series.shear_px[index]).astype(int)
        labels[index, row + 10, column + 20] = 5
        frame = series.source_frame(labels, index)
        assert frame.shape == (rows, columns)
        assert np.argwhere(frame).tolist() == [[10, 20]]


def test_air_stands_where_no_tilted_slice_reaches(write, smooth):
    hu = np.full_like(smooth.hu, 200)
    series = read_ct(folder_of(write(options=StudyOptions(tilt_deg=18), of=Volume(smooth.grid, hu))))
    last = int(np.argmax(series.shear_px[:, 0]))
    reach = int(np.floor(series.shear_px[last, 0]))
    assert reach > 2
    assert (series.volume.hu[last, :reach] == -1024).all()


def test_a_gap_in_a_tilted_stack_is_still_a_gap(write, smooth):
    paths = write(options=StudyOptions(tilt_deg=18), of=smooth)
    paths[9].unlink()
    with pytest.raises(InputError, match="Slices are missing: between slices 9 and 10 of 23"):
        read_ct(folder_of(paths))


def test_more_shear_than_any_gantry_tilts_is_refused(write, edit, set_position):
    paths = write()
    edit(paths, lambda ds, k: set_position(ds, y=2 * k))
    with pytest.raises(InputError, match="sheared by 58 degrees"):
        read_ct(folder_of(paths))


def test_the_sign_of_the_tilt_attribute_does_not_matter(write, edit, smooth):
    plain = write("plain", StudyOptions(tilt_deg=18), smooth)
    signed = write("signed", StudyOptions(tilt_deg=18), smooth)
    edit(signed, lambda ds, _: setattr(ds, "GantryDetectorTilt", -18))
    one, other = read_ct(folder_of(plain)), read_ct(folder_of(signed))
    assert one.volume.grid.same_as(other.volume.grid)
    np.testing.assert_array_equal(one.volume.hu, other.volume.hu)
