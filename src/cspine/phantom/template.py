"""One template behind every source of anatomy: signed distances of each bone in its own frame.

Local frames: millimetres, x to the patient's left, y to the back, z to the head, origin in the middle of the
vertebral body; of C1 on the axis of the dens at the height of the lateral masses; of the skull as of C1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SdfVolume:
    """Signed distance to a bone's surface on a regular grid of its local frame.

    Attributes:
        values: float32 (z, y, x), mm, negative inside, positive on all six faces.
        origin_mm: (x, y, z) of the first voxel.
        spacing_mm: of all three axes.
    """

    values: torch.Tensor
    origin_mm: tuple[float, float, float]
    spacing_mm: float
    _moved: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def box_mm(self) -> FloatArray:
        """(2, 3) smallest and largest (x, y, z) of the grid."""
        low = np.array(self.origin_mm)
        return np.stack([low, low + (np.array(self.values.shape[::-1]) - 1) * self.spacing_mm])

    @cached_property
    def bone_box_mm(self) -> FloatArray:
        """(2, 3) smallest and largest (x, y, z) inside the bone."""
        inside = torch.nonzero(self.values < 0).numpy()[:, ::-1]
        low = np.array(self.origin_mm)
        return np.stack([inside.min(0) * self.spacing_mm + low, inside.max(0) * self.spacing_mm + low])

    @cached_property
    def surface_mm(self) -> FloatArray:
        """(M, 3) voxels next to the surface, (x, y, z)."""
        shell = (self.values < 0) & (self.values > -1.5 * self.spacing_mm)
        inside = torch.nonzero(shell).numpy()[:, ::-1]
        return np.asarray(inside * self.spacing_mm + np.array(self.origin_mm), np.float64)

    def on(self, device: torch.device) -> torch.Tensor:
        """The values as (1, 1, z, y, x) on a device; kept there."""
        key = str(device)
        if key not in self._moved:
            self._moved[key] = self.values[None, None].to(device)
        return self._moved[key]

    def sample(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Distances (N,) at local points (N, 3) in mm; outside the grid the value of its edge."""
        low, high = self.box_mm
        device, dtype = points_mm.device, points_mm.dtype
        step = torch.as_tensor(2.0 / (high - low), dtype=dtype, device=device)
        start = torch.as_tensor(low, dtype=dtype, device=device)
        where = (points_mm - start) * step - 1.0
        found = F.grid_sample(
            self.on(device), where[None, None, None], align_corners=True, padding_mode="border"
        )
        return found.reshape(-1)


@dataclass(frozen=True)
class Landmarks:
    """Where the parts of a vertebra lie in its local frame, mm.

    Attributes:
        body: half width, half depth and half height of the body (of C1: of a lateral mass).
        front_y: foremost bone in the midline.
        canal_y: front and back of the vertebral canal in the midline.
        pillar: (|x|, y, z) of the middle of an articular pillar or lateral mass.
        tip: (y, z) of the tip of the spinous process or posterior tubercle.
        side_x: outermost bone.
        top_z, bottom_z: highest bone (the tip of C2's dens) and lowest bone.
    """

    body: tuple[float, float, float]
    front_y: float
    canal_y: tuple[float, float]
    pillar: tuple[float, float, float]
    tip: tuple[float, float]
    side_x: float
    top_z: float
    bottom_z: float

    def scaled(self, scale: FloatArray) -> Landmarks:
        """The same landmarks of a bone stretched by (x, y, z) factors."""
        sx, sy, sz = (float(s) for s in scale)
        return Landmarks(
            body=(self.body[0] * sx, self.body[1] * sy, self.body[2] * sz),
            front_y=self.front_y * sy,
            canal_y=(self.canal_y[0] * sy, self.canal_y[1] * sy),
            pillar=(self.pillar[0] * sx, self.pillar[1] * sy, self.pillar[2] * sz),
            tip=(self.tip[0] * sy, self.tip[1] * sz),
            side_x=self.side_x * sx,
            top_z=self.top_z * sz,
            bottom_z=self.bottom_z * sz,
        )


@dataclass(frozen=True, eq=False)
class VertebraShape:
    """One vertebra of a template: its surface, its landmarks and the room that it takes in the column.

    Attributes:
        pitch_mm: distance along the column that belongs to this vertebra, body and disc.
    """

    sdf: SdfVolume
    landmarks: Landmarks
    pitch_mm: float


@dataclass(frozen=True, eq=False)
class Template:
    """The bones of one person before size and posture.

    Attributes:
        vertebrae: C1..C7 and T1..T3 by name.
        others: skull, mandible, hyoid where the source has them, in the frame of C1.
        atlas_offset_mm: origin of C1 in C2's frame.
        source: what to call this anatomy in a model card.
        pitch_mm: mean level height of C3..C6.
    """

    vertebrae: Mapping[str, VertebraShape]
    others: Mapping[str, SdfVolume]
    atlas_offset_mm: tuple[float, float, float]
    source: str
    pitch_mm: float = 16.5


class Anatomy(Protocol):
    """A source of anatomy."""

    def template(self, rng: np.random.Generator, variants: int) -> Template:
        """One person's bones; `variants` bounds how many shapes a level has (they are kept in memory)."""
        ...


def measure(sdf: SdfVolume, body_half_mm: tuple[float, float, float], *, ring: bool) -> Landmarks:
    """Find a vertebra's landmarks in its own surface.

    Args:
        sdf: the vertebra.
        body_half_mm: half width, depth and height of the body.
        ring: whether it is C1, which has no body.
    """
    z, y, x = torch.nonzero(sdf.values < 0).numpy().T * sdf.spacing_mm
    x, y, z = x + sdf.origin_mm[0], y + sdf.origin_mm[1], z + sdf.origin_mm[2]
    middle = np.abs(x) < 2.5
    front = float(y[middle].min())
    back_of_front = _end_of_first_run(np.unique(y[middle & (np.abs(z) < 4)]), sdf.spacing_mm)
    arch = y[middle & (y > back_of_front + 5)]
    canal_back = float(arch.min()) if arch.size else back_of_front + 15
    tip_y = float(arch.max()) if arch.size else canal_back + 5
    tip_z = float(z[middle & (y > tip_y - 4)].mean()) if arch.size else 0.0
    at = 0.0 if ring else (back_of_front + canal_back) / 2
    pillar = (np.abs(y - at) < 3) & (np.abs(x) > body_half_mm[0] * 0.8)
    px = float(np.abs(x[pillar]).mean()) if pillar.any() else body_half_mm[0] + 8
    pz = float(z[pillar].mean()) if pillar.any() else 0.0
    return Landmarks(
        body=body_half_mm,
        front_y=front,
        canal_y=(back_of_front, canal_back),
        pillar=(px, at, pz),
        tip=(tip_y, tip_z),
        side_x=float(np.abs(x).max()),
        top_z=float(z.max()),
        bottom_z=float(z.min()),
    )


def _end_of_first_run(values: FloatArray, spacing: float) -> float:
    gaps = np.flatnonzero(np.diff(values) > 1.5 * spacing)
    return float(values[gaps[0]] if gaps.size else values[-1])
