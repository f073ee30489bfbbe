"""Everything of a neck that is no bone: skin, fat, muscle, airway, lungs, vessels, table.

All shapes are smooth, so they are evaluated every few millimetres and interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from cspine.phantom.template import FloatArray

AIR_HU: Final = -1000.0
LATTICE: Final = 24


@lru_cache(maxsize=64)
def _lattice(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((1, 1, LATTICE, LATTICE, LATTICE), generator=generator)
    return F.pad(values, (0, 1, 0, 1, 0, 1), mode="circular")


def noise(points_mm: torch.Tensor, cell_mm: float, seed: int) -> torch.Tensor:
    """A smooth random field (N,), standard deviation about 0.6, at points (N, 3); one field for each seed."""
    where = torch.remainder(points_mm / cell_mm + 7.3, LATTICE) * (2.0 / LATTICE) - 1.0
    values = _lattice(seed).to(points_mm.device)
    return F.grid_sample(values, where[None, None, None], align_corners=True).reshape(-1)


@dataclass(frozen=True)
class Ellipsoid:
    """A soft-tissue structure: centre relative to the spine at that height, half axes, HU."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float


@dataclass(frozen=True)
class Tube:
    """A vessel along the neck: place relative to the spine, radius, HU."""

    at: tuple[float, float]
    radius: float
    hu: float
    wander_mm: float


@dataclass(frozen=True)
class Airway:
    """Pharynx and trachea: radius, distance from the spine's front, flattening, height of its upper end."""

    radius: float
    front_mm: float
    flat: float
    top_z: float
    side_mm: float


@dataclass(frozen=True)
class Outline:
    """The skin: radii of the neck, head and shoulders, and where they begin, in mm."""

    neck: tuple[float, float]
    head: tuple[float, float]
    shoulder: tuple[float, float]
    back_mm: float
    chin_z: float
    crown_z: float
    shoulder_z: float
    fat_mm: float


@dataclass(frozen=True, eq=False)
class Tissue:
    """All soft tissue of a neck.

    Attributes:
        path_mm: (M, 3) points of the spine's line, z ascending, in LPS.
        muscle_hu, fat_hu: of the two main tissues.
        fatty: how much fat lies between the muscles, 0..1.
        cell_mm: size of muscles.
        planes: how much fat lies in thin planes between muscles, 0..1.
        table_y_mm: LPS y of the table's top, None without table.
    """

    path_mm: FloatArray
    outline: Outline
    airway: Airway
    muscle_hu: float
    fat_hu: float
    fatty: float
    cell_mm: float
    solids: tuple[Ellipsoid, ...]
    hollows: tuple[Ellipsoid, ...]
    tubes: tuple[Tube, ...]
    table_y_mm: float | None
    planes: float
    seed: int


@dataclass(frozen=True, eq=False)
class TissueFields:
    """Soft tissue at points: HU of what fills the skin, and signed distances in mm, each (N,)."""

    soft_hu: torch.Tensor
    skin_mm: torch.Tensor
    air_mm: torch.Tensor
    vessel_mm: torch.Tensor
    vessel_hu: torch.Tensor


def tissue_at(tissue: Tissue, points_mm: torch.Tensor) -> TissueFields:
    """Evaluate soft tissue at LPS points (N, 3)."""
    local = _beside_spine(tissue, points_mm)
    skin = _skin(tissue.outline, local)
    soft = _soft_hu(tissue, points_mm, local, skin)
    air, air_hu = _air(tissue, local)
    vessel, vessel_hu = _vessels(tissue, points_mm, local)
    return TissueFields(torch.where(air < 0, air_hu, soft), skin, air, vessel, vessel_hu)


def _beside_spine(tissue: Tissue, p: torch.Tensor) -> torch.Tensor:
    """Points with x and y relative to the spine's line at their height."""
    path = tissue.path_mm
    levels = np.linspace(path[0, 2] - 60, path[-1, 2] + 100, 160)
    step = levels[1] - levels[0]
    table = np.stack([np.interp(levels, path[:, 2], path[:, k]) for k in (0, 1)], -1)
    lines = torch.as_tensor(table, dtype=p.dtype, device=p.device)
    at = ((p[:, 2] - float(levels[0])) / float(step)).clamp(0, len(levels) - 1.001)
    low = at.floor().long()
    t = (at - low)[:, None]
    line = lines[low] * (1 - t) + lines[low + 1] * t
    return torch.cat([p[:, :2] - line, p[:, 2:]], -1)


def _skin(outline: Outline, q: torch.Tensor) -> torch.Tensor:
    x, y, z = q.unbind(-1)
    head = torch.sigmoid((z - outline.chin_z - 10.0) / 9.0)
    torso = torch.sigmoid((outline.shoulder_z - z) / 10.0)
    rx = outline.neck[0] + head * max(outline.head[0] - outline.neck[0], 0.0)
    ry = outline.neck[1] + head * max(outline.head[1] - outline.neck[1], 0.0)
    rx = rx + torso * (outline.shoulder[0] - outline.neck[0])
    ry = ry + torso * (outline.shoulder[1] - outline.neck[1])
    center = outline.back_mm * (1 - head) - 14.0 * head
    r = ((x / rx) ** 2 + ((y - center) / ry) ** 2).sqrt()
    around = (r - 1.0) * torch.minimum(rx, ry)
    top = z - outline.crown_z + 60.0  # the head ends in half an ellipsoid
    dome = ((x / rx) ** 2 + ((y - center) / ry) ** 2 + (top.clamp_min(0) / 60.0) ** 2).sqrt()
    return torch.where(top > 0, (dome - 1.0) * 60.0, around)


def _soft_hu(tissue: Tissue, p: torch.Tensor, q: torch.Tensor, skin: torch.Tensor) -> torch.Tensor:
    muscles = noise(p, tissue.cell_mm, tissue.seed)
    hu = tissue.muscle_hu + 14.0 * noise(p, 5.0, tissue.seed ^ 1)
    fat = tissue.fat_hu + 12.0 * noise(p, 6.0, tissue.seed ^ 2)
    between = ((muscles - 1.1 + 0.9 * tissue.fatty) * 4.0).clamp(0.0, 1.0)
    sheet = noise(p, 1.4 * tissue.cell_mm, tissue.seed ^ 3).abs()
    between = torch.maximum(between, tissue.planes * (1.5 - sheet / 0.08).clamp(0.0, 1.0))
    rim = ((skin + tissue.outline.fat_mm + 3.0 * muscles) / 3.0).clamp(0.0, 1.0)
    hu = hu + torch.maximum(between, rim) * (fat - hu)
    column = ((q[:, 0] / 13.0) ** 2 + ((q[:, 1] - 4.0) / 19.0) ** 2) < 1.0
    hu = torch.where(column, torch.full_like(hu, tissue.muscle_hu + 15.0), hu)
    for solid in tissue.solids:
        hu = hu + ((-_ellipsoid(solid, q)) / 3.0 + 0.5).clamp(0.0, 1.0) * (solid.hu - hu)
    edge = skin > -2.0
    return torch.where(edge, torch.full_like(hu, 20.0), hu)


def _ellipsoid(solid: Ellipsoid, q: torch.Tensor) -> torch.Tensor:
    center = torch.tensor(solid.center, dtype=q.dtype, device=q.device)
    radii = torch.tensor(solid.radii, dtype=q.dtype, device=q.device)
    distance: torch.Tensor = (((q - center) / radii).norm(dim=-1) - 1.0) * min(solid.radii)
    return distance


def _air(tissue: Tissue, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x, y, z = q.unbind(-1)
    way = tissue.airway
    pharynx = torch.sigmoid((z - (tissue.outline.chin_z - 25.0)) / 8.0)
    rx = way.radius * (1.0 + 0.7 * pharynx)
    ry = way.radius * way.flat * (1.0 - 0.25 * pharynx)
    front = -(way.front_mm + ry + 6.0 * (1 - pharynx))
    d = ((((x - way.side_mm) / rx) ** 2 + ((y - front) / ry) ** 2).sqrt() - 1.0) * torch.minimum(rx, ry)
    d = torch.maximum(d, z - way.top_z)
    hu = torch.full_like(d, AIR_HU)
    for hollow in tissue.hollows:
        other = _ellipsoid(hollow, q)
        hu = torch.where(other < d, torch.full_like(hu, hollow.hu), hu)
        d = torch.minimum(d, other)
    return d, hu


def _vessels(tissue: Tissue, p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best = torch.full_like(q[:, 0], 30.0)
    hu = torch.full_like(best, tissue.muscle_hu)
    for number, tube in enumerate(tissue.tubes):
        wander = tube.wander_mm * torch.sin(q[:, 2] / 17.0 + number * 1.7)
        x, y = q[:, 0] - tube.at[0] - wander, q[:, 1] - tube.at[1] + 0.6 * wander
        d = (x * x + y * y).sqrt() - tube.radius
        hu = torch.where(d < best, torch.full_like(hu, tube.hu), hu)
        best = torch.minimum(best, d)
    return best, hu
