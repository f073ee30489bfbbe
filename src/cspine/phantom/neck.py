"""A synthetic neck with known truth: drawn from a seed, rendered on any grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cspine.anatomy import CERVICAL, Vertebra
from cspine.phantom.bone import Bone
from cspine.phantom.breaking import break_bone
from cspine.phantom.column import COLUMN, Column, Plan
from cspine.phantom.confounders import Confounder, ConfounderKind, draw_extras
from cspine.phantom.fractures import Fracture, draw_kind, draw_severity
from cspine.phantom.procedural import ProceduralAnatomy
from cspine.phantom.profile import DEFAULT, PhantomProfile
from cspine.phantom.surroundings import Rod, draw_rods
from cspine.phantom.template import Anatomy, FloatArray
from cspine.phantom.tissue import Tissue
from cspine.phantom.tissue_sampling import draw_tissue


@dataclass(frozen=True, eq=False)
class Neck:
    """A neck with known truth, in LPS mm with C4 near the origin.

    Attributes:
        seed: what it was drawn from.
        source: name of the anatomy.
        bones: C1..C7, T1..T3, skull and, where the anatomy has them, mandible and hyoid.
        rods: other bones, without labels.
        tissue: all that is no bone.
        fractures: the fractures, from head to feet.
        confounders: what resembles a fracture and is none.
    """

    seed: int
    source: str
    bones: Mapping[str, Bone]
    rods: tuple[Rod, ...]
    tissue: Tissue
    fractures: tuple[Fracture, ...]
    confounders: tuple[Confounder, ...]

    @property
    def fractured(self) -> frozenset[Vertebra]:
        """The broken vertebrae."""
        return frozenset(fracture.level for fracture in self.fractures)

    def vertebra_box_lps_mm(self, vertebra: Vertebra) -> FloatArray:
        """(2, 3) smallest and largest LPS corner of a vertebra, to about a millimetre."""
        return self._boxes[vertebra]

    @cached_property
    def spine_box_lps_mm(self) -> FloatArray:
        """(2, 3) box of C1..C7 together."""
        boxes = np.stack([self._boxes[v] for v in CERVICAL])
        return np.stack([boxes[:, 0].min(0), boxes[:, 1].max(0)])

    @cached_property
    def _boxes(self) -> dict[Vertebra, FloatArray]:
        return {v: _tight_box(self.bones[v.name]) for v in CERVICAL}


def _tight_box(bone: Bone) -> FloatArray:
    points = bone.to_lps_mm(bone.shape.surface_mm * bone.scale)
    return np.stack([points.min(0) - 0.5, points.max(0) + 0.5])


def sample_neck(seed: int, profile: PhantomProfile = DEFAULT, *, anatomy: Anatomy | None = None) -> Neck:
    """Draw a neck; the same seed, profile and anatomy give the same one.

    Args:
        seed: any non-negative integer.
        profile: the ranges.
        anatomy: where bones come from; the built-in shapes by default.
    """
    rng = np.random.default_rng([seed, 0x17EC])
    template = (anatomy or ProceduralAnatomy()).template(rng, profile.shape_variants)
    plans = _draw_plans(rng, profile)
    bones = Column(rng, profile, template, plans).build()
    confounders: list[Confounder] = []
    degeneration = float(rng.uniform(*profile.degeneration))
    for vertebra in CERVICAL:
        bones[vertebra.name], found = _with_extras(rng, profile, bones[vertebra.name], degeneration)
        confounders += [Confounder(vertebra, kind) for kind in found]
    fractures = []
    for vertebra, plan in plans.items():
        bones[vertebra.name], fracture = break_bone(rng, bones[vertebra.name], plan.kind, plan.severity)
        fractures.append(fracture)
    rods, calcified = draw_rods(rng, profile, bones, jaw="hyoid" in bones)
    path = np.stack([bones[name].center_lps_mm for name in (*reversed(COLUMN), "skull")])
    path[-1] = bones["C1"].center_lps_mm + np.array([0.0, 0.0, 18.0])
    return Neck(
        seed=seed,
        source=template.source,
        bones=bones,
        rods=rods,
        tissue=draw_tissue(rng, profile, path),
        fractures=tuple(fractures),
        confounders=(*confounders, *calcified),
    )


def _draw_plans(rng: np.random.Generator, profile: PhantomProfile) -> dict[Vertebra, Plan]:
    if rng.random() >= profile.fractured:
        return {}
    count = 1 + int(rng.choice(3, p=profile.levels_fractured))
    weights = np.array([profile.fracture_level_weights[v] for v in CERVICAL], np.float64)
    levels = sorted(int(v) + 1 for v in rng.choice(7, count, replace=False, p=weights / weights.sum()))
    plans = {}
    for level in levels:
        vertebra = Vertebra(level)
        plans[vertebra] = Plan(draw_kind(rng, vertebra, profile), draw_severity(rng, profile))
    return plans


def _with_extras(
    rng: np.random.Generator, profile: PhantomProfile, bone: Bone, degeneration: float
) -> tuple[Bone, tuple[ConfounderKind, ...]]:
    assert bone.landmarks is not None
    extras = draw_extras(rng, bone.landmarks, profile, degeneration, ring=bone.name == "C1")
    dressed = replace(
        bone, additions=extras.additions, dents=extras.dents, channels=extras.channels, lines=extras.lines
    )
    return dressed, extras.kinds
