"""From a network's coarse grid to the volume's own: smooth surfaces at little cost, where the CT has them.

Both grids have the same axes up to order and direction, so interpolation is separable: along each axis a
small matrix of linear weights. It is done for one vertebra at a time, in that vertebra's box only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from cspine.models.edges import BoneEdges
from cspine.volume import FloatArray, Grid, Volume, label_boxes

BONE: Final = 0.45
"""Probability above which a voxel is bone. What is thin loses most by interpolation between voxels and by the
mean of two looks, so that at one half tips would be missing."""
SEEN: Final = 0.6
"""What the CT adds to the probability where it is as bright as the bone around, and takes where it is as dark
as what surrounds that. What it gives stands in docs/explanation/results.md."""
MOST_SEEN: Final = 1.5
"""What is brighter or darker than that counts no more than this."""
LEAST: Final = 0.03
SURE: Final = 0.85
"""Below and above these probabilities the CT's brightness changes nothing: a vessel full of contrast medium
is no bone, and marrow is."""
ALIGNED: Final = 0.1
"""Model voxels by which an axis may run askew over its whole length; the grids are made from each other."""
BEYOND: Final = 0.76
"""Model voxels beyond the last centre in which the border still counts: half a voxel, and the volume's own
last half voxel. Resampling may stop that far from the volume's edge."""


def labels_onto(
    foreground: NDArray[np.float32],
    labels: NDArray[np.uint8],
    grid: Grid,
    edges: BoneEdges,
    volume: Volume,
) -> NDArray[np.uint8]:
    """Carry labels to the volume's own grid, and draw their surfaces where the volume shows them.

    A voxel gets the label whose probability there, with what the voxel's own brightness adds or takes, is
    above `BONE`.

    Args:
        foreground: float32 (slices, rows, columns) in [0, 1], probability of bone.
        labels: uint8, same shape: which label the bone there has, given one voxel beyond the bone's surface.
        grid: of both.
        edges: on the same grid.
        volume: the CT.

    Returns:
        uint8 of the volume's shape; 0 outside `grid`.

    Raises:
        ValueError: the axes of the grids do not run alike.
    """
    axes, steps, offsets = _mapping(grid, volume.grid)
    found = np.zeros(volume.grid.shape, np.uint8)
    # Views whose axes are ordered as the model's.
    ordered, hu = found.transpose(axes), volume.hu.transpose(axes)
    indices = [
        np.arange(size, dtype=np.float64) * step + offset
        for size, step, offset in zip(ordered.shape, steps, offsets, strict=True)
    ]
    for label, (start, stop) in label_boxes(labels).items():
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        ways = [_weights(*way) for way in zip(indices, start, stop, grid.shape, strict=True)]
        target = tuple(slice(first, first + len(weights)) for first, weights in ways)
        probability = _carried(foreground[window] * (labels[window] == label), ways)
        brightness = torch.from_numpy(hu[target].astype(np.float32))
        limit, gain = (_carried(field[window], ways) for field in (edges.limit_hu, edges.gain))
        seen = (brightness - limit) * gain
        bone = probability + SEEN * seen.clamp(-MOST_SEEN, MOST_SEEN) > BONE
        bone = (bone & (probability > LEAST)) | (probability > SURE)
        ordered[target][bone.numpy()] = label
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


_Way = tuple[int, torch.Tensor]


def _carried(values: NDArray[np.float32], ways: Sequence[_Way]) -> torch.Tensor:
    """A window of the model's grid on the outputs that it touches, given the `_weights` of each axis."""
    carried = torch.from_numpy(values)
    # Each contraction moves its axis to the end, so after three they are in order again.
    for _, weights in ways:
        carried = torch.tensordot(carried, weights, dims=([0], [1]))
    return carried


def _weights(at: FloatArray, start: int, stop: int, size: int) -> _Way:
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
