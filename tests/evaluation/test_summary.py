from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cspine.anatomy import Vertebra
from cspine.errors import ModelError
from cspine.evaluation import intervals
from cspine.evaluation.fracture_summary import ece_if_calibrated
from cspine.evaluation.runner import run_set
from cspine.evaluation.summary import confusion, summarise
from cspine.evaluation.table import Table
from cspine.evaluation.targets import TARGETS, Target, check_targets
from cspine.volume import SpineMask

CALM = {1: {}, 2: {Vertebra.C5: 0.7}, 3: {Vertebra.C1: 0.6}, 4: {Vertebra.C2: 0.97, Vertebra.C3: 0.3}}
BROKEN = {1: [], 2: [Vertebra.C5], 3: [], 4: [Vertebra.C2, Vertebra.C3]}


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(intervals, "REPEATS", 60)


@pytest.fixture
def run(fake_cases, fake_method, points, tmp_path):
    """A function from one case and the mask that is found in it to its results."""

    def go(case, found):
        return run_set(fake_method({1: found}, {1: {}}), points, fake_cases({"case-1": case}), tmp_path)

    return go


@pytest.fixture
def four(make_case, fake_cases, fake_method, spine):
    """Two studies with fractures of three levels; C3 of the last is missed, C1 of the third a false alarm."""
    cases = {
        f"case-{n}": make_case(n, BROKEN[n], confounded=[Vertebra.C1, Vertebra.C5]) for n in (1, 2, 3, 4)
    }
    return fake_cases(cases), fake_method({n: spine(margin=3.0) for n in CALM}, dict(CALM))


@pytest.fixture
def measured(four, points, tmp_path):
    source, method = four
    return summarise(run_set(method, points, source, tmp_path), "balanced")


def test_cases_and_levels_are_counted(measured):
    assert measured["cases"] == {
        "asked": 4, "failed": 0, "truth_unknown": 0, "with_fracture": 2, "full_view": 4, "levels": 28,
        "fractured_levels": 3,
    }  # fmt: skip


def test_sensitivity_and_specificity_are_those_of_the_operating_points(measured):
    level = measured["fractures"]["level"]["operating_points"]
    assert level["balanced"]["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-3)
    assert level["balanced"]["specificity"]["value"] == pytest.approx(24 / 25)
    assert level["rule_in"]["sensitivity"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert level["rule_out"]["counts"]["sound"] == {"absent": 24, "present": 1, "undetermined": 0}
    study = measured["fractures"]["study"]["operating_points"]["balanced"]
    assert (study["sensitivity"]["value"], study["specificity"]["value"]) == (1.0, 0.5)
    assert study["predictive_values"][0] == {
        "prevalence": 0.02, "ppv": pytest.approx(0.02 / (0.02 + 0.49)), "npv": 1.0
    }  # fmt: skip


def test_areas_under_the_curve_are_those_of_the_pairs(measured):
    # Scores of the fractured .97 .7 .3, of the sound one .6 and 24 times .05: one of 75 pairs is wrong.
    assert measured["fractures"]["level"]["auc"]["value"] == pytest.approx(1 - 1 / 75, abs=1e-4)
    assert measured["fractures"]["study"]["auc"]["value"] == 1.0


def test_the_challenges_loss_stands_beside_that_of_saying_the_prevalence(measured):
    fractures = measured["fractures"]
    assert fractures["rsna_loss"]["value"] < fractures["rsna_loss_of_prevalence"]
    assert fractures["rsna_loss"]["count"] == 4


def test_confounders_that_are_called_are_counted_among_the_sound_only(measured):
    flagged = measured["confounders"]
    # C1 of four studies and C5 of three: seven sound levels, of which C1 of the third is called.
    assert (flagged["flagged"]["value"], flagged["flagged"]["count"]) == (pytest.approx(1 / 7, abs=1e-3), 7)
    assert flagged["flagged_without"]["value"] == 0.0
    assert flagged["by_kind"]["ossicle"] == flagged["flagged"]


def test_masks_boxes_and_marks_of_a_perfect_segmentation(measured):
    assert measured["masks"]["dice"]["value"] == 1.0
    assert measured["masks"]["all_levels_right"]["value"] == 1.0
    assert measured["masks"]["all_levels_right"]["count"] == 4
    assert measured["boxes"]["map50_95"] == pytest.approx(1.0)
    assert measured["boxes"]["fractures"] == 3
    points = {p["false_alarms"]: p["sensitivity"]["value"] for p in measured["boxes"]["froc"]["points"]}
    assert points[0.125] == pytest.approx(2 / 3, abs=1e-3), "one false alarm in four studies is too many"
    assert points[0.25] == 1.0
    assert measured["boxes"]["key_slice_shows_fracture"]["value"] == 1.0


def test_subgroups_add_up(measured):
    groups = {(line["group"], line["value"]): line for line in measured["subgroups"]}
    assert groups["all", "all"]["fractured_levels"] == 3
    assert groups["noise", "low"]["cases"] + groups["noise", "high"]["cases"] == 4
    assert groups["level", "C1"]["specificity"]["value"] == 0.75
    assert groups["level", "C3"]["sensitivity"]["value"] == 0.0
    assert groups["fracture", "lamina"]["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-3)
    assert groups["gap", "up to 1 mm"]["levels"] == 3


def test_a_failed_case_counts_as_having_found_nothing(four, points, tmp_path):
    source, method = four
    method.errors = {2: ModelError("The network gave no number.")}
    found = summarise(run_set(method, points, source, tmp_path), "balanced")
    assert found["failures"] == [{"case": "case-2", "sentence": "The network gave no number."}]
    assert found["cases"]["failed"] == 1
    assert found["masks"]["dice"]["value"] == pytest.approx(0.75)
    assert found["masks"]["all_levels_right"]["value"] == pytest.approx(0.75)
    level = found["fractures"]["level"]["operating_points"]["balanced"]
    assert level["sensitivity"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert level["undetermined_fractured"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["fractures"]["without_probability"] == {"levels": 7, "studies": 1}
    assert found["fractures"]["rsna_loss"]["count"] == 4


def test_a_case_whose_truth_could_not_be_read_is_listed_and_in_no_rate(four, points, tmp_path):
    source, method = four
    source.cases["case-1"] = ModelError("Unreadable.")
    found = summarise(run_set(method, points, source, tmp_path), "balanced")
    assert (found["cases"]["failed"], found["cases"]["truth_unknown"], found["cases"]["levels"]) == (1, 1, 21)


def test_without_any_mask_or_fracture_what_cannot_be_measured_is_none(run, make_case, spine):
    plain = replace(make_case(1), mask=None, boxes=None)
    found = summarise(run(plain, spine()), "balanced")
    assert found["masks"] is None
    assert found["boxes"]["map50"] is None
    assert found["boxes"]["froc"] is None
    assert found["fractures"]["level"]["auc"]["value"] is None
    json.dumps(found, allow_nan=False)
    verdicts = {line["name"]: line["verdict"] for line in check_targets(found)}
    assert verdicts["Dice, mean over the levels in full view"] == "not measured"


def test_where_all_failed_there_are_still_metrics(four, points, tmp_path):
    source, method = four
    source.cases = dict.fromkeys(source.cases, ModelError("Unreadable."))
    found = summarise(run_set(method, points, source, tmp_path), "balanced")
    assert len(found["failures"]) == 4
    json.dumps(found, allow_nan=False)


def test_confusion_has_the_true_vertebra_first(run, make_case, spine):
    slipped = spine({Vertebra.C5: Vertebra.C4, Vertebra.C4: None})
    table = confusion(run(make_case(1), slipped))
    assert table["C5"]["C4"] == 1
    assert table["C5"]["not found"] == 1
    assert table["C4"]["not found"] == 0, "its name was given, to another one"
    assert sum(sum(row.values()) for row in table.values()) == 7


def test_levels_the_scan_cuts_do_not_count_for_fractures(run, make_case, spine, grid):
    labels = spine().labels.copy()
    labels[86:] = labels[85]
    cut = SpineMask.from_labels(grid, labels)
    table = Table.of(run(make_case(1, [Vertebra.C1], mask=cut), cut))
    assert np.isnan(table.truth[0, 0])
    assert table.any_truth[0] == 1.0


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [
        (0.95, False, "pass"),
        (0.9499, False, "fail"),
        (0.95, True, "pass"),
        (0.951, True, "fail"),
        (None, True, "not measured"),
    ],
)
def test_a_target_passes_at_its_bound(value, at_most, verdict):
    found = {"a": {"b": {"value": value, "low": 0.1, "high": 1.0}}}
    line = Target("x", ("a", "b"), 0.95, at_most).check(found)
    assert (line["verdict"], line["measured"]) == (verdict, value)


@pytest.mark.parametrize(
    ("value", "chance", "verdict"),
    [
        (0.04, {"mean": 0.12, "p95": 0.16}, "pass"),
        (0.15, {"mean": 0.12, "p95": 0.16}, "too few cases"),
        (0.17, {"mean": 0.12, "p95": 0.16}, "fail"),
        (0.06, {"mean": 0.03, "p95": 0.07}, "fail"),
        (0.06, None, "fail"),
    ],
)
def test_a_bound_that_chance_alone_would_miss_is_not_failed(value, chance, verdict):
    found = {"ece": {"value": value, "low": 0.0, "high": 1.0}, "chance": chance}
    line = Target("x", ("ece",), 0.05, at_most=True, chance=("chance",)).check(found)
    assert (line["verdict"], line["measured"]) == (verdict, value)


def test_few_cases_show_a_calibration_error_even_of_a_perfect_method():
    spread = np.random.default_rng(0).random(4000)
    few, many = ece_if_calibrated(spread[:60]), ece_if_calibrated(spread)
    assert few["mean"] > 0.1 > 0.03 > many["mean"] > 0
    assert few["p95"] > few["mean"]
    assert ece_if_calibrated(np.zeros(60)) == {"mean": 0.0, "p95": 0.0}
    assert ece_if_calibrated(np.zeros(0)) is None


def test_every_target_finds_its_number(measured):
    assert {line["verdict"] for line in check_targets(measured)} <= {"pass", "fail", "too few cases"}
    assert len(check_targets(measured)) == len(TARGETS)
