from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import InputError, ModelError, OutputError, UsageError
from cspine.evaluation.result import CaseResult, load_result, save_result
from cspine.evaluation.runner import claim, measure_case, run_set
from cspine.findings import Decision, ModelVersion
from cspine.volume import SpineMask, Visibility

MODELS = (ModelVersion("finder", "1.0.0", "ab" * 32),)


def plain(result: CaseResult) -> dict:
    return asdict(replace(result, boxes=None))


@pytest.fixture
def three(make_case, fake_cases, fake_method):
    cases = {f"case-{n}": make_case(n, [Vertebra.C5] if n == 2 else []) for n in (1, 2, 3)}
    masks = {n: cases[f"case-{n}"].mask for n in (1, 2, 3)}
    return fake_cases(cases), fake_method(masks, {1: {}, 2: {Vertebra.C5: 0.7}, 3: {Vertebra.C1: 0.95}})


def test_a_case_is_compared_in_every_respect(make_case, fake_method, points, spine):
    case = make_case(2, [Vertebra.C5], confounded=[Vertebra.C2])
    method = fake_method({2: spine(margin=2.0)}, {2: {Vertebra.C5: 0.7}})
    result = measure_case(method, points, case)
    c5 = result.levels[4]
    assert (c5.level, c5.truth.fractured, c5.probability) == (Vertebra.C5, True, 0.7)
    assert c5.decisions == {
        "rule_out": Decision.PRESENT, "balanced": Decision.PRESENT, "rule_in": Decision.ABSENT
    }  # fmt: skip
    assert c5.mask.dice == 1.0
    assert c5.key_slice_shows is True
    assert result.levels[1].truth.confounders == ("ossicle",)
    assert result.fractured
    assert result.full_view
    assert (result.decisions["balanced"], result.overall) == (Decision.PRESENT, 0.7)
    assert len(result.boxes.found.places) == len(result.boxes.truth.places) == 70
    assert [mark.hits for mark in result.marks.marks].count(0) == 1
    assert set(result.seconds) == {"segment", "classify", "whole"}


def test_a_level_whose_name_is_not_trusted_is_undetermined(make_case, fake_method, points, spine):
    case = make_case(2, [Vertebra.C5])
    result = measure_case(fake_method({2: spine(margin=0.4)}, {2: {Vertebra.C5: 0.7}}), points, case)
    assert result.levels[4].decisions["balanced"] is Decision.UNDETERMINED
    assert result.levels[4].decisions["rule_out"] is Decision.PRESENT


def test_a_neck_in_which_nothing_is_found_is_no_failure_but_misses_everything(
    make_case, fake_method, points, grid
):
    case = make_case(2, [Vertebra.C5])
    nothing = SpineMask.from_labels(grid, np.zeros(grid.shape, np.uint8))
    result = measure_case(fake_method({2: nothing}), points, case)
    assert result.failure is None
    assert all(level.mask.dice == 0 and level.probability is None for level in result.levels)
    assert result.levels[4].decisions["balanced"] is Decision.UNDETERMINED
    assert result.marks.marks == ()
    assert result.marks.fractures == 1


def test_a_result_survives_its_file(make_case, fake_method, points, spine, tmp_path):
    case = make_case(2, [Vertebra.C5], confounded=[Vertebra.C5])
    slipped = spine({Vertebra.C1: None, Vertebra.C2: Vertebra.C1}, margin=1.5)
    result = measure_case(fake_method({2: slipped}, {2: {Vertebra.C5: 0.7}}), points, case)
    save_result(result, tmp_path / "a" / "case.json")
    found = load_result(tmp_path / "a" / "case.json")
    assert (found.levels, found.marks, found.decisions) == (result.levels, result.marks, result.decisions)
    np.testing.assert_array_equal(found.boxes.found.places, result.boxes.found.places)
    np.testing.assert_allclose(found.boxes.found.scores, result.boxes.found.scores, atol=1e-4)
    assert plain(found) == plain(result)


def test_a_killed_run_goes_on_where_it_was(three, points, tmp_path):
    source, method = three
    killed = replace(method, errors={3: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_set(killed, points, source, tmp_path)
    assert killed.asked == 3
    results = run_set(method, points, source, tmp_path)
    assert method.asked == 1, "the first two have their results"
    assert [result.identifier for result in results] == ["case-1", "case-2", "case-3"]
    again = run_set(method, points, source, tmp_path)
    assert method.asked == 1
    assert [plain(result) for result in again] == [plain(result) for result in results]


def test_a_case_that_fails_is_listed_with_its_sentence_and_stays_in_the_counts(three, points, tmp_path):
    source, method = three
    method.errors = {1: ModelError("The network gave no number."), 2: ZeroDivisionError("division by zero")}
    results = run_set(method, points, source, tmp_path)
    assert [r.failure for r in results] == [
        "The network gave no number.", "ZeroDivisionError: division by zero", None
    ]  # fmt: skip
    assert results[1].fractured is True
    assert all(level.decisions["balanced"] is Decision.UNDETERMINED for level in results[1].levels)
    assert all(level.mask.dice == 0 for level in results[1].levels)


def test_a_case_that_cannot_be_read_fails_alone(three, points, tmp_path):
    source, method = three
    source.cases["case-2"] = InputError("The slices of a study are 5 mm apart in one place.")
    results = run_set(method, points, source, tmp_path)
    assert [r.failure is None for r in results] == [True, False, True]
    assert results[1].levels == ()
    assert results[1].fractured is None


def test_a_disk_that_is_full_ends_the_evaluation(three, points, tmp_path):
    source, method = three
    source.cases["case-2"] = OutputError("'cases' cannot be written: is the disk full?")
    with pytest.raises(OutputError, match="disk full"):
        run_set(method, points, source, tmp_path)
    assert not (tmp_path / "case-2.json").exists()


def test_a_folder_that_is_a_file_is_refused(three, points, tmp_path):
    source, method = three
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="name another folder"):
        run_set(method, points, source, tmp_path / "file" / "results")


def test_results_of_other_cases_are_refused(three, points, tmp_path):
    source, method = three
    run_set(method, points, source, tmp_path)
    with pytest.raises(UsageError, match="results of other cases"):
        run_set(method, points, replace(source, version=2), tmp_path)


def test_results_of_other_networks_or_operating_points_are_refused(points, tmp_path):
    claim(tmp_path, MODELS, points)
    claim(tmp_path, MODELS, points)
    with pytest.raises(UsageError, match="other networks"):
        claim(tmp_path, (replace(MODELS[0], sha256="cd" * 32),), points)
    with pytest.raises(UsageError, match="operating points"):
        claim(tmp_path, MODELS, {**points, "rule_in": points["rule_out"]})


def test_more_cases_of_the_same_kind_go_on_in_the_same_folder(three, points, tmp_path, make_case):
    source, method = three
    run_set(method, points, source, tmp_path)
    source.cases["case-4"] = make_case(4)
    method.masks[4], method.said[4] = source.cases["case-4"].mask, {}
    assert len(run_set(method, points, source, tmp_path)) == 4
    assert method.asked == 4


def test_a_damaged_result_is_named(three, points, tmp_path):
    source, method = three
    run_set(method, points, source, tmp_path)
    (tmp_path / "case-2.json").write_text(json.dumps({"identifier": "case-2"}))
    with pytest.raises(InputError, match=r"case-2\.json' cannot be read: remove it"):
        run_set(method, points, source, tmp_path)


def test_a_level_that_the_scan_cuts_is_no_miss(make_case, fake_method, points, spine, grid):
    labels = spine().labels.copy()
    labels[86:] = labels[85]
    cut = SpineMask.from_labels(grid, labels)
    case = make_case(1, [Vertebra.C2], mask=cut)
    assert case.levels[Vertebra.C1].visibility is Visibility.PARTIAL
    result = measure_case(fake_method({1: cut}, {1: {}}), points, case)
    assert not result.full_view
    assert [level.level for level in result.levels if level.mask] == list(CERVICAL[1:])
