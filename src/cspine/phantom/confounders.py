"""What looks like a fracture and is none: labelled so, never in the fracture mask."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np

from cspine.anatomy import Vertebra
from cspine.phantom.bone import Blob, Channel, OldLine
from cspine.phantom.breaks import vector
from cspine.phantom.profile import PhantomProfile
from cspine.phantom.template import Landmarks


class ConfounderKind(StrEnum):
    """What resembles a fracture."""

    VESSEL_CHANNEL = "vessel channel"
    OLD_LINE = "corticated old line"
    OSTEOPHYTE = "osteophyte"
    OSSICLE = "ossicle"
    SCHMORL = "Schmorl node"
    CALCIFICATION = "calcification"
    SCLEROSIS = "end-plate sclerosis"
    ARTHROSIS = "facet joint arthrosis"


@dataclass(frozen=True)
class Confounder:
    """Something at a level that is no fracture."""

    level: Vertebra
    kind: ConfounderKind


@dataclass(frozen=True)
class Extras:
    """What the confounders of one vertebra add to its bone."""

    kinds: tuple[ConfounderKind, ...]
    additions: tuple[Blob, ...]
    dents: tuple[Blob, ...]
    channels: tuple[Channel, ...]
    lines: tuple[OldLine, ...]


def draw_extras(
    rng: np.random.Generator, at: Landmarks, profile: PhantomProfile, degeneration: float, *, ring: bool
) -> Extras:
    """Draw the confounders of one vertebra.

    Args:
        rng: where chance comes from.
        at: its landmarks.
        profile: how often each occurs.
        degeneration: 0 (young) to 1; how many and how large the osteophytes are, how often joints are worn.
        ring: whether it is C1.
    """
    kinds: list[ConfounderKind] = []
    # Of a stream of its own, so that the rest of a seed's neck does not depend on it.
    worn = rng.spawn(1)[0]
    additions = _osteophytes(rng, at, 0.0 if ring else degeneration)
    if not ring and worn.random() < 0.5 * degeneration:
        additions.append(_lip(worn, at))
    if additions:
        kinds.append(ConfounderKind.OSTEOPHYTE)
    channels = _channels(rng, at, ring) if rng.random() < rng.uniform(*profile.vessel_channels) else []
    if channels:
        kinds.append(ConfounderKind.VESSEL_CHANNEL)
    lines = [_old_line(rng, at, ring)] if rng.random() < profile.old_lines else []
    if lines:
        kinds.append(ConfounderKind.OLD_LINE)
    if rng.random() < profile.ossicles:
        additions.append(_ossicle(rng, at, ring))
        kinds.append(ConfounderKind.OSSICLE)
    dents = [_schmorl(rng, at)] if not ring and rng.random() < profile.schmorl else []
    if dents:
        kinds.append(ConfounderKind.SCHMORL)
    if not ring and rng.random() < 0.1 + 0.3 * degeneration:
        lines += _sclerosis(rng, at)
        kinds.append(ConfounderKind.SCLEROSIS)
    if not ring and worn.random() < 0.6 * degeneration:
        joint = _arthrosis(worn, at)
        kinds += joint.kinds
        additions += joint.additions
        lines += joint.lines
        channels += joint.channels
    return Extras(tuple(kinds), tuple(additions), tuple(dents), tuple(channels), tuple(lines))


def _osteophytes(rng: np.random.Generator, at: Landmarks, degeneration: float) -> list[Blob]:
    hw, hd, hh = at.body
    found = []
    for _ in range(int(rng.poisson(2.5 * degeneration**2))):
        angle, z = rng.uniform(-np.pi, 0.15), hh * rng.choice([-0.9, 0.9])
        size = rng.uniform(0.6, 1.0 + 1.6 * degeneration)
        center = (hw * float(np.cos(angle)), hd * float(np.sin(angle)), float(z))
        found.append(Blob(center, (1.3 + size, 1.0 + size, 0.8 + 0.5 * size)))
    return found


def _lip(rng: np.random.Generator, at: Landmarks) -> Blob:
    """A beak of the lower front edge, which overhangs the disc as a chip of a teardrop fracture does."""
    hw, hd, hh = at.body
    center = (float(rng.normal(0, 1.5)), -hd + float(rng.uniform(0, 1.5)), -hh - float(rng.uniform(0, 1)))
    return Blob(
        center,
        (hw * float(rng.uniform(0.4, 0.8)), float(rng.uniform(1.2, 2.2)), float(rng.uniform(1.2, 2.5))),
    )


def _arthrosis(rng: np.random.Generator, at: Landmarks) -> Extras:
    """Worn facet joints: dense bone below their surfaces, cysts in it, bone grown around them.

    The joints of the neck lie at 45 degrees or somewhat less to the axial plane, the front edge higher.
    """
    grown: list[Blob] = []
    cysts: list[Channel] = []
    sheets: list[OldLine] = []
    px, py, pz = at.pillar
    for side, end in product((-1.0, 1.0), (-1.0, 1.0)):
        if rng.random() < 0.4:
            continue
        middle = np.array([side * px, py, pz + end * at.body[2] * float(rng.uniform(0.6, 1.2))])
        normal = np.array([float(rng.normal(0, 0.15)), float(rng.uniform(0.35, 0.75)), 0.8])
        normal /= np.linalg.norm(normal)
        rim, radius = float(rng.uniform(150, 800)), float(rng.uniform(4, 8))
        for depth in np.arange(int(rng.integers(1, 4))) * 1.1:
            sheets.append(OldLine(vector(middle - end * depth * normal), vector(normal), radius, 0.0, rim))
        if rng.random() < 0.4:
            start = middle + rng.normal(0, 2.0, 3)
            ends = (vector(start), vector(start + rng.normal(0, 1.2, 3)))
            r = float(rng.uniform(0.5, 1.4))
            cysts.append(Channel(ends, (r, r * 0.8), float(rng.uniform(100, 500))))
        if rng.random() < 0.5:
            center = middle + np.array(
                [side * float(rng.uniform(1, 5)), float(rng.normal(0, 3)), float(rng.normal(0, 1))]
            )
            grown.append(Blob(vector(center), vector(rng.uniform(1.2, 3.2, 3))))
    return Extras((ConfounderKind.ARTHROSIS,), tuple(grown), (), tuple(cysts), tuple(sheets))


def _channels(rng: np.random.Generator, at: Landmarks, ring: bool) -> list[Channel]:
    hw, hd, hh = at.body
    wall = float(rng.uniform(100, 450))
    r = float(rng.uniform(0.35, 0.95))
    if ring:
        s = float(rng.choice([-1, 1]))
        a, b = (s * at.pillar[0], -4.0, 1.0), (s * (at.pillar[0] + 5), 5.0, 0.0)
        return [Channel((a, b), (r * 0.7, r * 0.5), wall)]
    z = float(rng.normal(0, 0.12) * hh)
    depth = hd * float(rng.uniform(-0.1, 0.4))
    root, fork = (0.0, hd + 1.0, z), (float(rng.normal(0, 0.6)), depth, z)
    found = [Channel((root, fork), (r * 1.4, r), wall)]
    for s in (-1.0, 1.0):
        if rng.random() < 0.6:
            end = (s * hw * float(rng.uniform(0.3, 0.75)), depth - hd * float(rng.uniform(0.1, 0.5)), z)
            found.append(Channel((fork, end), (r * 0.9, r * 0.4), wall))
    if rng.random() < 0.4:
        s = float(rng.choice([-1, 1]))
        x, y = s * at.pillar[0], at.pillar[1]
        found.append(Channel(((x, y - 5, 0.0), (x * 0.9, y + 5, -2.0)), (r * 0.6, r * 0.4), wall))
    return found


def _old_line(rng: np.random.Generator, at: Landmarks, ring: bool) -> OldLine:
    width, rim = float(rng.uniform(0.4, 1.4)), float(rng.uniform(350, 800))
    s = float(rng.choice([-1, 1]))
    if ring:  # cleft of the posterior or anterior arch, in the midline
        y = at.tip[0] - 3.0 if rng.random() < 0.7 else at.front_y + 4.0
        return OldLine((0.0, y, 0.0), (1.0, 0.0, 0.0), 9.0, width, rim)
    if at.top_z > 2.2 * at.body[2]:  # C2: remnant of the synchondrosis below the dens
        return OldLine((0.0, -1.0, 0.55 * at.body[2]), (0.0, 0.05 * s, 1.0), 4.5, width * 0.7, rim)
    if rng.random() < 0.5:  # apophysis of the spinous process
        y = at.tip[0] - 3.5
        return OldLine((0.0, y, at.tip[1]), (0.0, 0.97, -0.24), 9.0, width, rim)
    x = s * at.pillar[0] * 0.45  # healed or never fused lamina
    y = at.canal_y[1] + 2.6 - 0.38 * abs(x)
    return OldLine((x, y, -3.0), (0.85 * s, -0.5, 0.15), 7.5, width, rim)


def _sclerosis(rng: np.random.Generator, at: Landmarks) -> list[OldLine]:
    """Dense bone under an end plate, which a compression shows too: sheets without a gap."""
    hw, hd, hh = at.body
    side, rim = float(rng.choice([-1, 1])), float(rng.uniform(150, 600))
    radius, tilt = float(rng.uniform(0.6, 1.0)) * max(hw, hd), float(rng.normal(0, 0.08))
    y = float(rng.normal(0, 0.2) * hd)
    return [
        OldLine((0.0, y, side * (hh - 1.0 - depth)), (0.0, tilt, 1.0), radius, 0.0, rim)
        for depth in np.arange(int(rng.integers(1, 4))) * 1.1
    ]


def _ossicle(rng: np.random.Generator, at: Landmarks, ring: bool) -> Blob:
    _, hd, hh = at.body
    r = float(rng.uniform(1.2, 2.6))
    if ring:
        return Blob((float(rng.normal(0, 2)), at.front_y + 3.0, -8.0 - r), (r, r, r * 1.2))
    if rng.random() < 0.6:  # limbus or calcified annulus at the front of the disc
        center = (float(rng.normal(0, 3)), -hd - 0.3, -hh - r - 0.6)
        return Blob(center, (r * 1.6, r * 0.8, r))
    return Blob((float(rng.normal(0, 1)), at.tip[0] + r + 1.2, at.tip[1]), (r, r, r * 1.7))


def _schmorl(rng: np.random.Generator, at: Landmarks) -> Blob:
    hw, hd, hh = at.body
    z = hh * float(rng.choice([-1.0, 1.0]))
    r = float(rng.uniform(1.5, 3.0))
    return Blob((float(rng.normal(0, 0.25) * hw), float(rng.normal(0.1, 0.2) * hd), z), (r * 1.3, r * 1.2, r))
