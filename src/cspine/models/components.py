"""Pieces of bone: what the network saw as one vertebra, before it is decided which.

Each voxel of bone points at the height of its own vertebra's centre. That is read off its near surroundings,
so the pointers of one vertebra meet in a narrow band, a vertebra's height from the next one, even where the
network cannot tell which vertebra it is and its classes change in the middle of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal
from scipy.spatial import cKDTree

from cspine.anatomy import CERVICAL, OCCIPUT, RISE_CHANNEL, THORACIC
from cspine.volume import FloatArray

STATES: Final = (*(int(v) for v in CERVICAL), THORACIC)
"""What a piece can be: C1..C7 and, as one, everything below."""

MIN_PIECE_ML: Final = 0.4
"""Smaller pieces are crumbs: they may belong to a vertebra but never are one."""
FRAGMENT_SHARE: Final = 0.3
"""A part smaller than this share of the largest one that points at the same height is a fragment."""
FRAGMENT_REACH_MM: Final = 7.0
"""A fragment that touches no vertebra belongs to the nearest part of its own up to this far away."""
DEFAULT_PITCH_MM: Final = 17.0
"""From one cervical vertebra to the next; 12 to 22 mm are normal."""
MISSED_FROM: Final = 1.65
"""Pitches between two vertebrae from which there is room for one between them."""
SAME_UNTIL: Final = 0.35
"""Pitches up to which two bands may be of one vertebra."""
SLIVER_SHARE: Final = 0.3
"""Of the neck's usual vertebra: a smaller one, where there is no room for it, is a fragment."""
FLOOR: Final = 1e-3
"""Smallest posterior: one voxel cannot outweigh the others."""
BAND_MM: Final = 1.0
"""Step of the heights that are counted, smoothed by `SMOOTH_MM`."""
SMOOTH_MM: Final = 1.5
APART_MM: Final = 5.0
"""Two vertebrae's centres are never closer."""
DIP: Final = 0.1
"""Between two vertebrae fewer voxels point than at the weaker of them, by at least this share of it."""


@dataclass(frozen=True, eq=False)
class Piece:
    """The bone that points at one height: one vertebra.

    Attributes:
        evidence: (8,) mean log-posterior, over its voxels, that it is C1..C7 or thoracic, given that it is
            one of them.
        height_mm: of its centre, towards the head, in the grid's frame, also where part of it is not in view.
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


def find_pieces(output: NDArray[np.float32], pixdim_mm: tuple[float, float, float]) -> Pieces:
    """Cut the bone into pieces.

    Args:
        output: (11, slices, rows, columns), what `cspine.models.inference.spine_output` gives, slices towards
            the head.
        pixdim_mm: spacing along (slice, row, column).
    """
    labels = _without_crumbs_of_skull(output[:RISE_CHANNEL])
    voxel_ml = float(np.prod(pixdim_mm)) / 1000
    bone = (labels > 0) & (labels <= THORACIC)
    heights = (
        np.arange(labels.shape[0], dtype=np.float32)[:, None, None] * pixdim_mm[0] + 10 * output[RISE_CHANNEL]
    )
    bands = np.zeros(labels.shape, np.int32)
    bands[bone] = _bands(heights[bone])
    ids, count = _joined(bands, heights, pixdim_mm, voxel_ml)
    where = ids > 0
    described = _described(ids[where], count, output[:RISE_CHANNEL, where], heights[where], voxel_ml)
    skull = np.flatnonzero((labels == OCCIPUT).any((1, 2)))
    return Pieces(ids, described, float(skull[0]) * pixdim_mm[0] if skull.size else None)


def _bands(heights_mm: NDArray[np.float32]) -> NDArray[np.int32]:
    """Number the heights by the vertebra that they point at, 1 for the highest one."""
    if heights_mm.size == 0:
        return np.zeros(0, np.int32)
    low = float(heights_mm.min()) - 4 * SMOOTH_MM
    edges = np.arange(low, float(heights_mm.max()) + 4 * SMOOTH_MM + BAND_MM, BAND_MM)
    counts = np.histogram(heights_mm, edges)[0].astype(np.float64)
    smooth = ndimage.gaussian_filter1d(counts, SMOOTH_MM / BAND_MM)
    tops, _ = signal.find_peaks(smooth, distance=APART_MM / BAND_MM)
    cuts: list[float] = []
    last: int | None = None
    for top in tops:
        if last is None:
            last = int(top)
            continue
        dip = last + int(smooth[last : top + 1].argmin())
        if smooth[dip] <= (1 - DIP) * min(smooth[last], smooth[top]):
            cuts.append(float(edges[dip]) + BAND_MM / 2)
            last = int(top)
        elif smooth[top] > smooth[last]:
            last = int(top)
    below: NDArray[np.int32] = np.digitize(heights_mm, cuts).astype(np.int32)
    return len(cuts) + 1 - below


def _joined(
    bands: NDArray[np.int32],
    heights_mm: NDArray[np.float32],
    pixdim_mm: tuple[float, float, float],
    voxel_ml: float,
) -> tuple[NDArray[np.int32], int]:
    """Pieces of the bands, numbered from head to feet, with each fragment at its vertebra; how many."""
    parts, fragments = _connected(bands, voxel_ml)
    slivers = _slivers(parts, heights_mm, voxel_ml)
    mains = [part for part in parts if part.band not in slivers]
    fragments += [part for part in parts if part.band in slivers]
    kept = {band: number for number, band in enumerate(sorted({part.band for part in mains}), start=1)}
    ids = np.zeros(bands.shape, np.int32)
    for part in mains:
        ids[part.window][part.mask] = kept[part.band]
    _adopt(ids, fragments, kept, pixdim_mm)
    return ids, len(kept)


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
    """One connected part of a band, in a window with a margin of a voxel where there is room."""

    band: int
    window: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]


def _connected(bands: NDArray[np.int32], voxel_ml: float) -> tuple[list[_Part], list[_Part]]:
    """Connected parts of each band: those that are of a vertebra, and fragments."""
    mains: list[_Part] = []
    fragments: list[_Part] = []
    for band, box in enumerate(ndimage.find_objects(bands), start=1):
        if box is None:
            continue
        z, y, x = (slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        groups, count = ndimage.label(bands[z, y, x] == band, np.ones((3, 3, 3)))
        voxels = np.bincount(groups.ravel())
        enough = max(MIN_PIECE_ML, FRAGMENT_SHARE * voxels[1:].max() * voxel_ml)
        for number in range(1, count + 1):
            part = _Part(band, (z, y, x), groups == number)
            (mains if voxels[number] * voxel_ml >= enough else fragments).append(part)
    return mains, fragments


def _slivers(parts: Sequence[_Part], heights_mm: NDArray[np.float32], voxel_ml: float) -> set[int]:
    """The bands that are small and lie between two others with no room for a vertebra between those."""
    if not parts:
        return set()
    bands = sorted({part.band for part in parts})
    own = [
        np.concatenate([heights_mm[part.window][part.mask] for part in parts if part.band == band])
        for band in bands
    ]
    heights = [float(np.median(values)) for values in own]
    volumes_ml = [len(values) * voxel_ml for values in own]
    room_mm = MISSED_FROM * pitch_mm(heights)
    small_ml = SLIVER_SHARE * float(np.median(volumes_ml))
    found: set[int] = set()
    above = heights[0]
    for band, height, below, volume_ml in zip(
        bands[1:-1], heights[1:-1], heights[2:], volumes_ml[1:-1], strict=True
    ):
        if volume_ml < small_ml and above - below < room_mm:
            found.add(band)
        else:
            above = height
    return found


def pitch_mm(heights_mm: Sequence[float]) -> float:
    """From one vertebra of this neck to the next, given the heights of its pieces from head to feet."""
    gaps = [above - below for above, below in pairwise(heights_mm)]
    real = [gap for gap in gaps if gap > SAME_UNTIL * DEFAULT_PITCH_MM]
    return float(np.clip(np.median(real), 11.0, 24.0)) if real else DEFAULT_PITCH_MM


def _adopt(
    ids: NDArray[np.int32],
    fragments: list[_Part],
    kept: dict[int, int],
    pixdim_mm: tuple[float, float, float],
) -> None:
    """Give each fragment to the vertebra that it touches most, or the near one of its band, or drop it."""
    bones = ids.copy()
    for part in fragments:
        shell = ndimage.binary_dilation(part.mask, np.ones((3, 3, 3))) & ~part.mask
        touching = np.bincount(bones[part.window][shell], minlength=len(kept) + 1)[1:]
        if touching.any():
            ids[part.window][part.mask] = int(touching.argmax()) + 1
        elif part.band in kept and _near(part, bones, kept[part.band], pixdim_mm):
            ids[part.window][part.mask] = kept[part.band]


def _near(part: _Part, bones: NDArray[np.int32], number: int, pixdim_mm: tuple[float, float, float]) -> bool:
    """Whether a piece comes within `FRAGMENT_REACH_MM` of a fragment."""
    reach = [int(np.ceil(FRAGMENT_REACH_MM / mm)) for mm in pixdim_mm]
    low = [max(s.start - r, 0) for s, r in zip(part.window, reach, strict=True)]
    around = tuple(slice(a, s.stop + r) for a, s, r in zip(low, part.window, reach, strict=True))
    places = np.argwhere(bones[around] == number)
    if places.size == 0:
        return False
    own = np.argwhere(part.mask) + [s.start - a for s, a in zip(part.window, low, strict=True)]
    distances, _ = cKDTree(places * pixdim_mm).query(own * pixdim_mm)
    return float(distances.min()) <= FRAGMENT_REACH_MM


def _described(
    ids: NDArray[np.int32],
    count: int,
    probabilities: NDArray[np.float32],
    heights_mm: NDArray[np.float32],
    voxel_ml: float,
) -> tuple[Piece, ...]:
    """Describe the pieces 1..`count`, given the number, the classes (10, n) and the height of each voxel."""
    posterior = probabilities[STATES[0] : STATES[-1] + 1].astype(np.float64)
    posterior = np.log(np.maximum(posterior / np.maximum(posterior.sum(0), 1e-12), FLOOR))
    pieces = []
    for number in range(1, count + 1):
        own = ids == number
        pieces.append(
            Piece(
                evidence=posterior[:, own].mean(1),
                height_mm=float(np.median(heights_mm[own])),
                volume_ml=float(np.count_nonzero(own) * voxel_ml),
            )
        )
    return tuple(pieces)
