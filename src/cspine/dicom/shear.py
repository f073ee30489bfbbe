"""Undo the shear of a tilted gantry: slices shifted within their planes into a wider matrix.

With a tilted gantry the table moves on along the patient while the slices are inclined, so that each slice
lies a little further down (or up) than the one before. Shifting it back, with linear interpolation between
two pixels, gives a volume with axes at right angles, in which nothing else changes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.volume import FloatArray, Grid

AIR_HU: Final = -1024
"""What stands where no slice reaches."""


def sheared_grid(first: Grid, step_px: FloatArray) -> tuple[Grid, FloatArray]:
    """The grid that holds all slices of a sheared stack.

    Args:
        first: the stack as if no slice were shifted against the first.
        step_px: (2,) shift of each slice against the one before, in (rows, columns).

    Returns:
        The widened grid, and the (slices, 2) position in it of each slice's first pixel.
    """
    count, rows, columns = first.shape
    shifts = np.arange(count)[:, None] * np.asarray(step_px, np.float64)
    shear_px = shifts - shifts.min(0)
    wider = np.ceil(shear_px.max(0) - 1e-6).astype(int)
    shape = (count, rows + int(wider[0]), columns + int(wider[1]))
    return first.cropped((0, *shifts.min(0)), shape), shear_px


def place_sheared(plane: NDArray[np.int16], at_px: FloatArray, out: NDArray[np.int16]) -> None:
    """Write a slice into its place in the widened matrix.

    Args:
        plane: (rows, columns) HU.
        at_px: (2,) position of its first pixel in `out`, not negative.
        out: (wider rows, wider columns) HU; overwritten as a whole.
    """
    # Half a millionth of a pixel is rounding.
    whole = np.floor(at_px + 1e-6).astype(int)
    part = np.clip(at_px - whole, 0.0, 1.0)
    part[part < 1e-6] = 0.0
    rows, columns = plane.shape
    moved = np.full((rows + 1, columns + 1), AIR_HU, np.float32)
    moved[:rows, :columns] = plane
    for axis in (0, 1):
        if part[axis]:
            moved += np.float32(part[axis]) * (_shifted(moved, axis) - moved)
    used = (rows + int(part[0] > 0), columns + int(part[1] > 0))
    out[...] = AIR_HU
    window = out[whole[0] : whole[0] + used[0], whole[1] : whole[1] + used[1]]
    np.rint(moved[: used[0], : used[1]], out=moved[: used[0], : used[1]])
    window[...] = moved[: used[0], : used[1]]


def _shifted(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    result = np.roll(image, 1, axis)
    result[(slice(None),) * axis + (0,)] = AIR_HU
    return result
