from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from cspine.evaluation.fractures import (
    NEGATIVE_WEIGHTS,
    POSITIVE_WEIGHTS,
    calls,
    constant_loss,
    predictive_values,
    rsna_loss,
)

NAN = float("nan")


def test_one_half_for_everything_costs_ln_2_whatever_the_truth():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (20, 8))
    assert rsna_loss(np.full((20, 8), 0.5), labels) == pytest.approx(np.log(2))


def test_a_study_weighs_the_overall_label_seven_times_and_positives_twice():
    labels = np.array([[1, 0, 0, 1, 0, 0, 0, 0]], float)
    said = np.array([[0.8, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1]])
    expected = (14 * -np.log(0.8) + 2 * -np.log(0.6) + 6 * -np.log(0.9)) / (14 + 2 + 6)
    assert rsna_loss(said, labels)[0] == pytest.approx(expected)


def test_the_loss_of_each_study_is_scikit_learns_with_those_weights():
    rng = np.random.default_rng(3)
    labels, said = rng.integers(0, 2, (30, 8)), rng.uniform(0.001, 0.999, (30, 8))
    for row, y, p in zip(rsna_loss(said, labels), labels, said, strict=True):
        weights = np.where(y == 1, POSITIVE_WEIGHTS, NEGATIVE_WEIGHTS)
        assert row == pytest.approx(log_loss(y, p, sample_weight=weights, labels=[0, 1]))


def test_certainty_that_is_wrong_is_clipped_and_finite():
    worst = rsna_loss(np.ones((1, 8)), np.zeros((1, 8)))
    assert worst[0] == pytest.approx(-np.log(1e-15), rel=1e-2)


def test_a_label_that_is_not_known_weighs_nothing():
    labels = np.array([[0, NAN, 0, 0, 0, 0, 0, 0]])
    said = np.full((1, 8), 0.3)
    changed = said.copy()
    changed[0, 1] = 0.99
    assert rsna_loss(said, labels) == pytest.approx(rsna_loss(changed, labels))


def test_saying_the_prevalence_is_the_baseline():
    labels = np.zeros((4, 8))
    labels[0, [0, 3]] = 1
    said = np.tile([0.25, 0, 0, 0.25, 0, 0, 0, 0], (4, 1))
    assert constant_loss(labels) == pytest.approx(rsna_loss(said, labels))


def test_undetermined_is_neither_found_nor_a_false_alarm_and_is_counted_apart():
    # Three studies, K = 4: absent 0, present 1, undetermined 2.
    decisions = np.array([[1, 2, 0, 0], [1, 0, 0, 2], [0, 0, 0, 1]], float)
    truth = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [NAN, 0, 0, 1]], float)
    found = calls(decisions, truth)
    assert found.sensitivity.value == pytest.approx(2 / 3)
    assert found.sensitivity_determined.value == pytest.approx(1.0)
    assert found.specificity.value == pytest.approx(7 / 8)
    assert found.specificity_determined.value == pytest.approx(6 / 7)
    assert found.undetermined_fractured.value == pytest.approx(1 / 3)
    assert found.undetermined_sound.value == pytest.approx(1 / 8)
    assert found.counts["fractured"] == {"absent": 0, "present": 2, "undetermined": 1}
    assert found.counts["sound"] == {"absent": 6, "present": 1, "undetermined": 1}
    assert found.sensitivity.count == 3


def test_without_a_fracture_there_is_no_sensitivity():
    found = calls(np.zeros((3, 7)), np.zeros((3, 7)))
    assert found.sensitivity.value is None
    assert found.specificity.value == 1.0


def test_predictive_values_follow_from_the_prevalence():
    # The winners' mean operating point in an emergency department.
    found = predictive_values(0.88, 0.94, 0.05)
    assert found.ppv == pytest.approx(0.4356, abs=1e-3)
    assert found.npv == pytest.approx(0.9933, abs=1e-3)


def test_what_is_never_called_has_no_positive_predictive_value():
    assert predictive_values(0.0, 1.0, 0.1).ppv is None
