"""Samples for the localization and the segmentation network, in the format of `phantom_spines`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import THORACIC
from cspine.crops import GridSpec
from cspine.datasets.rsna.resampling import as_bytes, centered_grid, linear, nearest
from cspine.datasets.rsna.teacher import Teacher, with_anchors
from cspine.datasets.spine_samples import Sample
from cspine.preprocess.geometry import resampling
from cspine.volume import FloatArray, Grid, Volume


@dataclass(frozen=True)
class SpineSpec:
    """What the samples of one network show.

    Attributes:
        grid: spacing and window of the network.
        shape: voxels of a sample, more than the network's patch, so that it can be cut in many ways.
        without_spine: share of samples that show no cervical vertebra.
    """

    grid: GridSpec
    shape: tuple[int, int, int]
    without_spine: float = 0.0

    def empty(self, rng: np.random.Generator) -> bool:
        """Whether a study shall give a second sample, one without cervical vertebrae."""
        return bool(rng.random() < self.without_spine / max(1e-9, 1 - self.without_spine))


def spine_sample(
    volume: Volume, labels: NDArray[np.uint8], spec: SpineSpec, teacher: Teacher, *, true: bool
) -> Sample:
    """Cut a sample around the cervical spine.

    Args:
        volume: the CT.
        labels: on its grid: 0, 1..7, and 8 where `true`.
        spec: of the sample.
        teacher: adds the skull, which no mask of RSNA 2022 shows, and, to pseudo-labels, what lies below C7.
        true: whether the labels come from a mask.

    Returns:
        uint8 (2, slices, rows, columns), image and labels; both 0 outside the volume.
    """
    grid = centered_grid(volume.grid, spec.shape, spec.grid.pixdim_mm, _center(labels, volume.grid))
    plan = resampling(volume.grid, grid)
    image = as_bytes(linear(volume.hu, plan, spec.grid.window_hu))
    named = with_anchors(nearest(labels, plan), teacher.anchors(volume, grid), thoracic=not true)
    return np.stack([image, named])


def _center(labels: NDArray[np.uint8], grid: Grid) -> FloatArray:
    """Centre (3,) LPS mm of the box of C1..C7."""
    cervical = (labels > 0) & (labels < THORACIC)
    sides = [np.flatnonzero(cervical.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return grid.to_lps_mm([(side[0] + side[-1]) / 2 for side in sides])
