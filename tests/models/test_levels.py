from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cspine.anatomy import OCCIPUT, THORACIC, Vertebra
from cspine.models.components import Piece, find_pieces
from cspine.models.levels import ALIKE_SHARE, decode, decode_sequence
from cspine.models.naming import name_vertebrae

MM = (2.0, 2.0, 2.0)
NECK = [OCCIPUT, 1, 2, 3, 4, 5, 6, 7, THORACIC]


def names(output: np.ndarray) -> list[int]:
    """Labels along the middle of the blocks, from head to feet, each once."""
    _, labels, _ = name_vertebrae(output, MM)
    line = labels[::-1, 11, 10]
    return [int(b) for a, b in zip([0, *line], line, strict=False) if b and a != b]


def margins(output: np.ndarray) -> dict[Vertebra, float]:
    return name_vertebrae(output, MM)[2]


def test_a_clear_neck_is_named_as_the_network_saw_it(spine_output):
    assert names(spine_output(NECK)) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(margins(spine_output(NECK))) == list(Vertebra)


def test_two_swapped_labels_are_put_in_order(spine_output):
    assert names(spine_output([OCCIPUT, 1, 2, 3, 5, 4, 6, 7, THORACIC])) == [1, 2, 3, 4, 5, 6, 7]


def test_one_vertebra_named_like_its_neighbour_is_put_in_order(spine_output):
    assert names(spine_output([OCCIPUT, 1, 2, 3, 4, 4, 6, 7, THORACIC])) == [1, 2, 3, 4, 5, 6, 7]


def test_a_vertebra_whose_lower_half_is_named_like_the_next_one_keeps_one_name(spine_output):
    found = spine_output(NECK)
    whole = found[:10].argmax(0)
    for label in (4, 5, 6):
        low = np.argwhere(whole == label)[:, 0].min()
        half = found[:, low : low + 3]
        half[label + 1], half[label] = half[label].copy(), half[label + 1].copy()
    _, labels, _ = name_vertebrae(found, MM)
    assert np.array_equal(labels, np.where(whole < 8, whole, 0))


def test_bone_that_joins_two_vertebrae_is_cut_where_its_pointers_part(spine_output):
    found = spine_output(NECK)
    c4, c5 = (np.argwhere(found[:10].argmax(0) == label) for label in (4, 5))
    low, high = c5[:, 0].max() + 1, c4[:, 0].min()
    bridge = (slice(low, high), slice(8, 10), slice(6, 8))
    found[(0, *bridge)], found[(5, *bridge)] = 0, 1
    found[10, low:high, 8:10, 6:8] = (np.linspace(0.7, -0.7, high - low))[:, None, None]
    _, labels, named = name_vertebrae(found, MM)
    assert sorted(named) == list(Vertebra)
    assert (labels[tuple(c4.T)] == 4).all()
    assert (labels[tuple(c5.T)] == 5).all()


def test_a_vertebra_cut_by_the_field_of_view_still_has_its_own_height(spine_output):
    found = spine_output(NECK)
    whole = find_pieces(found, MM)
    cut = find_pieces(found[:, 4:], MM)
    assert len(cut.pieces) == len(whole.pieces)
    heights = [piece.height_mm for piece in whole.pieces]
    assert [piece.height_mm + 8 for piece in cut.pieces] == pytest.approx(heights)


def test_bone_named_like_a_vertebra_far_below_it_is_none(spine_output):
    found = spine_output([1, -1, 1, 2, 3, 4])
    whole = found[:10].argmax(0)
    stray = np.argwhere(whole == 1)[:, 0].max() - 6
    found[0, stray:, 6:12], found[1, stray:, 6:12] = 1, 0  # smaller than the real one
    _, labels, named = name_vertebrae(found, MM)
    assert not labels[stray:].any()
    assert (labels[:stray] == 1).any()
    assert sorted(named) == [1, 2, 3, 4]


def test_two_short_vertebrae_whose_bands_almost_meet_are_two(spine_output):
    found = spine_output(NECK)
    c6, c7 = (np.argwhere(found[:10].argmax(0) == label) for label in (6, 7))
    found[10][tuple(c6.T)] -= 0.35  # their pointers now meet 9 mm apart instead of 16
    found[10][tuple(c7.T)] += 0.35
    rng = np.random.default_rng(0)
    found[10] += rng.normal(0, 0.25, found[10].shape).astype(np.float32)
    assert names(found) == [1, 2, 3, 4, 5, 6, 7]


def test_a_stretch_that_slips_by_one_is_held_by_the_anchors_above(spine_output):
    # From C4 on everything is named one too low; nothing may be skipped between C3 and the next one.
    slipped = spine_output([OCCIPUT, 1, 2, 3, 5, 6, 7], sure=0.6, rival={4: 4, 5: 5, 6: 6})
    assert names(slipped) == [1, 2, 3, 4, 5, 6]


def test_two_whole_vertebrae_a_pitch_apart_are_two_though_the_network_gives_both_one_name(spine_output):
    # Where the scan ends early everything below may slip by one; all eight pieces are as large as vertebrae.
    assert names(spine_output([OCCIPUT, 1, 2, 3, 4, 4, 5, 6, 7])) == [1, 2, 3, 4, 5, 6, 7]


def test_bone_of_the_skull_above_c1_does_not_push_all_names_down_by_one():
    # It is as large as a small neck's vertebra, but not as this neck's.
    def piece(level: int, height_mm: float, volume_ml: float) -> Piece:
        evidence = np.full(8, -6.6)
        evidence[min(level, 7)] = -2
        evidence[level - 1] = 0
        return Piece(evidence, height_mm, volume_ml)

    neck = [piece(level, 160.0 - 20 * level, 14.0) for level in (1, 2, 3, 4, 5, 6, 7, 8)]
    states = decode_sequence([piece(1, 160.0, 3.7), *neck]).states
    assert states[1:] == (1, 2, 3, 4, 5, 6, 7, THORACIC)


def with_sliver(output: np.ndarray, under: int) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Bone named C3 right under a block, which points at itself; and where it is."""
    bottom = np.argwhere(output[:10].argmax(0) == under)[:, 0].min()
    where = (slice(bottom - 1, bottom), slice(6, 16), slice(4, 16))
    output[(slice(0, 10), *where)] = 0
    output[(3, *where)], output[(10, *where)] = 1, 0
    return output, where


def test_a_sliver_between_two_vertebrae_is_of_the_one_it_touches_and_none_of_its_own(spine_output):
    # As on a real neck, where the network saw C3 to C7 one too low: with the sliver as C3 they would stay so.
    low = spine_output([OCCIPUT, 1, 2, 4, 5, 6, 7, THORACIC], sure=0.6, rival={3: 3, 4: 4, 5: 5, 6: 6, 7: 7})
    found, where = with_sliver(low, 2)
    _, labels, _ = name_vertebrae(found, MM)
    assert (labels[where] == 2).all()
    assert names(found) == [1, 2, 3, 4, 5, 6, 7]


def test_a_small_piece_where_a_vertebra_has_room_is_one(spine_output):
    missed, where = with_sliver(spine_output([OCCIPUT, 1, 2, -1, 4, 5, 6, 7, THORACIC]), 2)
    _, labels, _ = name_vertebrae(missed, MM)
    assert (labels[where] == 3).all()


def test_a_vertebra_that_the_network_missed_leaves_its_name_free(spine_output):
    assert names(spine_output([OCCIPUT, 1, 2, 3, 4, -1, 6, 7, THORACIC])) == [1, 2, 3, 4, 6, 7]


def test_a_scan_cut_below_c2_is_named_by_c7_although_the_middle_slips_by_one():
    def piece(height_mm: float, **posterior: float) -> Piece:
        levels = [*(f"c{n}" for n in range(1, 8)), "t"]
        p = np.array([posterior.get(level, 0.002) for level in levels])
        return Piece(np.log(p / p.sum()), height_mm, 8.0)

    pieces = [
        piece(80, c3=0.05, c4=0.9, c5=0.05),
        piece(68, c4=0.2, c5=0.75, c6=0.05),
        piece(56, c5=0.15, c6=0.8, c7=0.05),
        piece(44, c6=0.3, c7=0.7),
        piece(32, c7=0.98, t=0.02),
        piece(20, t=1.0),
    ]
    assert decode_sequence(pieces).states == (3, 4, 5, 6, 7, THORACIC)


def test_a_scan_that_starts_below_c3_is_not_named_from_c1(spine_output):
    assert names(spine_output([4, 5, 6, 7, THORACIC])) == [4, 5, 6, 7]


def test_a_scan_that_ends_at_c5_has_no_other_levels(spine_output):
    found = spine_output([OCCIPUT, 1, 2, 3, 4, 5])
    assert names(found) == [1, 2, 3, 4, 5]
    assert sorted(margins(found)) == [1, 2, 3, 4, 5]


def test_a_stray_crumb_far_from_its_vertebra_is_removed(spine_output):
    found = spine_output(NECK)
    found[:, -4:-1, :3, :3] = 0
    found[6, -4:-1, :3, :3] = 1
    _, labels, _ = name_vertebrae(found, MM)
    assert not labels[-4:-1, :3, :3].any()
    assert (labels == 6).any()


def test_a_fragment_that_touches_a_vertebra_takes_its_name(spine_output):
    found = spine_output(NECK)
    c4 = np.argwhere(found[:10].argmax(0) == 4)
    corner = tuple(slice(a, a + 2) for a in c4.min(0))
    found[(slice(None), *corner)] = 0
    found[(7, *corner)] = 1
    _, labels, _ = name_vertebrae(found, MM)
    assert (labels[corner] == 4).all()


def test_a_vertebra_seen_as_two_halves_side_by_side_stays_one(spine_output):
    found = spine_output(NECK)
    where = np.argwhere(found[:10].argmax(0) == 1)
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
    assert (labels == 1).sum() == (found[:10].argmax(0) == 1).sum()
    assert Vertebra.C1 in named


def test_the_margin_falls_as_another_order_becomes_more_likely(spine_output):
    stretch = [3, 4, 5, 6]
    shifted = {place: label + 1 for place, label in enumerate(stretch)}
    sure = margins(spine_output(stretch, sure=0.95, rival=shifted))
    torn = margins(spine_output(stretch, sure=0.55, rival=shifted))
    assert min(sure.values()) == pytest.approx((3 * ALIKE_SHARE + 1) / 4 * np.log(19.0), abs=0.01)
    assert 0.0 < max(torn.values()) < 0.5


def test_the_margin_is_the_mean_log_ratio_to_the_order_shifted_by_one(spine_output):
    stretch = [3, 4, 5, 6]
    shifted = {place: label + 1 for place, label in enumerate(stretch)}
    found = margins(spine_output(stretch, sure=0.75, rival=shifted))
    weight = 6 * 10 * 12 * 0.008 / 4.0  # blocks of 5.76 ml have their full say
    assert weight > 1
    # Between C3 and C6 a vertebra counts a fifth, between C6 and C7 in full.
    assert found[Vertebra.C4] == pytest.approx((3 * ALIKE_SHARE + 1) / 4 * np.log(3.0), abs=0.05)


def test_an_empty_image_has_no_levels(spine_output):
    found = spine_output([-1, -1, -1])
    assert names(found) == []
    assert margins(found) == {}


def test_only_the_skull_in_view_has_no_levels(spine_output):
    assert names(spine_output([OCCIPUT, OCCIPUT])) == []


def test_only_the_chest_in_view_has_no_levels(spine_output):
    assert names(spine_output([THORACIC, THORACIC, THORACIC])) == []


def test_pieces_are_ordered_from_head_to_feet_and_numbered_so(spine_output):
    pieces = find_pieces(spine_output([7, 3, 5]), MM)
    heights = [piece.height_mm for piece in pieces.pieces]
    assert heights == sorted(heights, reverse=True)
    line = pieces.ids[::-1, 11, 10]
    assert [int(n) for n in dict.fromkeys(line[line > 0])] == [1, 2, 3]


def test_the_decoded_order_never_skips_a_level(spine_output):
    rng = np.random.default_rng(4)
    for _ in range(20):
        classes = [int(n) for n in rng.integers(1, 9, 6)]
        states = decode(find_pieces(spine_output(classes), MM)).states
        assert all(b - a in (0, 1) for a, b in pairwise(states))
