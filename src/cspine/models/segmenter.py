"""From the volume on the networks' grids to a mask of C1..C7 on the volume's own grid."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cspine.crops import GridSpec, ModelGrids, ModelImage, PendingImage
from cspine.errors import ModelError
from cspine.findings import ModelVersion
from cspine.models.bundle import METADATA, Bundle
from cspine.models.edges import bone_edges
from cspine.models.inference import STRIDE, channels_last, fold_of, twofold_output
from cspine.models.localizer import find_cervical_spine
from cspine.models.naming import cervical, name_bone
from cspine.models.upsample import BONE, labels_onto
from cspine.volume import FloatArray, Grid, SpineMask, Volume

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

    def __call__(self, grids: ModelGrids, volume: Volume) -> SpineMask:
        """Segment C1..C7.

        Args:
            grids: the whole volume on the two networks' grids.
            volume: the volume itself.

        Returns:
            The mask on the volume's own grid; empty where no cervical spine is in view.

        Raises:
            ModelError: a network's output is not a number.
        """
        center = find_cervical_spine(self._locate, grids.localization)
        if center is None:
            log.info("no cervical spine in view")
            return SpineMask.from_labels(volume.grid, np.zeros(volume.grid.shape, np.uint8))
        patch = cut_patch(grids.segmentation, center, self._patch)
        output = twofold_output(self._segment, patch.image).cpu().numpy()
        start, stop = _overlap(patch.grid, grids.segmentation.grid)
        fold = fold_of(self._segment)
        # The volume may end in the middle of a cell.
        cells = tuple(slice(a // fold, -(-b // fold)) for a, b in zip(start, stop, strict=True))
        inside = tuple(slice(a % fold, a % fold + b - a) for a, b in zip(start, stop, strict=True))
        found = name_bone(output[(slice(None), *cells)], self.segmentation_spec.pixdim_mm)
        foreground, names = found.foreground[inside], cervical(found.around)[inside]
        grid = patch.grid.cropped(start, foreground.shape)
        reach_edges(foreground, names, grid, grids.segmentation.grid, fold)
        low, high = self.segmentation_spec.window_hu
        image = patch.image[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        image_hu = (low + (high - low) * image).cpu().numpy()
        edges = bone_edges(image_hu, foreground, self.segmentation_spec.pixdim_mm)
        labels = labels_onto(foreground, names, grid, edges, volume)
        return SpineMask.from_labels(volume.grid, labels, found.margins)


def cut_patch(
    image: ModelImage | PendingImage, center_lps_mm: FloatArray, shape: tuple[int, int, int]
) -> ModelImage:
    """Cut `shape` voxels around a point; what lies outside the image is 0, as air is."""
    import torch

    middle = np.floor(image.grid.to_index(center_lps_mm) + 0.5).astype(int)
    first = middle - np.array(shape) // 2
    low = np.clip(first, 0, image.grid.shape)
    high = np.clip(first + shape, 0, image.grid.shape)
    slices, rows, columns = (int(n) for n in high - low)
    inside = image.part(low, (slices, rows, columns)).image
    patch = torch.zeros(shape, dtype=inside.dtype, device=inside.device)
    patch[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))] = inside
    return ModelImage(image.grid.cropped(first, shape), patch)


def _overlap(patch: Grid, whole: Grid) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The part of `patch`, in its own voxels, that lies in the grid that it was cut from."""
    first = np.rint(whole.to_index(patch.to_lps_mm((0, 0, 0)))).astype(int)
    start = np.maximum(-first, 0)
    stop = np.minimum(np.array(whole.shape) - first, patch.shape)
    return tuple(int(n) for n in start), tuple(int(n) for n in stop)


def reach_edges(
    foreground: NDArray[np.float32], labels: NDArray[np.uint8], part: Grid, whole: Grid, reach: int = 1
) -> None:
    """Let bone that ends up to `reach` voxels before the volume's edge reach it, in place.

    A network is unsure about the outermost voxels, and resampling may stop short of the edge. A vertebra that
    comes this close is cut, so it must not look complete.
    """
    first = np.rint(whole.to_index(part.to_lps_mm((0, 0, 0)))).astype(int)
    for axis in range(3):
        last = part.shape[axis] - 1
        for inner in range(min(reach, last), 0, -1):
            if first[axis] == 0:
                _copy_plane(foreground, labels, axis, inner - 1, inner)
            if first[axis] + last + 1 == whole.shape[axis]:
                _copy_plane(foreground, labels, axis, last - inner + 1, last - inner)


def _copy_plane(
    foreground: NDArray[np.float32], labels: NDArray[np.uint8], axis: int, edge: int, inner: int
) -> None:
    values, names = np.moveaxis(foreground, axis, 0), np.moveaxis(labels, axis, 0)
    bare = (values[edge] <= BONE) & (values[inner] > BONE) & (names[inner] != 0)
    names[edge][bare] = names[inner][bare]
    values[edge][bare] = values[inner][bare]


def _checked_patch(name: str, spec: GridSpec) -> tuple[int, int, int]:
    if spec.patch is None or any(n < STRIDE or n % STRIDE for n in spec.patch):
        raise ModelError(
            f"Bundle {name}: {METADATA} must name a patch whose sides are multiples of {STRIDE} voxels."
        )
    return spec.patch
