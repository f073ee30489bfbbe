"""What a sample of the spine's networks is, and samples without any cervical vertebra: what is no neck."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import THORACIC

Sample = NDArray[np.uint8]
"""(2, slices, rows, columns), image and labels; 0 and 255 of the image are the ends of the window."""


def without_cervical(sample: Sample, rng: np.random.Generator, *, low_end: bool) -> Sample:
    """Take every cervical vertebra out of view: keep only the slices below or above all of them.

    Below, the thoracic vertebrae are repeated downwards, for the phantom has only three. One sample in five
    is nothing but noise and blobs, one in three a column so large that it can only be a lumbar one.
    """
    kind = rng.random()
    if kind < 0.2:
        return _blobs(sample.shape, rng)
    if kind < 0.53:
        return enlarged_column(sample, rng)
    cervical = np.flatnonzero(((sample[1] > 0) & (sample[1] < THORACIC)).any((1, 2)))
    slices = sample.shape[1]
    if cervical.size == 0:
        return sample
    kept = sample[:, : cervical[0]] if low_end else sample[:, cervical[-1] + 1 :]
    if kept.shape[1] < 8:
        return _blobs(sample.shape, rng)
    if low_end:
        turns = -(-slices // kept.shape[1])
        return np.ascontiguousarray(np.concatenate([kept, kept[:, ::-1]] * turns, 1)[:, :slices])
    placed = np.zeros_like(sample)
    first = int(rng.integers(0, slices - kept.shape[1] + 1))
    placed[:, first : first + kept.shape[1]] = kept
    return placed


def enlarged_column(sample: Sample, rng: np.random.Generator) -> Sample:
    """Show what lies below C2 as large as a lumbar spine, and call it thoracic.

    No cervical vertebra is more than 22 mm from the next one; lumbar ones are 30 to 40 mm apart.
    """
    from scipy.ndimage import affine_transform

    factor = rng.uniform(1.7, 2.3)
    upper = np.flatnonzero(((sample[1] == 1) | (sample[1] == 2)).any((1, 2)))
    sides = np.array(sample.shape[1:])
    seen = sides / factor
    start = (sides - seen) / 2
    start[0] = (upper[0] if upper.size else sides[0]) - seen[0]
    image, labels = (
        affine_transform(part, np.full(3, 1 / factor), start, order=order)
        for part, order in zip(sample, (1, 0), strict=True)
    )
    return np.stack([image, np.where(labels > 0, THORACIC, 0).astype(np.uint8)])


def _blobs(shape: tuple[int, ...], rng: np.random.Generator) -> Sample:
    from scipy.ndimage import zoom

    sides = np.array(shape[1:])
    coarse = rng.normal(0, 1, tuple(int(n) for n in np.maximum(2, sides // rng.integers(4, 16))))
    fine = zoom(coarse, sides / np.array(coarse.shape), order=1)[: sides[0], : sides[1], : sides[2]]
    image = rng.uniform(40, 110) + rng.uniform(10, 90) * fine + rng.normal(0, rng.uniform(1, 25), fine.shape)
    image[fine < rng.uniform(-2, -0.5)] = 0
    return np.stack([np.clip(image, 0, 255).astype(np.uint8), np.zeros(shape[1:], np.uint8)])
