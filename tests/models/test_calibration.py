from __future__ import annotations

import numpy as np
import pytest

from cspine.models.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    fit_study_thresholds,
    roc_auc,
    sensitivity_at,
    specificity_at,
)


def drawn(temperature: float, bias: float, count: int = 20_000):
    """Logits of a network that is too sure by `temperature` and off by `bias`, and their labels."""
    rng = np.random.default_rng(3)
    true_logits = rng.normal(-1.0, 2.0, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-true_logits))).astype(int)
    return true_logits * temperature + bias, labels


def test_a_fit_finds_the_temperature_and_bias_that_the_logits_were_made_with():
    logits, labels = drawn(temperature=2.5, bias=1.5)
    found = fit_calibration(logits, labels)
    assert found.temperature == pytest.approx(2.5, rel=0.08)
    assert found.bias == pytest.approx(1.5, abs=0.15)


def test_calibration_lowers_the_calibration_error_and_keeps_the_order():
    logits, labels = drawn(temperature=3.0, bias=2.0)
    before, after = Calibration()(logits), fit_calibration(logits, labels)(logits)
    assert expected_calibration_error(after, labels) < 0.02 < expected_calibration_error(before, labels)
    inside = (after > 0.01) & (after < 0.99)
    assert roc_auc(after[inside], labels[inside]) == pytest.approx(roc_auc(logits[inside], labels[inside]))


def test_perfectly_separated_logits_still_give_a_finite_calibration_and_no_certainty():
    found = fit_calibration([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    probabilities = found([-1e6, 0.0, 1e6])
    assert 0.05 < found.temperature < 1
    assert list(probabilities[[0, 2]]) == [0.001, 0.999]


def test_labels_that_are_all_alike_calibrate_nothing():
    with pytest.raises(ValueError, match="with and without a fracture"):
        fit_calibration([0.1, 0.2], [0, 0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        Calibration(temperature)


def test_the_calibration_error_of_hand_made_bins_is_their_weighted_gap():
    # Three cases said .9 of which two are positive, one case said .1 that is negative.
    expected = (3 * (0.9 - 2 / 3) + 1 * 0.1) / 4
    assert expected_calibration_error([0.9, 0.9, 0.9, 0.1], [1, 1, 0, 0]) == pytest.approx(expected)


def test_auc_counts_pairs_and_ties_half():
    # Pairs (positive, negative): .8>.3, .8>.5, .5>.3, .5=.5 -> 3.5 of 4.
    assert roc_auc([0.8, 0.5, 0.3, 0.5], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)


def test_sensitivity_and_specificity_count_the_threshold_itself_as_present():
    probabilities, labels = [0.2, 0.5, 0.5, 0.9], [0, 0, 1, 1]
    assert sensitivity_at(probabilities, labels, 0.5) == 1.0
    assert specificity_at(probabilities, labels, 0.5) == 0.5


def studies(count: int = 2000):
    """Probabilities of the strongest level and of the spine as a whole, and the truth."""
    logits, labels = drawn(temperature=1.0, bias=0.0, count=count)
    rng = np.random.default_rng(9)
    return Calibration()(logits), Calibration()(logits + rng.normal(0, 1.5, count)), labels


def rates(at, strongest, overall, labels):
    called = (strongest >= at.level) | (overall >= at.overall)
    return called[labels == 1].mean(), 1 - called[labels == 0].mean()


def test_the_three_points_keep_their_promises_for_the_study_where_either_score_may_raise_the_alarm():
    strongest, overall, labels = studies()
    found = fit_study_thresholds(strongest, overall, labels)
    out, balanced, into = (
        rates(at, strongest, overall, labels) for at in (found.rule_out, found.balanced, found.rule_in)
    )
    assert out[0] >= 0.95
    assert into[1] >= 0.95
    assert balanced[0] == pytest.approx(balanced[1], abs=0.02)
    assert out[1] > 0.2


def test_the_three_points_go_from_cautious_to_strict():
    found = fit_study_thresholds(*studies())
    for name in ("level", "overall"):
        values = [getattr(at, name) for at in (found.rule_out, found.balanced, found.rule_in)]
        assert values == sorted(values)
        assert 0 < values[0] < values[2] < 1


def test_separable_studies_put_all_points_between_the_classes():
    found = fit_study_thresholds([0.1, 0.2, 0.5, 0.9], [0.3, 0.1, 0.7, 0.4], [0, 0, 1, 1])
    for at in (found.rule_out, found.balanced, found.rule_in):
        assert rates(at, np.array([0.2, 0.5]), np.array([0.3, 0.4]), np.array([0, 1])) == (1.0, 1.0)


def test_scores_that_tell_little_still_leave_a_balanced_point_that_calls_some_studies():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 400)
    strongest = np.clip(rng.normal(0.3, 0.1, 400) + 0.01 * labels, 0.001, 0.999)
    strongest[np.flatnonzero(labels)[:8]] = 0.9  # certain of a few, which the largest sum would settle for
    found = fit_study_thresholds(strongest, strongest, labels)
    sensitivity, specificity = rates(found.balanced, strongest, strongest, labels)
    assert 0.4 < sensitivity < 0.65
    assert sensitivity == pytest.approx(specificity, abs=0.03)


def test_scores_that_tell_nothing_leave_rule_out_calling_every_study():
    found = fit_study_thresholds([0.5] * 8, [0.5] * 8, [0, 1] * 4)
    assert rates(found.rule_out, np.full(8, 0.5), np.full(8, 0.5), np.array([0, 1] * 4))[0] == 1.0
