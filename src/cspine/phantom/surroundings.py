"""Bones beside the spine that get no label: ribs, clavicles, hyoid, larynx, teeth, and what misleads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.phantom.bone import Bone
from cspine.phantom.confounders import Confounder, ConfounderKind
from cspine.phantom.profile import PhantomProfile
from cspine.phantom.template import FloatArray


@dataclass(frozen=True, eq=False)
class Rod:
    """A chain of rods with round ends.

    Attributes:
        points_mm: (M, 3) LPS.
        radius_mm: of the rods.
        cortex_hu, marrow_hu: density of the outer millimetre and of the rest.
    """

    points_mm: FloatArray
    radius_mm: float
    cortex_hu: float
    marrow_hu: float

    def distance(self, p: torch.Tensor, segment: int) -> torch.Tensor:
        """Signed distance (N,) to one segment at LPS points (N, 3), mm."""
        a = torch.as_tensor(self.points_mm[segment], dtype=p.dtype, device=p.device)
        b = torch.as_tensor(self.points_mm[segment + 1], dtype=p.dtype, device=p.device)
        q, axis = p - a, b - a
        t = ((q @ axis) / axis.dot(axis).clamp_min(1e-6)).clamp(0.0, 1.0)
        distance: torch.Tensor = (q - t[:, None] * axis).norm(dim=-1) - self.radius_mm
        return distance

    def segment_box_mm(self, segment: int, margin_mm: float) -> FloatArray:
        """(2, 3) LPS box of one segment."""
        ends = self.points_mm[segment : segment + 2]
        reach = self.radius_mm + margin_mm
        return np.stack([ends.min(0) - reach, ends.max(0) + reach])


Calcified = tuple[Vertebra, Rod]
"""The level beside which a calcification lies, and the calcification."""


def draw_rods(
    rng: np.random.Generator, profile: PhantomProfile, bones: dict[str, Bone], *, jaw: bool
) -> tuple[tuple[Rod, ...], tuple[Confounder, ...]]:
    """Draw the bones around a spine.

    Args:
        rng: where chance comes from.
        profile: the ranges.
        bones: the vertebrae in place, C1..T3 and skull.
        jaw: whether the anatomy brings its own mandible and hyoid.

    Returns:
        The bones, and each level's calcifications, which are no fractures.
    """
    rods = [*_ribs(rng, bones, profile), *_clavicles(rng, bones), *_larynx(rng, bones)]
    rods += _teeth(rng, bones)
    if not jaw:
        rods += _hyoid(rng, bones)
    rods += _distractors(rng, profile)
    calcified = _calcifications(rng, bones, profile)
    beside = sorted({vertebra for vertebra, _ in calcified})
    confounders = tuple(Confounder(vertebra, ConfounderKind.CALCIFICATION) for vertebra in beside)
    return (*rods, *(rod for _, rod in calcified)), confounders


def _rod(rng: np.random.Generator, points: FloatArray, radius: float, hu: tuple[float, float]) -> Rod:
    factor = float(rng.uniform(0.8, 1.2))
    return Rod(np.asarray(points, np.float64), radius, hu[0] * factor, hu[1] * factor)


def _ribs(rng: np.random.Generator, bones: dict[str, Bone], profile: PhantomProfile) -> list[Rod]:
    plan = [("T1", 52.0, 1.0), ("T2", 72.0, 1.0), ("T3", 86.0, 1.0)]
    if rng.random() < profile.cervical_rib:
        plan.append(("C7", 28.0, 0.35))
    rods = []
    for name, reach, share in plan:
        bone = bones[name]
        assert bone.landmarks is not None
        x0, y0 = bone.landmarks.body[0] + 2.0, bone.landmarks.canal_y[0]
        for side in (-1.0, 1.0):
            t = np.linspace(0.0, 2.6 * share, 7)
            x = x0 + (reach - x0) * np.sin(t * 0.62) ** 0.8
            y = y0 + 14.0 * np.sin(t * 1.6) * (t < 2.0) - 11.0 * t**2
            local = np.stack([side * x, y, 1.0 - 9.0 * t], -1)
            rods.append(_rod(rng, bone.to_lps_mm(local), float(rng.uniform(3.2, 5.0)), (750.0, 150.0)))
    return rods


def _clavicles(rng: np.random.Generator, bones: dict[str, Bone]) -> list[Rod]:
    c7 = bones["C7"].center_lps_mm
    z, y = c7[2] - rng.uniform(5, 45), c7[1] - rng.uniform(45, 70)
    tilt = rng.uniform(-10, 45)
    root = np.array([c7[0], y, z])
    rods = []
    for side in (-1.0, 1.0):
        points = np.array([(12, 0, -20), (45, -6, -10), (85, 12, tilt * 0.4), (135, 32, tilt)], np.float64)
        points[:, 0] *= side
        rods.append(_rod(rng, points + root, float(rng.uniform(5, 7.5)), (900.0, 200.0)))
        scapula = np.array([(150, 50, tilt), (110, 75, tilt - 20), (75, 85, tilt - 60)], np.float64)
        scapula[:, 0] *= side
        rods.append(_rod(rng, scapula + root, float(rng.uniform(5, 9)), (750.0, 180.0)))
    sternum = np.array([(0, 0, -22), (0, -4, -70)], np.float64) + root
    rods.append(_rod(rng, sternum, 9.0, (600.0, 130.0)))
    return rods


def _arc(center: FloatArray, width: float, depth: float, n: int = 7) -> FloatArray:
    """A horseshoe open to the back."""
    t = np.linspace(-1.35, 1.35, n)
    return np.asarray(
        center + np.stack([width * np.sin(t), depth * (1 - np.cos(t)) - depth, 0 * t], -1), np.float64
    )


def _larynx(rng: np.random.Generator, bones: dict[str, Bone]) -> list[Rod]:
    if rng.random() < 0.4:
        return []
    c5 = bones["C5"].center_lps_mm
    hu = (float(rng.uniform(150, 700)), float(rng.uniform(60, 250)))
    rods = []
    for k in range(int(rng.integers(1, 4))):
        center = c5 + np.array([0.0, -rng.uniform(22, 30), -8.0 * k - rng.uniform(-8, 8)])
        arc = _arc(center, float(rng.uniform(13, 20)), float(rng.uniform(16, 26)))
        rods.append(_rod(rng, arc, float(rng.uniform(1.0, 2.0)), hu))
    return rods


def _hyoid(rng: np.random.Generator, bones: dict[str, Bone]) -> list[Rod]:
    center = bones["C3"].center_lps_mm + np.array([0.0, -rng.uniform(30, 42), -rng.uniform(0, 14)])
    arc = _arc(center, float(rng.uniform(16, 22)), float(rng.uniform(18, 28)))
    return [_rod(rng, arc, float(rng.uniform(1.8, 3.0)), (700.0, 200.0))]


def _teeth(rng: np.random.Generator, bones: dict[str, Bone]) -> list[Rod]:
    """Two rows of teeth; short, very dense."""
    if rng.random() < 0.15:
        return []
    skull = bones["skull"]
    rods = []
    for z in (3.0, -5.0):
        for angle in np.linspace(-1.3, 1.3, 12):
            if rng.random() < 0.12:
                continue
            x, y = 25.0 * np.sin(angle), -54.0 - 30.0 * np.cos(angle)
            local = np.array([(x, y, z - 3.0), (x * 0.97, y, z + 3.0)])
            rods.append(
                Rod(
                    skull.to_lps_mm(local),
                    float(rng.uniform(2.2, 3.4)),
                    float(rng.uniform(1200, 2300)),
                    900.0,
                )
            )
    return rods


def _distractors(rng: np.random.Generator, profile: PhantomProfile) -> list[Rod]:
    """Rods where no bone belongs, so that a network learns shape and not brightness."""
    rods = []
    for _ in range(int(rng.uniform(*profile.distractor_bones))):
        side = rng.choice([-1.0, 1.0])
        start = np.array([side * rng.uniform(40, 90), rng.uniform(-90, 60), rng.uniform(-100, 100)])
        step = rng.normal(size=3) * rng.uniform(5, 30)
        points = np.stack([start, start + step, start + 2 * step + rng.normal(0, 8, 3)])
        hu = (float(rng.uniform(200, 1300)), float(rng.uniform(80, 700)))
        rods.append(_rod(rng, points, float(rng.uniform(2, 8)), hu))
    return rods


def _calcifications(
    rng: np.random.Generator, bones: dict[str, Bone], profile: PhantomProfile
) -> list[Calcified]:
    found: list[Calcified] = []
    if rng.random() < profile.calcifications:  # carotid plaque
        for _ in range(int(rng.integers(1, 4))):
            beside = float(rng.choice([-1, 1])) * rng.uniform(20, 30)
            offset = np.array([beside, rng.uniform(-22, -8), rng.uniform(-25, 25)])
            spot = bones["C4"].center_lps_mm + offset
            plaque = _rod(rng, np.stack([spot, spot + np.array([0, 1, 3])]), 1.3, (900.0, 700.0))
            found.append((_level_at(float(spot[2]), bones), plaque))
    if rng.random() < profile.calcifications:  # nuchal ligament
        vertebra = Vertebra(int(rng.integers(Vertebra.C4, Vertebra.C7)))
        bone = bones[vertebra.name]
        assert bone.landmarks is not None
        y, z = bone.landmarks.tip
        local = np.array([(0.0, y + 7.0, z - 4.0), (0.5, y + 8.0, z + 4.0)])
        ligament = _rod(rng, bone.to_lps_mm(local), float(rng.uniform(1.5, 2.5)), (700.0, 500.0))
        found.append((vertebra, ligament))
    return found


def _level_at(height_mm: float, bones: dict[str, Bone]) -> Vertebra:
    """The vertebra whose centre is nearest to a height (LPS z)."""
    return min(CERVICAL, key=lambda v: abs(float(bones[v.name].center_lps_mm[2]) - height_mm))
