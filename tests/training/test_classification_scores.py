from __future__ import annotations

import numpy as np

from cspine.models.calibration import Calibration
from cspine.training.classification_scores import Scored, operating_points


def test_operating_points_keep_their_promises_for_the_study_where_any_level_may_raise_the_alarm():
    rng = np.random.default_rng(2)
    truth = rng.random((400, 7)) < 0.09
    levels = rng.normal(-2, 1, (400, 2, 7)) + 2.5 * truth[:, None]
    overall = levels.max(2)
    points = operating_points(
        Scored(levels, overall, truth, np.ones_like(truth)), Calibration(), Calibration(), 0.25
    )
    p, whole = Calibration()(levels.mean(1)), Calibration()(overall.mean(1))
    at = points["rule_in"]
    called = (p >= at.level).any(1) | (whole >= at.overall)
    assert (~called[~truth.any(1)]).mean() >= 0.95
    cautious = points["rule_out"]
    called = (p >= cautious.level).any(1) | (whole >= cautious.overall)
    assert called[truth.any(1)].mean() >= 0.95
    assert cautious.level <= points["balanced"].level <= at.level
    assert {point.min_margin for point in points.values()} == {0.25}
