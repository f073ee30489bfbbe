"""Resampling for training, without DALI: the geometry of `cspine.preprocess.geometry`, in numpy.

Tests hold that the crops equal those that DALI makes for inference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.crops import GridSpec
from cspine.preprocess.geometry import Resampling, canonical_directions
from cspine.volume import FloatArray, Grid

FACE: Final = 0.5 + 1e-6
"""Voxels from a border voxel's centre to its outer face, with room for rounding."""


def centered_grid(
    like: Grid, shape: tuple[int, int, int], pixdim_mm: tuple[float, float, float], center_lps_mm: FloatArray
) -> Grid:
    """A grid around a point whose axes are those of `like` in the order head, back, left."""
    affine = np.eye(4)
    affine[:3, :3] = canonical_directions(like) * np.array(pixdim_mm)
    affine[:3, 3] = center_lps_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def linear(
    hu: NDArray[np.int16], plan: Resampling, window_hu: tuple[float, float], *, repeat_border: bool = False
) -> NDArray[np.float32]:
    """Resample a CT linearly, without anti-aliasing, and window it to [0, 1].

    Args:
        hu: (slices, rows, columns) that `plan` starts from.
        plan: where the output's voxels lie.
        window_hu: Hounsfield units that become 0 and 1.
        repeat_border: whether output outside the volume repeats the border, or is exactly 0.

    Returns:
        float32 of `plan.grid.shape`.
    """
    made = np.zeros(plan.size, np.float32)
    places = [_places(plan, axis, n, repeat_border) for axis, n in enumerate(hu.shape)]
    if all(len(index) for _, index in places):
        values: NDArray[np.int16] | NDArray[np.float32] = hu
        for axis, (_, index) in enumerate(places):
            values = _along(values, axis, index)
        low, high = window_hu
        windowed = (values - np.float32(low)) * np.float32(1 / (high - low))
        made[np.ix_(*(where for where, _ in places))] = np.clip(windowed, 0, 1)
    return np.ascontiguousarray(made.transpose(plan.axes))


def nearest(labels: NDArray[np.uint8], plan: Resampling) -> NDArray[np.uint8]:
    """The label of the nearest voxel, 0 outside: uint8 of `plan.grid.shape`."""
    made = np.zeros(plan.size, np.uint8)
    where, index = [], []
    for axis, n in enumerate(labels.shape):
        at = np.floor(plan.source_index(axis) + 0.5).astype(np.int64)
        inside = np.flatnonzero((at >= 0) & (at < n))
        where.append(inside)
        index.append(at[inside])
    made[np.ix_(*where)] = labels[np.ix_(*index)]
    return np.ascontiguousarray(made.transpose(plan.axes))


def as_bytes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image in [0, 1] as 0..255, as samples and crops are kept."""
    return np.rint(image * 255).astype(np.uint8)


def covering_grid(grid: Grid, spec: GridSpec) -> Grid:
    """The grid of a network's voxels that covers the field of `grid`, around the same centre."""
    sides_mm = np.array(grid.shape) * grid.spacing_mm
    slices, rows, columns = (int(n) for n in np.ceil(sides_mm / spec.pixdim_mm))
    center = grid.to_lps_mm((np.array(grid.shape) - 1) / 2)
    return centered_grid(grid, (slices, rows, columns), spec.pixdim_mm, center)


def _places(plan: Resampling, axis: int, n: int, repeat_border: bool) -> tuple[NDArray[np.intp], FloatArray]:
    """Outputs to make along one input axis, and the input index of each, inside 0 to n - 1."""
    index = plan.source_index(axis)
    inside = np.ones(len(index), bool) if repeat_border else (index >= -FACE) & (index <= n - 1 + FACE)
    return np.flatnonzero(inside), np.clip(index[inside], 0, n - 1)


def _along(
    values: NDArray[np.int16] | NDArray[np.float32], axis: int, index: FloatArray
) -> NDArray[np.float32]:
    """Interpolate along one axis; of the values only those between the first and last index are touched."""
    first = np.floor(index).astype(np.int64)
    share = (index - first).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    following = np.minimum(first + 1, values.shape[axis] - 1)
    lower, upper = (np.take(values, at, axis).astype(np.float32, copy=False) for at in (first, following))
    return np.asarray(lower * (1 - share) + upper * share)
