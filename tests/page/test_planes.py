import numpy as np
import pytest

from cspine.anatomy import Vertebra
from cspine.page import key_picture, spine_picture
from cspine.volume import Grid, SpineMask, Volume

CALM = (0.1,) * 7


def tilted(degrees: float) -> np.ndarray:
    """A gantry tilted about the left-right axis, turned a little about the head-feet axis too."""
    a, b = np.deg2rad([degrees, degrees / 2])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.array([[0, 0, 0.9], [0, 1.1, 0], [2.0, 0, 0]])
    affine[:3, 3] = np.array([0, -2, -110]) - affine[:3, :3] @ np.array([38, 48, 42])
    return affine


def sagittal() -> np.ndarray:
    return np.array([[-2.0, 0, 0, 75], [0, 0, 1.1, -55], [0, -0.9, 0, -70], [0, 0, 0, 1.0]])


def bright_extent_mm(picture, above=370.0):
    """Left, top, width and height of what is bright in a key picture."""
    rows, columns = np.nonzero(picture.hu > above)
    step = picture.side_mm / picture.hu.shape[0]
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max() + 1, rows.max() + 1])
    return (*(low * step), *((high - low) * step))


def test_the_box_of_a_key_picture_frames_the_vertebra_in_it(neck, found):
    volume, _ = neck
    picture = key_picture(volume, found(neck, *CALM).level(Vertebra.C4))
    assert bright_extent_mm(picture) == pytest.approx(picture.box_mm, abs=2.5)
    assert picture.letters == ("R", "L", "A", "P")


def test_the_box_is_where_the_finding_says_in_patient_coordinates(neck, found):
    volume, _ = neck
    finding = found(neck, *CALM).level(Vertebra.C3)
    low, high = finding.box_lps_mm
    hu = volume.hu.copy()
    corner = np.round(volume.grid.to_index((low[0], low[1], finding.center_lps_mm[2]))).astype(int)
    hu[finding.key_slice, corner[1], corner[2]] = 3000
    picture = key_picture(Volume(volume.grid, hu), finding)
    left, top, _, _ = bright_extent_mm(picture, above=1500)
    assert (left, top) == pytest.approx(picture.box_mm[:2], abs=1.2)
    assert picture.box_mm[2:] == pytest.approx((high[0] - low[0], high[1] - low[1]))


@pytest.mark.parametrize("degrees", [-25, 15])
def test_a_tilted_gantry_keeps_the_box_around_the_vertebra(make_neck, found, degrees):
    tilted_neck = make_neck(Grid((76, 96, 84), tilted(degrees)))
    picture = key_picture(tilted_neck[0], found(tilted_neck, *CALM).level(Vertebra.C4))
    left, top, width, height = bright_extent_mm(picture)
    assert left >= picture.box_mm[0] - 1.0
    assert top >= picture.box_mm[1] - 1.0
    assert left + width <= picture.box_mm[0] + picture.box_mm[2] + 1.0
    assert top + height <= picture.box_mm[1] + picture.box_mm[3] + 1.0
    assert picture.letters == ("R", "L", "A", "P")


def test_a_sagittal_acquisition_shows_its_slice_upright_with_the_front_to_the_left(make_neck, found):
    sagittal_neck = make_neck(Grid((76, 148, 100), sagittal()))
    picture = key_picture(sagittal_neck[0], found(sagittal_neck, *CALM).level(Vertebra.C3))
    assert picture.letters == ("A", "P", "H", "F")


def test_flipped_rows_and_columns_give_the_same_picture(neck, found):
    volume, _ = neck
    affine = volume.grid.affine_lps.copy()
    affine[:3, 3] = volume.grid.to_lps_mm((0, 95, 83))
    affine[:3, 1:3] *= -1
    flipped = Volume(Grid(volume.grid.shape, affine), np.ascontiguousarray(volume.hu[:, ::-1, ::-1]))
    finding = found(neck, *CALM).level(Vertebra.C5)
    there, back = key_picture(volume, finding), key_picture(flipped, finding)
    np.testing.assert_allclose(back.hu, there.hu, atol=1.0)
    assert back.box_mm == pytest.approx(there.box_mm)
    assert back.letters == there.letters


def test_a_level_that_was_not_seen_has_no_key_picture(make_neck, found):
    upper = make_neck(Grid((76, 96, 84), tilted(0)), levels=[0, 1, 2])
    with pytest.raises(ValueError, match="C7 was not seen"):
        key_picture(upper[0], found(upper, *CALM).level(Vertebra.C7))


def test_the_spine_picture_follows_the_bend_so_that_every_level_is_cut_through_its_middle(neck, found):
    volume, mask = neck
    picture = spine_picture(volume, mask, found(neck, *CALM), aspect=0.9)
    step = picture.height_mm / picture.hu.shape[0]
    for vertebra, (left, top) in picture.centers_mm.items():
        assert picture.hu[round(top / step), round(left / step)] > 500, vertebra
        assert picture.masks[vertebra].max() > 0.99
    assert picture.width_mm == pytest.approx(0.9 * picture.height_mm)


def test_an_outline_lies_on_its_vertebra(neck, found):
    volume, mask = neck
    picture = spine_picture(volume, mask, found(neck, *CALM), aspect=0.9)
    rows, columns = np.nonzero(picture.masks[Vertebra.C6] > 0.5)
    left, top = picture.centers_mm[Vertebra.C6]
    assert (columns.mean() + 0.5) * 0.6 == pytest.approx(left, abs=0.7)
    assert (rows.mean() + 0.5) * 0.6 == pytest.approx(top, abs=1.2)


def test_without_vertebrae_the_picture_shows_the_middle_of_the_volume(neck, found):
    volume, _ = neck
    nothing = SpineMask.from_labels(volume.grid, np.zeros(volume.grid.shape, np.uint8))
    picture = spine_picture(volume, nothing, found((volume, nothing), *CALM), aspect=0.9)
    assert picture.masks == {}
    assert picture.top_mm - picture.height_mm / 2 == pytest.approx(-105.0)
