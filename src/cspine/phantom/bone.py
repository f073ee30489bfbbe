"""A bone in its place: its surface, what broke it or only looks like a break, and its density.

Points of this module are in the bone's own frame in true millimetres (after the neck's scaling), (N, 3)
float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from cspine.phantom.breaks import Compression, Crack, Vector, Waves
from cspine.phantom.template import FloatArray, Landmarks, SdfVolume
from cspine.phantom.tissue import noise

CLOSED_GAP_MM: Final = 0.8
"""A narrower gap is labelled as bone, as people draw it."""
ARCH_MM: Final = 4.0
"""Over so much the marrow of a body becomes that of its pedicles."""
WALL_MM: Final = 0.7
"""From the lumen of a vessel's canal its dense wall falls to a third over so much."""
WALL_REACH_MM: Final = 5 * WALL_MM
"""Beyond, nothing of it is left: a part in 10^10."""
MOTTLED_FROM_MM: Final = 0.8
"""Islands of looser bone lie at least so deep."""
MOTTLED: Final = 1.5
"""Half of the arch lies in them, a tenth where they are as loose as can be."""
BOW_MM: Final = (0.3, 0.0, 0.6)
"""How far the middle of a canal lies from the line between its ends."""


@dataclass(frozen=True)
class Blob:
    """An ellipsoid added to or taken from a bone."""

    center: Vector
    radii: Vector

    def distance(self, q: torch.Tensor) -> torch.Tensor:
        """Signed distance (N,), mm, right near the surface."""
        p = q - torch.tensor(self.center, dtype=q.dtype, device=q.device)
        r = torch.tensor(self.radii, dtype=q.dtype, device=q.device)
        distance: torch.Tensor = ((p / r).norm(dim=-1) - 1.0) * min(self.radii)
        return distance


@dataclass(frozen=True)
class Channel:
    """A vessel's canal: a smooth dark tube with a dense wall."""

    ends: tuple[Vector, Vector]
    radii: tuple[float, float]
    wall_hu: float

    def distance(self, q: torch.Tensor) -> torch.Tensor:
        """Signed distance (N,) to the tube's lumen, mm."""
        a = torch.tensor(self.ends[0], dtype=q.dtype, device=q.device)
        axis = torch.tensor(self.ends[1], dtype=q.dtype, device=q.device) - a
        t = (((q - a) @ axis) / axis.dot(axis)).clamp(0.0, 1.0)
        bow = torch.sin(t * 3.1416)[:, None] * torch.tensor(BOW_MM, dtype=q.dtype, device=q.device)
        radius = self.radii[0] + (self.radii[1] - self.radii[0]) * t
        distance: torch.Tensor = (q - a - t[:, None] * axis - bow).norm(dim=-1) - radius
        return distance

    def around(self, q: torch.Tensor, reach_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Which points (M,) lie less than `reach_mm` from the lumen, and their distances (M,), mm.

        Some that lie a little farther may be among them; most of a bone lies far from its canals.
        """
        ends, margin = np.array(self.ends), max(self.radii) + reach_mm
        low, high = ends.min(0) - margin, ends.max(0) + margin + BOW_MM
        inside = torch.ones(len(q), dtype=torch.bool, device=q.device)
        for axis in range(3):
            inside &= (q[:, axis] > float(low[axis])) & (q[:, axis] < float(high[axis]))
        near = torch.nonzero(inside)[:, 0]
        return near, self.distance(q[near])


@dataclass(frozen=True)
class OldLine:
    """A healed or never closed line: smooth, thin, with dense rims on both sides."""

    center: Vector
    normal: Vector
    radius: float
    width_mm: float
    rim_hu: float

    def distance(self, q: torch.Tensor) -> torch.Tensor:
        """Distance (N,) to the middle of the line, mm; large outside its disc."""
        p = q - torch.tensor(self.center, dtype=q.dtype, device=q.device)
        along = p @ torch.tensor(self.normal, dtype=q.dtype, device=q.device)
        distance: torch.Tensor = along.abs() + ((p.norm(dim=-1) - self.radius) * 4.0).clamp_min(0.0)
        return distance


@dataclass(frozen=True)
class Look:
    """Density of a bone.

    Attributes:
        cortex_hu, cortex_mm: of the cortex.
        marrow_hu: of the marrow.
        texture_hu: strength of the marrow's fine texture.
        arch_hu: by how much the marrow of pillars, arch and processes is denser than the body's.
        shell: thickness of a body's cortex as part of `cortex_mm`, which the arch has.
        patch_hu: strength of patches of denser and looser marrow, centimetres wide.
        mottle: how loose islands in pillars, arch and processes are, from 0 (as dense as all around) to 1
            (as the marrow of the body).
        mottle_mm: how wide these islands are.
        mottle_seed: of where they lie.
        rim: how far the marrow under the cortex comes up to its density, from 0 (not at all) to 1.
        rim_mm: over how much depth that fades, to a third.
    """

    cortex_hu: float
    cortex_mm: float
    marrow_hu: float
    texture_hu: float
    arch_hu: float = 0.0
    shell: float = 1.0
    patch_hu: float = 0.0
    mottle: float = 0.0
    mottle_mm: float = 3.0
    mottle_seed: int = 0
    rim: float = 0.0
    rim_mm: float = 1.0


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone in its place.

    Attributes:
        name: C1..C7, T1.., skull, mandible.
        label: its value in label images, 0 for bones that are none of the spine or skull.
        shape: surface in the template's frame.
        rotation: (3, 3) from the bone's frame to LPS.
        center_lps_mm: where the frame's origin lies.
        scale: (x, y, z) factors from the template to this neck.
    """

    name: str
    label: int
    shape: SdfVolume
    rotation: FloatArray
    center_lps_mm: FloatArray
    scale: FloatArray
    look: Look
    warp: Waves | None = None
    landmarks: Landmarks | None = None
    compression: Compression | None = None
    cracks: tuple[Crack, ...] = ()
    additions: tuple[Blob, ...] = ()
    dents: tuple[Blob, ...] = ()
    channels: tuple[Channel, ...] = ()
    lines: tuple[OldLine, ...] = ()

    @property
    def reach_mm(self) -> float:
        """How far from the intact surface a piece of this bone, an osteophyte or an ossicle may lie."""
        moved = max((crack.displacement_mm for crack in self.cracks), default=0.0)
        grown = 6.0 if self.additions else 0.0
        squeezed = 0.0 if self.compression is None else self.compression.loss * 2 * self.compression.body[2]
        return 3.0 + max(1.5 * moved, grown, squeezed)

    def to_lps_mm(self, points: FloatArray) -> FloatArray:
        """Points (..., 3) of the bone's frame in LPS mm."""
        return np.asarray(points @ self.rotation.T + self.center_lps_mm)

    def box_lps_mm(self, margin_mm: float = 0.0) -> FloatArray:
        """(2, 3) box in LPS of the bone, from the corners of its own box."""
        low, high = self.shape.bone_box_mm * self.scale
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
        points = self.to_lps_mm(corners)
        return np.stack([points.min(0) - margin_mm, points.max(0) + margin_mm])

    def arch(self, q: torch.Tensor) -> torch.Tensor:
        """From 0 in the body to 1 in pillars, arch and processes, (N,); 1 without landmarks."""
        if self.landmarks is None:
            return torch.ones_like(q[:, 0])
        beside, behind = q[:, 0].abs() - self.landmarks.body[0], q[:, 1] - self.landmarks.canal_y[0]
        return (0.5 + torch.maximum(beside, behind) / ARCH_MM).clamp(0.0, 1.0)

    def distance(self, q: torch.Tensor) -> torch.Tensor:
        """Signed distance (N,) to the unbroken bone, mm."""
        if self.compression is not None:
            q = self.compression.before(q)
        if self.warp is not None:
            q = q + self.warp.at(q)
        unscaled = q / torch.as_tensor(self.scale, dtype=q.dtype, device=q.device)
        d = self.shape.sample(unscaled) * float(np.mean(self.scale))
        for blob in self.additions:
            d = torch.minimum(d, blob.distance(q))
        for blob in self.dents:
            d = torch.maximum(d, -blob.distance(q))
        return d


@dataclass(frozen=True, eq=False)
class Matter:
    """What a bone is at points.

    Attributes:
        cover: share (N,) of the voxel that is bone.
        hu: cover times the bone's HU, (N,).
        distance: to the bone with narrow gaps closed, mm, (N,): inside is what gets the label.
        broken: bool (N,), whether the point lies in the zone of a fracture.
    """

    cover: torch.Tensor
    hu: torch.Tensor
    distance: torch.Tensor
    broken: torch.Tensor


def _cover(distance: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    return (0.5 - distance / voxel_mm).clamp(0.0, 1.0)


def _whole(bone: Bone, q: torch.Tensor, voxel_mm: float, texture: torch.Tensor) -> Matter:
    d = bone.distance(q)
    cover = _cover(d, voxel_mm)
    look, arch = bone.look, bone.arch(q)
    inner = d + look.cortex_mm * (look.shell + (1 - look.shell) * arch)
    core = _cover(inner, voxel_mm)
    marrow = (look.marrow_hu + look.arch_hu * arch + texture).clamp(max=look.cortex_hu)
    if look.rim > 0:
        near = look.rim * torch.exp(inner.clamp(max=0) / look.rim_mm)
        marrow = marrow + near * (look.cortex_hu - marrow)
    if bone.compression is not None:
        marrow = marrow + bone.compression.band_hu * bone.compression.band(q)
    for blob in bone.dents:
        marrow = marrow + bone.look.cortex_hu * 0.6 * _cover(blob.distance(q) - 1.2, 1.0)
    lines = [(line, line.distance(q)) for line in bone.lines]
    for line, away in lines:
        marrow = marrow + line.rim_hu * torch.exp(-((away / (line.width_mm + 0.9)) ** 2))
    reach_mm = max(WALL_REACH_MM, voxel_mm)
    canals = [(channel, *channel.around(q, reach_mm)) for channel in bone.channels]
    for channel, near, away in canals:
        marrow[near] += channel.wall_hu * torch.exp(-((away / WALL_MM) ** 2))
    hu = (cover - core) * bone.look.cortex_hu + core * marrow
    hu = hu + _loose(look, q, arch, d, voxel_mm) * (cover * look.marrow_hu - hu)
    for line, away in lines:
        if line.width_mm == 0:  # a sheet of dense bone has no gap
            continue
        gap = _slab(away, line.width_mm, voxel_mm)
        cover, hu = cover * (1 - gap), hu * (1 - gap)
    for _, near, away in canals:
        hu[near] += _cover(away, voxel_mm) * (20.0 - hu[near]) * cover[near]
    broken = torch.zeros_like(d, dtype=torch.bool)
    if bone.compression is not None:
        broken = (bone.compression.band(q) > 0.5) & (d < 0)
    return Matter(cover, hu, d, broken)


def _loose(look: Look, q: torch.Tensor, arch: torch.Tensor, d: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    """How far bone at points is as loose as marrow, 0 to 1: in islands of the arch, below its surface."""
    if look.mottle == 0:
        return torch.zeros_like(d)
    islands = (MOTTLED * noise(q, look.mottle_mm, look.mottle_seed)).clamp(0, 1)
    return look.mottle * islands * arch * _cover(d + MOTTLED_FROM_MM, voxel_mm)


def _slab(away: torch.Tensor, width: float, voxel_mm: float) -> torch.Tensor:
    """Share of a voxel's width that lies in a slab."""
    half = voxel_mm / 2
    high = torch.clamp(away + half, max=width / 2)
    low = torch.clamp(away - half, min=-width / 2)
    return ((high - low) / voxel_mm).clamp(0.0, 1.0)


def matter(
    bone: Bone, q: torch.Tensor, voxel_mm: float, texture: torch.Tensor, depth: int | None = None
) -> Matter:
    """What the bone is at points, broken along its first `depth` cracks (all, if None).

    Args:
        bone: the bone.
        q: (N, 3) points of its frame, mm.
        voxel_mm: width over which an edge is smeared by partial volume.
        texture: (N,) HU of the marrow's texture.
        depth: how many cracks to heed; used by the recursion.
    """
    depth = len(bone.cracks) if depth is None else depth
    if depth == 0:
        return _whole(bone, q, voxel_mm, texture)
    crack = bone.cracks[depth - 1]
    fixed = matter(bone, q, voxel_mm, texture, depth - 1)
    reach = crack.reach(q)
    near = torch.nonzero(reach > 0)[:, 0]
    if near.numel() == 0:
        return fixed
    some, r = q[near], reach[near]
    moved_q = crack.before(some, r)
    moved = matter(bone, moved_q, voxel_mm, texture[near], depth - 1)
    here, there = crack.side(some), crack.side(moved_q)
    stays, comes = _cover(here, voxel_mm), _cover(-there, voxel_mm)
    cover, hu, distance, broken = (
        fixed.cover.clone(),
        fixed.hu.clone(),
        fixed.distance.clone(),
        fixed.broken.clone(),
    )
    total = cover[near] * stays + moved.cover * comes
    sure = total.clamp(max=1.0) / total.clamp(min=1e-6)
    hu[near] = (hu[near] * stays + moved.hu * comes) * sure
    solid = torch.minimum(distance[near], moved.distance)
    cover[near] = total.clamp(max=1.0)
    slack = CLOSED_GAP_MM / 2
    far = torch.full_like(solid, 9.0)
    distance[near] = torch.minimum(
        torch.where(here < slack, distance[near], far), torch.where(there > -slack, moved.distance, far)
    )
    zone = (r > 0.15) & (here > -1.0) & (there < 1.0) & (solid < 0.7)
    broken[near] = torch.where(here < 0, fixed.broken[near], moved.broken) | zone
    return Matter(cover, hu, distance, broken)
