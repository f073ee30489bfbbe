"""From a network's coarse grid to the volume's own: smooth surfaces at little cost.

Both grids have the same axes up to order and direction, so interpolation is separable: along each axis a
small matrix of linear weights. It is done for one vertebra at a time, in that vertebra's box only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from cspine.volume import FloatArray, Grid, label_boxes

BONE: Final = 0.45
"""Probability above which a voxel is bone. What is thin loses most by interpolation between voxels and by the
mean of two looks, so that at one half tips would be missing."""
ALIGNED: Final = 0.1
"""Model voxels by which an axis may run askew over its whole length; the grids are made from each other."""
BEYOND: Final = 0.76
"""Model voxels beyond the last centre in which the border still counts: half a voxel, and the volume's own
last half voxel. Resampling may stop that far from the volume's edge."""


def labels_onto(
    foreground: NDArray[np.float32], labels: NDArray[np.uint8], grid: Grid, onto: Grid
) -> NDArray[np.uint8]:
    """Carry labels to another grid; a voxel gets the label whose probability there is above `BONE`.

    Args:
        foreground: float32 (slices, rows, columns) in [0, 1], probability of bone.
        labels: uint8, same shape: which label the bone there has, given one voxel beyond the bone's surface.
        grid: of both.
        onto: the grid to fill.

    Returns:
        uint8 of `onto.shape`; 0 outside `grid`.

    Raises:
        ValueError: the axes of the grids do not run alike.
    """
    axes, steps, offsets = _mapping(grid, onto)
    found = np.zeros(onto.shape, np.uint8)
    # A view whose axes are ordered as the model's.
    ordered = found.transpose(axes)
    for label, (start, stop) in label_boxes(labels).items():
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        values = torch.from_numpy(foreground[window] * (labels[window] == label))
        target = []
        for way in range(3):
            at = np.arange(ordered.shape[way], dtype=np.float64) * steps[way] + offsets[way]
            first, weights = _weights(at, start[way], stop[way], grid.shape[way])
            values = torch.tensordot(values, weights, dims=([0], [1]))
            target.append(slice(first, first + weights.shape[0]))
        # Each contraction moved its axis to the end, so after three they are in order again.
        ordered[tuple(target)][values.numpy() > BONE] = label
    return found


def _mapping(grid: Grid, onto: Grid) -> tuple[tuple[int, int, int], list[float], list[float]]:
    """For each axis of `grid`: the axis of `onto` along it, and index = step * index of `onto` + offset."""
    across = np.linalg.inv(grid.affine_lps) @ onto.affine_lps
    axes = [int(np.abs(row).argmax()) for row in across[:3, :3]]
    rest = across[:3, :3].copy()
    rest[range(3), axes] = 0
    if sorted(axes) != [0, 1, 2] or (np.abs(rest) * np.array(onto.shape)).max() > ALIGNED:
        raise ValueError("the two grids do not have the same axes")
    steps = [float(across[way, axis]) for way, axis in enumerate(axes)]
    return (axes[0], axes[1], axes[2]), steps, [float(offset) for offset in across[:3, 3]]


def _weights(at: FloatArray, start: int, stop: int, size: int) -> tuple[int, torch.Tensor]:
    """Linear weights (outputs, stop - start) of model voxels start..stop for the outputs that they touch.

    `at` are the outputs' model indices, `size` the number of model voxels along the axis. Beyond the last
    voxel its value holds for `BEYOND` voxels.

    Returns:
        Index of the first output that they touch, and the weights from there on.
    """
    inside = (at > -BEYOND) & (at < size - 1 + BEYOND)
    at = np.clip(at, 0, size - 1)
    touched = np.flatnonzero(inside & (at > start - 1) & (at < stop))
    if touched.size == 0:
        return 0, torch.zeros((0, stop - start))
    first, last = int(touched[0]), int(touched[-1]) + 1
    distance = np.abs(at[first:last, None] - np.arange(start, stop)[None, :])
    weights = np.maximum(0.0, 1.0 - distance) * inside[first:last, None]
    return first, torch.from_numpy(weights.astype(np.float32))
