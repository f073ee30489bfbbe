"""The network of the segmentation bundle."""

from __future__ import annotations

import pytest
import torch

from cspine.cuda_runtime import preload

preload()

from cspine.models.spine_network import RefinedUNet  # noqa: E402


@pytest.fixture
def network() -> RefinedUNet:
    torch.manual_seed(0)
    return RefinedUNet(10, (4, 4, 8), detail_channels=4)


def test_the_refinement_starts_as_no_correction(network: RefinedUNet):
    image = torch.rand((1, 1, 16, 32, 48))
    with torch.no_grad():
        assert torch.equal(network(image), network.coarse(image))


def test_the_correction_sees_what_lies_between_the_coarse_features(network: RefinedUNet):
    torch.nn.init.normal_(network.refine[1].weight)
    image = torch.rand((1, 1, 16, 32, 48))
    with torch.no_grad():
        correction = network(image) - network.coarse(image)
    assert correction.shape == (1, 10, 16, 32, 48)
    neighbours = (correction[..., 1:] - correction[..., :-1]).abs().mean()
    assert neighbours > 0.1 * correction.abs().mean()


def test_every_part_learns_from_the_first_step_on_or_the_second(network: RefinedUNet):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.rand((1, 1, 16, 16, 16))).square().mean().backward()
        optimizer.step()
    assert all(float(p.grad.abs().sum()) > 0 for p in network.detail.conv.parameters() if p.ndim > 1)
