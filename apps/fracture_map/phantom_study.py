"""Makes the synthetic study of the demo, in a process of its own, for it needs torch.

``python -m fracture_map.phantom_study FOLDER SEED`` prints one line of JSON: the fractures that it has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from cspine.phantom import DEFAULT, Neck, render, sample_neck, sample_scanner
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, Volume
from fracture_map.demo import PATIENT_ID

SHAPE: Final = (200, 320, 320)
SPACING_MM: Final = (0.9, 0.6, 0.6)
PROFILE: Final = replace(DEFAULT, fractured=1.0, metal=0.0, motion=0.0, thick_slices=0.0)
"""Every neck has a fracture, and the scanner had a good day."""


def grid_around(neck: Neck, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    """An axial grid, head first, around the cervical spine of a neck.

    Args:
        neck: to be in the middle.
        shape: voxels along (slice, row, column).
        spacing_mm: of the voxels, likewise.
    """
    center_mm = neck.spine_box_lps_mm.mean(0)
    z, y, x = spacing_mm
    affine = np.array([[0, 0, x, 0], [0, y, 0, 0], [z, 0, 0, 0], [0, 0, 0, 1]], np.float64)
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = center_mm - affine[:3, :3] @ middle
    return Grid(shape, affine)


def write_neck(
    folder: Path,
    options: StudyOptions,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Neck:
    """Write the synthetic neck of `options.seed` as a study; returns what is known of it.

    Args:
        folder: where to write.
        options: identity, encoding and seed.
        shape: voxels along (slice, row, column).
        spacing_mm: of the voxels, likewise.
    """
    neck = sample_neck(options.seed, PROFILE)
    grid = grid_around(neck, shape, spacing_mm)
    image = render(neck, grid, sample_scanner(options.seed, PROFILE))
    write_study(Volume(grid, image.hu.numpy()), folder, options)
    return neck


def make(folder: Path, seed: int) -> list[dict[str, str]]:
    """Write the study; returns level and kind of each fracture."""
    options = StudyOptions(patient_name="Phantom^Demo", patient_id=PATIENT_ID, seed=seed)
    neck = write_neck(folder, options)
    return [{"level": fracture.level.name, "kind": fracture.kind.value} for fracture in neck.fractures]


def main(arguments: Sequence[str]) -> int:
    """Make the study that the arguments name."""
    folder, seed = arguments
    sys.stdout.write(json.dumps(make(Path(folder), int(seed))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
