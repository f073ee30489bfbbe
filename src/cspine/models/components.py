"""Pieces of bone: what the network saw as one vertebra, before it is decided which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cspine.anatomy import CERVICAL, OCCIPUT, THORACIC
from cspine.volume import FloatArray

STATES: Final = (*(int(v) for v in CERVICAL), THORACIC)
"""What a piece can be: C1..C7 and, as one, everything below."""

MIN_PIECE_ML: Final = 0.4
"""Smaller pieces are crumbs: they may belong to a vertebra but never are one."""
FRAGMENT_SHARE: Final = 0.3
"""A piece smaller than this share of the largest one of its class is a fragment, no vertebra of its own."""
FRAGMENT_REACH_MM: Final = 7.0
"""A fragment that touches no vertebra belongs to the nearest of its own class up to this far away."""
HALF_THORACIC_MM: Final = 11.0
"""From the top of the first thoracic vertebra, its joints included, to its centre."""
FLOOR: Final = 1e-3
"""Smallest posterior: one voxel cannot outweigh the others."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One connected piece of bone of one class.

    Attributes:
        evidence: (8,) mean log-posterior, over its voxels, that it is C1..C7 or thoracic, given that it is
            one of them.
        height_mm: of its centre, towards the head, in the grid's frame; of a thoracic piece, which is many
            vertebrae in one, of the centre of its topmost vertebra.
        volume_ml: of its voxels.
    """

    evidence: FloatArray
    height_mm: float
    volume_ml: float


@dataclass(frozen=True, eq=False)
class Pieces:
    """All pieces of an image, from head to feet.

    Attributes:
        ids: int32 (slices, rows, columns): 1 + index of the voxel's piece, 0 where there is none.
        pieces: their descriptions, in the order of the ids.
        skull_mm: height of the lowest skull bone above the pieces; None where none was seen.
    """

    ids: NDArray[np.int32]
    pieces: tuple[Piece, ...]
    skull_mm: float | None


def find_pieces(probabilities: NDArray[np.float32], pixdim_mm: tuple[float, float, float]) -> Pieces:
    """Cut the bone into pieces.

    Args:
        probabilities: (10, slices, rows, columns) of `NETWORK_CHANNELS`, slices towards the head.
        pixdim_mm: spacing along (slice, row, column).
    """
    labels = _without_crumbs_of_skull(probabilities)
    voxel_ml = float(np.prod(pixdim_mm)) / 1000
    mains, fragments = _connected(labels, voxel_ml)
    ids = np.zeros(labels.shape, np.int32)
    for number, part in enumerate(mains, start=1):
        ids[part.window][part.mask] = number
    _adopt(ids, fragments, [part.label for part in mains], pixdim_mm)
    described = [
        _describe(probabilities, ids == number, pixdim_mm[0], voxel_ml) for number in range(1, len(mains) + 1)
    ]
    order = sorted(range(len(mains)), key=lambda index: -described[index].height_mm)
    renumber = np.zeros(len(mains) + 1, np.int32)
    renumber[[index + 1 for index in order]] = np.arange(1, len(mains) + 1)
    skull = np.flatnonzero((labels == OCCIPUT).any((1, 2)))
    return Pieces(
        ids=renumber[ids],
        pieces=tuple(described[index] for index in order),
        skull_mm=float(skull[0]) * pixdim_mm[0] if skull.size else None,
    )


def _without_crumbs_of_skull(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Labels by the largest probability, of the skull only its largest piece."""
    labels: NDArray[np.uint8] = probabilities.argmax(0).astype(np.uint8)
    groups, count = ndimage.label(labels == OCCIPUT)
    if count > 1:
        largest = np.bincount(groups.ravel())[1:].argmax() + 1
        labels[(groups > 0) & (groups != largest)] = 0
    return labels


@dataclass(frozen=True, eq=False)
class _Part:
    """One connected part of a class; its window has a margin of a voxel where there is room."""

    label: int
    window: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]
    voxels: int


def _connected(labels: NDArray[np.uint8], voxel_ml: float) -> tuple[list[_Part], list[_Part]]:
    """Connected parts of each class: those that may be a vertebra, and fragments."""
    mains: list[_Part] = []
    fragments: list[_Part] = []
    for label in STATES:
        groups, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        parts = [
            _part(label, groups, number, found)
            for number, found in enumerate(ndimage.find_objects(groups), start=1)
        ]
        enough = max(MIN_PIECE_ML, FRAGMENT_SHARE * max((p.voxels for p in parts), default=0) * voxel_ml)
        for part in parts:
            (mains if part.voxels * voxel_ml >= enough else fragments).append(part)
    return mains, fragments


def _part(label: int, groups: NDArray[np.int32], number: int, found: tuple[slice, ...]) -> _Part:
    z, y, x = (slice(max(s.start - 1, 0), s.stop + 1) for s in found)
    mask = groups[z, y, x] == number
    return _Part(label, (z, y, x), mask, int(np.count_nonzero(mask)))


def _adopt(
    ids: NDArray[np.int32],
    fragments: list[_Part],
    classes: list[int],
    pixdim_mm: tuple[float, float, float],
) -> None:
    """Give each fragment to the vertebra that it touches most, or the near one of its class, or drop it."""
    bones = ids.copy()
    for part in fragments:
        shell = ndimage.binary_dilation(part.mask, np.ones((3, 3, 3))) & ~part.mask
        touching = np.bincount(bones[part.window][shell], minlength=len(classes) + 1)[1:]
        if touching.any():
            ids[part.window][part.mask] = int(touching.argmax()) + 1
            continue
        same = [number for number, owner in enumerate(classes, start=1) if owner == part.label]
        near = _nearest(part, bones, same, pixdim_mm)
        if near is not None:
            ids[part.window][part.mask] = near


def _nearest(
    part: _Part, bones: NDArray[np.int32], numbers: list[int], pixdim_mm: tuple[float, float, float]
) -> int | None:
    """The nearest of the given pieces within `FRAGMENT_REACH_MM` of a fragment; None where there is none."""
    reach = [int(np.ceil(FRAGMENT_REACH_MM / mm)) for mm in pixdim_mm]
    low = [max(s.start - r, 0) for s, r in zip(part.window, reach, strict=True)]
    around = tuple(slice(a, s.stop + r) for a, s, r in zip(low, part.window, reach, strict=True))
    nearby = bones[around]
    places = np.argwhere(np.isin(nearby, numbers))
    if places.size == 0:
        return None
    own = np.argwhere(part.mask) + [s.start - a for s, a in zip(part.window, low, strict=True)]
    distances, index = cKDTree(places * pixdim_mm).query(own * pixdim_mm)
    closest = int(distances.argmin())
    if distances[closest] > FRAGMENT_REACH_MM:
        return None
    return int(nearby[tuple(places[index[closest]])])


def _describe(
    probabilities: NDArray[np.float32], mask: NDArray[np.bool_], slice_mm: float, voxel_ml: float
) -> Piece:
    posterior = probabilities[STATES[0] : STATES[-1] + 1, mask].astype(np.float64)
    posterior = np.maximum(posterior / np.maximum(posterior.sum(0), 1e-12), FLOOR)
    evidence = np.log(posterior).mean(1)
    slices = np.nonzero(mask)[0] * slice_mm
    thoracic = STATES[int(evidence.argmax())] == THORACIC
    return Piece(
        evidence=evidence,
        height_mm=float(max(slices.max() - HALF_THORACIC_MM, slices.mean()) if thoracic else slices.mean()),
        volume_ml=float(np.count_nonzero(mask) * voxel_ml),
    )
