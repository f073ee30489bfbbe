"""Crops for the fracture classifier, in the format of `crop_samples`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cspine.anatomy import Vertebra
from cspine.crops import CropSpec
from cspine.datasets.crop_samples import LabelledCrop
from cspine.datasets.phantom_crops import CENTER_JITTER_MM, SIZE_JITTER
from cspine.datasets.rsna.boxes import VoxelBox
from cspine.datasets.rsna.resampling import as_bytes, linear, nearest
from cspine.preprocess.geometry import OrientedBox, Resampling, crop_grid, level_box, resampling
from cspine.preprocess.preprocessor import nearest_mask
from cspine.volume import SpineMask, Visibility, Volume


@dataclass(frozen=True)
class Truth:
    """What is known of the fractures of a study: the label of each level, and boxes without a level."""

    fractured: Mapping[Vertebra, bool]
    boxes: Sequence[VoxelBox] = ()


def labelled_crops(
    volume: Volume,
    mask: SpineMask,
    truth: Truth,
    spec: CropSpec,
    rng: np.random.Generator | None = None,
) -> tuple[LabelledCrop, ...]:
    """Cut out every vertebra that the mask shows, from C1 downwards.

    The boxes say where a fracture is, but not of which level; the part of a box that lies on a fractured
    vertebra belongs to it. A fractured level without a box is known by its label alone.

    Args:
        volume: the CT.
        mask: its vertebrae, on the same grid.
        truth: of the fractures.
        spec: of the crops.
        rng: draws errors of the box, as phantoms have them; None for the crops that inference would cut.
    """
    found = []
    for level in (seen.level for seen in mask.levels if seen.visibility is not Visibility.ABSENT):
        box = level_box(mask, level)
        plan = resampling(volume.grid, crop_grid(box if rng is None else jittered(box, rng), spec))
        own = nearest_mask(mask, level, plan) > 0
        broken = np.zeros_like(own)
        if truth.fractured[level]:
            near = ndimage.binary_dilation(own, iterations=2) & (own | (nearest(mask.labels, plan) == 0))
            broken = _inside(truth.boxes, plan) & near
        found.append(
            LabelledCrop(
                level=level,
                image=as_bytes(linear(volume.hu, plan, spec.window_hu)),
                mask=own,
                fracture=broken,
                fractured=truth.fractured[level],
                located=bool(broken.any()) or not truth.fractured[level],
            )
        )
    return tuple(found)


def jittered(box: OrientedBox, rng: np.random.Generator) -> OrientedBox:
    """The box as a segmentation with errors would give it; as wide as for phantoms."""
    moved = box.center_lps_mm + rng.uniform(-CENTER_JITTER_MM, CENTER_JITTER_MM, 3)
    sized = box.size_mm * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER, 3)
    return OrientedBox(box.directions_lps, moved, sized)


def _inside(boxes: Sequence[VoxelBox], plan: Resampling) -> NDArray[np.bool_]:
    """Which voxels of a crop lie in a box; a box reaches half a slice, or half a plane, up and down."""
    slices, rows, columns = (plan.source_index(axis) for axis in range(3))
    reach = max(0.5, abs(float(plan.step[0])) / 2)
    made = np.zeros(plan.size, bool)
    for box in boxes:
        made |= (
            (np.abs(slices - box.slice) <= reach)[:, None, None]
            & _between(rows, box.rows)[:, None]
            & _between(columns, box.columns)
        )
    return np.ascontiguousarray(made.transpose(plan.axes))


def _between(index: NDArray[np.float64], edges: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((index >= edges[0]) & (index <= edges[1]))
