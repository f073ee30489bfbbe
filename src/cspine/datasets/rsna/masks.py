"""The vertebra masks of RSNA 2022: NIfTI, stored with other axes than the CT."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cspine.anatomy import FOREIGN_LABELS, THORACIC
from cspine.errors import InputError
from cspine.volume import Grid

RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
FIRST_THORACIC, LAST_THORACIC = 8, 19
"""T1..T12 in the masks."""


def read_mask(path: Path, grid: Grid) -> NDArray[np.uint8]:
    """Read a mask onto the grid of its CT.

    The masks were drawn in sagittal planes and are stored so, often also upside down; only their affine says
    where a voxel is.

    Args:
        path: the NIfTI file.
        grid: of the CT.

    Returns:
        uint8 of `grid.shape`: 0, 1..7 (C1..C7) or 8 (T1 and below); the nearest voxel's label, 0 outside.

    Raises:
        InputError: the file cannot be read, holds other labels, or does not lie on the CT.
    """
    labels, affine_lps = _read(path)
    to_mask = np.linalg.inv(affine_lps) @ grid.affine_lps
    found: NDArray[np.uint8] = ndimage.affine_transform(
        _to_network(labels),
        to_mask[:3, :3],
        to_mask[:3, 3],
        output_shape=grid.shape,
        order=0,
        mode="grid-constant",
    )
    if not found.any():
        raise InputError("The mask is empty or does not lie on the images; its file is damaged.")
    return found


def _read(path: Path) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    import nibabel

    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
        affine = RAS_TO_LPS @ np.asarray(image.affine, np.float64)
    except Exception as error:  # nibabel raises errors of many kinds for damaged files
        raise InputError(f"The mask cannot be read ({type(error).__name__}); download it again.") from error
    labels = np.rint(values).astype(np.int16)
    if labels.ndim != 3 or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise InputError("The mask is not a volume with a place in space; download it again.")
    if labels.min() < 0 or labels.max() > LAST_THORACIC or np.abs(values - labels).max() > 0.01:
        raise InputError("The mask holds other labels than 0 to 19; download it again.")
    return labels, affine


def _to_network(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """1..7 stay C1..C7, 8..19 (T1..T12) become the networks' one thoracic class."""
    table = np.zeros(LAST_THORACIC + 1, np.uint8)
    for vertebra, label in FOREIGN_LABELS["rsna2022"].items():
        table[label] = vertebra
    table[FIRST_THORACIC:] = THORACIC
    result: NDArray[np.uint8] = table[labels]
    return result
