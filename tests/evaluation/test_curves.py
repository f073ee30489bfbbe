from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from sklearn.calibration import calibration_curve

from cspine.evaluation.curves import reliability, roc_at, roc_curve
from cspine.models.calibration import expected_calibration_error, roc_auc


def scored(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    return np.round(np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0, 1), 2), labels


def test_a_roc_curve_by_hand():
    false_positives, true_positives = roc_curve([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 0])
    assert false_positives.tolist() == [0, 0, 0.5, 1]
    assert true_positives.tolist() == [0, 0.5, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_roc_curve_and_area_are_scikit_learns(seed: int):
    scores, labels = scored(seed)
    expected = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    found = roc_curve(scores, labels)
    np.testing.assert_allclose(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1])
    area = sklearn.metrics.roc_auc_score(labels, scores)
    assert roc_auc(scores, labels) == pytest.approx(area)
    assert np.trapezoid(found[1], found[0]) == pytest.approx(area)


def test_between_two_points_a_curve_has_the_height_that_is_really_reached():
    curve = (np.array([0, 0, 0.5, 1.0]), np.array([0, 0.4, 0.9, 1.0]))
    assert roc_at(curve, np.array([0.0, 0.3, 0.5, 1.0])).tolist() == [0.4, 0.4, 0.9, 1.0]


def test_reliability_bins_are_scikit_learns():
    scores, labels = scored(5)
    seen, said = calibration_curve(labels, scores - 1e-9 * (scores == 0.1), n_bins=10)
    found = reliability(np.clip(scores, 0, 1), labels)
    by_hand = {round(b.said, 6): (b.seen, b.count) for b in found}
    assert sum(count for _, count in by_hand.values()) == len(scores)
    assert len(found) == len(seen)
    assert np.mean([b.said for b in found]) == pytest.approx(np.mean(said), abs=0.02)


def test_calibration_error_by_hand():
    # Two bins: ten cases said .25, five of them fractured; ten said .75, six fractured.
    said = np.repeat([0.25, 0.75], 10)
    labels = np.array([1] * 5 + [0] * 5 + [1] * 6 + [0] * 4)
    assert expected_calibration_error(said, labels) == pytest.approx(0.5 * 0.25 + 0.5 * 0.15)


def test_reliability_by_hand_leaves_empty_bins_out():
    found = reliability([0.05, 0.07, 0.95, 1.0], [0, 1, 1, 1])
    assert [(b.count, b.seen) for b in found] == [(2, 0.5), (2, 1.0)]
    assert found[0].said == pytest.approx(0.06)
