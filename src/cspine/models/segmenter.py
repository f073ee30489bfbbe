"""From the volume on the networks' grids to a mask of C1..C7 on the volume's own grid."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cspine.anatomy import THORACIC, Vertebra
from cspine.crops import GridSpec, ModelGrids, ModelImage
from cspine.errors import ModelError
from cspine.findings import ModelVersion
from cspine.models.bundle import METADATA, Bundle
from cspine.models.components import find_pieces
from cspine.models.inference import STRIDE, channels_last, spine_output
from cspine.models.levels import decode
from cspine.models.localizer import find_cervical_spine
from cspine.models.upsample import labels_onto
from cspine.volume import FloatArray, Grid, SpineMask

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class SpineSegmenter:
    """Finds the cervical spine in a whole volume, then its vertebrae in one patch around it."""

    def __init__(self, localization: Bundle, segmentation: Bundle, *, device: torch.device) -> None:
        """Load both networks.

        Args:
            localization: bundle whose network sees the whole volume.
            segmentation: bundle whose network sees one patch.
            device: where to compute.

        Raises:
            ModelError: weights of another architecture, or metadata without a usable grid.
        """
        self.localization_spec = localization.grid_spec()
        self.segmentation_spec = segmentation.grid_spec()
        self._patch = _checked_patch(segmentation.name, self.segmentation_spec)
        self.models: tuple[ModelVersion, ...] = (localization.model_version(), segmentation.model_version())
        self._locate = channels_last(localization.network(device))
        self._segment = channels_last(segmentation.network(device))

    def __call__(self, grids: ModelGrids, onto: Grid) -> SpineMask:
        """Segment C1..C7.

        Args:
            grids: the whole volume on the two networks' grids.
            onto: the volume's own grid.

        Returns:
            The mask on `onto`; empty where no cervical spine is in view.

        Raises:
            ModelError: a network's output is not a number.
        """
        center = find_cervical_spine(self._locate, grids.localization)
        if center is None:
            log.info("no cervical spine in view")
            return SpineMask.from_labels(onto, np.zeros(onto.shape, np.uint8))
        patch = cut_patch(grids.segmentation, center, self._patch)
        output = spine_output(self._segment, patch.image).cpu().numpy()
        start, stop = _overlap(patch.grid, grids.segmentation.grid)
        inside = output[(slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))]
        shape = (inside.shape[1], inside.shape[2], inside.shape[3])
        foreground, labels, margins = name_vertebrae(inside, self.segmentation_spec.pixdim_mm)
        grid = patch.grid.cropped(start, shape)
        reach_edges(foreground, labels, grid, grids.segmentation.grid)
        return SpineMask.from_labels(onto, labels_onto(foreground, grown(labels), grid, onto), margins)


def name_vertebrae(
    output: NDArray[np.float32], pixdim_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], dict[Vertebra, float]]:
    """Decide which vertebra each piece of bone is.

    Args:
        output: (11, slices, rows, columns) as of `spine_output`, slices towards the head.
        pixdim_mm: spacing along (slice, row, column).

    Returns:
        Probability of vertebral bone; labels 0 or 1..7 by the best order of levels; each level's margin.
    """
    pieces = find_pieces(output, pixdim_mm)
    decoded = decode(pieces)
    names = np.array([0, *(0 if state == THORACIC else state for state in decoded.states)], np.uint8)
    foreground = output[1 : THORACIC + 1].sum(0)
    return foreground, names[pieces.ids], decoded.level_margins()


def cut_patch(image: ModelImage, center_lps_mm: FloatArray, shape: tuple[int, int, int]) -> ModelImage:
    """Cut `shape` voxels around a point; what lies outside the image is 0, as air is."""
    import torch

    middle = np.floor(image.grid.to_index(center_lps_mm) + 0.5).astype(int)
    first = middle - np.array(shape) // 2
    low = np.clip(first, 0, image.grid.shape)
    high = np.clip(first + shape, 0, image.grid.shape)
    patch = torch.zeros(shape, dtype=image.image.dtype, device=image.image.device)
    to = tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))
    patch[to] = image.image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return ModelImage(image.grid.cropped(first, shape), patch)


def _overlap(patch: Grid, whole: Grid) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The part of `patch`, in its own voxels, that lies in the grid that it was cut from."""
    first = np.rint(whole.to_index(patch.to_lps_mm((0, 0, 0)))).astype(int)
    start = np.maximum(-first, 0)
    stop = np.minimum(np.array(whole.shape) - first, patch.shape)
    return tuple(int(n) for n in start), tuple(int(n) for n in stop)


def reach_edges(foreground: NDArray[np.float32], labels: NDArray[np.uint8], part: Grid, whole: Grid) -> None:
    """Let bone that ends one voxel before the volume's edge reach it, in place.

    A network is unsure about the outermost voxels, and resampling may stop short of the edge. A vertebra that
    comes this close is cut, so it must not look complete.
    """
    first = np.rint(whole.to_index(part.to_lps_mm((0, 0, 0)))).astype(int)
    for axis in range(3):
        if part.shape[axis] < 2:
            continue
        for at_edge, edge, inner in (
            (first[axis] == 0, 0, 1),
            (first[axis] + part.shape[axis] == whole.shape[axis], -1, -2),
        ):
            if at_edge:
                _copy_plane(foreground, labels, axis, edge, inner)


def _copy_plane(
    foreground: NDArray[np.float32], labels: NDArray[np.uint8], axis: int, edge: int, inner: int
) -> None:
    values, names = np.moveaxis(foreground, axis, 0), np.moveaxis(labels, axis, 0)
    bare = (names[edge] == 0) & (names[inner] != 0)
    names[edge][bare] = names[inner][bare]
    values[edge][bare] = values[inner][bare]


def grown(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels one voxel beyond their surface, so that interpolation knows whose the surface is."""
    return np.where(labels > 0, labels, ndimage.maximum_filter(labels, 3))


def _checked_patch(name: str, spec: GridSpec) -> tuple[int, int, int]:
    if spec.patch is None or any(n < STRIDE or n % STRIDE for n in spec.patch):
        raise ModelError(
            f"Bundle {name}: {METADATA} must name a patch whose sides are multiples of {STRIDE} voxels."
        )
    return spec.patch
