from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from cspine.evaluation.intervals import estimate, mean_of, wilson


def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(1).normal(0.4, 0.2, 60)
    found = mean_of(values[:, None])
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.01)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.01)


def test_levels_of_one_patient_are_not_independent_evidence():
    by_patient = np.random.default_rng(2).integers(0, 2, 30).astype(float)
    once, seven_times = mean_of(by_patient[:, None]), mean_of(np.repeat(by_patient[:, None], 7, axis=1))
    assert seven_times.value == pytest.approx(once.value)
    assert seven_times.high - seven_times.low == pytest.approx(once.high - once.low)
    assert seven_times.count == 7 * once.count


def test_what_is_not_a_number_does_not_count():
    values = np.array([[1.0, np.nan], [0.0, np.nan], [np.nan, np.nan]])
    assert mean_of(values).value == pytest.approx(0.5)
    assert mean_of(values).count == 2


def test_a_statistic_that_is_not_defined_is_none():
    assert estimate(lambda rows: float("nan"), 5, 0).value is None
    assert estimate(lambda rows: 1.0, 0, 0).value is None


def test_one_patient_has_no_interval():
    found = mean_of(np.array([[0.3, 0.5]]))
    assert (found.value, found.low, found.high) == (pytest.approx(0.4), None, None)


def test_an_interval_that_few_samples_define_is_not_given():
    # One patient of ten has a fracture: a third of the samples have none.
    def needs_the_first(rows: np.ndarray) -> float:
        return 1.0 if np.count_nonzero(rows == 0) > 1 else float("nan") if len(set(rows)) < 10 else 0.5

    assert estimate(needs_the_first, 10, 1).low is None


def test_the_same_data_give_the_same_interval():
    values = np.random.default_rng(3).random((20, 3))
    assert mean_of(values) == mean_of(values)


def test_a_share_of_all_or_none_is_not_certain():
    # Ten of ten: Wilson's interval begins at 72 %; seven levels a patient make it no narrower.
    found = mean_of(np.ones((10, 7)))
    assert (found.value, found.high) == (1.0, pytest.approx(1.0))
    assert found.low == pytest.approx(0.722, abs=1e-3)
    assert mean_of(np.zeros((10, 1))).high == pytest.approx(1 - 0.722, abs=1e-3)


@pytest.mark.parametrize(("hits", "patients"), [(0, 12), (12, 12), (0, 40)])
def test_wilsons_interval_is_scipys(hits: int, patients: int):
    expected = scipy.stats.binomtest(hits, patients).proportion_ci(0.95, method="wilson")
    assert wilson(hits / patients, patients) == pytest.approx((expected.low, expected.high), abs=1e-5)
