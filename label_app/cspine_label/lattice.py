"""Labels from one grid to another: the same voxels in another order or, for foreign ones, the nearest."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.volume import Grid
from cspine_label.errors import RefusedLabelError

SAME_PLACE: Final = 0.1
"""Voxels by which the corners of two grids may differ and still be the same; files round their headers."""


def reordered(labels: NDArray[np.uint8], grid: Grid, onto: Grid) -> NDArray[np.uint8]:
    """Labels of an uploaded file on the image's own grid; axes may be in another order or direction.

    Args:
        labels: of `grid.shape`.
        grid: where the file says its voxels are.
        onto: the image's.

    Raises:
        RefusedLabelError: another size, or another place.
    """
    size, wanted = _text(labels.shape), _text(onto.shape)
    if sorted(labels.shape) != sorted(onto.shape):
        raise RefusedLabelError(
            f"The label has {size} voxels, the image {wanted}; save it on the grid of the image."
        )
    across = np.linalg.inv(grid.affine_lps) @ onto.affine_lps
    axes = [int(np.abs(column).argmax()) for column in across[:3, :3].T]
    moved = Grid(grid.shape, grid.affine_lps)
    if sorted(axes) == [0, 1, 2]:
        flips = [across[axes[way], way] < 0 for way in range(3)]
        turned = np.transpose(labels, axes)
        turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        moved = _moved(grid, axes, flips)
        if _same(moved, onto):
            return np.ascontiguousarray(turned)
    raise RefusedLabelError(
        f"The label ({size} voxels) does not lie where the image lies; save it on the grid of the image."
    )


def _moved(grid: Grid, axes: list[int], flips: list[bool]) -> Grid:
    affine = grid.affine_lps.copy()
    shape = [grid.shape[axis] for axis in axes]
    affine[:3, :3] = grid.affine_lps[:3, axes]
    for way, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, way] * (shape[way] - 1)
            affine[:3, way] *= -1
    return Grid((shape[0], shape[1], shape[2]), affine)


def _same(grid: Grid, onto: Grid) -> bool:
    return grid.same_as(onto, tolerance_mm=SAME_PLACE * min(onto.spacing_mm))


def nearest(labels: NDArray[np.uint8], grid: Grid, onto: Grid) -> NDArray[np.uint8]:
    """Labels of any other grid on `onto`: each voxel takes the one its centre lies in; 0 outside.

    Args:
        labels: of `grid.shape`.
        grid: of the labels.
        onto: the grid to fill; done slice by slice, so memory stays small.
    """
    matrix = np.linalg.inv(grid.affine_lps) @ onto.affine_lps
    rows, columns = np.meshgrid(np.arange(onto.shape[1]), np.arange(onto.shape[2]), indexing="ij")
    plane = matrix[:3, 1, None, None] * rows + matrix[:3, 2, None, None] * columns + matrix[:3, 3, None, None]
    result = np.zeros(onto.shape, np.uint8)
    limit = np.array(grid.shape)[:, None, None]
    for index in range(onto.shape[0]):
        at = np.floor(plane + matrix[:3, 0, None, None] * index + 0.5).astype(np.int64)
        inside = ((at >= 0) & (at < limit)).all(0)
        result[index][inside] = labels[tuple(axis[inside] for axis in at)]
    return result


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in reversed(shape))
