"""From frames in any order to one stack on one grid, by Image Orientation and Image Position (Patient) alone.

Instance Numbers, Slice Locations, file names and the sign of Gantry/Detector Tilt (vendors differ) count for
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cspine.dicom.frames import Frame
from cspine.dicom.shear import sheared_grid
from cspine.errors import InputError, NoUsableSeriesError
from cspine.volume import FloatArray, Grid

TOLERANCE_MM: Final = 0.06
"""How far a slice may lie from an evenly spaced stack: positions that were rounded to 0.1 mm still pass."""
SAME_MM: Final = 0.01
"""Slices closer than this lie at the same position."""
GAP: Final = 1.5
"""Slices further apart than this many times the usual distance have a slice missing between them."""
DIRECTION_TOLERANCE: Final = 1e-3
"""Largest difference between direction cosines that count as the same (0.06 degrees)."""
MAX_SHEAR: Final = 1.0
"""Largest sideways shift for each millimetre along the normal (45 degrees; gantries tilt by up to 30)."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames in order on one grid.

    Attributes:
        frames: one for each slice of the grid, along the normal (row direction x column direction).
        grid: of the volume; its axes are at right angles, also where the stack was sheared.
        shear_px: as in `CtSeries`.
        duplicates: (slice, frame) of frames at the position of another; pixels are still to be compared.
    """

    frames: tuple[Frame, ...]
    grid: Grid
    shear_px: FloatArray | None
    duplicates: tuple[tuple[int, Frame], ...]


def stack_frames(frames: Sequence[Frame]) -> Stack:
    """Sort the frames of one series and place them on a grid.

    Raises:
        InputError: frames without geometry, of different geometry, with a gap, or unevenly spaced.
        NoUsableSeriesError: one slice only, or all at one position.
    """
    check_alike(frames)
    axes = frame_axes(frames[0])
    # (n, 3): along the normal, down a column, along a row.
    places = np.array([frame.position_lps_mm for frame in frames], np.float64) @ axes
    if len(frames) == 1:
        raise NoUsableSeriesError("The series has a single slice, which is no volume; send the whole series.")
    if np.ptp(places[:, 0]) < SAME_MM:
        raise NoUsableSeriesError(
            f"All {len(frames)} slices lie at one position, as in bolus monitoring or perfusion; "
            "send a series that covers the neck."
        )
    order, duplicates = _unique(frames, places)
    places = places[order]
    _check_gaps(places[:, 0], [frames[k] for k in order])
    start, step = _fit(places)
    grid, shear_px = _grid(frames[0], len(order), axes, start, step)
    return Stack(tuple(frames[k] for k in order), grid, shear_px, duplicates)


def check_alike(frames: Sequence[Frame]) -> None:
    """Check that all frames say where they are, and have the same matrix, spacing, orientation and frame.

    Raises:
        InputError: naming what is absent or mixed.
    """
    for what, absent in (
        ("position (Image Position (Patient))", [f.position_lps_mm is None for f in frames]),
        ("orientation (Image Orientation (Patient))", [f.orientation is None for f in frames]),
        ("pixel spacing (Pixel Spacing)", [not f.spacing_mm or min(f.spacing_mm) <= 0 for f in frames]),
        ("rescaling to Hounsfield units (Rescale Slope)", [not f.slope for f in frames]),
        ("rescaling to Hounsfield units (Rescale Intercept)", [f.intercept is None for f in frames]),
    ):
        if any(absent):
            raise InputError(
                f"{sum(absent)} of {len(frames)} images have no {what}; send the original series."
            )
    spacings = np.array([frame.spacing_mm for frame in frames], np.float64)
    directions = np.array([frame.orientation for frame in frames], np.float64)
    for what, mixed in (
        ("matrix sizes", len({frame.shape for frame in frames}) > 1),
        ("pixel spacings", np.abs(spacings / spacings[0] - 1).max() > DIRECTION_TOLERANCE),
        ("orientations", np.abs(directions - directions[0]).max() > DIRECTION_TOLERANCE),
        ("frames of reference", len({frame.frame_of_reference for frame in frames}) > 1),
    ):
        if mixed:
            raise InputError(f"The series mixes images of different {what}; send one acquisition at a time.")


def frame_axes(frame: Frame) -> FloatArray:
    """Unit vectors of a frame as columns: its normal, down a column, along a row; (3, 3) in LPS.

    Raises:
        InputError: the orientation is not two perpendicular unit vectors.
    """
    directions = np.array(frame.orientation, np.float64).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 10 * DIRECTION_TOLERANCE:
        raise InputError(
            "The orientation of the images is not given by two perpendicular unit vectors; "
            "send the original series."
        )
    along = directions[0] / np.linalg.norm(directions[0])
    down = directions[1] - along * (along @ directions[1])
    down /= np.linalg.norm(down)
    return np.stack([np.cross(along, down), down, along], axis=1)


def _unique(frames: Sequence[Frame], places: FloatArray) -> tuple[list[int], tuple[tuple[int, Frame], ...]]:
    """Order along the normal, and the frames that lie where the one before them lies."""
    order: list[int] = []
    duplicates = []
    for k in np.argsort(places[:, 0], kind="stable"):
        if order and places[k, 0] - places[order[-1], 0] < SAME_MM:
            if np.abs(places[k] - places[order[-1]]).max() >= SAME_MM:
                raise InputError(
                    "Two slices lie at the same height but not at the same place; "
                    "send one acquisition at a time."
                )
            duplicates.append((len(order) - 1, frames[k]))
        else:
            order.append(int(k))
    return order, tuple(duplicates)


def _check_gaps(heights: FloatArray, frames: Sequence[Frame]) -> None:
    steps = np.diff(heights)
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > GAP * usual)
    if not len(gaps):
        return
    widest = int(gaps[np.argmax(steps[gaps])])
    z = [frame.position_lps_mm[2] for frame in frames[widest : widest + 2] if frame.position_lps_mm]
    many = f" ({len(gaps)} gaps in all)" if len(gaps) > 1 else ""
    raise InputError(
        f"Slices are missing: between slices {widest + 1} and {widest + 2} of {len(frames)} "
        f"(z = {z[0]:.1f} and {z[1]:.1f} mm) there are {steps[widest]:.2f} mm where "
        f"{usual:.2f} mm are usual{many}; send the complete series."
    )


def _fit(places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First place and step, (3,) each along (normal, down, along), of the evenly spaced stack."""
    index = np.arange(len(places), dtype=np.float64)
    centred = index - index.mean()
    step = centred @ places / (centred @ centred)
    start = places.mean(0) - step * index.mean()
    off = np.abs(places - (start + index[:, None] * step)).max(0)
    if off[0] > TOLERANCE_MM:
        raise InputError(
            f"The slices are unevenly spaced: one lies {off[0]:.2f} mm off an even distance of "
            f"{step[0]:.2f} mm; send a series with even spacing."
        )
    if off[1:].max() > TOLERANCE_MM:
        raise InputError(
            f"The slices are shifted sideways unevenly, by up to {off[1:].max():.2f} mm; "
            "send the original series."
        )
    return start, step


def _grid(
    frame: Frame, count: int, axes: FloatArray, start: FloatArray, step: FloatArray
) -> tuple[Grid, FloatArray | None]:
    assert frame.spacing_mm is not None
    sizes = np.array([step[0], *frame.spacing_mm])
    affine = np.eye(4)
    affine[:3, :3] = axes * sizes
    drift = step[1:] * (count - 1)
    if np.abs(drift).max() <= 2 * TOLERANCE_MM:
        # So little is rounding, not tilt: put the stack's middle right and keep the axes at right angles.
        affine[:3, 3] = axes @ (start + np.array([0.0, *(drift / 2)]))
        return Grid((count, *frame.shape), affine), None
    if np.linalg.norm(step[1:]) > MAX_SHEAR * step[0]:
        angle = np.degrees(np.arctan2(np.linalg.norm(step[1:]), step[0]))
        raise InputError(
            f"The slices are sheared by {angle:.0f} degrees, more than any gantry tilts; "
            "send the original series."
        )
    affine[:3, 3] = axes @ start
    return sheared_grid(Grid((count, *frame.shape), affine), step[1:] / sizes[1:])
