from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cspine.anatomy import OCCIPUT, THORACIC, Vertebra
from cspine.models.components import find_pieces
from cspine.models.levels import decode
from cspine.models.segmenter import name_vertebrae

MM = (2.0, 2.0, 2.0)
NECK = [OCCIPUT, 1, 2, 3, 4, 5, 6, 7, THORACIC]


def names(probabilities: np.ndarray) -> list[int]:
    """Labels along the middle of the blocks, from head to feet, each once."""
    _, labels, _ = name_vertebrae(probabilities, MM)
    line = labels[::-1, 11, 10]
    return [int(b) for a, b in zip([0, *line], line, strict=False) if b and a != b]


def margins(probabilities: np.ndarray) -> dict[Vertebra, float]:
    return name_vertebrae(probabilities, MM)[2]


def test_a_clear_neck_is_named_as_the_network_saw_it(spine_probabilities):
    assert names(spine_probabilities(NECK)) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(margins(spine_probabilities(NECK))) == list(Vertebra)


def test_two_swapped_labels_are_put_in_order(spine_probabilities):
    assert names(spine_probabilities([OCCIPUT, 1, 2, 3, 5, 4, 6, 7, THORACIC])) == [1, 2, 3, 4, 5, 6, 7]


def test_one_vertebra_named_like_its_neighbour_is_put_in_order(spine_probabilities):
    assert names(spine_probabilities([OCCIPUT, 1, 2, 3, 4, 4, 6, 7, THORACIC])) == [1, 2, 3, 4, 5, 6, 7]


def test_a_stretch_that_slips_by_one_is_held_by_the_anchors_above(spine_probabilities):
    # From C4 on everything is named one too low; nothing may be skipped between C3 and the next one.
    slipped = spine_probabilities([OCCIPUT, 1, 2, 3, 5, 6, 7], sure=0.6, rival={4: 4, 5: 5, 6: 6})
    assert names(slipped) == [1, 2, 3, 4, 5, 6]


def test_a_vertebra_that_the_network_missed_leaves_its_name_free(spine_probabilities):
    assert names(spine_probabilities([OCCIPUT, 1, 2, 3, 4, -1, 6, 7, THORACIC])) == [1, 2, 3, 4, 6, 7]


def test_a_scan_that_starts_below_c3_is_not_named_from_c1(spine_probabilities):
    assert names(spine_probabilities([4, 5, 6, 7, THORACIC])) == [4, 5, 6, 7]


def test_a_scan_that_ends_at_c5_has_no_other_levels(spine_probabilities):
    found = spine_probabilities([OCCIPUT, 1, 2, 3, 4, 5])
    assert names(found) == [1, 2, 3, 4, 5]
    assert sorted(margins(found)) == [1, 2, 3, 4, 5]


def test_a_stray_crumb_far_from_its_vertebra_is_removed(spine_probabilities):
    found = spine_probabilities(NECK)
    found[:, -4:-1, :3, :3] = 0
    found[6, -4:-1, :3, :3] = 1
    _, labels, _ = name_vertebrae(found, MM)
    assert not labels[-4:-1, :3, :3].any()
    assert (labels == 6).any()


def test_a_fragment_that_touches_a_vertebra_takes_its_name(spine_probabilities):
    found = spine_probabilities(NECK)
    c4 = np.argwhere(found.argmax(0) == 4)
    corner = tuple(slice(a, a + 2) for a in c4.min(0))
    found[(slice(None), *corner)] = 0
    found[(7, *corner)] = 1
    _, labels, _ = name_vertebrae(found, MM)
    assert (labels[corner] == 4).all()


def test_a_vertebra_seen_as_two_halves_side_by_side_stays_one(spine_probabilities):
    found = spine_probabilities(NECK)
    where = np.argwhere(found.argmax(0) == 1)
    middle = int(where[:, 2].mean())
    cut = (
        slice(None),
        slice(where[:, 0].min(), where[:, 0].max() + 1),
        slice(None),
        slice(middle, middle + 2),
    )
    found[cut] = 0
    found[(0, *cut[1:])] = 1
    _, labels, named = name_vertebrae(found, MM)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 6, 7}
    assert (labels == 1).sum() == (found.argmax(0) == 1).sum()
    assert Vertebra.C1 in named


def test_the_margin_falls_as_another_order_becomes_more_likely(spine_probabilities):
    stretch = [3, 4, 5, 6]
    shifted = {place: label + 1 for place, label in enumerate(stretch)}
    sure = margins(spine_probabilities(stretch, sure=0.95, rival=shifted))
    torn = margins(spine_probabilities(stretch, sure=0.55, rival=shifted))
    assert min(sure.values()) > 1.5
    assert 0.0 < max(torn.values()) < 0.5


def test_the_margin_is_the_mean_log_ratio_to_the_order_shifted_by_one(spine_probabilities):
    stretch = [3, 4, 5, 6]
    shifted = {place: label + 1 for place, label in enumerate(stretch)}
    found = margins(spine_probabilities(stretch, sure=0.75, rival=shifted))
    weight = 6 * 10 * 12 * 0.008 / 4.0  # blocks of 5.76 ml have their full say
    assert weight > 1
    assert found[Vertebra.C4] == pytest.approx(np.log(3.0), abs=0.05)


def test_an_empty_image_has_no_levels(spine_probabilities):
    found = spine_probabilities([-1, -1, -1])
    assert names(found) == []
    assert margins(found) == {}


def test_only_the_skull_in_view_has_no_levels(spine_probabilities):
    assert names(spine_probabilities([OCCIPUT, OCCIPUT])) == []


def test_only_the_chest_in_view_has_no_levels(spine_probabilities):
    assert names(spine_probabilities([THORACIC, THORACIC, THORACIC])) == []


def test_pieces_are_ordered_from_head_to_feet_and_numbered_so(spine_probabilities):
    pieces = find_pieces(spine_probabilities([7, 3, 5]), MM)
    heights = [piece.height_mm for piece in pieces.pieces]
    assert heights == sorted(heights, reverse=True)
    line = pieces.ids[::-1, 11, 10]
    assert [int(n) for n in dict.fromkeys(line[line > 0])] == [1, 2, 3]


def test_the_decoded_order_never_skips_a_level(spine_probabilities):
    rng = np.random.default_rng(4)
    for _ in range(20):
        classes = [int(n) for n in rng.integers(1, 9, 6)]
        states = decode(find_pieces(spine_probabilities(classes), MM)).states
        assert all(b - a in (0, 1) for a, b in pairwise(states))
