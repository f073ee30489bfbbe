"""Where the cervical spine is, if it is in view at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cspine.anatomy import CERVICAL, THORACIC
from cspine.crops import ModelImage
from cspine.models.inference import STRIDE, most_likely
from cspine.volume import FloatArray, Grid

if TYPE_CHECKING:
    import torch

MIN_LEVEL_ML: Final = 1.5
"""Less than this of a level, of the 6 to 16 ml that it has, is no evidence of it."""
MIN_LEVELS: Final = 2
"""One vertebra alone cannot be told from a mistake."""
MIN_SPINE_ML: Final = 10.0
JOIN_MM: Final = 9.0
"""Bone of neighbouring vertebrae lies closer together than this."""
MIN_PURITY: Final = 0.5
"""In the slices of a cervical spine at least this share of the vertebral bone is cervical; in a lumbar spine
the network sees cervical vertebrae here and there among thoracic ones."""
NOT_AIR: Final = 0.15
"""Of the window: denser than this is tissue; air and lung are below."""
TAIL_PERCENT: Final = 2.0


def find_cervical_spine(network: torch.nn.Module, image: ModelImage) -> FloatArray | None:
    """Return the centre (3,) LPS mm of the cervical spine's box; None where no cervical spine is in view.

    Args:
        network: of the localization bundle.
        image: the whole volume on its grid.
    """
    body = _body(image.image)
    if body is None or all(side.stop - side.start <= STRIDE for side in body):
        return None  # the network sees a single voxel at its coarsest, of less than 5 cm: no neck
    z, y, x = body
    labels = most_likely(network, image.image[z, y, x]).cpu().numpy()
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    return spine_center_lps_mm(labels, image.grid.cropped((z.start, y.start, x.start), shape))


def _body(image: torch.Tensor) -> tuple[slice, slice, slice] | None:
    """The box of all that is not air; often a small part of the field of view."""
    dense = image > NOT_AIR
    sides = []
    for axis in range(3):
        last, first = sorted({0, 1, 2} - {axis}, reverse=True)
        where = dense.any(last).any(first).nonzero()
        if where.numel() == 0:
            return None
        sides.append(slice(int(where[0]), int(where[-1]) + 1))
    return sides[0], sides[1], sides[2]


def spine_center_lps_mm(labels: NDArray[np.int64], grid: Grid) -> FloatArray | None:
    """As `find_cervical_spine`, from the most likely class of each voxel."""
    cervical = (labels >= 1) & (labels < THORACIC)
    spine = _largest_group(cervical, grid)
    levels_ml = np.bincount(labels[spine], minlength=len(CERVICAL) + 1) * grid.voxel_mm3 / 1000
    if levels_ml.sum() < MIN_SPINE_ML or np.count_nonzero(levels_ml >= MIN_LEVEL_ML) < MIN_LEVELS:
        return None
    where = np.argwhere(spine)
    # Percentiles, so that a few stray voxels do not move the box.
    low, high = np.percentile(where, (TAIL_PERCENT, 100 - TAIL_PERCENT), axis=0)
    thoracic = np.count_nonzero(labels[int(low[0]) : int(high[0]) + 1] == THORACIC)
    if len(where) < MIN_PURITY * (len(where) + thoracic):
        return None
    return grid.to_lps_mm((low + high) / 2)


def _largest_group(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """The largest set of pieces of `mask` that lie close together."""
    reach = max(1, round(JOIN_MM / 2 / min(grid.spacing_mm)))
    near = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 1), iterations=reach)
    groups, count = ndimage.label(near)
    if count == 0:
        return mask
    sizes = np.bincount(groups[mask], minlength=count + 1)
    largest: NDArray[np.bool_] = mask & (groups == sizes[1:].argmax() + 1)
    return largest
