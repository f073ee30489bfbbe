"""What may happen to a neck between the phantom and a real scanner: image and labels alike, on the fly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from cspine.anatomy import CERVICAL, NETWORK_CHANNELS
from cspine.datasets.chance import grain, stripes
from cspine.phantom.scanner import ghosted

Range = tuple[float, float]

GHOST_MM: Final = (0.5, 2.5)
EDGE: Final = 0.8
"""A voxel of which a smaller part of the neighbours is bone lies at the surface."""
SHOULDER_MM: Final = 10.0
"""Over so much streaks grow from half to nearly all of their strength."""
STARVED: Final = 2.0
"""How much noise the strongest streaks bring with them, on top of what there is elsewhere."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges of what is drawn for each patch.

    Attributes:
        shift_mm: of the patch's centre from the sample's, at most, towards head, back and left.
        rotation_deg: about each axis, at most.
        scale: of all axes together; `stretch` of each axis on top.
        cut_ends: probability that the field of view ends inside the patch, at the head's or the feet's end.
        cut_head: share of these that end at the head. There naming is hard: what is left has neither the
            skull nor the dens to count from.
        cut: share of the patch that is then missing.
        cut_sides: probability that it is a narrow cylinder.
        hollow: probability that bone is a shell, as in osteopenia: under a voxel of cortex its marrow falls
            to, or towards, a value of `marrow`, between fat and light marrow, and what is left is fainter.
        gamma, gain, shift: of the image in [0, 1].
        noise: largest standard deviation, in [0, 1] of the window; its grain is as fine or coarse as kernels
            make it.
        streaks: largest standard deviation of stripes from side to side where shoulders starve the image,
            with up to three times the noise, and `streaky`: how often.
        ghost: probability that the neck moved and is seen twice, the second time fainter.
        blur, sharpen: probability of each.
        slice_mm: between the CT's slices; a finer patch shows what lies between two of them as their mean.
        flip: probability of a mirror image, left to right.
    """

    shift_mm: tuple[float, float, float] = (22.0, 14.0, 14.0)
    rotation_deg: float = 9.0
    scale: Range = (0.85, 1.2)
    stretch: Range = (0.93, 1.07)
    cut_ends: float = 0.35
    cut_head: float = 0.5
    cut: Range = (0.05, 0.4)
    cut_sides: float = 0.12
    hollow: float = 0.3
    marrow: Range = (0.24, 0.42)
    gamma: Range = (0.8, 1.3)
    gain: Range = (0.9, 1.12)
    shift: Range = (-0.04, 0.04)
    noise: float = 0.05
    streaks: float = 0.06
    streaky: float = 0.25
    ghost: float = 0.1
    blur: float = 0.25
    sharpen: float = 0.15
    slice_mm: Range = (0.8, 3.0)
    flip: float = 0.5

    def eased(self, strength: float) -> Augmentation:
        """The same with every range shrunk towards doing nothing, by `strength` from 0 to 1."""

        def towards(middle: float, between: Range) -> Range:
            return middle + strength * (between[0] - middle), middle + strength * (between[1] - middle)

        head, back, left = self.shift_mm
        return replace(
            self,
            shift_mm=(strength * head, strength * back, strength * left),
            rotation_deg=strength * self.rotation_deg,
            scale=towards(1, self.scale),
            stretch=towards(1, self.stretch),
            cut_ends=strength * self.cut_ends,
            cut_sides=strength * self.cut_sides,
        )

    def __call__(
        self,
        sample: torch.Tensor,
        shape: tuple[int, int, int],
        pixdim_mm: tuple[float, float, float],
        rng: np.random.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cut one patch, on the sample's device.

        Args:
            sample: uint8 (2, slices, rows, columns), image and labels.
            shape: of the patch.
            pixdim_mm: spacing of both.
            rng: of everything drawn.

        Returns:
            Image float32 in [0, 1] and labels int64, both of `shape`; outside the sample both are 0. And
            float32 (10,): slice of the patch, with fractions, in which each class has its centre; NaN where
            that is not known.
        """
        place = self._place(tuple(sample.shape[1:]), shape, np.array(pixdim_mm), rng)
        centers = _slices_in_patch(centers_of_levels(sample[1]), place, tuple(sample.shape[1:]), shape)
        where = F.affine_grid(place.to(sample.device), [1, 1, *shape], align_corners=False)
        image = sample[0].float()[None, None] / 255
        labels = sample[1].float()[None, None]
        image = F.grid_sample(image, where, mode="bilinear", align_corners=False)[0, 0]
        labels = F.grid_sample(labels, where, mode="nearest", align_corners=False)[0, 0].long()
        if rng.random() < self.hollow:
            image = hollowed(image, labels > 0, float(rng.uniform(*self.marrow)), rng)
        image = sliced(
            self._look(image, pixdim_mm, rng), round(rng.uniform(*self.slice_mm) / pixdim_mm[0]), rng
        )
        seen = self._field_of_view(shape, rng).to(sample.device)
        return image * seen, labels * seen, centers

    def _place(
        self,
        source: tuple[int, ...],
        shape: tuple[int, int, int],
        pixdim: np.ndarray,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """(1, 3, 4) from the patch's to the sample's coordinates (x, y, z), as affine_grid wants it."""
        a, b, c = np.radians(rng.uniform(-1, 1, 3) * self.rotation_deg)
        rz = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        rx = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        scale = rng.uniform(*self.scale) * rng.uniform(*self.stretch, 3)
        scale[2] *= 1 if rng.random() >= self.flip else -1
        # Patch mm to source mm, both from the centre: a larger scale shows the neck larger.
        turn = (rz @ ry @ rx) / scale[None, :]
        shift = rng.uniform(-1, 1, 3) * self.shift_mm
        to_unit = 2 / (np.array(source) * pixdim)
        matrix = (to_unit[:, None] * turn) * (np.array(shape) * pixdim / 2)[None, :]
        theta = np.concatenate([matrix, (to_unit * shift)[:, None]], 1)
        # grid_sample counts axes from the last one.
        theta = theta[::-1, [2, 1, 0, 3]].copy()
        return torch.from_numpy(theta).float()[None]

    def _look(
        self, image: torch.Tensor, pixdim_mm: tuple[float, float, float], rng: np.random.Generator
    ) -> torch.Tensor:
        image = image.clamp(0, 1) ** float(rng.uniform(*self.gamma))
        image = image * float(rng.uniform(*self.gain)) + float(rng.uniform(*self.shift))
        if rng.random() < self.ghost:
            rows = max(1, round(rng.uniform(*GHOST_MM) / pixdim_mm[1]))
            image = ghosted(image, rows, 1)
        if rng.random() < self.blur:
            image = F.avg_pool3d(image[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        elif rng.random() < self.sharpen:
            image = (
                1.8 * image - 0.8 * F.avg_pool3d(image[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
            )
        return (image + self._disturbance(image, pixdim_mm, rng)).clamp(0, 1)

    def _disturbance(
        self, image: torch.Tensor, pixdim_mm: tuple[float, float, float], rng: np.random.Generator
    ) -> torch.Tensor:
        """Noise, and streaks below where the shoulders begin."""
        generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**31)))
        noise = grain(torch.Size((1, *image.shape)), generator)[0] * float(rng.uniform(0, self.noise))
        if rng.random() >= self.streaky:
            return noise
        strength = float(rng.uniform(0, self.streaks))
        top = rng.uniform(0, len(image)) * pixdim_mm[0]
        below_mm = top - torch.arange(len(image), device=image.device) * pixdim_mm[0]
        starved = torch.sigmoid(below_mm / SHOULDER_MM)[:, None, None]
        streaks = stripes(torch.Size((1, *image.shape)), generator)[0]
        more = STARVED * strength / max(self.streaks, 1e-6)
        return noise * (1 + more * starved) + strength * starved * streaks

    def _field_of_view(self, shape: tuple[int, int, int], rng: np.random.Generator) -> torch.Tensor:
        """1 where the scanner saw something, 0 outside."""
        seen = torch.ones(shape, dtype=torch.uint8)
        if rng.random() < self.cut_ends:
            end = int(shape[0] * rng.uniform(*self.cut))
            if rng.random() < self.cut_head:
                seen[shape[0] - end :] = 0
            else:
                seen[:end] = 0
        if rng.random() < self.cut_sides:
            rows = torch.arange(shape[1])[:, None] - shape[1] * float(rng.uniform(0.4, 0.6))
            columns = torch.arange(shape[2])[None] - shape[2] * float(rng.uniform(0.4, 0.6))
            radius = min(shape[1:]) * float(rng.uniform(0.42, 0.7))
            seen *= (rows**2 + columns**2 < radius**2)[None].to(torch.uint8)
        return seen


def hollowed(
    image: torch.Tensor, bone: torch.Tensor, marrow: float, rng: np.random.Generator
) -> torch.Tensor:
    """Bone as a shell: what lies deeper than a voxel falls towards `marrow`, and all of it is fainter.

    Args:
        image: (slices, rows, columns) in [0, 1].
        bone: bool, of the same shape.
        marrow: what the marrow falls to at most.
        rng: of how far it falls and how much of the bone's contrast is left.
    """
    solid = bone.to(image.dtype)
    inside = F.avg_pool3d(solid[None, None], 3, 1, 1)[0, 0]
    core = ((inside - EDGE) / (1 - EDGE)).clamp(min=0)
    image = image - float(rng.uniform(0.3, 1.0)) * core * (image - marrow).clamp(min=0)
    return image - float(rng.uniform(0.0, 0.5)) * solid * (image - marrow).clamp(min=0)


def sliced(image: torch.Tensor, every: int, rng: np.random.Generator) -> torch.Tensor:
    """What is left of an image when one slice in `every` is known and linear interpolation fills the rest."""
    if every < 2:
        return image
    last = len(image) - 1
    at = torch.arange(len(image), device=image.device)
    offset = int(rng.integers(every))
    below = (at - offset).div(every, rounding_mode="floor") * every + offset
    share = ((at - below) / every)[:, None, None]
    return torch.lerp(image[below.clamp(0, last)], image[(below + every).clamp(0, last)], share)


def centers_of_levels(labels: torch.Tensor) -> torch.Tensor:
    """Centre of the voxels of each class: float64 (10, 3) indices; NaN but for whole cervical vertebrae.

    Args:
        labels: uint8 (slices, rows, columns). A vertebra that touches its edge may go on beyond it, so its
            centre is not known.
    """
    found = torch.full((len(NETWORK_CHANNELS), 3), torch.nan, dtype=torch.float64)
    where = torch.nonzero((labels > 0) & (labels <= len(CERVICAL)))
    level = labels[tuple(where.T)].long()
    last = torch.tensor(labels.shape, device=labels.device) - 1
    at_edge = ((where == 0) | (where == last)).any(1)
    for vertebra in CERVICAL:
        own = level == int(vertebra)
        if own.any() and not (own & at_edge).any():
            found[int(vertebra)] = where[own].double().mean(0).cpu()
    return found


def _slices_in_patch(
    centers: torch.Tensor, place: torch.Tensor, source: tuple[int, ...], shape: tuple[int, int, int]
) -> torch.Tensor:
    """(10,) float32: the patch's slices in which points of the source lie, with fractions."""
    sides = torch.tensor(source, dtype=torch.float64)
    unit = ((2 * centers + 1) / sides - 1).flip(1)  # affine_grid counts axes from the last one
    matrix = place[0].double()
    inside: torch.Tensor = torch.linalg.solve(matrix[:, :3], (unit - matrix[:, 3]).T)
    return (((inside[2] + 1) * shape[0] - 1) / 2).float()
