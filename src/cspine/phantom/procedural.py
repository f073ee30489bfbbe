"""Built-in anatomy: vertebrae made of simple solids in the proportions of published morphometry.

The proportions are approximate. They follow Panjabi et al., Spine 1991;16:861-869 (middle and lower
cervical) and 16:888-901 (thoracic), from memory: the tables were not at hand. They were checked against
abstracts that state their means (mm): typical cervical vertebrae, Eur J Anat 2020;24:9-15 (body depth
14.8-15.6, width 19.9-23.2, height 10.9, canal 12.3 x 22.0); atlas, Patel and Gupta, Int J Res Med Sci
(width 71.2, canal 28.2 x 26.6); dens, Kulkarni et al., Indian J Orthop 2013;47:250-254 (11.5 x 9.9) and
Vasilopoulos et al., Cureus 2020;12:e7372 (height 19.1 in men, 16.8 in women). The spread of each size
covers these; every neck scales each level anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch

from cspine.phantom.head import head
from cspine.phantom.shapes import (
    capsule,
    carve,
    cylinder,
    ellipsoid,
    half_grid,
    mirrored,
    slanted_box,
    tilted,
    union,
)
from cspine.phantom.template import Template, VertebraShape, measure

SPACING_MM: Final = 0.8
NAMES: Final = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "T1", "T2", "T3")


@dataclass(frozen=True)
class Proportions:
    """Sizes of a subaxial vertebra, mm.

    Attributes:
        body: half width, half depth, half height.
        canal: half width and depth of the vertebral canal.
        pillar_x: middle of the articular pillar from the midline.
        side_x: tip of the transverse process from the midline.
        spinous: length of the spinous process behind the lamina, and how far its tip drops.
        bifid: half distance of the two tips of the spinous process.
        foramen: radius of the transverse foramen, 0 for none.
        pitch: level height.
    """

    body: tuple[float, float, float]
    canal: tuple[float, float]
    pillar_x: float
    side_x: float
    spinous: tuple[float, float]
    bifid: float
    foramen: float
    pitch: float


SUBAXIAL: Final[dict[str, Proportions]] = {
    "C3": Proportions((9.3, 7.9, 6.6), (11.6, 14.5), 19.5, 26.0, (14.0, 8.0), 4.0, 2.9, 16.5),
    "C4": Proportions((9.8, 8.0, 6.5), (12.2, 14.5), 20.0, 27.0, (14.0, 8.5), 4.2, 2.9, 16.5),
    "C5": Proportions((10.3, 8.1, 6.5), (12.6, 14.8), 20.5, 28.0, (16.0, 9.5), 4.2, 3.0, 16.5),
    "C6": Proportions((10.9, 8.4, 6.6), (12.8, 14.6), 21.0, 29.0, (21.0, 11.0), 3.4, 3.0, 16.8),
    "C7": Proportions((11.8, 8.7, 7.2), (12.4, 14.4), 20.5, 33.0, (30.0, 13.0), 0.8, 1.6, 18.0),
    "T1": Proportions((12.6, 8.9, 8.0), (10.8, 14.5), 18.5, 36.0, (31.0, 14.0), 0.6, 0.0, 20.0),
    "T2": Proportions((12.4, 9.4, 8.8), (9.6, 14.3), 17.0, 34.0, (32.0, 20.0), 0.5, 0.0, 21.0),
    "T3": Proportions((12.0, 10.0, 9.0), (9.0, 14.3), 16.0, 32.0, (32.0, 24.0), 0.5, 0.0, 21.5),
}


def _body(p: torch.Tensor, half: tuple[float, float, float], lip: float) -> torch.Tensor:
    """Vertebral body: kidney-shaped across, waisted, raised at the upper sides, drawn down in front."""
    x, y, z = p.unbind(-1)
    hw, hd, hh = half
    side = (x.abs() / hw).clamp_max(1.15)
    front = (-y / hd).clamp(-1.0, 1.2)
    raised = (
        lip * side**4 * (0.75 - 0.35 * front) - 0.9 * (1 - side**2).clamp_min(0) - 0.9 * front.clamp_min(0)
    )
    drop = 2.2 * (front - 0.15).clamp_min(0) - 1.0 * (1 - side**2).clamp_min(0)
    level = torch.where(z > 0, z * hh / (hh + raised), z * hh / (hh + drop))
    waist = 1.0 + 0.13 * (1 - (level / hh) ** 2).clamp_min(0)
    # Across: an ellipse in front, flat (or slightly hollow) towards the canal.
    u = (x * waist / hw).abs()
    v = torch.where(y > 0, (y + 0.8 * (1 - side**2).clamp_min(0) * waist) / hd, y * (0.9 + 0.1 * waist) / hd)
    power = torch.where(y > 0, torch.full_like(y, 5.0), torch.full_like(y, 2.4))
    around = ((u**power + v.abs() ** power).clamp_min(1e-9) ** (1.0 / power) - 1.0) * min(hw, hd)
    edge = 1.6
    d = torch.stack([around, level.abs() - hh], -1) + edge
    distance: torch.Tensor = d.clamp_min(0.0).norm(dim=-1) + d.amax(-1).clamp_max(0.0) - edge
    return distance


def _subaxial(p: torch.Tensor, s: Proportions) -> torch.Tensor:
    """C3..T3 for x >= 0; the mirror image is added by the caller."""
    hw, hd, hh = s.body
    cw, cd = s.canal
    thoracic = s.foramen == 0
    slope = 0.45 if thoracic else 0.95
    px, py = s.pillar_x, hd + 0.42 * cd
    back = hd + cd
    pillar = slanted_box(p, (px, py + 1.5, 0.0), (5.0, 5.0, s.pitch * 0.5 - 1.1), slope)
    pedicle = capsule(p, ((hw - 2.5, hd - 2.5, 1.0), (px - 1.0, py, 0.5)), (2.7, 3.0), tall=1.3)
    lamina = _lamina(p, (px - 0.5, py + 2.5, -1.5), (0.0, back + 2.3, -3.5))
    length, drop = s.spinous
    root, tip = (0.0, back + 2.0, -4.0), (s.bifid, back + length, -4.0 - drop)
    middle = (0.0, back + 0.55 * length, -4.0 - 0.6 * drop)
    spine = union(
        capsule(p, (root, middle), (2.3, 1.9), tall=1.7), capsule(p, (middle, tip), (1.8, 2.5), tall=1.4)
    )
    arch = union(pedicle, lamina, pillar, spine, blend=2.0)
    parts = [arch, _transverse(p, s, py)]
    if not thoracic:
        ridge = ((hw - 1.6, -1.5, hh - 0.8), (hw - 1.0, hd - 3.5, hh + 2.4))
        parts.append(capsule(p, ridge, (1.9, 1.7)))
    canal = cylinder(p, (0.0, hd + 0.5 * cd), (cw, 0.5 * cd + 0.2))
    rear = carve(union(*parts, blend=1.8), canal)
    whole = union(_body(p, s.body, 0.6 if thoracic else 2.6), rear, blend=1.2)
    if s.foramen:
        whole = union(whole, _fill(p, s, py), blend=1.0)
        whole = carve(whole, cylinder(p, (hw + s.foramen + 1.2, hd - 5.0), (s.foramen, s.foramen * 0.9)))
    return whole


def _lamina(
    p: torch.Tensor, side: tuple[float, float, float], middle: tuple[float, float, float]
) -> torch.Tensor:
    """A plate bowed outwards, upper edge leaning to the front."""
    q = torch.stack([p[..., 0], p[..., 1] + 0.35 * (p[..., 2] + 3.0), p[..., 2]], -1)
    bend = (0.55 * side[0], 0.42 * side[1] + 0.58 * middle[1] + 1.4, 0.5 * (side[2] + middle[2]))
    return union(
        capsule(q, (side, bend), (2.4, 2.0), tall=2.2),
        capsule(q, (bend, middle), (2.0, 2.4), tall=2.3),
        blend=1.0,
    )


def _fill(p: torch.Tensor, s: Proportions, pillar_y: float) -> torch.Tensor:
    """Bone between pedicle, pillar and rear bar, behind the foramen."""
    hw, hd, _ = s.body
    y = hd - 5.0 + s.foramen + 1.6
    return capsule(p, ((hw - 0.5, y, 0.3), (s.pillar_x, 0.5 * (y + pillar_y), 0.0)), (2.0, 2.2))


def _transverse(p: torch.Tensor, s: Proportions, pillar_y: float) -> torch.Tensor:
    """Front and back bar around the transverse foramen, ending in two tubercles."""
    hw, hd, _ = s.body
    if s.foramen == 0:
        return capsule(p, ((s.pillar_x - 1, pillar_y + 3, 1.0), (s.side_x, pillar_y + 12, 3.0)), (4.0, 4.2))
    front = (hw + 2.0 * s.foramen + 2.8, hd - 9.5, -0.5)
    rear = (s.side_x - 2.0, hd - 2.0, -2.0)
    return union(
        capsule(p, ((hw - 2.0, 0.2, 0.5), front), (2.0, 1.8)),
        capsule(p, (front, rear), (2.1, 2.2), tall=0.8),
        capsule(p, ((s.pillar_x - 3.0, pillar_y - 2.0, 0.0), rear), (2.6, 2.3), tall=0.9),
        blend=1.5,
    )


def _axis(p: torch.Tensor) -> torch.Tensor:
    """C2: body, dens, sloping shoulders, pars, big bifid spinous process."""
    body = _body(p, (8.6, 7.6, 8.6), 0.0)
    dens = union(
        capsule(p, ((0, -1.2, 4.0), (0, -1.6, 15.0)), (5.2, 4.2)),
        capsule(p, ((0, -1.6, 16.0), (0, -1.0, 24.0)), (4.9, 4.3)),
    )
    shoulder = ellipsoid(tilted(p, (13.0, 0.5, 3.2), -0.4), (0, 0, 0), (10.0, 9.2, 5.6))
    pars = capsule(p, ((12.5, 3.0, 1.5), (17.5, 13.0, -5.0)), (4.2, 4.2), tall=1.2)
    pillar = slanted_box(p, (18.5, 14.5, -6.5), (5.2, 5.0, 6.0), 0.95)
    lamina = capsule(p, ((17.0, 16.5, -5.5), (0.0, 25.5, -3.0)), (2.7, 3.0), tall=2.1)
    spine = union(
        capsule(p, ((0, 25.0, -3.5), (0, 33.0, -6.0)), (3.2, 2.8), tall=1.8),
        capsule(p, ((0, 32.0, -6.0), (5.0, 41.0, -9.0)), (2.8, 3.2), tall=1.3),
    )
    process = capsule(p, ((15.0, 4.0, -3.0), (25.5, 4.0, -6.0)), (2.4, 2.6))
    rear = union(shoulder, pars, pillar, lamina, spine, process, blend=2.0)
    rear = carve(rear, cylinder(p, (0.0, 15.6), (11.8, 8.3)))
    whole = union(body, rear, dens, blend=1.6)
    return carve(whole, capsule(p, ((18.5, 3.5, -12.0), (20.0, 3.0, 1.0)), (2.9, 2.9)))


def _atlas(p: torch.Tensor) -> torch.Tensor:
    """C1: two lateral masses in a ring, no body."""
    front = union(
        capsule(p, ((0, -10.0, 0.0), (8.5, -8.2, 0.0)), (3.1, 2.9), tall=1.6),
        capsule(p, ((8.0, -8.3, 0.0), (16.0, -3.0, 0.0)), (2.9, 3.6), tall=1.5),
        capsule(p, ((0, -12.0, -1.0), (0, -12.4, -1.5)), (2.2, 1.8)),
    )
    mass = ellipsoid(tilted(p, (18.0, 1.0, 0.0), 0.25), (0, 0, 0), (7.6, 10.0, 9.0))
    mass = carve(mass, ellipsoid(p, (15.5, -1.0, 15.0), (8.0, 13.0, 9.5)))
    mass = carve(mass, ellipsoid(tilted(p, (14.0, 0.0, -12.5), -0.4), (0, 0, 0), (12.0, 13.0, 5.5)))
    rear = union(
        capsule(p, ((19.5, 8.0, 2.0), (16.0, 20.0, 1.0)), (2.8, 2.6), tall=1.3),
        capsule(p, ((16.0, 20.0, 1.0), (8.5, 28.0, 0.5)), (2.6, 2.7), tall=1.4),
        capsule(p, ((8.5, 28.0, 0.5), (0.0, 31.0, 0.0)), (2.7, 3.2), tall=1.4),
        blend=1.0,
    )
    side = capsule(p, ((22.0, 2.0, -1.0), (36.5, 6.0, -2.5)), (5.2, 3.8), tall=0.9)
    whole = union(front, mass, rear, side, blend=2.0)
    return carve(whole, cylinder(p, (27.5, 3.5), (3.2, 3.4)))


def _varied(s: Proportions, rng: np.random.Generator) -> Proportions:
    def v(value: float, by: float) -> float:
        return float(value * rng.uniform(1 - by, 1 + by))

    return Proportions(
        body=(v(s.body[0], 0.1), v(s.body[1], 0.1), v(0.95 * s.body[2], 0.09)),
        canal=(v(s.canal[0], 0.1), v(0.95 * s.canal[1], 0.12)),
        pillar_x=v(s.pillar_x, 0.05),
        side_x=v(s.side_x, 0.07),
        spinous=(v(s.spinous[0], 0.25), v(s.spinous[1], 0.5)),
        bifid=v(s.bifid, 0.6),
        foramen=v(s.foramen, 0.25),
        pitch=s.pitch,
    )


@lru_cache(maxsize=256)
def _vertebra(name: str, variant: int) -> VertebraShape:
    rng = np.random.default_rng([variant, NAMES.index(name)])
    if name in SUBAXIAL:
        s = _varied(SUBAXIAL[name], rng)
        y, z = (-14.0, s.body[1] + s.canal[1] + s.spinous[0] + 8.0), (-s.spinous[1] - 14.0, 15.0)
        points, pitch, body = half_grid(s.side_x + 7.0, y, z, SPACING_MM), s.pitch, s.body
        half = _subaxial(points, s)
    elif name == "C2":
        y, z, pitch, body = (-14.0, 50.0), (-20.0, 33.0), 19.0, (8.6, 7.6, 8.6)
        stretch = torch.tensor(rng.uniform(0.94, 1.1, 3), dtype=torch.float32)
        half = _axis(half_grid(33.0, y, z, SPACING_MM) * stretch)
    else:
        y, z, pitch, body = (-20.0, 40.0), (-15.0, 15.0), 16.0, (7.6, 10.0, 8.0)
        stretch = torch.tensor(rng.uniform(0.95, 1.18, 3), dtype=torch.float32)
        half = _atlas(half_grid(47.0, y, z, SPACING_MM) * stretch)
    sdf = mirrored(half, y[0], z[0], SPACING_MM)
    return VertebraShape(sdf, measure(sdf, body, ring=name == "C1"), pitch)


@dataclass(frozen=True)
class ProceduralAnatomy:
    """The built-in source of anatomy."""

    def template(self, rng: np.random.Generator, variants: int) -> Template:
        """Draw one of `variants` shapes for each level."""
        shapes = {name: _vertebra(name, int(rng.integers(variants))) for name in NAMES}
        return Template(shapes, head(int(rng.integers(min(variants, 4)))), (0.0, -0.5, 17.0), "procedural")
