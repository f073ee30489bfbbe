"""Fractures: what kinds there are, at which levels, and how the bone parts in each.

Kinds and places follow the AO Spine and Anderson-D'Alonzo, Levine-Edwards and Jefferson descriptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from cspine.anatomy import Vertebra
from cspine.errors import InputError
from cspine.phantom.breaks import Compression, Crack, Vector, Waves, vector
from cspine.phantom.profile import PhantomProfile
from cspine.phantom.template import FloatArray, Landmarks


class FractureKind(StrEnum):
    """What broke."""

    DENS_I = "dens type I"
    DENS_II = "dens type II"
    DENS_III = "dens type III"
    JEFFERSON = "Jefferson"
    HANGMAN = "hangman"
    COMPRESSION = "compression"
    BURST = "burst"
    TEARDROP = "teardrop"
    FACET = "facet"
    LAMINA = "lamina"
    PEDICLE = "pedicle"
    TRANSVERSE = "transverse process"
    SPINOUS = "spinous process"


@dataclass(frozen=True, eq=False)
class Fracture:
    """A fracture of a neck.

    Attributes:
        level: the broken vertebra.
        kind: what broke.
        width_mm: widest gap.
        displacement_mm: how far a piece has moved (of a compressed body: the height lost).
        box_lps_mm: (2, 3) smallest and largest LPS corner of the fracture zone.
    """

    level: Vertebra
    kind: FractureKind
    width_mm: float
    displacement_mm: float
    box_lps_mm: FloatArray


@dataclass(frozen=True)
class Break:
    """What a fracture does to its bone."""

    cracks: tuple[Crack, ...]
    compression: Compression | None = None


@dataclass(frozen=True)
class Severity:
    """How wide and how far, mm, and the share of height that a compressed body lost."""

    gap_mm: float
    slip_mm: float
    loss: float


C1_KINDS: Final = {FractureKind.JEFFERSON: 0.75, FractureKind.TRANSVERSE: 0.1, FractureKind.FACET: 0.15}
C2_KINDS: Final = {
    FractureKind.DENS_I: 0.04,
    FractureKind.DENS_II: 0.32,
    FractureKind.DENS_III: 0.2,
    FractureKind.HANGMAN: 0.22,
    FractureKind.TEARDROP: 0.08,
    FractureKind.LAMINA: 0.05,
    FractureKind.TRANSVERSE: 0.05,
    FractureKind.SPINOUS: 0.04,
}
SUBAXIAL_KINDS: Final = {
    FractureKind.COMPRESSION: 0.16,
    FractureKind.BURST: 0.1,
    FractureKind.TEARDROP: 0.1,
    FractureKind.FACET: 0.18,
    FractureKind.LAMINA: 0.13,
    FractureKind.PEDICLE: 0.07,
    FractureKind.TRANSVERSE: 0.14,
    FractureKind.SPINOUS: 0.12,
}


def kinds_of(level: Vertebra) -> dict[FractureKind, float]:
    """Kinds that a level can have, with their weights."""
    return {Vertebra.C1: C1_KINDS, Vertebra.C2: C2_KINDS}.get(level, SUBAXIAL_KINDS)


def draw_kind(rng: np.random.Generator, level: Vertebra, profile: PhantomProfile) -> FractureKind:
    """Draw what breaks at a level.

    Raises:
        InputError: `profile.fracture_kind_factors` names a kind that there is not, or holds a number that is
            not above 0.
    """
    kinds, factors = kinds_of(level), profile.fracture_kind_factors
    for name, factor in factors.items():
        if name not in set(FractureKind) or not factor > 0:
            raise InputError(f"fracture_kind_factors: {name!r}: {factor} is not a kind and a factor above 0")
    weights = np.array([weight * factors.get(kind, 1.0) for kind, weight in kinds.items()])
    return list(kinds)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def draw_severity(rng: np.random.Generator, profile: PhantomProfile) -> Severity:
    """Draw hairline or displaced."""
    if rng.random() < profile.displaced:
        return Severity(
            float(rng.uniform(*profile.gap_mm)),
            float(rng.uniform(*profile.displacement_mm)),
            float(rng.uniform(*profile.height_loss)),
        )
    low = profile.height_loss[0]
    return Severity(float(rng.uniform(*profile.hairline_mm)), float(rng.uniform(0, 0.3)), low)


def _rough(rng: np.random.Generator) -> Waves:
    """Waviness over centimetres and jags over millimetres."""
    directions = rng.normal(size=(7, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.array([14.0, 9.0, 6.0, 4.0, 3.0, 2.2, 1.7])
    size = np.array([0.5, 0.45, 0.35, 0.3, 0.22, 0.18, 0.14]) * rng.uniform(0.6, 1.4)
    vectors = directions * (2 * np.pi / lengths)[:, None]
    return Waves(
        tuple((float(a), float(b), float(c)) for a, b, c in vectors),
        tuple(float(p) for p in rng.uniform(0, 2 * np.pi, 7)),
        tuple((float(a), 0.0, 0.0) for a in size),
    )


def _crack(
    rng: np.random.Generator, severity: Severity, center: Vector, normal: Vector, radii: Vector
) -> Crack:
    n = np.array(normal) + rng.normal(0, 0.14, 3)
    n /= np.linalg.norm(n)
    slip = rng.normal(size=3)
    slip -= n * (slip @ n)
    slip *= severity.slip_mm / max(float(np.linalg.norm(slip)), 1e-6)
    turn = rng.normal(0, 0.01 + 0.015 * severity.slip_mm, 3)
    return Crack(
        center=vector(np.array(center) + rng.normal(0, 0.7, 3)),
        normal=vector(n),
        shift=vector(n * severity.gap_mm + slip),
        turn=vector(turn),
        radii=radii,
        curvature=float(rng.normal(0, 0.008)),
        roughness=_rough(rng),
    )


Maker = Callable[[np.random.Generator, Landmarks, Severity], Break]


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _dens(height: float, tilt: float) -> Maker:
    """A crack through the dens; `height` as share of the way from the body's top to the dens' tip."""

    def make(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
        hw, hd, hh = at.body
        z = 0.65 * hh + height * (at.top_z - 0.65 * hh) + rng.normal(0, 0.8)
        normal = (tilt * _sign(rng), rng.normal(0, 0.3), 1.0)
        up = at.top_z - z
        radii = (11.0 if height > 0 else hw + 6.0, hd + 6.0, max(1.5 * up, 9.0))
        return Break((_crack(rng, how, (0.0, -1.2, z), normal, radii),))

    return make


def _jefferson(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    spots = [
        ((rng.uniform(4, 9), at.front_y + 4.5, 0.0), (1.0, 0.2, 0.0)),
        ((-rng.uniform(4, 9), at.front_y + 4.5, 0.0), (-1.0, 0.2, 0.0)),
        ((at.pillar[0] - rng.uniform(1, 4), at.tip[0] - 12.0, 0.5), (-0.7, 0.8, 0.0)),
        ((-at.pillar[0] + rng.uniform(1, 4), at.tip[0] - 12.0, 0.5), (0.7, 0.8, 0.0)),
    ]
    chosen = [int(rng.integers(0, 2)), 2 + int(rng.integers(0, 2))]
    if rng.random() < 0.4:
        chosen = [0, 2, 3] if rng.random() < 0.5 else [2, 3]
    elif rng.random() < 0.2:
        chosen = chosen[:1]
    cracks = [_crack(rng, how, spots[i][0], spots[i][1], (9.0, 9.0, 10.0)) for i in chosen]
    return Break(tuple(cracks))


def _hangman(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    px, py, pz = at.pillar
    y = 0.35 * at.canal_y[0] + 0.65 * py + rng.normal(0, 0.8)
    center, radii = (0.0, y, pz + 3.0), (px + 14.0, 16.0, 16.0)
    return Break((_crack(rng, how, center, (0.3 * _sign(rng), 1.0, -0.25), radii),))


def _impaction_hu(rng: np.random.Generator) -> float:
    """How much denser the impacted band of a squeezed body is: not always enough to be seen."""
    return float(rng.uniform(40.0, 350.0))


def _compression(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    hw, hd, hh = at.body
    loss = max(how.loss, 0.1)
    squeezed = Compression(
        loss, float(rng.uniform(0.1, 0.5)), at.body, hh * (1 - 2 * loss) - 1.5, _impaction_hu(rng)
    )
    z = hh * (1 - 2 * loss) - 1.0
    corner = _crack(
        rng, how, (rng.normal(0, 2), -hd + 2.0, z - 1.0), (0.0, -0.75, 0.65), (hw * 0.9, 7.0, 5.5)
    )
    return Break((corner,), squeezed)


def _burst(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    hw, hd, hh = at.body
    loss = max(how.loss, 0.12)
    squeezed = Compression(
        loss, float(rng.uniform(0.6, 1.0)), at.body, hh * (1 - 2 * loss) - 2.0, _impaction_hu(rng)
    )
    sagittal = _crack(
        rng, how, (rng.normal(0, 2), 0.0, 0.0), (_sign(rng), 0.1, 0.0), (hw + 1, hd + 3, hh + 3)
    )
    back = _crack(rng, how, (rng.normal(0, 2), 0.45 * hd, 1.0), (0.0, 1.0, 0.3), (hw * 0.75, 6.5, hh + 1))
    return Break((sagittal, back), squeezed)


def _teardrop(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    hw, hd, hh = at.body
    size = rng.uniform(2.0, 4.5)
    center = (rng.normal(0, 1.5), -hd + size, -hh + size)
    return Break((_crack(rng, how, center, (0.0, -0.75, -0.6), (hw + 1.5, 9.0, 9.0)),))


def _facet(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    px, py, pz = at.pillar
    s = _sign(rng)
    top = rng.random() < 0.55
    center = (s * (px + rng.normal(0, 1)), py + (-1 if top else 3), pz + (2.0 if top else -2.5))
    normal = (0.3 * s, rng.normal(0, 0.3), 1.0 if top else -1.0)
    if rng.random() < 0.35:
        normal = (s * rng.normal(0.3, 0.3), 1.0, rng.normal(0, 0.4))
    return Break((_crack(rng, how, center, normal, (8.5, 10.0, 12.0)),))


def _lamina(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    s = _sign(rng)
    t = rng.uniform(0.2, 0.7)
    x = s * at.pillar[0] * t
    y = at.canal_y[1] + 2.0 - 0.38 * abs(x) + 0.6
    center = (x, y, -3.0)
    return Break((_crack(rng, how, center, (-s * 0.85, 0.5, 0.0), (9.0, 9.0, 11.0)),))


def _pedicle(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    s = _sign(rng)
    x = s * (0.5 * (at.body[0] + at.pillar[0]) - 0.5)
    y = 0.6 * at.canal_y[0] + 0.4 * at.pillar[1]
    return Break((_crack(rng, how, (x, y, 0.5), (s * 0.7, 0.7, 0.0), (8.5, 8.5, 9.0)),))


def _transverse(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    s = _sign(rng)
    x = s * (at.side_x - rng.uniform(3.5, 6.5))
    y = at.canal_y[0] - 3.0 if at.side_x < 31 else at.canal_y[0] + 1.0
    y = 3.5 if at.tip[0] < at.canal_y[1] + 8 else y
    return Break((_crack(rng, how, (x, y, -1.0), (s, 0.1, -0.1), (10.0, 13.0, 10.0)),))


def _spinous(rng: np.random.Generator, at: Landmarks, how: Severity) -> Break:
    length = at.tip[0] - at.canal_y[1]
    t = rng.uniform(0.35, 0.75)
    center = (0.0, at.canal_y[1] + t * length, -3.5 + t * (at.tip[1] + 3.5))
    radii = (12.0, max(1.6 * (1 - t) * length, 11.0), 16.0)
    return Break((_crack(rng, how, center, (0.0, 1.0, -0.3), radii),))


MAKERS: Final[dict[FractureKind, Maker]] = {
    FractureKind.DENS_I: _dens(0.75, 0.5),
    FractureKind.DENS_II: _dens(0.2, 0.15),
    FractureKind.DENS_III: _dens(-0.25, 0.2),
    FractureKind.JEFFERSON: _jefferson,
    FractureKind.HANGMAN: _hangman,
    FractureKind.COMPRESSION: _compression,
    FractureKind.BURST: _burst,
    FractureKind.TEARDROP: _teardrop,
    FractureKind.FACET: _facet,
    FractureKind.LAMINA: _lamina,
    FractureKind.PEDICLE: _pedicle,
    FractureKind.TRANSVERSE: _transverse,
    FractureKind.SPINOUS: _spinous,
}
