"""From what the segmentation network gives to named bone: which vertebra each piece is, and where it ends.

Which vertebrae there are is told in the network's cells. Where two of them meet, at facets a millimetre
apart, cells are too coarse: there each voxel goes to the vertebra at whose centre it points itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cspine.anatomy import THORACIC, Vertebra, channel_groups
from cspine.models.components import Pieces, find_pieces
from cspine.models.folding import numbers_around, repeated, unfolded
from cspine.models.levels import decode

Mm = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class NamedBone:
    """Bone and its names.

    Attributes:
        foreground: float32, of voxels: probability of vertebral bone.
        around: uint8, of voxels: 0, 1..7 or `THORACIC`, the name that bone there has; given one cell beyond
            the bone's surface.
        margins: of each level that was found (`cspine.models.levels.Decoded`).
    """

    foreground: NDArray[np.float32]
    around: NDArray[np.uint8]
    margins: dict[Vertebra, float]


def name_bone(output: NDArray[np.float32], pixdim_mm: Mm) -> NamedBone:
    """Decide which vertebra each piece of bone is.

    Args:
        output: (11 or more, slices, rows, columns) as of `spine_output`, slices towards the head.
        pixdim_mm: spacing of the image along (slice, row, column).
    """
    fold = _fold(output)
    pieces, names, margins = _found(output, pixdim_mm)
    ids = grown(pieces.ids)
    if fold > 1:
        ids = sharpened(ids, _voxels(_drawn(output)[1], fold), pieces, pixdim_mm[0])
    return NamedBone(_foreground(output), names[ids], margins)


def name_vertebrae(
    output: NDArray[np.float32], pixdim_mm: Mm
) -> tuple[NDArray[np.float32], NDArray[np.uint8], dict[Vertebra, float]]:
    """As `name_bone`: probability of bone, and margins; labels of cells, of bone alone and C1..C7."""
    pieces, names, margins = _found(output, pixdim_mm)
    return _foreground(output), cervical(names[pieces.ids]), margins


def _found(
    output: NDArray[np.float32], pixdim_mm: Mm
) -> tuple[Pieces, NDArray[np.uint8], dict[Vertebra, float]]:
    """The pieces of an output, the name of each number of theirs, and the levels' margins."""
    fold, (z, y, x) = _fold(output), pixdim_mm
    cells, _, _ = channel_groups(len(output))
    pieces = find_pieces(output[cells], (z * fold, y * fold, x * fold))
    decoded = decode(pieces)
    return pieces, np.array([0, *decoded.states], np.uint8), decoded.level_margins()


def _drawn(output: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a network that folds says of the voxels of its cells: bone and rise."""
    _, bone, rise_cm = (output[group] for group in channel_groups(len(output)))
    return bone, rise_cm


def _fold(output: NDArray[np.float32]) -> int:
    return max(1, round(float(np.cbrt(len(_drawn(output)[0])))))


def _foreground(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of vertebral bone of each voxel."""
    fold = _fold(output)
    if fold > 1:
        return _voxels(_drawn(output)[0], fold)
    whole: NDArray[np.float32] = output[1 : THORACIC + 1].sum(0)
    return whole


def cervical(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels with 0 for what is not C1..C7."""
    return np.where(labels < THORACIC, labels, np.uint8(0))


def grown(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers one voxel or cell beyond the surface, of the nearest bone, so that it is known whose it is."""
    near = ndimage.maximum_filter((ids > 0).astype(np.uint8), 3)
    found = np.zeros_like(ids)
    for box in ndimage.find_objects(near):  # one, or none where there is no bone
        nearest = ndimage.distance_transform_edt(ids[box] == 0, return_distances=False, return_indices=True)
        found[box] = ids[box][tuple(nearest)] * near[box]
    return found


def sharpened(
    ids: NDArray[np.int32], rise_cm: NDArray[np.float32], pieces: Pieces, slice_mm: float
) -> NDArray[np.int32]:
    """Numbers of voxels from those of cells, with the borders between pieces where the voxels' pointers part.

    Only a voxel whose cell or one of its 26 neighbours is of another piece can change sides.

    Args:
        ids: (slices, rows, columns) of cells: number of a piece, or 0.
        rise_cm: of voxels: how much further towards the head they say that their vertebra's centre lies.
        pieces: what the numbers mean; higher numbers are nearer to the feet.
        slice_mm: distance of the voxels' slices.
    """
    fold = rise_cm.shape[0] // ids.shape[0]
    numbers = torch.from_numpy(ids)[None]
    lowest, highest = numbers_around(numbers)
    torn = repeated((numbers > 0) & (lowest < highest), fold)[0].numpy()
    found: NDArray[np.int32] = repeated(numbers, fold)[0].numpy()
    at = np.nonzero(torn)
    cell = tuple(index // fold for index in at)
    # A cell's middle lies between its voxels.
    height_mm = (at[0] - (fold - 1) / 2) * slice_mm + 10 * rise_cm[at]
    centers_mm = np.array([np.inf, *(piece.height_mm for piece in pieces.pieces)])
    first, last = (side[0].numpy()[cell][:, None] for side in (lowest, highest))
    known = np.arange(len(centers_mm))
    away = np.abs(centers_mm - height_mm[:, None])
    away[(known < first) | (known > last)] = np.inf
    found[at] = away.argmin(1)
    return found


def _voxels(drawn: NDArray[np.float32], fold: int) -> NDArray[np.float32]:
    return unfolded(torch.from_numpy(drawn)[None], fold)[0, 0].numpy()
