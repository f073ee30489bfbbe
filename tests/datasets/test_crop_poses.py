from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_poses import Patch, Voxels, moved

PLANES, SIDE = 16, 32


def crops(image: torch.Tensor, fracture: torch.Tensor | None = None) -> Voxels:
    return Voxels(image, torch.ones_like(image), torch.zeros_like(image) if fracture is None else fracture)


def ramp(axis: int, count: int = 24) -> torch.Tensor:
    """Crops whose brightness is the number of the plane, row or column."""
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    return (
        torch.arange((PLANES, SIDE, SIDE)[axis - 1])
        .float()
        .view(shape)
        .repeat(count, *(1 if n == axis else size for n, size in ((1, PLANES), (2, SIDE), (3, SIDE))))
    )


def inner(image: torch.Tensor) -> torch.Tensor:
    """Where no edge repeats."""
    return image[:, 5:-5, 10:-10, 10:-10]


@pytest.fixture
def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("patch", [None, Patch(torch.full((24, 2), 16.0), 16)], ids=["whole", "part"])
def test_the_edges_of_a_tilted_crop_rise_by_some_planes_at_most(still, seeded, patch):
    seen = moved(crops(ramp(1)), replace(still, tilt=2.0), seeded, patch).image
    slopes = seen[:, 6:-6].diff(dim=3)
    assert (slopes.amax((1, 2, 3)) - slopes.amin((1, 2, 3))).max() < 1e-3
    risen = slopes.abs().amax() * seen.shape[3] / 2
    assert 1.2 < risen < 2.0
    assert torch.allclose(seen[:, 6:-6].diff(dim=1), torch.tensor(1.0), atol=1e-3)


def test_each_plane_of_a_leaning_crop_lies_beside_the_one_below(still, seeded):
    seen = inner(moved(crops(ramp(2)), replace(still, lean=3.0), seeded, None).image)
    steps = seen.diff(dim=1)
    assert (steps.amax((1, 2, 3)) - steps.amin((1, 2, 3))).max() < 1e-3
    assert 1.8 < steps.abs().max() * PLANES / 2 < 3.0


def test_a_crop_is_stretched_about_its_middle_and_lifted(still, seeded):
    stretched = inner(moved(crops(ramp(1)), replace(still, stretch=0.2), seeded, None).image)
    assert (stretched.mean((1, 2, 3)) - (PLANES - 1) / 2).abs().max() < 1e-3
    assert 0.1 < (stretched.diff(dim=1) - 1).abs().max() < 0.2
    lifted = inner(moved(crops(ramp(1)), replace(still, lift=3.0), seeded, None).image)
    assert torch.allclose(lifted.diff(dim=1), torch.tensor(1.0), atol=1e-3)
    assert 1.5 < (lifted.mean((1, 2, 3)) - (PLANES - 1) / 2).abs().max() < 3


@pytest.mark.parametrize("axis", [1, 2])
def test_an_elastic_crop_is_bent_smoothly_and_each_one_otherwise(still, seeded, axis):
    how = replace(still, elastic=2.0, elastic_pixels=(10, 10))
    bends = inner(moved(crops(ramp(axis)), how, seeded, None).image - ramp(axis))
    strength = bends.std((1, 2, 3))
    assert strength.min() < 0.3
    assert 0.8 < strength.max() < 4
    # Half a bump away it may be the opposite, from one voxel to the next only a small part of it.
    assert all(bends.diff(dim=n).abs().max() < 0.8 * strength.max() for n in (1, 2, 3))
    assert not torch.allclose(bends[0] / strength[0], bends[1] / strength[1], atol=0.5)


def test_the_fracture_moves_with_the_image(still, seeded):
    line = torch.zeros(24, PLANES, SIDE, SIDE)
    line[:, 8] = 1
    how = Augmentation(tilt=2.4, lean=3.6, stretch=0.1, lift=1.5, elastic=1.0)
    seen = moved(crops(line, line), how, seeded, None)
    assert torch.allclose(seen.image, seen.fracture)
    assert not torch.allclose(seen.image, line)
