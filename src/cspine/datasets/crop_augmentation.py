"""What training does to a batch of crops: other poses and scanners, and the errors of the first stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cspine.crops import CropSpec

PARTIAL: Final = 0.35
"""A voxel counts as broken from here on after interpolation; hairlines are one voxel wide."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities, each drawn for every crop on its own.

    Attributes:
        rotation_deg, scale, shift: in the plane; shift is a part of the field.
        gain, gamma, offset: of the windowed image; offset in parts of the window.
        noise: largest standard deviation, in parts of the window.
        blur: probability of an in-plane blur, and of one across the planes.
        mask_smooth: widest smoothing of the mask, voxels; it then is cut at a random height, which dilates or
            erodes it.
        mask_shift: largest shift of the mask, voxels.
        cut: probability that the scan ends inside the crop.
        mixup: probability that a batch is mixed with itself.
    """

    rotation_deg: float = 12.0
    scale: float = 0.12
    shift: float = 0.03
    gain: float = 0.1
    gamma: float = 0.15
    offset: float = 0.03
    noise: float = 0.03
    blur: float = 0.15
    mask_smooth: int = 3
    mask_shift: int = 2
    cut: float = 0.06
    mixup: float = 0.3


class Voxels(NamedTuple):
    """A batch on its way: each (N, planes, rows, columns) float32; image in [0, 1], the others 0 or 1.

    Of single windows, image has the window's planes, mask and fracture have one.
    """

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


def augment(
    voxels: Voxels, how: Augmentation, generator: torch.Generator, patch: Patch | None = None
) -> tuple[Voxels, Tensor]:
    """Augment crops of vertebrae.

    Args:
        voxels: the crops.
        how: the ranges.
        generator: where chance comes from.
        patch: the part of the planes to return; None for all.

    Returns:
        The augmented crops, and the part of each fracture still in view, (N,).
    """
    moved = _moved(voxels, how, generator, patch)
    before = moved.fracture.sum((1, 2, 3))
    cut = _cut(moved, how, generator)
    visible = torch.where(before > 0, cut.fracture.sum((1, 2, 3)) / before.clamp(min=1), 1.0)
    image = _rescanned(cut.image, how, generator)
    return Voxels(image, _mistaken(cut.mask, how, generator), cut.fracture), visible


def slice_and_heat_targets(fracture: Tensor, spec: CropSpec, stride: int) -> tuple[Tensor, Tensor]:
    """Where the heads should see a fracture.

    Args:
        fracture: (N, planes, rows, columns), 0 to 1.
        spec: of the crop.
        stride: pixels of a heat-map cell.

    Returns:
        slices (N, steps) and heat (N, steps, rows / stride, columns / stride), 0 or 1: fracture in the
        window's middle plane or its two neighbours.
    """
    return heat_targets(near_middle(fracture, spec), stride)


def near_middle(fracture: Tensor, spec: CropSpec) -> Tensor:
    """Fracture in each window's middle plane or its two neighbours: (N, planes, ...) to (N, steps, ...)."""
    middle = spec.window_planes // 2
    return fracture.unfold(1, spec.window_planes, 2)[..., middle - 1 : middle + 2].amax(-1)


def heat_targets(fracture: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Slices (N, steps) and heat (N, steps, h, w), 0 or 1, of fractures (N, steps, rows, columns)."""
    heat = (F.max_pool2d(fracture, stride) > PARTIAL).float()
    return heat.amax((2, 3)), heat


def mixed(tensors: list[Tensor], how: Augmentation, generator: torch.Generator) -> list[Tensor]:
    """Mix a batch with itself in another order (mixup), inputs and targets alike, or leave it as it is."""
    if torch.rand((), generator=generator) >= how.mixup:
        return tensors
    share = 0.5 + 0.5 * float(torch.rand((), generator=generator))
    order = torch.randperm(len(tensors[0]), generator=generator)
    return [share * tensor + (1 - share) * tensor[order] for tensor in tensors]


def _uniform(count: int, bound: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(count, generator=generator) - 1) * bound


def _moved(voxels: Voxels, how: Augmentation, generator: torch.Generator, patch: Patch | None) -> Voxels:
    """Rotate, scale, shift and mirror in the plane, all planes of a crop alike."""
    count = len(voxels.image)
    angle = torch.deg2rad(_uniform(count, how.rotation_deg, generator))
    size = 1 + _uniform(count, how.scale, generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * size * mirror, -angle.sin() * size
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * size * mirror, angle.cos() * size
    theta[:, 0, 2], theta[:, 1, 2] = (2 * _uniform(count, how.shift, generator) for _ in range(2))
    stacked = torch.cat(voxels, 1)
    side = stacked.shape[-1]
    if patch is not None:
        theta[:, :, :2] *= patch.pixels / side
        theta[:, :, 2] += (2 * patch.center.flip(1) + 1) / side - 1
        side = patch.pixels
    grid = F.affine_grid(theta, [count, 1, side, side], align_corners=False)
    sampled = F.grid_sample(stacked, grid, padding_mode="border", align_corners=False)
    image, mask, fracture = torch.split(sampled, [part.shape[1] for part in voxels], dim=1)
    return Voxels(image, (mask > 0.5).float(), fracture)


def _cut(voxels: Voxels, how: Augmentation, generator: torch.Generator) -> Voxels:
    """End the scan inside some crops: beyond it the last plane repeats, as resampling does, without mask."""
    image, mask, fracture = voxels
    planes = image.shape[1]
    for i in torch.nonzero(torch.rand(len(image), generator=generator) < how.cut).flatten().tolist():
        at = int(torch.randint(planes // 6, planes - planes // 6, (), generator=generator))
        head = bool(torch.rand((), generator=generator) < 0.5)
        beyond, last = (slice(at, None), at - 1) if head else (slice(None, at), at)
        image[i, beyond] = image[i, last].clone()
        mask[i, beyond] = 0
        fracture[i, beyond] = 0
    return Voxels(image, mask, fracture)


def _rescanned(image: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Blur, gamma, gain and offset, noise; each costly one only where it was drawn."""
    count = len(image)

    def each(bound: float, some: Tensor | None = None) -> Tensor:
        chosen = count if some is None else len(some)
        return _uniform(chosen, bound, generator).view(-1, 1, 1, 1)

    def drawn(probability: float) -> Tensor:
        return torch.nonzero(torch.rand(count, generator=generator) < probability).flatten()

    image = image.clone()
    if len(some := drawn(how.blur)):
        soft = F.avg_pool2d(F.pad(image[some], (1, 1, 1, 1), mode="replicate"), 3, 1)
        image[some] = (image[some] + soft) / 2
    if len(some := drawn(how.blur)):
        thick = F.avg_pool3d(image[some].unsqueeze(1), (3, 1, 1), 1, (1, 0, 0), count_include_pad=False)
        image[some] = thick.squeeze(1)
    if len(some := drawn(0.5)):
        image[some] = image[some].clamp(1e-4, 1) ** (1 + each(how.gamma, some))
    image = image * (1 + each(how.gain)) + each(how.offset)
    if len(some := drawn(0.5)):
        noise = torch.randn(image[some].shape, generator=generator)
        image[some] += noise * each(how.noise, some).abs()
    return image.clamp(0, 1)


def _mistaken(mask: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """The mask as a coarse network draws it: smooth, a little too large or small, a little off."""
    width = 2 * int(torch.randint(0, how.mask_smooth + 1, (), generator=generator)) + 1
    smooth = F.avg_pool2d(mask, width, 1, width // 2)
    level = (0.5 + _uniform(len(mask), 0.25, generator)).view(-1, 1, 1, 1)
    shifts = torch.randint(-how.mask_shift, how.mask_shift + 1, (2,), generator=generator).tolist()
    return (smooth > level).float().roll(shifts, (2, 3))
