"""The method: what a mask and scores become, with networks replaced by plain functions."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.findings import (
    Decision,
    FractureScores,
    LevelScore,
    OperatingPoint,
    Outcome,
    Overall,
    StudyFindings,
    VertebraFinding,
)
from cspine.pipeline import find_fractures
from cspine.volume import Grid, SpineMask, Visibility, Volume

GRID = Grid((64, 20, 24), np.diag([3.0, 0.8, 1.2, 1.0])[[2, 1, 0, 3]])
VOLUME = Volume(GRID, np.zeros(GRID.shape, np.int16), tuple(f"1.2.{k}" for k in range(64)))


def spine(*, missing=(), cut=(), margins=None):
    """C1 at the top (last slices) to C7, eight slices each, one slice of space around them."""
    labels = np.zeros(GRID.shape, np.uint8)
    for vertebra in CERVICAL:
        if vertebra in missing:
            continue
        top = 64 - 8 * (int(vertebra) - 1) - 2
        labels[top - 6 : 64 if vertebra in cut else top, 4:16, 6:18] = vertebra
    return SpineMask.from_labels(GRID, labels, margins)


def scores(mask, overall=0.1, **probabilities):
    seen = [found.level for found in mask.levels if found.visibility is not Visibility.ABSENT]
    points = {v: tuple(mask.center_lps_mm(v)) for v in seen}
    levels = {v: LevelScore(probabilities.get(v.name, 0.1), points[v]) for v in seen}
    return FractureScores(levels, overall)


def findings_of(mask, at=None, **probabilities):
    return find_fractures(VOLUME, lambda _: mask, lambda _, m: scores(m, **probabilities), at)


def test_a_whole_neck_without_suspicion_is_complete_and_without_findings():
    findings = findings_of(spine())
    assert [f.decision for f in findings.levels] == [Decision.ABSENT] * 7
    assert findings.overall.decision is Decision.ABSENT
    assert findings.outcome is Outcome.COMPLETE_NO_FINDINGS


def test_one_suspicious_level_makes_the_study_positive_and_points_at_its_slice():
    findings = findings_of(spine(), C6=0.9, overall=0.8)
    c6 = findings.level(Vertebra.C6)
    assert c6.decision is Decision.PRESENT
    assert c6.key_slice == round(float(GRID.to_index(spine().center_lps_mm(Vertebra.C6))[0]))
    assert c6.key_sop_instance_uid == VOLUME.slice_uids[c6.key_slice]
    assert findings.outcome is Outcome.COMPLETE_FINDINGS


def test_a_level_that_was_not_seen_is_undetermined_and_never_absent():
    findings = findings_of(spine(missing=[Vertebra.C7]))
    c7 = findings.level(Vertebra.C7)
    assert (c7.visibility, c7.decision, c7.probability) == (Visibility.ABSENT, Decision.UNDETERMINED, None)
    assert "C7" in c7.reason
    assert findings.overall.decision is Decision.UNDETERMINED
    assert findings.outcome is Outcome.PARTIAL_NO_FINDINGS


def test_a_cut_level_can_be_positive_but_not_negative():
    negative = findings_of(spine(cut=[Vertebra.C1])).level(Vertebra.C1)
    positive = findings_of(spine(cut=[Vertebra.C1]), C1=0.95).level(Vertebra.C1)
    assert negative.decision is Decision.UNDETERMINED
    assert "edge" in negative.reason
    assert positive.decision is Decision.PRESENT


def test_a_level_whose_name_is_not_trusted_is_undetermined_but_the_study_stays_positive():
    mask = spine(margins=dict.fromkeys(CERVICAL, 0.2))
    findings = findings_of(mask, OperatingPoint(min_margin=1.0), C5=0.9, overall=0.3)
    assert findings.level(Vertebra.C5).decision is Decision.UNDETERMINED
    assert findings.overall.decision is Decision.PRESENT
    assert findings.outcome is Outcome.PARTIAL_FINDINGS


def test_a_score_that_is_not_steady_under_augmentation_is_undetermined():
    mask = spine()
    steady = scores(mask)
    shaky = {v: LevelScore(s.probability, s.key_lps_mm, spread=0.4) for v, s in steady.levels.items()}
    findings = find_fractures(
        VOLUME, lambda _: mask, lambda *_: FractureScores(shaky, 0.1), OperatingPoint(max_spread=0.2)
    )
    assert {f.decision for f in findings.levels} == {Decision.UNDETERMINED}


def test_a_high_overall_score_alone_makes_the_study_positive():
    findings = findings_of(spine(), overall=0.9)
    assert findings.overall.decision is Decision.PRESENT
    assert findings.outcome is Outcome.COMPLETE_FINDINGS


def test_no_vertebra_at_all_is_a_failure_with_its_reason():
    empty = spine(missing=CERVICAL)
    findings = find_fractures(VOLUME, lambda _: empty, lambda *_: None)
    assert findings.outcome is Outcome.FAILED
    assert findings.failure == "No cervical vertebra was found in the images."


def test_a_failed_study_says_undetermined_with_the_reason_for_every_level():
    failed = StudyFindings.failed("A slice is missing.")
    assert failed.outcome is Outcome.FAILED
    assert {(f.decision, f.reason) for f in failed.levels} == {(Decision.UNDETERMINED, "A slice is missing.")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Vertebra.C1, Visibility.COMPLETE, 1.2, Decision.PRESENT), r"not in \[0, 1\]"),
        ((Vertebra.C1, Visibility.PARTIAL, 0.1, Decision.ABSENT), "seen completely"),
        ((Vertebra.C1, Visibility.ABSENT, None, Decision.UNDETERMINED), "reason"),
        ((Vertebra.C1, Visibility.COMPLETE, None, Decision.PRESENT), "needs a probability"),
    ],
)
def test_a_finding_that_contradicts_itself_cannot_be_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        VertebraFinding(*arguments)


def test_a_study_without_all_seven_levels_in_order_cannot_be_made():
    levels = tuple(reversed(StudyFindings.failed("x").levels))
    with pytest.raises(ValueError, match=r"C1\.\.C7"):
        StudyFindings("", "", Overall(None, Decision.UNDETERMINED), levels)
