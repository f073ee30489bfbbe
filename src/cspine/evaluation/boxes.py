"""Boxes around vertebrae in axial images, by COCO's measure, and marks on fractures, by FROC.

The vertebra boxes are those of the YOLO papers on bones of the cervical spine: one box a level and image. The
method draws masks, not boxes, so both truth and answer are the tight boxes of masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.cuda_runtime import preload
from cspine.evaluation.cases import FractureBox
from cspine.findings import StudyFindings
from cspine.volume import FloatArray, SpineMask, label_boxes

MIN_AREA_MM2: Final = 20.0
"""A smaller true piece in an image is the rim of an end plate and gets no box."""
MIN_FOUND_MM2: Final = 5.0
"""A found piece gets one from here on: it may be the true one drawn a little too small, and ranks last."""
HALF_SURE_MM2: Final = 100.0
"""Area at which a found box gets half of the score that a large one gets."""
FALSE_ALARMS: Final = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Of the FROC's points, per study."""


@dataclass(frozen=True, eq=False)
class SliceBoxes:
    """Boxes of vertebrae in the images of one study.

    Attributes:
        places: int64 (N, 2): image and level (1..7).
        corners: float64 (N, 4): smallest x and y and largest x and y, half-open, in pixels.
        scores: float64 (N,) in (0, 1]; 1 for true boxes.
    """

    places: NDArray[np.int64]
    corners: FloatArray
    scores: FloatArray


def slice_boxes(mask: SpineMask, *, scored: bool) -> SliceBoxes:
    """The tight box of each level in each image.

    Args:
        mask: images are its slices.
        scored: give found boxes a score, by which average precision ranks them: the probability that the
            level's name is right, 1 / (1 + exp(-margin)), times the mean of area / (area + 100 mm2) and of
            the overlap (IoU) with the level's boxes in the images above and below. Slivers are the least
            sure, and so is a box where the bone changes from image to image, as at end plates: there the mask
            need only end a little too early. The mask itself carries no probability.
    """
    _, row_mm, column_mm = mask.grid.spacing_mm
    margins = {int(level.level): level.margin for level in mask.levels}
    corners: dict[tuple[int, int], _Corners] = {}
    sizes: dict[tuple[int, int], float] = {}
    least = MIN_FOUND_MM2 if scored else MIN_AREA_MM2
    for k, image in enumerate(mask.labels):
        for level, ((top, left), (bottom, right)) in sorted(label_boxes(image).items()):
            area = float(np.count_nonzero(image[top:bottom, left:right] == level)) * row_mm * column_mm
            if area >= least:
                corners[k, level] = (left, top, right, bottom)
                sizes[k, level] = area / (area + HALF_SURE_MM2)
    scores = [1.0] * len(corners)
    if scored:
        images = len(mask.labels)
        scores = [
            _sure(margins[level]) * (sizes[k, level] + _steadiness(corners, k, level, images)) / 2
            for k, level in corners
        ]
    return SliceBoxes(
        np.array(list(corners), np.int64).reshape(-1, 2),
        np.array(list(corners.values()), np.float64).reshape(-1, 4),
        np.array(scores, np.float64),
    )


_Corners = tuple[int, int, int, int]


def _sure(margin: float | None) -> float:
    return 1.0 if margin is None else 1.0 / (1.0 + float(np.exp(-margin)))


def _steadiness(corners: Mapping[tuple[int, int], _Corners], image: int, level: int, images: int) -> float:
    """Mean overlap of a box with those of its level in the neighbouring images; 0 where there is none."""
    own = corners[image, level]
    beside = [k for k in (image - 1, image + 1) if 0 <= k < images]
    overlaps = [_overlap(own, corners[k, level]) if (k, level) in corners else 0.0 for k in beside]
    return float(np.mean(overlaps)) if overlaps else 1.0


def _overlap(a: _Corners, b: _Corners) -> float:
    """Intersection over union."""
    width, height = (max(0, min(a[n + 2], b[n + 2]) - max(a[n], b[n])) for n in (0, 1))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (areas - width * height)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's average precision of all images together.

    Attributes:
        at_50: at an overlap (IoU) of at least .50, mean over the levels.
        from_50_to_95: mean over .50, .55, ... .95, and over the levels.
        by_level: `from_50_to_95` of each level by name.
    """

    at_50: float
    from_50_to_95: float
    by_level: dict[str, float]


def average_precision(pairs: Sequence[tuple[SliceBoxes, SliceBoxes]]) -> AveragePrecision | None:
    """Average precision over all images of all studies, by MONAI's COCO metric.

    As COCO has it, levels without any true box are left out; None where no level has one.

    Args:
        pairs: found and true boxes of each study.
    """
    preload()
    from monai.apps.detection.metrics.coco import COCOMetric
    from monai.apps.detection.metrics.matching import matching_batch
    from monai.data.box_utils import box_iou

    levels = sorted({int(n) for _, truth in pairs for n in truth.places[:, 1]})
    if not levels:
        return None
    names = [str(CERVICAL[n - 1]) for n in levels]
    metric = COCOMetric(names, iou_list=(0.5,), iou_range=(0.5, 0.95, 0.05), max_detection=(100,))
    found, truth = _images(pairs, levels)
    matches = matching_batch(
        iou_fn=box_iou,
        iou_thresholds=metric.get_iou_thresholds(),
        pred_boxes=[boxes for boxes, _, _ in found],
        pred_classes=[classes for _, classes, _ in found],
        pred_scores=[scores for _, _, scores in found],
        gt_boxes=[boxes for boxes, _, _ in truth],
        gt_classes=[classes for _, classes, _ in truth],
    )
    scores, _ = metric(matches)
    whole = "mAP_IoU_0.50_0.95_0.05_MaxDet_100"
    by_level = {name: float(scores[f"{name}_{whole}"]) for name in names}
    return AveragePrecision(float(scores["AP_IoU_0.50_MaxDet_100"]), float(scores[whole]), by_level)


_Image = tuple[FloatArray, NDArray[np.int64], FloatArray]


def _images(
    pairs: Sequence[tuple[SliceBoxes, SliceBoxes]], levels: list[int]
) -> tuple[list[_Image], list[_Image]]:
    """Boxes, classes (by place in `levels`) and scores of every image in which there is a box."""
    found: list[_Image] = []
    truth: list[_Image] = []
    for answer, true in pairs:
        for k in np.union1d(answer.places[:, 0], true.places[:, 0]):
            found.append(_image(answer, int(k), levels))
            truth.append(_image(true, int(k), levels))
    return found, truth


def _image(boxes: SliceBoxes, image: int, levels: list[int]) -> _Image:
    here = (boxes.places[:, 0] == image) & np.isin(boxes.places[:, 1], levels)
    classes = np.searchsorted(levels, boxes.places[here, 1])
    return boxes.corners[here], classes.astype(np.int64), boxes.scores[here]


@dataclass(frozen=True)
class Mark:
    """A place that the method points at.

    Attributes:
        score: the probability of a fracture there.
        hits: index of the fracture that it hits, None for a false alarm.
    """

    score: float
    hits: int | None


def marks_of(findings: StudyFindings, boxes: Sequence[FractureBox]) -> tuple[Mark, ...]:
    """Marks of a study: each level that was scored points at its own box.

    A mark hits a fracture whose box has its centre in the mark's box, and whose level, where known, is the
    mark's.
    """
    marks = []
    for finding in findings.levels:
        if finding.probability is None or finding.box_lps_mm is None:
            continue
        low, high = np.array(finding.box_lps_mm)
        hits = None
        for index, fracture in enumerate(boxes):
            center = fracture.box_lps_mm.mean(0)
            inside = bool(((center >= low) & (center <= high)).all())
            if inside and fracture.level in (None, finding.level):
                hits = index
                break
        marks.append(Mark(finding.probability, hits))
    return tuple(marks)


def froc(studies: Sequence[tuple[Sequence[Mark], int]]) -> tuple[FloatArray, FloatArray]:
    """False alarms per study and part of the fractures hit, for falling thresholds.

    Args:
        studies: marks and number of fractures of each study.

    Returns:
        Two arrays (M,), both rising from 0; marks of equal score come together.
    """
    fractures = sum(count for _, count in studies)
    scored = sorted(
        ((mark.score, study, mark.hits) for study, (marks, _) in enumerate(studies) for mark in marks),
        key=lambda entry: -entry[0],
    )
    alarms, hit = 0, set()
    curve = [(0.0, 0.0)]
    for place, (score, study, hits) in enumerate(scored):
        if hits is None:
            alarms += 1
        else:
            hit.add((study, hits))
        if place + 1 == len(scored) or scored[place + 1][0] != score:
            curve.append((alarms / len(studies), len(hit) / fractures if fractures else float("nan")))
    points = np.array(curve)
    return points[:, 0], points[:, 1]


def sensitivity_at(curve: tuple[FloatArray, FloatArray], false_alarms: float) -> float:
    """The largest sensitivity with at most so many false alarms per study."""
    alarms, sensitivity = curve
    return float(sensitivity[alarms <= false_alarms + 1e-12].max())
