"""What a break does to a bone: cracks along which pieces move, and the loss of a body's height.

Points are in the bone's own frame in true millimetres, (N, 3) float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cspine.phantom.template import FloatArray

Vector = tuple[float, float, float]


def vector(values: FloatArray) -> Vector:
    """Three numbers as a tuple of floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z


@dataclass(frozen=True)
class Waves:
    """A smooth field made of a few sine waves: asymmetry of a bone, roughness of a crack."""

    vectors: tuple[Vector, ...]
    phases: tuple[float, ...]
    amplitudes: tuple[Vector, ...]

    def at(self, q: torch.Tensor) -> torch.Tensor:
        """The field (N, 3) at points (N, 3)."""
        k = torch.tensor(self.vectors, dtype=q.dtype, device=q.device)
        phase = torch.tensor(self.phases, dtype=q.dtype, device=q.device)
        a = torch.tensor(self.amplitudes, dtype=q.dtype, device=q.device)
        field: torch.Tensor = torch.sin(q @ k.T + phase) @ a
        return field


@dataclass(frozen=True)
class Crack:
    """A rough surface along which the bone parted; the piece on the side of `normal` has moved.

    Attributes:
        center: point of the surface, mm.
        normal: unit vector towards the piece that moved.
        shift: how the piece moved at the centre, mm; its part along `normal` is the width of the gap.
        turn: small rotation of the piece about the centre, radians about x, y, z.
        radii: half axes, along x, y, z, of the ellipsoid in which the bone has moved at all.
        curvature: bend of the surface, 1/mm.
        roughness: of the surface; only the first component is used.
    """

    center: Vector
    normal: Vector
    shift: Vector
    turn: Vector
    radii: Vector
    curvature: float
    roughness: Waves

    def side(self, q: torch.Tensor) -> torch.Tensor:
        """Distance (N,) from the crack's surface, positive on the side of the piece that moved."""
        p = q - torch.tensor(self.center, dtype=q.dtype, device=q.device)
        n = torch.tensor(self.normal, dtype=q.dtype, device=q.device)
        along = p @ n
        across2 = (p * p).sum(-1) - along * along
        side: torch.Tensor = along + self.curvature * across2.clamp_max(200.0) + self.roughness.at(q)[:, 0]
        return side

    def reach(self, q: torch.Tensor) -> torch.Tensor:
        """Share (N,) of the movement that is left here: 1 near the centre, 0 outside the ellipsoid."""
        p = q - torch.tensor(self.center, dtype=q.dtype, device=q.device)
        r2 = ((p / torch.tensor(self.radii, dtype=q.dtype, device=q.device)) ** 2).sum(-1)
        return ((1.0 - r2) * 2.0).clamp(0.0, 1.0)

    def before(self, q: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
        """Where the points of the moved piece were before it moved."""
        p = q - torch.tensor(self.center, dtype=q.dtype, device=q.device)
        shift = torch.tensor(self.shift, dtype=q.dtype, device=q.device)
        turn = torch.tensor(self.turn, dtype=q.dtype, device=q.device).expand_as(p)
        moved: torch.Tensor = reach[:, None] * (shift + torch.linalg.cross(turn, p))
        return q - moved

    @property
    def width_mm(self) -> float:
        """Width of the gap."""
        return float(np.dot(self.shift, self.normal))

    @property
    def displacement_mm(self) -> float:
        """How far the piece has moved."""
        return float(np.linalg.norm(self.shift))


@dataclass(frozen=True)
class Compression:
    """A body that lost height from above.

    Attributes:
        loss: share of the height lost at the front (and by `back_share` of it at the back).
        body: half width, depth and height of the body before, mm.
        band_z: height of the dense impacted band after, mm.
        band_hu: how much denser that band is.
    """

    loss: float
    back_share: float
    body: Vector
    band_z: float
    band_hu: float

    def before(self, q: torch.Tensor) -> torch.Tensor:
        """Where points of the squeezed bone were before."""
        x, y, z = q.unbind(-1)
        hw, hd, hh = self.body
        inside = ((1.35 - torch.maximum(x.abs() / (hw + 1.0), y / hd)) * 4.0).clamp(0.0, 1.0)
        front = (0.5 - y / (2 * hd)).clamp(0.0, 1.0)
        lost = self.loss * (self.back_share + (1 - self.back_share) * front) * inside
        height = (z + hh).clamp_min(0.0)
        grown = torch.minimum(height / (1.0 - lost), height + lost * 2 * hh)
        return torch.stack([x, y, torch.where(z > -hh, grown - hh, z)], -1)

    def band(self, q: torch.Tensor) -> torch.Tensor:
        """How much (N,), 0..1, a point belongs to the impacted band."""
        x, y, z = q.unbind(-1)
        hw, hd, _ = self.body
        wavy = z - self.band_z - 0.8 * torch.sin(0.7 * x + 0.4 * y) - 0.15 * y
        inside = (x.abs() < hw + 1.0) & (y.abs() < hd + 1.0)
        return torch.exp(-((wavy / 1.4) ** 2)) * inside
