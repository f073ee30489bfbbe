"""Breaking a vertebra, and the same neck broken elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from cspine.anatomy import Vertebra
from cspine.phantom.bone import Bone, matter
from cspine.phantom.fractures import (
    MAKERS,
    Fracture,
    FractureKind,
    Severity,
    draw_kind,
    draw_severity,
)
from cspine.phantom.profile import PhantomProfile
from cspine.phantom.template import FloatArray

if TYPE_CHECKING:
    from cspine.phantom.neck import Neck

MIN_ZONE_MM3: Final = 40.0
"""A drawn fracture that touches less bone than this is drawn again."""
ZONE_STEP_MM: Final = 1.2
SINKING: Final = (FractureKind.COMPRESSION, FractureKind.BURST)
"""With these the bones above come down, so they are planned before the column is built."""


def break_bone(
    rng: np.random.Generator, bone: Bone, kind: FractureKind, severity: Severity
) -> tuple[Bone, Fracture]:
    """Break a vertebra; draws the place again until bone is there."""
    assert bone.landmarks is not None
    for attempt in range(12):
        drawn = MAKERS[kind](rng, bone.landmarks, severity)
        broken = replace(bone, cracks=drawn.cracks, compression=drawn.compression)
        zone = _zone_mm(broken)
        if len(zone) * ZONE_STEP_MM**3 >= MIN_ZONE_MM3 or attempt == 11:
            break
    if not len(zone):
        zone = np.array([drawn.cracks[0].center])
    points = broken.to_lps_mm(zone)
    half = ZONE_STEP_MM / 2
    lost = 0.0
    if drawn.compression is not None:
        lost = drawn.compression.loss * 2 * drawn.compression.body[2]
    fracture = Fracture(
        level=Vertebra[bone.name],
        kind=kind,
        width_mm=max(crack.width_mm for crack in drawn.cracks),
        displacement_mm=max(lost, *(crack.displacement_mm for crack in drawn.cracks)),
        box_lps_mm=np.stack([points.min(0) - half, points.max(0) + half]),
    )
    return broken, fracture


def broken_elsewhere(
    rng: np.random.Generator, neck: Neck, profile: PhantomProfile, levels: Collection[Vertebra]
) -> Neck:
    """The same neck with `levels` broken and its own fractures healed.

    Fractures that cost height stay, for the neck was built upon them, and are not drawn here.

    Args:
        rng: where chance comes from.
        neck: what is to be changed.
        profile: how wide the gaps are.
        levels: what to break, of the levels that are sound.
    """
    bones = dict(neck.bones)
    stays = tuple(found for found in neck.fractures if found.kind in SINKING)
    for level in neck.fractured - {found.level for found in stays}:
        bones[level.name] = replace(bones[level.name], cracks=())
    added = []
    for level in levels:
        kind = draw_kind(rng, level, profile)
        while kind in SINKING:
            kind = draw_kind(rng, level, profile)
        bones[level.name], fracture = break_bone(rng, bones[level.name], kind, draw_severity(rng, profile))
        added.append(fracture)
    fractures = tuple(sorted((*stays, *added), key=lambda found: found.level))
    return replace(neck, bones=bones, fractures=fractures)


def _zone_mm(bone: Bone) -> FloatArray:
    """Points (M, 3) of the bone's frame that lie in its fracture zone."""
    low, high = bone.shape.bone_box_mm * bone.scale
    low, high = low - 3.0, high + 3.0
    axes = [torch.arange(float(a), float(b), ZONE_STEP_MM) for a, b in zip(low, high, strict=True)]
    q = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    near = torch.zeros(len(q), dtype=torch.bool)
    for crack in bone.cracks:
        near |= (crack.reach(q) > 0.1) & (crack.side(q).abs() < 6.0)
    if bone.compression is not None:
        near |= bone.compression.band(q) > 0.3
    q = q[near]
    found = matter(bone, q, 1.0, torch.zeros(len(q))).broken
    return np.asarray(q[found].numpy(), np.float64)
