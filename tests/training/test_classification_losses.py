from __future__ import annotations

import torch

from cspine.models.classifier_network import FractureNet
from cspine.training.classification_losses import LossWeights, heat_loss, study_loss


def test_the_heat_loss_falls_as_the_map_gets_right():
    target = torch.zeros(2, 4, 4)
    target[0, 1, 2] = 1
    right, wrong = 8 * (2 * target - 1), 8 * (1 - 2 * target)
    assert heat_loss(right, target) < 0.05 < 1 < heat_loss(wrong, target)


def test_absent_levels_do_not_count_in_the_loss_of_a_study(widths):
    torch.manual_seed(1)
    net = FractureNet(steps=4, window_planes=5, widths=widths).eval()
    present = torch.tensor([[1.0, 1, 1, 0, 0, 0, 0]])
    batch = {
        "embedding": torch.randn(1, 7, 16),
        "level": torch.randn(1, 7),
        "fractured": torch.tensor([[0.0, 1, 0, 0, 0, 0, 0]]),
        "present": present,
    }
    other = {**batch, "fractured": batch["fractured"] + (1 - present)}
    same = study_loss(LossWeights(), net.study, batch)["loss"]
    assert torch.isfinite(same)
    assert torch.equal(same, study_loss(LossWeights(), net.study, other)["loss"])
