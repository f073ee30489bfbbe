"""What training does to a batch of crops: other poses and scanners, and the errors of the first stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from cspine.crops import CropSpec
from cspine.datasets.chance import between, grain, rand, smooth_field, stripes, uniform
from cspine.datasets.crop_mask_errors import MaskErrors, mistaken
from cspine.datasets.crop_poses import Patch, Voxels, moved
from cspine.datasets.planes import window_means
from cspine.phantom.scanner import STREAK_OF_DOUBLE_NOISE_HU, ghosted

SOFT_TISSUE: Final = 0.28
"""Of the windowed image; bone is brighter."""
DOUBLES_NOISE: Final = STREAK_OF_DOUBLE_NOISE_HU / 2000.0
"""Streaks this strong double the noise, in parts of a window of 2000 HU."""
PARTIAL: Final = 0.35
"""A voxel counts as broken from here on after interpolation; hairlines are one voxel wide."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities, each drawn for every crop on its own.

    Attributes:
        rotation_deg, scale, shift: in the plane; shift is a part of the field.
        tilt: by how many planes at most the edges of what is seen rise above its middle or fall below, and
            `lean`: by how many pixels at most the first and the last plane lie beside the middle one. Both
            together turn a crop out of its planes.
        stretch, lift: across the planes: by which part at most, and how many planes up or down.
        elastic: largest standard deviation, in pixels and in planes, of what a smooth field bends it by, in
            bumps of `elastic_pixels`: no two necks have the same bones.
        gain, gamma, offset: of the windowed image; offset in parts of the window.
        noise: largest standard deviation, in parts of the window; `noisy`: how often. Its grain has one to
            five pixels and one to three planes: the coarse grain of a soft kernel looks most like a crack.
        streaks: largest standard deviation of stripes nearly from side to side, as shoulders cast them, and
            `streaky`: how often. The noise grows with them.
        porous: probability that bone is less dense than the phantom's, by up to `loss` of what it has above
            soft tissue: a crack in it shows less.
        dense: probability that a vertebra's marrow is about as dense as its cortex, as it looks where real
            bone is dense or a thick slice holds an end plate. Else dense marrow is what tells a compression.
        blur: probability of an in-plane blur, over 3 or 5 pixels.
        sharpen: probability of an edge-enhancing kernel, with its overshoot.
        ghost: probability that the neck moved: its image is seen twice, at most `ghost_pixels` rows apart, as
            by `cspine.phantom.scanner`.
        thick: probability that the planes are interpolated between thicker slices of the scanner. Between two
            thick slices an outline is seen twice, faintly: on real CT this is what most resembles a crack.
        coarse: probability of the like in the plane, for the scanner's larger pixels.
        slices: range of the distance of such slices, in planes of the crop.
        blotches: largest standard deviation of bright and dark patches in bone, in parts of the window, and
            `blotchy`: how often. Real marrow is far less even than a phantom's, and real articular pillars
            are much denser than bodies.
        flat: probability that bone above some density looks alike, as in the second of the two looks that an
            application takes (`cspine.models.classifier.second_look`).
        ceiling: range of that density, in [0, 1].
        mask: errors of the first stage.
        cut: probability that the scan ends inside the crop.
        mixup: probability that a batch is mixed with itself.
    """

    rotation_deg: float = 12.0
    scale: float = 0.12
    shift: float = 0.03
    tilt: float = 0.0
    lean: float = 0.0
    stretch: float = 0.0
    lift: float = 0.0
    elastic: float = 0.0
    elastic_pixels: tuple[int, int] = (10, 24)
    gain: float = 0.1
    gamma: float = 0.15
    offset: float = 0.03
    noise: float = 0.08
    noisy: float = 0.7
    streaks: float = 0.06
    streaky: float = 0.25
    porous: float = 0.25
    loss: float = 0.6
    dense: float = 0.3
    blur: float = 0.3
    sharpen: float = 0.15
    ghost: float = 0.0
    ghost_pixels: int = 4
    thick: float = 0.3
    coarse: float = 0.15
    slices: tuple[float, float] = (1.2, 5.0)
    blotches: float = 0.2
    blotchy: float = 0.35
    flat: float = 0.0
    ceiling: tuple[float, float] = (0.55, 0.8)
    mask: MaskErrors = field(default_factory=MaskErrors)
    cut: float = 0.06
    mixup: float = 0.3


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
    turned = moved(voxels, how, generator, patch)
    before = turned.fracture.sum((1, 2, 3))
    cut = _cut(turned, how, generator)
    visible = torch.where(before > 0, cut.fracture.sum((1, 2, 3)) / before.clamp(min=1), 1.0)
    dense = _denser(cut.image, cut.mask, how, generator)
    image = _rescanned(_resliced(dense, how, generator), how, generator)
    return Voxels(image, mistaken(cut.mask, cut.image, how.mask, generator), cut.fracture), visible


def slice_and_heat_targets(fracture: Tensor, spec: CropSpec, stride: int) -> tuple[Tensor, Tensor]:
    """Where the heads should see a fracture.

    Args:
        fracture: (N, planes, rows, columns), 0 to 1.
        spec: of the crop.
        stride: pixels of a heat-map cell.

    Returns:
        slices (N, steps) and heat (N, steps, rows / stride, columns / stride), 0 or 1: fracture in the
        plane that is answered for or its two neighbours.
    """
    middle = spec.window_planes // 2
    near = fracture.unfold(1, spec.window_planes, 2)[..., middle - 1 : middle + 2].amax(-1)
    heat = (F.max_pool2d(near, stride) > PARTIAL).float()
    return heat.amax((2, 3)), heat


def mixed(tensors: list[Tensor], how: Augmentation, generator: torch.Generator) -> list[Tensor]:
    """Mix a batch with itself in another order (mixup), inputs and targets alike, or leave it as it is."""
    if rand(1, generator) >= how.mixup:
        return tensors
    share = 0.5 + 0.5 * float(rand(1, generator))
    order = torch.randperm(len(tensors[0]), generator=generator, device=generator.device)
    return [share * tensor + (1 - share) * tensor[order] for tensor in tensors]


def _coarser(image: Tensor, generator: torch.Generator) -> Tensor:
    """The image as it looks when interpolated between the larger pixels of a scanner."""
    side = image.shape[-1]
    pixels = between(round(0.45 * side), round(0.85 * side), generator)
    native = F.interpolate(image, size=(pixels, pixels), mode="area")
    return F.interpolate(native, size=(side, side), mode="bilinear")


def _seen_twice(image: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """The image and, fainter, the same up to `pixels` rows lower or higher; beyond the edge it repeats."""
    apart = between(1, pixels, generator) * (1 if float(rand(1, generator)) < 0.5 else -1)
    wide = F.pad(image, (0, 0, pixels, pixels), mode="replicate")
    return ghosted(wide, apart, 2)[:, :, pixels:-pixels]


def _cut(voxels: Voxels, how: Augmentation, generator: torch.Generator) -> Voxels:
    """End the scan inside some crops: beyond it the last plane repeats, as resampling does, without mask."""
    image, mask, fracture = voxels
    planes = image.shape[1]
    for i in torch.nonzero(rand(len(image), generator) < how.cut).flatten().tolist():
        at = between(planes // 6, planes - planes // 6 - 1, generator)
        head = bool(rand(1, generator) < 0.5)
        beyond, last = (slice(at, None), at - 1) if head else (slice(None, at), at)
        image[i, beyond] = image[i, last].clone()
        mask[i, beyond] = 0
        fracture[i, beyond] = 0
    return Voxels(image, mask, fracture)


def _resliced(image: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Crops (N, planes, rows, columns) as they look when cut out of thicker slices of the scanner."""
    some = torch.nonzero(rand(len(image), generator) < how.thick).flatten()
    if not len(some):
        return image
    low, high = how.slices
    draws = [rand(len(some), generator).view(-1, 1, 1) for _ in range(3)]
    step = low + (high - low) * draws[0]
    planes = torch.arange(image.shape[1], device=image.device, dtype=torch.float32)
    slices = torch.arange(-2, image.shape[1], device=image.device) + draws[1]
    at = (slices * step).clamp(0, image.shape[1] - 1)
    # Slices are means over planes; planes are then interpolated between the two nearest slices.
    sliced = (step * (0.4 + 0.2 * draws[2]) + 0.5 - (planes[:, None] - at).abs()).clamp(0, 1)
    planed = (1 - (planes[:, None] - slices * step).abs() / step).clamp(min=0)
    weights = (planed / planed.sum(2, keepdim=True)) @ (sliced / sliced.sum(1, keepdim=True)).transpose(1, 2)
    image = image.clone()
    image[some] = torch.einsum("npq,nqhw->nphw", weights, image[some])
    return image


def _rescanned(image: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Density, blur, gamma, gain and offset, noise; each costly one only where it was drawn."""
    count = len(image)

    def each(bound: float, some: Tensor | None = None) -> Tensor:
        chosen = count if some is None else len(some)
        return uniform(chosen, bound, generator).view(-1, 1, 1, 1)

    def drawn(probability: float) -> Tensor:
        return torch.nonzero(rand(count, generator) < probability).flatten()

    image = image.clone()
    if len(some := drawn(how.blotchy if how.blotches else 0.0)):
        image[some] += how.blotches * _blotches(image[some], generator)
    if len(some := drawn(how.porous)):
        left = (1 - how.loss * rand(len(some), generator)).view(-1, 1, 1, 1)
        image[some] += (left - 1) * (image[some] - SOFT_TISSUE).clamp(min=0)
    if len(some := drawn(how.ghost)):
        image[some] = _seen_twice(image[some], how.ghost_pixels, generator)
    if len(some := drawn(how.coarse)):
        image[some] = _coarser(image[some], generator)
    # Between 0 and 1 a blur, below 0 an edge-enhancing kernel.
    for probability, low, high in ((how.blur, 0.0, 1.0), (how.sharpen, -1.0, -0.2)):
        if len(some := drawn(probability)):
            width = 3 + 2 * between(0, 1, generator) if low == 0 else 3
            soft = window_means(image[some], width, beyond=False)
            share = (low + (high - low) * rand(len(some), generator)).view(-1, 1, 1, 1)
            image[some] = torch.lerp(image[some], soft, share)
    if len(some := drawn(0.5)):
        image[some] = image[some].clamp(1e-4, 1) ** (1 + each(how.gamma, some))
    image = image * (1 + each(how.gain)) + each(how.offset)
    return _flattened(_disturbed(image, how, generator).clamp(0, 1), how, generator)


def _flattened(image: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Cut some images of the batch, which is changed, off at a density of their own."""
    some = torch.nonzero(rand(len(image), generator) < how.flat).flatten()
    low, high = how.ceiling
    ceiling = low + (high - low) * rand(len(some), generator)
    image[some] = image[some].clamp(max=ceiling.view(-1, 1, 1, 1))
    return image


def _disturbed(image: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Add noise and streaks to an image of one's own, which is changed."""
    count = len(image)
    streaks = _strengths(count, how.streaks, how.streaky, generator)
    noise = _strengths(count, how.noise, how.noisy, generator) * (1 + streaks / DOUBLES_NOISE)
    if len(some := torch.nonzero(noise).flatten()):
        image[some] += grain(image[some].shape, generator) * noise[some].view(-1, 1, 1, 1)
    if len(some := torch.nonzero(streaks).flatten()):
        image[some] += stripes(image[some].shape, generator) * streaks[some].view(-1, 1, 1, 1)
    return image


def _strengths(count: int, largest: float, how_often: float, generator: torch.Generator) -> Tensor:
    """(count,) evenly drawn up to the largest; 0 where it was not drawn at all."""
    strength = uniform(count, largest, generator).abs()
    return torch.where(rand(count, generator) < how_often, strength, 0.0)


def _blotches(image: Tensor, generator: torch.Generator) -> Tensor:
    """Patches of other density in bone, standard deviation up to 1; they fade in above soft tissue."""
    bone = ((image - 0.33) * 8).clamp(0, 1)
    strength = rand(len(image), generator).view(-1, 1, 1, 1) ** 2
    return bone * strength * smooth_field(bone, between(5, 24, generator), generator)


def _denser(image: Tensor, mask: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Fill some vertebrae with dense marrow; gaps stay as they are."""
    some = torch.nonzero(rand(len(image), generator) < how.dense).flatten()
    if not len(some):
        return image

    def each(low: float, high: float) -> Tensor:
        return (low + (high - low) * rand(len(some), generator)).view(-1, 1, 1, 1)

    chosen = image[some]
    bone = ((chosen - 0.36) * 8).clamp(0, 1)
    inside = torch.maximum(bone, window_means(mask[some], 3))
    uneven = smooth_field(chosen, between(6, 24, generator), generator)
    level = each(0.42, 0.85) * (1 + each(0.0, 0.2) * uneven)
    image = image.clone()
    image[some] = chosen + inside * each(0.3, 0.95) * (level - chosen).clamp(min=0)
    return image
