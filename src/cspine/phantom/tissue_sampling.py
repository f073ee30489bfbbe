"""Drawing the soft tissue of a neck."""

from __future__ import annotations

import numpy as np

from cspine.phantom.profile import PhantomProfile
from cspine.phantom.template import FloatArray
from cspine.phantom.tissue import AIR_HU, Airway, Ellipsoid, Outline, Tissue, Tube


def draw_tissue(rng: np.random.Generator, profile: PhantomProfile, path_mm: FloatArray) -> Tissue:
    """Draw the soft tissue around a spine.

    Args:
        rng: where chance comes from.
        profile: the ranges.
        path_mm: (M, 3) LPS points from T3 (first) to the skull (last), z ascending.
    """
    low, high = float(path_mm[0, 2]), float(path_mm[-1, 2])
    outline = _draw_outline(rng, profile, low, high)
    radius = float(rng.uniform(*profile.airway_radius_mm))
    airway = Airway(
        radius,
        float(rng.uniform(13, 20)),
        float(rng.uniform(0.55, 1.1)),
        high + float(rng.uniform(0, 15)),
        float(rng.normal(0, 2.5)),
    )
    muscle = float(rng.uniform(*profile.muscle_hu))
    table = outline.back_mm + outline.neck[1] + rng.uniform(8, 45) if rng.random() < profile.table else None
    return Tissue(
        path_mm=path_mm,
        outline=outline,
        airway=airway,
        muscle_hu=muscle,
        fat_hu=float(rng.uniform(*profile.fat_hu)),
        fatty=float(rng.uniform(0.0, 1.0)),
        cell_mm=float(rng.uniform(7, 16)),
        solids=_draw_solids(rng, profile, muscle, (low, high)),
        hollows=_draw_hollows(rng, (low, high)),
        tubes=_draw_tubes(rng, profile),
        table_y_mm=None if table is None else float(table),
        seed=int(rng.integers(2**31)),
        planes=float(rng.uniform(0.0, 1.0)),
    )


def _draw_outline(rng: np.random.Generator, profile: PhantomProfile, low: float, high: float) -> Outline:
    r = float(rng.uniform(*profile.neck_radius_mm))
    return Outline(
        neck=(r * float(rng.uniform(0.95, 1.2)), r * float(rng.uniform(0.9, 1.1))),
        head=(float(rng.uniform(74, 90)), float(rng.uniform(92, 112))),
        shoulder=(float(rng.uniform(150, 230)), float(rng.uniform(80, 115))),
        back_mm=float(rng.uniform(-18, 6)),
        chin_z=high - float(rng.uniform(15, 60)),
        crown_z=high + float(rng.uniform(132, 155)),
        shoulder_z=low + float(rng.uniform(15, 80)),
        fat_mm=float(rng.uniform(*profile.fat_mm)),
    )


def _draw_solids(
    rng: np.random.Generator, profile: PhantomProfile, muscle: float, z: tuple[float, float]
) -> tuple[Ellipsoid, ...]:
    low, high = z
    brain = Ellipsoid((0.0, 5.0, high + 60.0), (70.0, 90.0, 62.0), float(rng.uniform(25, 45)))
    solids = [brain]
    thyroid_hu = float(rng.uniform(70, 180))
    for side in (-1.0, 1.0):
        center = (side * float(rng.uniform(14, 20)), -float(rng.uniform(24, 34)), low + 55.0)
        solids.append(Ellipsoid(center, (8.0, 9.0, 18.0), thyroid_hu))
    for _ in range(int(rng.uniform(*profile.blobs))):
        center = (rng.uniform(-70, 70), rng.uniform(-70, 50), rng.uniform(low, high))
        radii = rng.uniform(4, 22, 3)
        solids.append(
            Ellipsoid(
                (float(center[0]), float(center[1]), float(center[2])),
                (float(radii[0]), float(radii[1]), float(radii[2])),
                float(rng.uniform(-110, 160)),
            )
        )
    return tuple(solids)


def _draw_hollows(rng: np.random.Generator, z: tuple[float, float]) -> tuple[Ellipsoid, ...]:
    low, high = z
    hollows = []
    if rng.random() < 0.8:  # nose
        hollows.append(Ellipsoid((0.0, -70.0, high + 26.0), (14.0, 34.0, 16.0), AIR_HU))
    if rng.random() < 0.5:  # mouth
        size = float(rng.uniform(4, 12))
        hollows.append(Ellipsoid((0.0, -60.0, high - 8.0), (size * 1.8, 26.0, size), AIR_HU))
    for side in (-1.0, 1.0):  # lungs
        top = low + float(rng.uniform(-25, 25))
        hollows.append(
            Ellipsoid((side * float(rng.uniform(42, 60)), -8.0, top - 40.0), (34.0, 44.0, 45.0), -850.0)
        )
        if rng.random() < 0.6:  # mastoid cells
            hollows.append(Ellipsoid((side * 53.0, 6.0, high + 12.0), (4.0, 6.0, 9.0), -500.0))
    return tuple(hollows)


def _draw_tubes(rng: np.random.Generator, profile: PhantomProfile) -> tuple[Tube, ...]:
    enhanced = rng.random() < profile.contrast
    hu = float(rng.uniform(*profile.vessel_hu)) if enhanced else float(rng.uniform(35, 55))
    vein = hu * float(rng.uniform(0.3, 1.0)) if enhanced else hu
    tubes = [Tube((0.0, 16.0), float(rng.uniform(5, 7)), float(rng.uniform(15, 50)), 0.0)]
    for side in (-1.0, 1.0):
        x, y = float(rng.uniform(22, 30)), float(rng.uniform(-20, -8))
        tubes.append(Tube((side * x, y), float(rng.uniform(2.5, 4.0)), hu, 2.0))
        tubes.append(Tube((side * (x + 8), y + 3), float(rng.uniform(3.0, 7.0)), vein, 3.0))
        tubes.append(Tube((side * float(rng.uniform(14.5, 17.5)), 3.5), 1.7, hu, 0.7))
    return tuple(tubes)
