"""Where the networks' images lie: numpy only, so that importing it costs nothing.

Two kinds of grid are made here. Both have the *canonical axes* of the volume they come from: its own three
directions, put in the order head, back, left (MONAI's axcodes "SPL"), flipped where they run the other way.
An oblique volume keeps its obliquity, so every resampling here is one scale and offset along each axis.

- `model_grid`: the whole volume, as MONAI's Orientation("SPL") and Spacing(pixdim) would place it.
- `crop_grid`: one vertebra. `level_box` measures it along the canonical axes, in voxels of its mask, so that
  the box of an oblique scan is not inflated by its corners; `crop_grid` cuts its field into voxels.

A point in a volume is an index (0 is the centre of the first voxel). `Resampling` gives regions of interest
in DALI's coordinates, where 0 is the outer face of the first voxel: index = coordinate - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cspine.anatomy import Vertebra
from cspine.crops import CropSpec
from cspine.errors import InputError
from cspine.volume import FloatArray, Grid, SpineMask

HEAD_BACK_LEFT_LPS: Final = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Columns: the LPS directions to the head (+z), to the back (+y) and to the patient's left (+x)."""

MAX_COUNT: Final = 2**20
"""Voxels along one axis; more is a defect of the positions, not a patient."""

PARALLEL: Final = 1e-6
"""Two axes are parallel when their directions differ by less than this, in voxels per voxel."""


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """A box around one vertebra, its edges along the canonical axes of a volume.

    Attributes:
        directions_lps: (3, 3) float64; columns are the unit vectors to the head, the back and the left.
        center_lps_mm: (3,) its centre.
        size_mm: (3,) its edges along `directions_lps`, outer face to outer face of the voxels.
    """

    directions_lps: FloatArray
    center_lps_mm: FloatArray
    size_mm: FloatArray


@dataclass(frozen=True, eq=False)
class Resampling:
    """How voxels of a source grid become voxels of `grid`, one scale and offset along each axis.

    Voxel `o` of the output lies, along input axis `a`, at input index
    ``roi_start[a] + (o + 0.5) * (roi_end[a] - roi_start[a]) / size[a] - 0.5``.

    Attributes:
        grid: the output.
        axes: input axis behind each output axis; ``resized.transpose(axes)`` has the output's axis order.
        size: (3,) int64, output voxels along each *input* axis.
        roi_start, roi_end: (3,) float64, the outer faces of the first and last output voxel along each input
            axis, in input voxels from the outer face of the first one. The end is below the start where the
            output runs backwards.
    """

    grid: Grid
    axes: tuple[int, int, int]
    size: NDArray[np.int64]
    roi_start: FloatArray
    roi_end: FloatArray

    @property
    def step(self) -> FloatArray:
        """(3,) input voxels from one output voxel to the next, by input axis; negative where flipped."""
        return np.asarray((self.roi_end - self.roi_start) / self.size)

    def source_index(self, axis: int) -> FloatArray:
        """Fractional input index of each output voxel along one input axis."""
        steps = np.arange(int(self.size[axis]), dtype=np.float64) + 0.5
        return np.asarray(self.roi_start[axis] + steps * self.step[axis] - 0.5)


def canonical_axes(grid: Grid) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Say which axes of `grid` run towards the head, the back and the left.

    Axes are told apart by the rotation nearest to the grid's directions, the clearest axis first; nibabel's
    io_orientation, on which MONAI's Orientation rests, goes the same way.

    Returns:
        For head, back and left in this order: the index of the grid's axis, and +1 where it runs that way
        or -1 where it runs the other way.
    """
    u, _, vt = np.linalg.svd(grid.affine_lps[:3, :3] / grid.spacing_mm)
    toward = HEAD_BACK_LEFT_LPS.T @ (u @ vt)  # rows head, back, left; columns the grid's axes
    free = np.abs(toward)
    axes, signs = [0, 0, 0], [1, 1, 1]
    for axis in np.argsort(-free.max(axis=0), kind="stable"):
        way = int(np.argmax(free[:, axis]))
        axes[way], signs[way] = int(axis), 1 if toward[way, axis] >= 0 else -1
        free[way] = -1.0
    return (axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2])


def canonical_directions(grid: Grid) -> FloatArray:
    """Unit vectors, (3, 3) LPS columns, of the grid's own axes in the order head, back, left."""
    axes, signs = canonical_axes(grid)
    units = grid.affine_lps[:3, :3] / grid.spacing_mm
    return np.asarray(units[:, list(axes)] * np.array(signs, np.float64))


def model_grid(grid: Grid, pixdim_mm: tuple[float, float, float]) -> Resampling:
    """Place a whole volume on a model's grid, as MONAI's Orientation("SPL") and Spacing(pixdim) do.

    The first voxel is the volume's corner voxel at the feet, front and right. An axis of n voxels of s mm
    becomes round((n - 1) * s / pixdim + 1) voxels (half to even), so that the last one may lie up to half a
    voxel of the output outside the volume, where the border is repeated.

    Args:
        grid: of the volume; its axes at right angles, else MONAI would also take out the shear.
        pixdim_mm: spacing towards head, back and left; positive.

    Raises:
        InputError: an axis of more than `MAX_COUNT` voxels.
    """
    axes, signs = canonical_axes(grid)
    pixdim = np.array(pixdim_mm, np.float64)
    extent = np.array([(grid.shape[a] - 1) * grid.spacing_mm[a] for a in axes])
    # Without the inner rounding, noise of 1e-15 decides on the ties, which are common (0.5 mm to 1 mm).
    count = np.round(np.round(extent / pixdim, 6) + 1)
    if not (count <= MAX_COUNT).all():
        raise InputError(
            f"The images are {extent.max():.4g} mm long, too long for voxels of {pixdim.min():g} mm; "
            "check their positions and spacing."
        )
    first = [0.0, 0.0, 0.0]
    for axis, sign in zip(axes, signs, strict=True):
        first[axis] = 0.0 if sign > 0 else grid.shape[axis] - 1.0
    target = _grid(canonical_directions(grid) * pixdim, grid.to_lps_mm(first), count.astype(int))
    return resampling(grid, target)


def index_box(grid: Grid, start: ArrayLike, stop: ArrayLike) -> OrientedBox:
    """The box of the voxels from `start` up to, but without, `stop`, (slice, row, column) in `grid`."""
    low, high = np.asarray(start, np.float64), np.asarray(stop, np.float64)
    axes, _ = canonical_axes(grid)
    size_mm = (high - low) * grid.spacing_mm
    return OrientedBox(canonical_directions(grid), grid.to_lps_mm((low + high - 1) / 2), size_mm[list(axes)])


def level_box(mask: SpineMask, level: Vertebra) -> OrientedBox:
    """The box of one vertebra along the canonical axes of its mask.

    Raises:
        ValueError: the level is absent.
    """
    found = mask.level(level)
    if found.start is None or found.stop is None:
        raise ValueError(f"{level} is absent, so it has no box")
    return index_box(mask.grid, found.start, found.stop)


def crop_grid(box: OrientedBox, spec: CropSpec) -> Grid:
    """The grid of one vertebra's crop, centred on its box.

    The field is the box's height and `margin_mm` on both sides towards head and feet, and `field_mm` squared
    in the plane. Each side is divided into equal voxels (planes, pixels, pixels) that fill it from face to
    face, so spacing = side / count and the outermost centres lie half a voxel inside.

    Args:
        box: of the vertebra, from `level_box` or `index_box`.
        spec: of the crop.

    Returns:
        The grid, axes to head, back and left; it may reach outside the volume.
    """
    count = np.array([spec.planes, spec.pixels, spec.pixels])
    sides_mm = np.array([box.size_mm[0] + 2 * spec.margin_mm, spec.field_mm, spec.field_mm])
    steps = box.directions_lps * (sides_mm / count)
    return _grid(steps, box.center_lps_mm - steps @ ((count - 1) / 2), count)


def resampling(source: Grid, target: Grid) -> Resampling:
    """Express `target`, whose axes are parallel to those of `source`, in voxels of `source`.

    Raises:
        ValueError: the axes are not parallel.
    """
    to_source = np.linalg.inv(source.affine_lps) @ target.affine_lps
    scale = to_source[:3, :3]  # rows: source axes; columns: target axes
    axes = np.argmax(np.abs(scale), axis=0)
    size = np.empty(3, np.int64)
    step = np.empty(3)
    for out, axis in enumerate(axes):
        step[axis], size[axis] = scale[axis, out], target.shape[out]
    rest = scale.copy()
    rest[axes, range(3)] = 0.0
    if sorted(axes) != [0, 1, 2] or np.abs(rest).max() > PARALLEL * np.abs(step).max():
        raise ValueError("the axes of the two grids are not parallel")
    start = to_source[:3, 3] + 0.5 - 0.5 * step
    return Resampling(target, (int(axes[0]), int(axes[1]), int(axes[2])), size, start, start + size * step)


def _grid(steps_lps_mm: FloatArray, first_lps_mm: FloatArray, count: NDArray[np.int_]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps_lps_mm, first_lps_mm
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine)
