"""Putting bones together: size, posture and proportions of one spine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from cspine.anatomy import OCCIPUT, THORACIC, Vertebra
from cspine.phantom.bone import Bone, Look
from cspine.phantom.breaks import Waves
from cspine.phantom.fractures import FractureKind, Severity
from cspine.phantom.profile import PhantomProfile
from cspine.phantom.template import FloatArray, Template

NOMINAL_PITCH_MM: Final = 16.5
LEVEL_MM: Final = (12.2, 21.8)
"""Centres of neighbouring levels are this far apart, in every neck."""
COLUMN: Final = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "T1", "T2", "T3")


@dataclass(frozen=True)
class Plan:
    """What will break, known before the column is put together."""

    kind: FractureKind
    severity: Severity


def _rotation(pitch: float, roll: float, yaw: float) -> FloatArray:
    """Turn by degrees about x (up leans to the front), y, z."""
    a, b, c = np.radians([pitch, roll, yaw])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx, np.float64)


class Column:
    """Puts the bones of a template together into one posture."""

    def __init__(
        self,
        rng: np.random.Generator,
        profile: PhantomProfile,
        template: Template,
        plans: Mapping[Vertebra, Plan],
    ) -> None:
        self.rng, self.profile, self.template, self.plans = rng, profile, template, plans
        self.size = self.draw(profile.level_height_mm) / NOMINAL_PITCH_MM
        self.width = self.size**0.55 * self.draw(profile.width_scale)
        self.look = self._draw_look()

    def draw(self, between: tuple[float, float]) -> float:
        """Draw uniformly."""
        return float(self.rng.uniform(*between))

    def _draw_look(self) -> Look:
        p = self.profile
        look = Look(
            self.draw(p.cortex_hu),
            self.draw(p.cortex_mm),
            self.draw(p.marrow_hu),
            self.draw(p.marrow_texture_hu),
        )
        # Of a stream of its own, so that shapes and fractures of a seed do not depend on these.
        dense = self.rng.spawn(1)[0]
        look = replace(
            look,
            arch_hu=float(dense.uniform(*p.arch_hu)),
            shell=float(dense.uniform(*p.shell)),
            patch_hu=float(dense.uniform(*p.patch_hu)),
            rim=float(dense.uniform(*p.rim)),
            rim_mm=float(dense.uniform(*p.rim_mm)),
            mottle=float(dense.uniform(*p.mottle)),
            mottle_mm=float(dense.uniform(*p.mottle_mm)),
            mottle_seed=int(dense.integers(2**31)),
        )
        if self.rng.random() < p.osteopenia:
            thin = self.draw((0.45, 0.8))
            look = replace(
                look,
                cortex_hu=look.cortex_hu * 0.85,
                cortex_mm=max(0.4, look.cortex_mm * thin),
                marrow_hu=look.marrow_hu * thin * 0.7,
                arch_hu=look.arch_hu * thin * 0.7,
                texture_hu=60.0,
            )
        return look

    def build(self) -> dict[str, Bone]:
        """The bones in place, intact: C1..T3, skull, and what else the template has."""
        heights = {name: self.size * self.draw(self.profile.level_jitter) for name in COLUMN}
        scales = {name: self._scale(name, heights[name]) for name in COLUMN}
        rotations = self._rotations()
        centers = self._centers(heights, scales, rotations)
        bones = {name: self._vertebra(name, rotations[name], centers[name], scales[name]) for name in COLUMN}
        skull = self._skull(bones["C1"])
        bones["skull"] = skull
        for name, shape in self.template.others.items():
            if name != "skull":
                bones[name] = replace(skull, name=name, label=0, shape=shape)
        return bones

    def _scale(self, name: str, height: float) -> FloatArray:
        along = height * self.draw(self.profile.body_share)
        wide = self.width * self.draw((0.97, 1.03))
        depth = self.width * self.draw((0.95, 1.05))
        if name == "C1":
            along = 0.5 * (along + wide)
        own = NOMINAL_PITCH_MM / self.template.pitch_mm
        return np.array([wide, depth, along * (own if name != "C1" else 1.0)])

    def _rotations(self) -> dict[str, FloatArray]:
        p = self.profile
        lordosis, pitch = self.draw(p.lordosis_deg), self.draw(p.pitch_deg)
        roll, yaw, bend = self.draw(p.roll_deg), self.draw(p.yaw_deg), self.draw(p.scoliosis_deg)
        rotations = {}
        for index, name in enumerate(COLUMN[1:]):
            t = (index - 2.5) / 5.0  # -0.5 at C2, +0.5 at C7
            thoracic = max(0.0, t - 0.5)
            angle = (
                pitch + lordosis * (t if thoracic == 0 else 0.5 - 0.2 * thoracic) + 6.0 * min(t + 0.5, 1.0)
            )
            jitter = self.rng.normal(0, 1, 3) * p.segment_jitter_deg[1] * 0.5
            side = roll + bend * float(np.sin(3.0 * t))
            rotations[name] = _rotation(
                angle + jitter[0], side + jitter[1], yaw * (0.4 - 0.8 * t) + jitter[2]
            )
        turn = _rotation(self.draw(p.atlas_pitch_deg), float(self.rng.normal(0, 2)), self._head_yaw())
        rotations["C1"] = rotations["C2"] @ turn
        return rotations

    def _head_yaw(self) -> float:
        low, high = self.profile.atlas_yaw_deg
        return float(np.clip(self.rng.normal(0, (high - low) / 5), low, high))

    def _centers(
        self,
        heights: Mapping[str, float],
        scales: Mapping[str, FloatArray],
        rotations: Mapping[str, FloatArray],
    ) -> dict[str, FloatArray]:
        """From C2 down, each body below the one before it; then C4 goes near the origin."""
        centers = {"C2": np.zeros(3)}
        fused = self.rng.random() < self.profile.fused_c2_c3
        for upper, lower in pairwise(COLUMN[1:]):
            pitch = 0.5 * (self._pitch(upper, heights) + self._pitch(lower, heights))
            pitch -= self._height_lost(lower, scales)
            pitch *= 0.84 if fused and upper == "C2" else 1.0
            limit = LEVEL_MM if lower.startswith("C") else (LEVEL_MM[0], 30.0)
            up = rotations[upper][:, 2] + rotations[lower][:, 2]
            centers[lower] = centers[upper] - up / np.linalg.norm(up) * float(np.clip(pitch, *limit))
        offset = np.array(self.template.atlas_offset_mm) * scales["C2"]
        offset *= np.clip(np.linalg.norm(offset), *LEVEL_MM) / np.linalg.norm(offset)
        centers["C1"] = centers["C2"] + rotations["C2"] @ offset
        shift = self.rng.normal(0, 2, 3) - centers["C4"]
        return {name: center + shift for name, center in centers.items()}

    def _pitch(self, name: str, heights: Mapping[str, float]) -> float:
        own = NOMINAL_PITCH_MM / self.template.pitch_mm
        return self.template.vertebrae[name].pitch_mm * heights[name] * own

    def _height_lost(self, name: str, scales: Mapping[str, FloatArray]) -> float:
        plan = self.plans.get(Vertebra[name]) if name in Vertebra.__members__ else None
        if plan is None or plan.kind not in (FractureKind.COMPRESSION, FractureKind.BURST):
            return 0.0
        height = 2 * self.template.vertebrae[name].landmarks.body[2] * float(scales[name][2])
        return 0.5 * plan.severity.loss * height

    def _vertebra(self, name: str, rotation: FloatArray, center: FloatArray, scale: FloatArray) -> Bone:
        shape = self.template.vertebrae[name]
        label = int(Vertebra[name]) if name in Vertebra.__members__ else THORACIC
        look = replace(
            self.look,
            cortex_hu=self.look.cortex_hu * self.draw((0.93, 1.07)),
            marrow_hu=self.look.marrow_hu * self.draw((0.85, 1.15)) * (1.25 if name == "C1" else 1.0),
        )
        return Bone(
            name=name,
            label=label,
            shape=shape.sdf,
            rotation=rotation,
            center_lps_mm=center,
            scale=scale,
            look=look,
            warp=self._warp(),
            landmarks=shape.landmarks.scaled(scale),
        )

    def _warp(self) -> Waves:
        """A smooth asymmetric distortion over centimetres."""
        size = self.draw(self.profile.warp_mm)
        vectors = self.rng.normal(0, 1, (4, 3))
        lengths = self.rng.uniform(22, 60, 4)
        vectors *= (2 * np.pi / lengths / np.linalg.norm(vectors, axis=1))[:, None]
        amplitudes = self.rng.normal(0, size * 0.5, (4, 3))
        return Waves(
            tuple((float(a), float(b), float(c)) for a, b, c in vectors),
            tuple(float(v) for v in self.rng.uniform(0, 6.28, 4)),
            tuple((float(a), float(b), float(c)) for a, b, c in amplitudes),
        )

    def _skull(self, atlas: Bone) -> Bone:
        p = self.profile
        turn = _rotation(
            self.draw(p.skull_pitch_deg), float(self.rng.normal(0, 2.5)), float(self.rng.normal(0, 2))
        )
        rotation = atlas.rotation @ turn
        scale = np.array([atlas.scale[0], atlas.scale[1], 0.5 * (atlas.scale[2] + atlas.scale[0])])
        pivot = np.array([0.0, 0.0, 14.0])
        lifted = pivot * atlas.scale + (0.0, self.draw((-2.5, 2.5)), self.draw(p.skull_gap_mm))
        center = atlas.center_lps_mm + atlas.rotation @ lifted - rotation @ (pivot * scale)
        look = replace(
            self.look, cortex_mm=self.look.cortex_mm + 0.6, marrow_hu=self.look.marrow_hu * 1.3, arch_hu=0.0
        )
        return Bone(
            name="skull",
            label=OCCIPUT,
            shape=self.template.others["skull"],
            rotation=rotation,
            center_lps_mm=center,
            scale=scale,
            look=look,
        )
