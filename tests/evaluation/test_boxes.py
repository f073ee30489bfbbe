from __future__ import annotations

import numpy as np
import pytest

from cspine.anatomy import Vertebra
from cspine.evaluation.boxes import (
    Mark,
    SliceBoxes,
    average_precision,
    froc,
    marks_of,
    sensitivity_at,
    slice_boxes,
)
from cspine.evaluation.cases import FractureBox
from cspine.pipeline import assess
from cspine.volume import SpineMask


def boxes(*rows: tuple[int, int, float, float, float, float, float]) -> SliceBoxes:
    """Rows of image, level, x0, y0, x1, y1, score."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return SliceBoxes(table[:, :2].astype(np.int64), table[:, 2:6], table[:, 6])


def test_every_image_has_one_tight_box_a_level(spine):
    found = slice_boxes(spine(), scored=False)
    assert len(found.places) == 7 * 10
    assert found.places[0].tolist() == [4, 7], "C7 is the lowest"
    assert found.corners[0].tolist() == [10, 8, 24, 20], "x before y, half-open"
    assert set(found.scores) == {1.0}


def test_a_true_piece_below_20_mm2_has_no_box(grid):
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:30, 5:20, 5:20] = 3
    labels[30, 5:8, 5:11] = 3  # 3 x 6 pixels of 1.1 x 0.9 mm are 17.8 mm2
    labels[31, 5:8, 5:12] = 3  # 20.8 mm2
    found = slice_boxes(SpineMask.from_labels(grid, labels), scored=False)
    assert sorted(found.places[:, 0]) == [*range(10, 30), 31]


def test_a_found_piece_gets_a_box_from_5_mm2_on_and_ranks_behind_larger_ones(grid):
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:30, 5:20, 5:20] = 3
    labels[30, 5:8, 5:8] = 3  # 8.9 mm2
    labels[31, 5, 5:9] = 3  # 4.0 mm2
    found = slice_boxes(SpineMask.from_labels(grid, labels), scored=True)
    assert found.places[:, 0].tolist() == [*range(10, 31)]
    assert found.scores.argmin() == 20


def test_a_box_whose_name_is_sure_and_whose_area_is_large_ranks_first(spine, grid):
    sure, unsure = (slice_boxes(spine(margin=m), scored=True).scores[0] for m in (3.0, 0.5))
    assert sure > unsure
    labels = spine().labels.copy()
    labels[80:86, 14:] = 0
    smaller = slice_boxes(SpineMask.from_labels(grid, labels, {Vertebra.C1: 3.0}), scored=True)
    c1 = smaller.scores[smaller.places[:, 1] == 1]
    assert c1[-1] < c1[0]


def test_a_box_unlike_those_above_and_below_it_ranks_behind_one_like_them(grid):
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:13, 5:20, 5:20] = 3
    labels[13, 5:20, 5:7] = 3  # 15 x 2 of the 15 x 15 pixels: an overlap of 2 / 15
    found = slice_boxes(SpineMask.from_labels(grid, labels, {Vertebra.C3: 0.0}), scored=True)
    _, row_mm, column_mm = grid.spacing_mm
    area = np.array([15 * 15, 15 * 15, 15 * 15, 15 * 2]) * row_mm * column_mm
    steadiness = np.array([1 / 2, 1, (1 + 2 / 15) / 2, 2 / 15 / 2])
    assert found.scores == pytest.approx(0.5 * (area / (area + 100) + steadiness) / 2)


def test_an_image_at_the_end_of_the_scan_has_one_neighbour(grid):
    labels = np.zeros(grid.shape, np.uint8)
    labels[:3, 5:20, 5:20] = 3
    found = slice_boxes(SpineMask.from_labels(grid, labels, {Vertebra.C3: 0.0}), scored=True)
    assert found.scores[0] == found.scores[1] > found.scores[2]


def test_perfect_boxes_have_an_average_precision_of_one(spine):
    found = average_precision([(slice_boxes(spine(), scored=True), slice_boxes(spine(), scored=False))])
    assert found.at_50 == pytest.approx(1.0)
    assert found.from_50_to_95 == pytest.approx(1.0)
    assert list(found.by_level.values()) == pytest.approx([1.0] * 7)


def test_average_precision_by_hand():
    # Two true boxes in two images; a hit, then a false alarm with a lower score, then the second hit.
    truth = boxes((0, 1, 0, 0, 10, 10, 1), (1, 1, 0, 0, 10, 10, 1))
    found = boxes((0, 1, 0, 0, 10, 10, 0.9), (0, 1, 50, 50, 60, 60, 0.8), (1, 1, 0, 0, 10, 10, 0.7))
    # Precision is 1 up to a recall of 1/2 (51 of 101 points), then 2/3.
    assert average_precision([(found, truth)]).at_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_that_overlaps_by_0_72_counts_up_to_an_iou_of_0_70():
    truth, found = boxes((0, 2, 0, 0, 10, 10, 1)), boxes((0, 2, 0, 0, 10, 7.2, 0.9))
    assert average_precision([(found, truth)]).from_50_to_95 == pytest.approx(5 / 10)


def test_the_same_place_under_another_name_is_a_miss_and_a_false_alarm():
    truth, found = boxes((0, 2, 0, 0, 10, 10, 1)), boxes((0, 3, 0, 0, 10, 10, 0.9))
    assert average_precision([(found, truth)]).at_50 == 0.0


def test_studies_keep_their_images_apart():
    one, other = boxes((0, 1, 0, 0, 10, 10, 1)), boxes((0, 1, 30, 30, 40, 40, 1))
    assert average_precision([(one, one), (other, other)]).at_50 == pytest.approx(1.0)
    assert average_precision([(one, other), (other, one)]).at_50 == 0.0


def test_without_a_true_box_there_is_no_average_precision():
    assert average_precision([(boxes((0, 1, 0, 0, 9, 9, 1)), boxes())]) is None
    assert average_precision([]) is None


def coco_by_hand(pairs: list[tuple[SliceBoxes, SliceBoxes]], level: int, threshold: float) -> float:
    """A second implementation of COCO's 101-point average precision of one level."""
    found = [
        (score, study, int(image), corners)
        for study, (answer, _) in enumerate(pairs)
        for (image, name), corners, score in zip(answer.places, answer.corners, answer.scores, strict=True)
        if name == level
    ]
    free = {
        (study, index): (int(image), corners)
        for study, (_, truth) in enumerate(pairs)
        for index, ((image, name), corners) in enumerate(zip(truth.places, truth.corners, strict=True))
        if name == level
    }
    total, hits, precision, recall = len(free), 0, [], []
    for rank, (_, study, image, corners) in enumerate(sorted(found, key=lambda f: -f[0]), start=1):
        options = {k: iou(corners, c) for k, (i, c) in free.items() if k[0] == study and i == image}
        best = max(options, key=options.__getitem__, default=None)
        if best is not None and options[best] >= threshold:
            hits += 1
            del free[best]
        precision.append(hits / rank)
        recall.append(hits / total)
    points = [
        max((p for p, r in zip(precision, recall, strict=True) if r >= t - 1e-12), default=0.0)
        for t in np.linspace(0, 1, 101)
    ]
    return float(np.mean(points))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_agrees_with_a_second_implementation(seed: int):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        rows = [
            (image, level, *corner, *(corner + rng.uniform(8, 20, 2)))
            for image in range(6)
            for level in (1, 4)
            if rng.random() < 0.8
            for corner in [rng.uniform(0, 40, 2)]
        ]
        truth = boxes(*[(*row, 1.0) for row in rows])
        shaken = truth.corners + rng.normal(0, 1.0, truth.corners.shape)
        kept = rng.random(len(shaken)) < 0.85
        alarms = boxes((0, 1, 60, 60, 70, 70, 0.5), (2, 4, 60, 60, 70, 70, 0.6))
        answer = SliceBoxes(
            np.concatenate([truth.places[kept], alarms.places]),
            np.concatenate([shaken[kept], alarms.corners]),
            np.append(rng.uniform(0.1, 0.9, kept.sum()), alarms.scores),
        )
        pairs.append((answer, truth))
    found = average_precision(pairs)
    at_50 = [coco_by_hand(pairs, level, 0.5) for level in (1, 4)]
    whole = [[coco_by_hand(pairs, level, t) for t in np.arange(0.5, 0.96, 0.05)] for level in (1, 4)]
    # A recall that is exactly one of the 101 points may fall to either side of it.
    assert found.at_50 == pytest.approx(np.mean(at_50), abs=0.005)
    assert found.from_50_to_95 == pytest.approx(np.mean(whole), abs=0.005)
    assert found.by_level["C4"] == pytest.approx(np.mean(whole[1]), abs=0.005)


def test_a_mark_hits_the_fracture_of_its_own_level_only(make_case, fake_method, points):
    case = make_case(1, [Vertebra.C3])
    method = fake_method({1: case.mask}, {1: {Vertebra.C3: 0.8, Vertebra.C5: 0.6}})
    findings = assess(case.volume, case.mask, method.classify(case.volume, case.mask), points["balanced"])
    marks = marks_of(findings, case.boxes)
    assert [mark.hits for mark in marks] == [None, None, 0, None, None, None, None]
    assert marks[2].score == 0.8
    elsewhere = FractureBox(case.boxes[0].box_lps_mm, Vertebra.C4)
    assert all(mark.hits is None for mark in marks_of(findings, [elsewhere]))
    nobody_knows = FractureBox(case.boxes[0].box_lps_mm)
    assert marks_of(findings, [nobody_knows])[2].hits == 0


def test_froc_by_hand():
    studies = [
        ((Mark(0.9, 0), Mark(0.8, None), Mark(0.3, 1)), 2),
        ((Mark(0.7, None), Mark(0.6, None)), 0),
        ((Mark(0.5, 0),), 1),
        ((), 0),
    ]
    alarms, sensitivity = froc(studies)
    assert alarms.tolist() == [0, 0, 0.25, 0.5, 0.75, 0.75, 0.75]
    assert sensitivity.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 1])
    assert sensitivity_at((alarms, sensitivity), 0.5) == pytest.approx(1 / 3)
    assert sensitivity_at((alarms, sensitivity), 1.0) == pytest.approx(1.0)


def test_two_marks_on_one_fracture_count_once():
    alarms, sensitivity = froc([((Mark(0.9, 0), Mark(0.8, 0)), 2)])
    assert sensitivity.max() == 0.5
    assert alarms.max() == 0


def test_marks_of_equal_score_come_together():
    alarms, _ = froc([((Mark(0.5, None), Mark(0.5, 0)), 1)])
    assert alarms.tolist() == [0, 1]
