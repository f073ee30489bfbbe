from __future__ import annotations

import numpy as np
import pytest

from cspine.anatomy import OCCIPUT, THORACIC, Vertebra
from cspine.datasets.rsna.resampling import centered_grid
from cspine.datasets.rsna.teacher import Teacher, doubts, with_anchors
from cspine.method import Method
from cspine.settings import models_dir
from cspine.volume import Grid, SpineMask


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(models_dir(), "cpu")


def test_the_teacher_segments_as_the_application_does_without_dali(small, teacher: Teacher):
    volume, _, _ = small.truth(104)
    ours, theirs = teacher.segment(volume), Method.load(models_dir(), "cpu").segment(volume)
    found = (ours.labels > 0).sum()
    assert found > 1000
    # What remains is rounding of bfloat16.
    assert (ours.labels != theirs.labels).sum() < 0.01 * found


def test_the_anchors_are_those_of_the_network_and_no_cervical_vertebra(small, teacher: Teacher):
    volume, labels, _ = small.truth(104)
    grid = centered_grid(volume.grid, (96, 64, 64), (2.0, 2.0, 2.0), volume.grid.to_lps_mm((35, 32, 32)))
    found = teacher.anchors(volume, grid)
    assert found.shape == grid.shape
    assert set(np.unique(found)) <= {0, THORACIC, OCCIPUT}
    assert found.any()
    # The skull is above, the chest below.
    heights = {
        label: np.nonzero(found == label)[0].mean() for label in (THORACIC, OCCIPUT) if (found == label).any()
    }
    assert heights.get(OCCIPUT, 96) > heights.get(THORACIC, 0)
    assert labels.any()


def spine(places_mm: dict[Vertebra, tuple[float, float]], margin: float = 5.0) -> SpineMask:
    """Blocks of 25 x 25 mm in plane, of a height each, on a grid of 1 mm."""
    labels = np.zeros((220, 40, 40), np.uint8)
    for level, (center, height) in places_mm.items():
        labels[int(center - height / 2) : int(center + height / 2), 8:33, 8:33] = level
    affine = np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    return SpineMask.from_labels(Grid(labels.shape, affine), labels, dict.fromkeys(Vertebra, margin))


USUAL = {level: (200.0 - 18 * level, 12.0) for level in Vertebra}


def test_a_spine_in_order_of_usual_sizes_and_sure_names_is_believed():
    assert doubts(spine(USUAL)) is None


@pytest.mark.parametrize(
    ("places", "margin", "doubt"),
    [
        ({v: USUAL[v] for v in (Vertebra.C1, Vertebra.C2)}, 5.0, "only 2 levels"),
        ({v: p for v, p in USUAL.items() if v is not Vertebra.C4}, 5.0, "between others is missing"),
        (USUAL, 0.2, "margin is only 0.20 nats"),
        (USUAL | {Vertebra.C7: (20.0, 12.0)}, 5.0, "two levels are 72 mm apart"),
        (USUAL | {Vertebra.C7: (74.0, 3.0)}, 5.0, "C7 measures 1.9 ml"),
        ({v: (18 * v + 20.0, 12.0) for v in Vertebra}, 5.0, "do not go down in order"),
    ],
)
def test_what_speaks_against_pseudo_labels_is_said(places: dict, margin: float, doubt: str):
    assert doubt in str(doubts(spine(places, margin)))


def test_anchors_never_replace_a_label():
    labels, anchors = np.array([0, 3, 0, 8], np.uint8), np.array([9, 9, 8, 0], np.uint8)
    assert with_anchors(labels, anchors, thoracic=False).tolist() == [9, 3, 0, 8]
    assert with_anchors(labels, anchors, thoracic=True).tolist() == [9, 3, 8, 8]
