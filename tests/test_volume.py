"""Grids, volumes and masks hold what they promise once they are constructed."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.volume import Grid, SpineMask, Visibility, Volume, label_boxes


def oblique_grid(shape=(20, 30, 40)):
    """Three different spacings, none of the axes along the patient's."""
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * (2.0, 0.7, 0.5)
    affine[:3, 3] = (10.0, -20.0, 30.0)
    return Grid(shape, affine)


def test_index_to_lps_and_back_is_the_identity_on_an_oblique_grid():
    grid = oblique_grid()
    index = np.random.default_rng(0).uniform(-5, 45, (50, 3))
    assert np.allclose(grid.to_index(grid.to_lps_mm(index)), index, atol=1e-9)


def test_spacing_is_the_distance_between_neighbouring_voxels_in_index_order():
    assert np.allclose(oblique_grid().spacing_mm, (2.0, 0.7, 0.5))


def test_a_cropped_grid_places_its_voxels_where_the_whole_grid_does():
    grid = oblique_grid()
    crop = grid.cropped((3, 4, 5), (6, 7, 8))
    assert np.allclose(crop.to_lps_mm((1, 2, 3)), grid.to_lps_mm((4, 6, 8)))


def test_a_grid_of_another_shape_or_half_a_millimetre_away_is_not_the_same():
    grid = oblique_grid()
    moved = grid.affine_lps.copy()
    moved[0, 3] += 0.5
    assert grid.same_as(Grid(grid.shape, grid.affine_lps))
    assert not grid.same_as(Grid(grid.shape, moved))
    assert not grid.same_as(Grid((20, 30, 41), grid.affine_lps))


@pytest.mark.parametrize(
    "affine",
    [np.zeros((4, 4)), np.diag([1.0, 1.0, 0.0, 1.0]), np.full((4, 4), np.nan), np.eye(3)],
    ids=["zero", "flat", "not finite", "3x3"],
)
def test_an_affine_that_spans_no_space_is_refused(affine):
    with pytest.raises(ValueError):
        Grid((2, 3, 4), affine)


def test_a_grid_without_voxels_is_refused():
    with pytest.raises(ValueError, match="at least one voxel"):
        Grid((0, 3, 4), np.eye(4))


def test_a_volume_cannot_be_changed_after_it_was_made():
    volume = Volume(oblique_grid(), np.zeros((20, 30, 40), np.int16))
    with pytest.raises(ValueError, match="read-only"):
        volume.hu[0, 0, 0] = 1


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.dtype(">i2")])
def test_a_volume_takes_native_int16_only(dtype):
    with pytest.raises(ValueError, match="int16"):
        Volume(oblique_grid(), np.zeros((20, 30, 40), dtype))


def test_a_volume_needs_one_source_image_for_each_slice():
    with pytest.raises(ValueError, match="one source UID"):
        Volume(oblique_grid(), np.zeros((20, 30, 40), np.int16), ("1.2.3",))


def mask_with(grid, **boxes):
    labels = np.zeros(grid.shape, np.uint8)
    for name, (start, stop) in boxes.items():
        labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = Vertebra[name]
    return SpineMask.from_labels(grid, labels)


def test_a_level_inside_the_volume_is_complete_one_at_its_edge_partial_one_unseen_absent():
    mask = mask_with(oblique_grid(), C2=((2, 5, 5), (9, 20, 20)), C7=((12, 5, 5), (20, 20, 20)))
    seen = {found.level: found.visibility for found in mask.levels}
    assert seen[Vertebra.C2] is Visibility.COMPLETE
    assert seen[Vertebra.C7] is Visibility.PARTIAL
    assert all(seen[v] is Visibility.ABSENT for v in CERVICAL if v.name not in {"C2", "C7"})


def test_a_speck_is_not_evidence_of_a_level_and_leaves_the_mask():
    mask = mask_with(oblique_grid(), C4=((5, 5, 5), (7, 7, 7)))
    assert mask.level(Vertebra.C4).visibility is Visibility.ABSENT
    assert not mask.labels.any()


def test_the_box_of_a_level_encloses_the_outer_faces_of_its_voxels():
    grid = Grid((20, 30, 40), np.diag([2.0, 0.7, 0.5, 1.0])[[2, 1, 0, 3]])
    box = mask_with(grid, C3=((4, 6, 8), (12, 26, 28))).level(Vertebra.C3).box_lps_mm(grid)
    assert np.allclose(box[0], grid.to_lps_mm((3.5, 5.5, 7.5)))
    assert np.allclose(box[1], grid.to_lps_mm((11.5, 25.5, 27.5)))


def test_the_centre_of_a_level_is_its_centre_of_mass_in_the_patient():
    grid = oblique_grid()
    mask = mask_with(grid, C5=((4, 6, 8), (13, 27, 29)))
    assert np.allclose(mask.center_lps_mm(Vertebra.C5), grid.to_lps_mm((8, 16, 18)))
    assert mask.center_lps_mm(Vertebra.C1) is None


def test_a_label_that_is_no_cervical_vertebra_is_refused():
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[3:9, 3:9, 3:9] = 8
    with pytest.raises(ValueError, match=r"\[8\]"):
        SpineMask.from_labels(oblique_grid(), labels)


def test_label_boxes_are_half_open():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:3, 2:5, 3:7] = 4
    assert label_boxes(labels) == {4: ((1, 2, 3), (3, 5, 7))}
