"""Signed distances of simple solids, for building bones out of.

Points are (N, 3) or (..., 3) tensors in mm; results drop the last axis. Stretched solids give a distance that
is right in sign and near the surface, which is all that is used.
"""

from __future__ import annotations

import numpy as np
import torch

from cspine.phantom.template import SdfVolume

Vector = tuple[float, float, float]


def _vector(value: Vector, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(value, dtype=like.dtype, device=like.device)


def ellipsoid(p: torch.Tensor, center: Vector, radii: Vector) -> torch.Tensor:
    """Ellipsoid with axes along x, y, z."""
    q = p - _vector(center, p)
    r = _vector(radii, p)
    k0 = (q / r).norm(dim=-1)
    k1 = (q / (r * r)).norm(dim=-1).clamp_min(1e-6)
    distance: torch.Tensor = (k0 * (k0 - 1.0) / k1).clamp_min(-min(radii))
    return distance


def capsule(
    p: torch.Tensor, ends: tuple[Vector, Vector], radii: tuple[float, float], tall: float = 1.0
) -> torch.Tensor:
    """Rod between two points with a radius at each; `tall` stretches its section along z."""
    a, b = _vector(ends[0], p), _vector(ends[1], p)
    squash = _vector((1.0, 1.0, 1.0 / tall), p)
    q, axis = (p - a) * squash, (b - a) * squash
    t = ((q * axis).sum(-1) / axis.dot(axis).clamp_min(1e-6)).clamp(0.0, 1.0)
    distance: torch.Tensor = (q - t[..., None] * axis).norm(dim=-1) - (radii[0] + (radii[1] - radii[0]) * t)
    return distance


def rounded_box(p: torch.Tensor, center: Vector, half: Vector, rounding: float) -> torch.Tensor:
    """Box with rounded edges; `half` includes the rounding."""
    q = (p - _vector(center, p)).abs() - (_vector(half, p) - rounding)
    distance: torch.Tensor = q.clamp_min(0.0).norm(dim=-1) + q.amax(-1).clamp_max(0.0) - rounding
    return distance


def slanted_box(p: torch.Tensor, center: Vector, half: Vector, slope: float) -> torch.Tensor:
    """An articular pillar: upper and lower faces look up-and-back with `slope` = tangent of the tilt.

    `half` is half the width (x), depth (y) and the height (z) measured vertically.
    """
    q = p - _vector(center, p)
    x = q[..., 0].abs() - half[0]
    y = q[..., 1].abs() - half[1]
    z = ((q[..., 2] + slope * q[..., 1]).abs() - half[2]) / (1.0 + slope * slope) ** 0.5
    r = 1.2
    d = torch.stack([x, y, z], -1) + r
    distance: torch.Tensor = d.clamp_min(0.0).norm(dim=-1) + d.amax(-1).clamp_max(0.0) - r
    return distance


def cylinder(p: torch.Tensor, center: tuple[float, float], radii: tuple[float, float]) -> torch.Tensor:
    """Endless elliptic cylinder along z."""
    x, y = (p[..., 0] - center[0]) / radii[0], (p[..., 1] - center[1]) / radii[1]
    return ((x * x + y * y).sqrt() - 1.0) * min(radii)


def union(*distances: torch.Tensor, blend: float = 1.5) -> torch.Tensor:
    """Union with a fillet of about `blend` mm."""
    result = distances[0]
    for d in distances[1:]:
        h = (0.5 + 0.5 * (d - result) / blend).clamp(0.0, 1.0)
        result = d + (result - d) * h - blend * h * (1.0 - h)
    return result


def carve(d: torch.Tensor, hole: torch.Tensor, blend: float = 0.6) -> torch.Tensor:
    """What is left of `d` after `hole` is taken out."""
    return -union(-d, hole, blend=blend)


def tilted(p: torch.Tensor, center: tuple[float, float, float], angle: float) -> torch.Tensor:
    """Points in a frame at `center` whose x axis is turned by `angle` (radians) about y."""
    q = p - torch.tensor(center, dtype=p.dtype)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return torch.stack(
        [c * q[..., 0] + s * q[..., 2], q[..., 1], -s * q[..., 0] + c * q[..., 2]],
        -1,
    )


def half_grid(x_max: float, y: tuple[float, float], z: tuple[float, float], spacing: float) -> torch.Tensor:
    """Points (z, y, x, 3) with x from 0 to x_max."""
    axes = (
        torch.arange(z[0], z[1], spacing),
        torch.arange(y[0], y[1], spacing),
        torch.arange(0.0, x_max, spacing),
    )
    zz, yy, xx = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([xx, yy, zz], -1)


def mirrored(half: torch.Tensor, y0: float, z0: float, spacing: float) -> SdfVolume:
    """Complete a half (z, y, x >= 0) by its mirror image."""
    values = torch.cat([half[..., 1:].flip(-1), half], -1).contiguous()
    x0 = -(half.shape[-1] - 1) * spacing
    return SdfVolume(values, (x0, y0, z0), spacing)
