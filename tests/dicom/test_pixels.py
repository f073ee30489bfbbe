from __future__ import annotations

import numpy as np
import pytest
from pydicom.encaps import encapsulate as encapsulate_frames

from cspine.dicom import read_ct
from cspine.errors import InputError
from cspine.phantom.dicom_study import StudyOptions
from cspine.volume import Volume


def set_pixels(ds, stored, *, bits: int | None = None, **attributes) -> None:
    """Replace the pixels of a data set and what describes them."""
    stored = np.asarray(stored)
    ds.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
    ds.BitsAllocated = 8 * stored.dtype.itemsize
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)


@pytest.fixture
def read_with(write, edit):
    """A function that writes a study, changes every data set, and returns the HU that are read."""

    def read(what) -> np.ndarray:
        paths = write()
        edit(paths, what)
        return read_ct(paths[0].parent).volume.hu

    return read


def test_signed_pixels_are_read(read_with, volume):
    hu = read_with(lambda ds, k: set_pixels(ds, volume.hu[k], RescaleIntercept=0))
    np.testing.assert_array_equal(hu, volume.hu)


def test_signed_pixels_of_fewer_bits_are_sign_extended(read_with, volume):
    """13 bits, the others of each word zero, as some scanners write them."""
    hu = read_with(
        lambda ds, k: set_pixels(ds, (volume.hu[k] & 0x1FFF).view(np.int16), bits=13, RescaleIntercept=0)
    )
    np.testing.assert_array_equal(hu, volume.hu)


def test_overlays_in_unused_bits_are_no_pixels(read_with, volume):
    hu = read_with(lambda ds, k: set_pixels(ds, (volume.hu[k] + 1024).astype(np.uint16) | 0x8000, bits=12))
    np.testing.assert_array_equal(hu, volume.hu)


def test_pixels_that_begin_at_a_higher_bit_are_read(read_with, volume):
    def shift(ds, k):
        set_pixels(ds, ((volume.hu[k] + 1024) << 4).astype(np.uint16), bits=12)
        ds.HighBit = 15

    np.testing.assert_array_equal(read_with(shift), volume.hu)


def test_unsigned_pixels_of_sixteen_bits_beyond_the_range_are_clipped(read_with, volume):
    stored = np.full(volume.grid.shape[1:], 65535, np.uint16)
    stored[0, 0] = 1024
    hu = read_with(lambda ds, _: set_pixels(ds, stored))
    assert (hu[:, 0, 0] == 0).all()
    assert (hu.reshape(12, -1)[:, 1:] == 32767).all()


def test_pixels_of_eight_bits_are_rescaled(read_with, volume):
    stored = np.arange(40 * 36).reshape(40, 36).astype(np.uint8)
    hu = read_with(lambda ds, _: set_pixels(ds, stored, RescaleSlope="32.1216", RescaleIntercept=-4047))
    np.testing.assert_array_equal(hu[3], np.maximum(np.rint(stored * 32.1216 - 4047), -1024).astype(np.int16))


def test_every_slice_has_its_own_rescaling(read_with, volume):
    def rescale(ds, k):
        ds.RescaleSlope, ds.RescaleIntercept = (0.5, -1024.5) if k % 2 else (1, -1024 + k)

    hu = read_with(rescale)
    np.testing.assert_array_equal(hu[4], volume.hu[4] + 4)
    half = np.maximum(np.rint((volume.hu[5] + 1024.0) * 0.5 - 1024.5), -1024)
    np.testing.assert_array_equal(hu[5], half.astype(np.int16))


def test_a_fractional_slope_is_rounded_not_cut(read_with, volume):
    stored = np.full(volume.grid.shape[1:], 3, np.uint16)
    hu = read_with(lambda ds, _: set_pixels(ds, stored, RescaleSlope="0.9", RescaleIntercept=0))
    assert (hu == 3).all()


def test_padding_far_below_air_becomes_air(read_with, volume):
    """Stored as -2000 with intercept -1024, that is -3024 HU, as GE writes it."""

    def pad(ds, k):
        stored = (volume.hu[k] + 1024).astype(np.int16)
        stored[:5] = -2000
        set_pixels(ds, stored)
        ds.add_new("PixelPaddingValue", "SS", -2000)

    hu = read_with(pad)
    assert (hu[:, :5] == -1024).all()
    np.testing.assert_array_equal(hu[:, 5:], volume.hu[:, 5:])


def test_padding_above_air_becomes_air(read_with, volume):
    def pad(ds, k):
        stored = (volume.hu[k] + 1024).astype(np.uint16)
        stored[:5] = 63536
        set_pixels(ds, stored)
        ds.add_new("PixelPaddingValue", "US", 63536)

    hu = read_with(pad)
    assert (hu[:, :5] == -1024).all()
    np.testing.assert_array_equal(hu[:, 5:], volume.hu[:, 5:])


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_a_range_of_padding_becomes_air(write, edit, volume, syntax):
    paths = write(options=StudyOptions(transfer_syntax=syntax))

    def pad(ds, k):
        stored = (volume.hu[k] + 1024).astype(np.uint16)
        stored[:3], stored[3:6] = 5000, 5010
        set_pixels(ds, stored)
        ds.add_new("PixelPaddingValue", "US", 5010)
        ds.add_new("PixelPaddingRangeLimit", "US", 4990)

    edit(paths, pad)
    hu = read_ct(paths[0].parent).volume.hu
    assert (hu[:, :6] == -1024).all()
    np.testing.assert_array_equal(hu[:, 6:], volume.hu[:, 6:])


def test_values_below_air_become_air(read_with, volume):
    hu = read_with(lambda ds, k: set_pixels(ds, volume.hu[k] - 800, RescaleIntercept=0))
    assert hu.min() == -1024
    np.testing.assert_array_equal(hu, np.maximum(volume.hu - 800, -1024))


def test_monochrome1_changes_how_a_slice_is_shown_not_its_hounsfield_units(read_with, volume):
    hu = read_with(lambda ds, _: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(hu, volume.hu)


def test_hounsfield_units_are_what_a_volume_wants(read_with):
    hu = read_with(lambda ds, _: None)
    assert hu.dtype == np.int16
    assert hu.flags.c_contiguous
    assert not hu.flags.writeable


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection"),
        ("1.2.840.10008.1.2.4.55", "JPEG Full Progression"),
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
    ],
)
def test_a_transfer_syntax_without_decoder_is_refused_by_name(write, edit, syntax, name):
    paths = write()

    def encapsulate(ds, _):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate_frames([b"not a codestream"])

    edit(paths, encapsulate)
    with pytest.raises(InputError, match=rf"'{name}.*' \({syntax}\)"):
        read_ct(paths[0].parent)


@pytest.mark.parametrize(
    "change",
    [{"BitsAllocated": 32}, {"PixelRepresentation": 2}, {"HighBit": 3}, {"Rows": 0}],
    ids=lambda change: next(iter(change)),
)
def test_pixels_that_no_ct_has_are_refused_by_the_files_name(write, edit, change):
    paths = write()

    def apply(ds, _):
        for keyword, value in change.items():
            setattr(ds, keyword, value)

    edit(paths, apply)
    with pytest.raises(InputError, match=r"'CT00001.dcm'"):
        read_ct(paths[0].parent)


def test_a_larger_matrix_than_the_pixels_fill_is_refused(write, edit):
    paths = write()
    edit(paths, lambda ds, _: setattr(ds, "Rows", 50))
    with pytest.raises(InputError, match=r"'CT00001.dcm' is truncated"):
        read_ct(paths[0].parent)


def test_tissue_at_the_border_of_the_range_is_kept(write, volume):
    hu = volume.hu.copy()
    hu[:, 0, 0], hu[:, 1, 1] = 3071, -1024
    series = read_ct(write(of=Volume(volume.grid, hu))[0].parent)
    np.testing.assert_array_equal(series.volume.hu, hu)
