"""What a person says of fractures."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import VertebraCrop
from cspine.findings import Decision
from cspine.volume import Grid, SpineMask, Volume
from cspine_label.errors import RefusedLabelError
from cspine_label.fractures import annotated_findings, as_json, check_against, read_annotations


@pytest.fixture
def mask() -> SpineMask:
    """C2..C7, C7 cut by the lower edge."""
    labels = np.zeros((40, 30, 30), np.uint8)
    for vertebra in CERVICAL[1:]:
        top = 6 * (8 - int(vertebra))
        labels[top - 6 : top - 1, 10:20, 10:20] = vertebra
    return SpineMask.from_labels(Grid(labels.shape, _affine()), labels)


def _affine() -> np.ndarray:
    return np.array([[0, 0, 1.0, -15], [0, 1, 0, -15], [3, 0, 0, 0], [0, 0, 0, 1]], float)


@pytest.fixture
def volume(mask) -> Volume:
    return Volume(mask.grid, np.zeros(mask.grid.shape, np.int16))


def test_what_is_said_survives_its_json(mask):
    said = {
        "C5": {
            "decision": "present",
            "boxes_lps_mm": [[[5, 1, 40], [-5, -1, 38]]],
            "points_lps_mm": [[0, 0, 39]],
        },
        "C6": {"decision": "absent"},
        "C7": {"decision": "undetermined", "reason": "Motion."},
    }
    read = read_annotations(said)
    assert read[Vertebra.C5].boxes_lps_mm == (((-5.0, -1.0, 38.0), (5.0, 1.0, 40.0)),)
    assert read_annotations(as_json(read)) == read
    check_against(read, mask)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "an object by level"),
        ({"T1": "present"}, "'T1' is no level"),
        ({"C5": "perhaps"}, "present, absent or undetermined"),
        ({"C5": {"decision": "absent", "points_lps_mm": [[0, 0, 0]]}}, "only a fracture that is present"),
        ({"C5": {"decision": "present", "points_lps_mm": [[0, 0]]}}, "three finite numbers"),
        ({"C5": {"decision": "present", "points_lps_mm": [[0, 0, float("nan")]]}}, "three finite numbers"),
        ({"C5": {"decision": "present", "boxes_lps_mm": [[[0, 0, 0]]]}}, "two corners"),
        ({"C5": {"decision": "present", "boxes_lps_mm": 3}}, "as lists"),
    ],
)
def test_anything_else_is_refused(said, why):
    with pytest.raises(RefusedLabelError, match=why):
        read_annotations(said)


def test_nothing_is_said_of_a_level_that_is_not_drawn(mask):
    check_against(read_annotations({"C1": "undetermined"}), mask)
    with pytest.raises(RefusedLabelError, match="C1 is not drawn"):
        check_against(read_annotations({"C1": "present"}), mask)


def test_a_mark_lies_near_its_vertebra(mask):
    with pytest.raises(RefusedLabelError, match="far from that vertebra"):
        check_against(read_annotations({"C5": {"decision": "present", "points_lps_mm": [[0, 0, 110]]}}), mask)


def test_decisions_become_findings_and_what_was_not_judged_is_undetermined(mask, volume):
    point = [float(x) for x in mask.center_lps_mm(Vertebra.C4)]
    said = read_annotations(
        {"C4": {"decision": "present", "points_lps_mm": [point]}, "C5": "absent", "C7": "absent"}
    )
    findings = annotated_findings(said, volume, mask)
    decided = {f.level: f.decision for f in findings.levels}
    assert decided[Vertebra.C4] is Decision.PRESENT
    assert decided[Vertebra.C5] is Decision.ABSENT
    assert findings.level(Vertebra.C6).reason == "The annotator did not judge C6."
    assert findings.level(Vertebra.C7).reason == "C7 is cut by the edge of the images."
    assert findings.level(Vertebra.C1).reason == "C1 was not drawn."
    assert findings.overall.decision is Decision.PRESENT
    assert findings.level(Vertebra.C4).key_slice == round(mask.grid.to_index(point)[0])


def test_judged_levels_become_samples_of_the_classifier_and_marks_say_where():
    torch = pytest.importorskip("torch")
    from cspine_label.samples import fracture_samples

    grid = Grid((6, 8, 8), np.diag([1.0, 1, 1, 1]))
    inside = torch.zeros(grid.shape)
    inside[1:5, 2:6, 2:6] = 1
    crops = [VertebraCrop(v, grid, torch.full(grid.shape, 0.5), inside) for v in CERVICAL[3:7]]
    box = [[[0, 0, 0], [2, 8, 8]]]
    said = read_annotations(
        {
            "C4": "absent",
            "C5": {"decision": "present", "boxes_lps_mm": box},
            "C6": "present",
            "C7": "undetermined",
        }
    )
    c4, c5, c6 = fracture_samples(crops, said)
    assert (c4.level, c4.fractured, c4.fracture.any(), c4.located) == (Vertebra.C4, False, False, True)
    assert c5.fracture.sum() == 2 * 4 * 4
    assert c5.located
    assert (c6.fractured, c6.located, bool(c6.fracture.any())) == (True, False, False)
    assert c5.image.max() == 128
