"""What a CT scanner does to a neck: blur, noise, streaks, motion, metal, drift of HU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from cspine.phantom.profile import DEFAULT, PhantomProfile
from cspine.volume import FloatArray, Grid

PART_VOXELS: Final = 1 << 18
GHOST: Final = 0.35
"""Strength of the second image of a neck that moved."""
STREAK_OF_DOUBLE_NOISE_HU: Final = 60.0
"""Where streaks have this standard deviation, noise is twice as strong as elsewhere."""


@dataclass(frozen=True)
class Scanner:
    """One scanner and protocol; lengths are of the scanner, not of the grid that is rendered.

    Attributes:
        slice_thickness_mm: width of the slice profile along the grid's slice axis.
        kernel_mm: standard deviation of the in-plane point spread.
        sharpening: strength of an edge-enhancing kernel, 0 for none.
        noise_hu: standard deviation at native resolution.
        noise_correlation_mm: standard deviation of the noise's own blur.
        averaging: how much of the noise a coarser grid averages out, 0 (point sampling) to 1.
        streak_hu: standard deviation of horizontal streaks at the shoulders.
        streak_z_mm: LPS z below which streaks grow.
        motion_mm: in-plane shift of a ghost, 0 for none.
        metal_lps_mm: pieces of metal, fillings and crowns of teeth.
        gain, shift_hu, bias_hu: drift of HU: factor, offset, slowly varying part.
        seed: of the noise.
    """

    slice_thickness_mm: float
    kernel_mm: float
    sharpening: float
    noise_hu: float
    noise_correlation_mm: float
    averaging: float
    streak_hu: float
    streak_z_mm: float
    motion_mm: float
    metal_lps_mm: tuple[tuple[float, float, float], ...]
    gain: float
    shift_hu: float
    bias_hu: float
    seed: int


def sample_scanner(seed: int, profile: PhantomProfile = DEFAULT) -> Scanner:
    """Draw a scanner; the same seed and profile give the same one."""
    rng = np.random.default_rng([seed, 0x5CA7])
    low, high = profile.thick_mm if rng.random() < profile.thick_slices else profile.slice_thickness_mm
    metal: tuple[tuple[float, float, float], ...] = ()
    if rng.random() < profile.metal:
        row = rng.normal((0.0, -75.0, 38.0), (4.0, 8.0, 12.0))
        teeth = rng.normal(row, (22.0, 8.0, 4.0), (int(rng.integers(1, 6)), 3))
        metal = tuple((float(x), float(y), float(z)) for x, y, z in teeth)
    return Scanner(
        slice_thickness_mm=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        kernel_mm=float(rng.uniform(*profile.kernel_mm)),
        sharpening=float(rng.uniform(*profile.sharpening)),
        noise_hu=float(np.exp(rng.uniform(*np.log(profile.noise_hu)))),
        noise_correlation_mm=float(rng.uniform(*profile.noise_correlation_mm)),
        averaging=float(rng.uniform(0.0, 1.0)),
        streak_hu=float(rng.uniform(*profile.streak_hu)) * float(rng.random() < 0.6),
        streak_z_mm=float(rng.uniform(-70.0, -20.0)),
        motion_mm=float(rng.uniform(0.5, 2.5)) * float(rng.random() < profile.motion),
        metal_lps_mm=metal,
        gain=float(rng.uniform(*profile.gain)),
        shift_hu=float(rng.uniform(*profile.shift_hu)),
        bias_hu=float(rng.uniform(*profile.bias_hu)),
        seed=int(rng.integers(2**31)),
    )


def scan(hu: torch.Tensor, grid: Grid, scanner: Scanner) -> torch.Tensor:
    """Apply a scanner to ideal HU (slices, rows, columns) of a grid; returns float32 HU."""
    generator = torch.Generator().manual_seed(scanner.seed)
    spacing = grid.spacing_mm
    for piece_lps_mm in scanner.metal_lps_mm:
        hu = _metal(hu, grid, piece_lps_mm, generator)
    if scanner.motion_mm > 0:
        steps = max(1, round(scanner.motion_mm / spacing[1]))
        hu = ghosted(hu, steps, 1)
    kernel = scanner.kernel_mm
    hu = blur(hu, (scanner.slice_thickness_mm * 0.3 / spacing[0], kernel / spacing[1], kernel / spacing[2]))
    if scanner.sharpening > 0 and spacing[1] < 1.2:
        wide = 0.8 / spacing[1]
        hu = hu + scanner.sharpening * (hu - blur(hu, (0.0, wide, wide)))
    hu = hu * scanner.gain + scanner.shift_hu
    hu = hu + _noise(hu, grid, scanner, generator)
    if scanner.streak_hu > 0:
        hu = hu + _streaks(hu, grid, scanner, generator)
    if scanner.bias_hu > 0:
        small = torch.randn((1, 1, 3, 3, 3), generator=generator).to(hu.device) * scanner.bias_hu
        hu = hu + F.interpolate(small, size=hu.shape, mode="trilinear", align_corners=True)[0, 0]
    return hu


def ghosted(image: torch.Tensor, rows: int, axis: int) -> torch.Tensor:
    """A neck that moved: seen twice, the second time fainter and `rows` further on, around the axis's end."""
    return (1 - GHOST) * image + GHOST * torch.roll(image, rows, axis)


def blur(volume: torch.Tensor, sigma_voxels: tuple[float, float, float]) -> torch.Tensor:
    """Gaussian blur with a standard deviation for each axis; below a quarter of a voxel nothing is done."""
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.25:
            continue
        reach = max(1, min(6, int(np.ceil(2.5 * sigma)), volume.shape[axis] - 1))
        taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum()
        volume = _filter(volume, axis, [float(t) for t in taps])
    return volume


def _filter(volume: torch.Tensor, axis: int, taps: list[float]) -> torch.Tensor:
    # In parts that fit into a processor's cache: on the CPU this is three times faster.
    other = 1 if axis == 0 else 0
    size = volume.shape[other]
    parts = 1 if volume.device.type != "cpu" else min(size, 1 + volume.numel() // PART_VOXELS)
    return torch.cat([_filter_part(part, axis, taps) for part in volume.tensor_split(parts, other)], other)


def _filter_part(volume: torch.Tensor, axis: int, taps: list[float]) -> torch.Tensor:
    n = volume.shape[axis]
    reach = min(len(taps) - 1, n - 1)
    first = volume.narrow(axis, 0, 1)
    last = volume.narrow(axis, n - 1, 1)
    shape = list(volume.shape)
    shape[axis] = reach
    padded = torch.cat([first.expand(shape), volume, last.expand(shape)], axis)
    result = volume * taps[0]
    for k in range(1, reach + 1):
        result.add_(padded.narrow(axis, reach - k, n), alpha=taps[k])
        result.add_(padded.narrow(axis, reach + k, n), alpha=taps[k])
    return result


def _noise(hu: torch.Tensor, grid: Grid, scanner: Scanner, generator: torch.Generator) -> torch.Tensor:
    grainy = noise_blur(torch.randn(hu.shape, generator=generator).to(hu.device), grid, scanner)
    strength, _ = noise_strength(grid, scanner)
    by_slice = torch.as_tensor(strength, dtype=hu.dtype, device=hu.device)[:, None, None]
    scaled: torch.Tensor = grainy * (by_slice / grainy.std().clamp_min(1e-3))
    return scaled


def noise_blur(white: torch.Tensor, grid: Grid, scanner: Scanner) -> torch.Tensor:
    """Give white noise (slices, rows, columns) the grain that a scanner's has on a grid."""
    correlation, spacing = scanner.noise_correlation_mm, grid.spacing_mm
    sigma = (
        scanner.slice_thickness_mm * 0.3 / spacing[0],
        correlation / spacing[1],
        correlation / spacing[2],
    )
    return blur(white, sigma)


def noise_strength(grid: Grid, scanner: Scanner) -> tuple[FloatArray, FloatArray]:
    """Standard deviation (slices,) of the noise and of the streaks in each slice, HU."""
    native = (scanner.slice_thickness_mm, *2 * [2 * scanner.noise_correlation_mm + 0.4])
    kept = float(np.prod([min(1.0, n / s) for n, s in zip(native, grid.spacing_mm, strict=True)])) ** 0.5
    # Where the shoulders let few photons through there is more of both.
    streaks = _below_shoulders(grid, scanner) * scanner.streak_hu
    strength = scanner.noise_hu * kept**scanner.averaging
    return strength * (1.0 + streaks / STREAK_OF_DOUBLE_NOISE_HU), streaks


def _below_shoulders(grid: Grid, scanner: Scanner) -> FloatArray:
    """(slices,) from 0 above to 1 below the shoulders."""
    z = grid.to_lps_mm([[k, grid.shape[1] / 2, grid.shape[2] / 2] for k in range(grid.shape[0])])[:, 2]
    return np.asarray(1.0 / (1.0 + np.exp(-(scanner.streak_z_mm - z) / 10.0)))


def _streaks(hu: torch.Tensor, grid: Grid, scanner: Scanner, generator: torch.Generator) -> torch.Tensor:
    """Nearly horizontal (left-right) stripes that grow below the shoulders."""
    _, strength = noise_strength(grid, scanner)
    rows = torch.arange(grid.shape[1], dtype=torch.float32)[:, None] * grid.spacing_mm[1]
    columns = torch.arange(grid.shape[2], dtype=torch.float32)[None] * grid.spacing_mm[2]
    total = torch.zeros_like(hu)
    weight = torch.as_tensor(strength, dtype=hu.dtype, device=hu.device)
    for _ in range(2):
        slope = float(torch.randn(1, generator=generator)) * 0.12
        cell = 1.0 + 2.0 * float(torch.rand(1, generator=generator))
        table = torch.randn((hu.shape[0], 512), generator=generator).to(hu.device)
        index = torch.remainder(((rows + slope * columns) / cell).long(), 512).to(hu.device)
        for k in torch.nonzero(weight > 1.0)[:, 0].tolist():
            total[k] += table[k][index] * weight[k] * 0.7
    return total


def _metal(
    hu: torch.Tensor, grid: Grid, spot_lps_mm: tuple[float, float, float], generator: torch.Generator
) -> torch.Tensor:
    """A bright piece with rays around it in its slices."""
    where = grid.to_index(np.array(spot_lps_mm))
    depth = (torch.arange(hu.shape[0], device=hu.device) - float(where[0])) * grid.spacing_mm[0]
    near = torch.nonzero(depth.abs() < 6.0)[:, 0].tolist()
    rows = (torch.arange(hu.shape[1], device=hu.device) - float(where[1])) * grid.spacing_mm[1]
    columns = (torch.arange(hu.shape[2], device=hu.device) - float(where[2])) * grid.spacing_mm[2]
    radius = (rows[:, None] ** 2 + columns[None] ** 2).sqrt()
    angle = torch.atan2(rows[:, None], columns[None])
    hu = hu.clone()
    for k in near:
        rays = torch.zeros_like(radius)
        for _ in range(5):
            waves, phase = torch.rand(2, generator=generator).tolist()
            rays = rays + torch.cos(angle * (3 + int(12 * waves)) + 6.28 * phase)
        hu[k] += 260.0 * rays * torch.exp(-radius / 35.0)
        hu[k] = torch.where(radius < 3.5, torch.full_like(radius, 3000.0), hu[k])
    return hu
