from __future__ import annotations

import torch

from cspine.phantom.bone import WALL_REACH_MM, Channel


def test_no_point_within_reach_of_a_canal_is_left_out():
    canal = Channel(ends=((-4.0, 1.0, 2.0), (5.0, -3.0, 6.0)), radii=(0.4, 0.9), wall_hu=300.0)
    points = 40 * torch.rand((20_000, 3), generator=torch.Generator().manual_seed(0)) - 20
    near, away = canal.around(points, WALL_REACH_MM)
    every = canal.distance(points)
    within = torch.nonzero(every < WALL_REACH_MM)[:, 0]
    assert set(within.tolist()) <= set(near.tolist())
    assert 0 < len(within) < len(near) < len(points) / 4
    assert torch.equal(away, every[near])
