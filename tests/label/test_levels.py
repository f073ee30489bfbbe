"""Names decide, never numbers."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.volume import Grid
from cspine_label.errors import RefusedLabelError
from cspine_label.lattice import nearest, reordered
from cspine_label.levels import LABELS, checked_mask, color_of, level_of, numbering, renamed


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("C3", Vertebra.C3),
        ("c3 vertebra", Vertebra.C3),
        ("vertebrae_C7", Vertebra.C7),
        ("C01", Vertebra.C1),
        ("T3", None),
        ("C8", None),
        ("C3-C4 disc", None),
        ("spinal cord", None),
        ("", None),
    ],
)
def test_a_free_name_means_a_level_or_none(name, level):
    assert level_of(name) is level


def test_levels_are_1_to_7_in_seven_colours():
    assert list(LABELS.values()) == [1, 2, 3, 4, 5, 6, 7]
    assert len({color_of(vertebra) for vertebra in CERVICAL}) == 7


def test_without_names_values_are_the_levels():
    assert numbering(None) == {int(vertebra): vertebra for vertebra in CERVICAL}


def test_numbers_by_order_become_levels_by_name():
    names = numbering([{"name": "C3", "idx": 1}, {"name": "background", "idx": 0}, {"name": "C7", "idx": 2}])
    assert renamed(np.array([0, 1, 2, 2]), names).tolist() == [0, 3, 7, 7]


def test_without_a_number_the_place_in_the_list_counts():
    assert numbering([{"name": "C6"}, {"name": "C7"}]) == {1: Vertebra.C6, 2: Vertebra.C7}


@pytest.mark.parametrize(
    ("label_info", "why"),
    [
        ([{"name": "lesion", "idx": 1}], "'lesion' is no level"),
        ([{"name": "C3", "idx": 1}, {"name": "c3", "idx": 2}], "C3 is named twice"),
        ([{"name": "C3", "idx": "one"}], "'one' is no number"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(label_info, why):
    with pytest.raises(RefusedLabelError, match=why):
        numbering(label_info)


@pytest.mark.parametrize(
    ("values", "why"),
    [([0, 0], "empty"), ([0, 8, 9], "the values 8, 9"), ([0.5, 1.0], "whole numbers"), ([np.nan], "whole")],
)
def test_values_that_are_no_level_are_refused(values, why):
    with pytest.raises(RefusedLabelError, match=why):
        renamed(np.array(values), numbering(None))


def _grid() -> Grid:
    affine = np.array([[0.0, 0, 0.5, -9], [0, 0.75, 0, -14], [1.5, 0, 0, 30], [0, 0, 0, 1]])
    return Grid((4, 5, 6), affine)


def test_a_stray_stroke_is_refused_instead_of_dropped():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:12, 2:12, 2:12], labels[15, 15, 15] = 2, 4
    with pytest.raises(RefusedLabelError, match="C4 has only"):
        checked_mask(Grid(labels.shape, np.eye(4)), labels)


def test_axes_in_another_order_and_direction_are_put_right():
    grid = _grid()
    labels = np.arange(120, dtype=np.uint8).reshape(grid.shape)
    turned = np.transpose(labels, (2, 0, 1))[::-1]
    affine = grid.affine_lps[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 0] * (grid.shape[2] - 1)
    affine[:3, 0] *= -1
    assert np.array_equal(reordered(turned, Grid(turned.shape, affine), grid), labels)


def test_a_label_half_a_voxel_off_is_refused():
    grid = _grid()
    affine = grid.affine_lps.copy()
    affine[0, 3] += 0.25
    with pytest.raises(RefusedLabelError, match="does not lie where the image lies"):
        reordered(np.zeros(grid.shape, np.uint8), Grid(grid.shape, affine), grid)


def test_another_grid_is_resampled_to_the_nearest_voxel_and_0_outside():
    fine = Grid((8, 8, 8), np.eye(4))
    labels = np.zeros(fine.shape, np.uint8)
    labels[4:] = 3
    coarse = Grid((6, 3, 3), np.diag([2.0, 2, 2, 1]))
    found = nearest(labels, fine, coarse)
    assert found[:, 1, 1].tolist() == [0, 0, 3, 3, 0, 0]
