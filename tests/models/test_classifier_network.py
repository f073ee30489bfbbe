from __future__ import annotations

import torch

from cspine.models.classifier_network import FractureNet, compressed


def test_dense_bone_keeps_little_contrast_and_everything_up_to_500_hu_stays():
    soft = torch.tensor([0.0, 0.28, 0.4, 0.5])
    dense = torch.tensor([0.6, 0.8, 1.0])
    assert torch.equal(compressed(soft, 0.5), soft)
    seen = compressed(dense, 0.5)
    assert (seen.diff() > 0).all()
    assert float(seen[-1] - seen[0]) < 0.2 * float(dense[-1] - dense[0])


def test_a_gap_in_dense_bone_keeps_most_of_its_contrast():
    bone, gap = compressed(torch.tensor([0.9, 0.3]), 0.5)
    assert bone - gap > 0.5 * (0.9 - 0.3)


def test_a_network_without_a_knee_sees_the_image_as_it_is():
    dense = torch.tensor([0.6, 0.8, 1.0])
    assert torch.equal(compressed(dense, None), dense)


def test_a_network_with_a_knee_hardly_sees_how_dense_dense_bone_is():
    torch.manual_seed(0)
    knee, plain = FractureNet(knee=0.5).eval(), FractureNet().eval()
    plain.load_state_dict(knee.state_dict())
    dim, bright = (torch.full((1, 2, 33, 128, 128), value) for value in (0.75, 0.95))
    with torch.no_grad():
        change = {net: (net.encode(bright).heat - net.encode(dim).heat).abs().mean() for net in (knee, plain)}
    assert change[knee] < 0.5 * change[plain]


def test_an_untrained_study_head_leaves_the_levels_answers_as_they_are():
    torch.manual_seed(2)
    net = FractureNet(steps=4, window_planes=5).eval()
    crops, present = torch.rand(1, 7, 2, 11, 32, 32), torch.tensor([[True] * 6 + [False]])
    with torch.no_grad():
        alone, together = net.encode(crops[present]), net(crops, present)
    assert torch.allclose(together["levels"][present], alone.level, atol=1e-5)
    assert torch.allclose(together["overall"], alone.level.logsumexp(0), atol=1e-5)
