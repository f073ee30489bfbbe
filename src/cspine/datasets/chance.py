"""Chance for whole batches, on the generator's device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rand(count: int, generator: torch.Generator) -> Tensor:
    """(count,) numbers from 0 to 1."""
    return torch.rand(count, generator=generator, device=generator.device)


def uniform(count: int, bound: float, generator: torch.Generator) -> Tensor:
    """(count,) numbers from -bound to bound."""
    return (2 * rand(count, generator) - 1) * bound


def between(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return low + int(rand(1, generator) * (high - low + 1))


def grain(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise of standard deviation 1 and `shape` (N, planes, rows, columns).

    Neighbours share it, one to three planes of them and one to five pixels, as chance will have it.
    """
    planes, pixels = 1 + 2 * between(0, 1, generator), 1 + 2 * between(0, 2, generator)
    white = torch.randn(shape, generator=generator, device=generator.device)
    if planes * pixels == 1:
        return white
    width = (planes, pixels, pixels)
    half = (planes // 2, pixels // 2, pixels // 2)
    # The mean of n values has the nth part of their variance.
    means: Tensor = F.avg_pool3d(white[:, None], width, 1, half)[:, 0]
    return means * math.sqrt(planes * pixels * pixels)


def stripes(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Stripes of standard deviation 1 that run nearly along the rows, `shape` (N, planes, rows, columns).

    They are one to five pixels wide, lean by some 7 degrees, and one to three planes share them.
    """
    count, planes, rows, columns = shape
    device = generator.device
    shared = between(1, 3, generator)
    width = 1 + 4 * rand(count, generator).view(-1, 1, 1)
    lean = 0.12 * torch.randn((count, 1, 1), generator=generator, device=device)
    row = torch.arange(rows, device=device).view(1, -1, 1)
    column = torch.arange(columns, device=device) - columns / 2
    number = ((row + lean * column) / width + columns).long()  # far from 0, where two stripes would be one
    table = torch.randn((count, -(-planes // shared), rows + 2 * columns), generator=generator, device=device)
    chosen = number.clamp(0, table.shape[2] - 1).view(count, 1, -1).expand(-1, table.shape[1], -1)
    found = table.gather(2, chosen).repeat_interleave(shared, 1)[:, :planes]
    return found.view(shape)


def smooth_field(like: Tensor, cell: int, generator: torch.Generator, *, layer: int = 4) -> Tensor:
    """Smooth noise of standard deviation near 1 with patches of about `cell` pixels and `layer` planes.

    Args:
        like: (N, planes, rows, columns), the shape of the result.
        cell: size of the patches, pixels.
        layer: the same in planes.
        generator: where chance comes from.
    """
    count, planes, rows, columns = like.shape
    layers, *coarse = (max(2, n // step + 1) for n, step in ((planes, layer), (rows, cell), (columns, cell)))
    noise = torch.randn(count, layers, *coarse, generator=generator, device=generator.device)
    wide = F.interpolate(noise, size=(rows, columns), mode="bilinear", align_corners=True)
    # Between the layers by hand: trilinear interpolation takes several times longer on a CPU.
    at = torch.linspace(0, layers - 1, planes, device=wide.device)
    between_layers = (1 - (at[:, None] - torch.arange(layers, device=wide.device)).abs()).clamp(min=0)
    return torch.einsum("pl,nlhw->nphw", 1.5 * between_layers, wide)
