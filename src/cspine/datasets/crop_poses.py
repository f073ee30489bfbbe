"""Crops of vertebrae in other poses: turned, tilted, scaled, bent and mirrored, image and truth alike.

A network that sees the same vertebrae again and again learns them by heart, the sound ones that it once took
for broken first of all. Moved out of its planes and bent a little, a vertebra looks each time like another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cspine.datasets.chance import between, rand, smooth_field, uniform

if TYPE_CHECKING:
    from cspine.datasets.crop_augmentation import Augmentation

BEND_PLANES: Final = 12
"""Height of the bumps of a bent crop: in two or three planes a bump would be a step, as fractures have."""


class Voxels(NamedTuple):
    """A batch on its way: each (N, planes, rows, columns) float32; image in [0, 1], the others 0 or 1."""

    image: Tensor
    mask: Tensor
    fracture: Tensor


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of every plane.

    Attributes:
        center: (N, 2) row and column, pixels.
        pixels: side.
    """

    center: Tensor
    pixels: int


def moved(voxels: Voxels, how: Augmentation, generator: torch.Generator, patch: Patch | None) -> Voxels:
    """Draw a pose for each crop and show it so; beyond a crop its edge repeats.

    Args:
        voxels: the crops.
        how: the ranges.
        generator: where chance comes from.
        patch: the part of the planes to return; None for all.
    """
    stacked = torch.stack(voxels, 1)
    count, _, planes, _, side = stacked.shape
    seen = side if patch is None else patch.pixels
    theta = _poses(voxels.image, seen, how, generator)
    if patch is not None:
        theta[:, :2, 3] += (2 * patch.center.flip(1) + 1) / side - 1
    grid = F.affine_grid(theta, [count, 1, planes, seen, seen], align_corners=False)
    if how.elastic:
        grid = grid + _bent(grid, side, how, generator)
    image, mask, fracture = F.grid_sample(stacked, grid, padding_mode="border", align_corners=False).unbind(1)
    return Voxels(image, (mask > 0.5).float(), fracture)


def _poses(image: Tensor, seen: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """(N, 3, 4) for `affine_grid`, whose axes are columns, rows and planes, each from -1 to 1.

    The middle `seen` pixels of each plane become those from -1 to 1.
    """
    count, planes, _, side = image.shape

    def each(bound: float) -> Tensor:
        return uniform(count, bound, generator)

    angle, size = torch.deg2rad(each(how.rotation_deg)), 1 + each(how.scale)
    mirror = torch.where(rand(count, generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 3, 4, device=image.device)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * size * mirror, -angle.sin() * size
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * size * mirror, angle.cos() * size
    theta[:, :2, :2] *= seen / side
    theta[:, 0, 3], theta[:, 1, 3] = 2 * each(how.shift), 2 * each(how.shift)
    theta[:, 2, 0], theta[:, 2, 1] = (each(how.tilt) * 2 / planes for _ in range(2))
    theta[:, 0, 2], theta[:, 1, 2] = (each(how.lean) * 2 / side for _ in range(2))
    theta[:, 2, 2], theta[:, 2, 3] = 1 + each(how.stretch), each(how.lift) * 2 / planes
    return theta


def _bent(grid: Tensor, side: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """What to add to a grid (N, planes, rows, columns, 3) to bend each crop by a smooth field of its own."""
    count, planes, *_ = grid.shape
    strength = (how.elastic * rand(count, generator)).view(-1, 1, 1, 1)
    cell = between(*how.elastic_pixels, generator)
    bends = [strength * smooth_field(grid[..., 0], cell, generator, layer=BEND_PLANES) for _ in range(3)]
    unit = torch.tensor([2 / side, 2 / side, 2 / planes], device=grid.device)
    return torch.stack(bends, -1) * unit
