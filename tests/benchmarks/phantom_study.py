"""Write the synthetic study that `bench_study.py` times: a whole neck, as one thin-slice CT series.

A child of `bench_study.py`, so that the memory it takes is not counted for anybody.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cspine.phantom import render, sample_neck, sample_scanner
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, Volume

FIELD_MM = 205.0
HEIGHT_MM = 200.0
SEED = 5


def grid_around(center_lps_mm: np.ndarray, slices: int, rows: int) -> Grid:
    """An axial grid of `FIELD_MM` squared and `HEIGHT_MM` height around a point."""
    affine = np.eye(4)
    pixel, step = FIELD_MM / rows, HEIGHT_MM / slices
    affine[:3, :3] = [[0, 0, pixel], [0, pixel, 0], [step, 0, 0]]
    affine[:3, 3] = center_lps_mm - affine[:3, :3] @ (np.array([slices, rows, rows]) - 1) / 2
    return Grid((slices, rows, rows), affine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    neck = sample_neck(SEED)
    grid = grid_around(neck.spine_box_lps_mm.mean(0), options.slices, options.rows)
    image = render(neck, grid, sample_scanner(SEED))
    write_study(Volume(grid, np.ascontiguousarray(image.hu.numpy())), options.folder)


if __name__ == "__main__":
    main()
