"""How a segmentation network's mask differs from the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cspine.datasets.chance import between, rand, smooth_field, uniform
from cspine.datasets.planes import window_maxima, window_means

BONE: Final = 0.38
"""From here on a voxel of the windowed image may be taken for bone: about 260 HU."""

CLOSING: Final = 5
"""Gaps narrower than this, voxels, are closed."""


@dataclass(frozen=True)
class MaskErrors:
    """How a segmentation network's mask differs from the true one.

    The true mask leaves out the gap of a fracture and is never wrong. The classifier answers where the mask
    lies, so training shows it masks as it will get them: gaps are closed, pieces are missing, and pieces of
    other bones are in it.

    Attributes:
        smooth: range of the smoothing's width, voxels, odd.
        wobble: largest strength of the field that is added before the mask is cut again at a level: bites and
            bulges.
        level: how far from 0.5 that level lies at most; it dilates or erodes.
        half: probability that everything beyond a line through the vertebra is missing.
        islands: probability that pieces of other bones are taken for this one.
        shift: largest shift, voxels.
        none: probability that the mask is empty; then there is nowhere to answer.
    """

    smooth: tuple[int, int] = (5, 9)
    wobble: float = 0.45
    level: float = 0.2
    half: float = 0.06
    islands: float = 0.3
    shift: int = 1
    none: float = 0.0


def mistaken(mask: Tensor, image: Tensor, how: MaskErrors, generator: torch.Generator) -> Tensor:
    """Masks as a segmentation network would draw them.

    Args:
        mask: (N, planes, rows, columns), 0 or 1.
        image: same shape, windowed.
        how: the errors.
        generator: where chance comes from.
    """
    count = len(mask)

    def each(value: Tensor) -> Tensor:
        return value.view(-1, 1, 1, 1)

    low, high = how.smooth
    width = low + 2 * between(0, (high - low) // 2, generator)
    closed = -window_maxima(-window_maxima(mask, CLOSING), CLOSING)
    smooth = window_means(closed, width)
    strength = each(rand(count, generator) ** 2 * how.wobble)
    field = smooth_field(mask, between(8, 24, generator), generator)
    level = each(0.5 + uniform(count, how.level, generator))
    drawn = (smooth + strength * field > level) & (smooth > 0)
    drawn = drawn & ~(each(rand(count, generator) < how.half) & _beyond_a_line(mask, generator))
    # The field's other end chooses the islands, so that bites and islands are different places.
    some = each(rand(count, generator) < how.islands)
    drawn = drawn | (some & (field < -1.2) & (image > BONE) & (smooth == 0))
    drawn = drawn & each(rand(count, generator) >= how.none)
    shifts = [between(-how.shift, how.shift, generator) for _ in range(2)]
    return drawn.float().roll(shifts, (2, 3))


def _beyond_a_line(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Bool (N, 1, rows, columns): one side of a line in any direction, near the middle of the mask."""
    rows, columns = (torch.arange(n, device=mask.device, dtype=mask.dtype) for n in mask.shape[-2:])
    weight = mask.sum((1, 2, 3)).clamp(min=1)
    middle = [
        (mask.sum((1, 3)) * rows).sum(1) / weight,
        (mask.sum((1, 2)) * columns).sum(1) / weight,
    ]
    angle = uniform(len(mask), torch.pi, generator)
    offset = uniform(len(mask), 0.15 * mask.shape[-1], generator)
    along = (rows[None, :, None] - middle[0][:, None, None]) * angle.cos()[:, None, None]
    across = (columns[None, None] - middle[1][:, None, None]) * angle.sin()[:, None, None]
    return (along + across > offset[:, None, None])[:, None]
