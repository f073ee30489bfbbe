"""The built-in skull and lower jaw, in the frame of C1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from cspine.phantom.shapes import (
    capsule,
    carve,
    cylinder,
    ellipsoid,
    half_grid,
    mirrored,
    rounded_box,
    tilted,
    union,
)
from cspine.phantom.template import SdfVolume


def _skull(p: torch.Tensor) -> torch.Tensor:
    """Occiput with condyles, vault, skull base, mastoids, petrous bones and palate, in C1's frame."""
    vault = (ellipsoid(p, (0, 5.0, 84.0), (72.0, 92.0, 65.0))).abs() - 2.8
    face = -(p[..., 1] + 0.55 * p[..., 2] - 18.0) * 0.8 - 22.0
    vault = torch.maximum(vault, face)
    orbits = capsule(p, ((14.0, -66.0, 46.0), (44.0, -62.0, 46.0)), (2.0, 2.5), tall=5.0).abs() - 1.2
    base = capsule(p, ((0, -11.0, 27.0), (0, -32.0, 45.0)), (3.6, 8.5))
    squama = capsule(p, ((18.0, 12.0, 17.0), (30.0, 40.0, 20.0)), (4.0, 5.0), tall=0.7)
    rim = capsule(p, ((14.0, 10.0, 17.0), (0.0, 27.0, 17.5)), (3.2, 3.0))
    condyle = ellipsoid(tilted(p, (16.0, -1.0, 13.5), -0.45), (0, 0, 0), (5.5, 10.5, 5.5))
    petrous = capsule(p, ((18.0, -14.0, 25.0), (55.0, 5.0, 26.0)), (6.0, 10.0))
    mastoid = ellipsoid(p, (52.0, 7.0, 10.0), (9.0, 12.0, 18.0))
    wall = ellipsoid(p, (52.0, -10.0, 45.0), (7.0, 22.0, 22.0))
    palate = rounded_box(p, (12.0, -62.0, 14.0), (13.0, 24.0, 2.6), 2.0)
    alveolus = capsule(p, ((24.0, -52.0, 9.0), (6.0, -84.0, 8.0)), (4.5, 4.5), tall=1.6)
    pterygoid = capsule(p, ((15.0, -42.0, 8.0), (16.0, -40.0, 30.0)), (2.2, 3.5))
    cheek = capsule(p, ((38.0, -62.0, 22.0), (60.0, -30.0, 26.0)), (4.0, 3.0))
    whole = union(vault, base, squama, rim, condyle, petrous, mastoid, wall, blend=3.0)
    whole = union(whole, palate, alveolus, pterygoid, cheek, orbits, blend=2.0)
    return carve(whole, cylinder(p, (0.0, 9.0), (13.5, 16.5)) + (p[..., 2] > 45.0) * 20.0)


def _mandible(p: torch.Tensor) -> torch.Tensor:
    """Lower jaw with its teeth's row, in C1's frame."""
    return union(
        capsule(p, ((0, -92.0, -14.0), (22.0, -80.0, -14.0)), (5.0, 4.5), tall=2.2),
        capsule(p, ((22.0, -80.0, -14.0), (40.0, -36.0, -8.0)), (4.5, 4.2), tall=2.2),
        capsule(p, ((42.0, -34.0, -8.0), (48.0, -22.0, 18.0)), (4.2, 3.8), tall=1.2),
        capsule(p, ((48.0, -20.0, 16.0), (49.0, -16.0, 26.0)), (3.8, 4.5)),
        blend=3.0,
    )


@lru_cache(maxsize=8)
def head(variant: int) -> dict[str, SdfVolume]:
    """Skull and mandible of one of a few people."""
    rng = np.random.default_rng([variant, 77])
    stretch = torch.tensor([*rng.uniform(0.94, 1.06, 2), rng.uniform(0.96, 1.04)], dtype=torch.float32)
    spacing, y, z = 1.8, (-105.0, 110.0), (-14.0, 150.0)
    skull = _skull(half_grid(86.0, y, z, spacing) * stretch)
    ym, zm = (-104.0, -5.0), (-30.0, 36.0)
    jaw = _mandible(half_grid(60.0, ym, zm, 1.4) * stretch)
    return {
        "skull": mirrored(skull, y[0], z[0], spacing),
        "mandible": mirrored(jaw, ym[0], zm[0], 1.4),
    }
