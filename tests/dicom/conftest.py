"""A small neck-sized CT, ways to write it, and ways to spoil what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from cspine.phantom.dicom_study import StudyOptions, write_study
from cspine.volume import Grid, Volume

Edit = Callable[[Dataset, int], object]


def axial_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """Slices to the head, rows to the back, columns to the left."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = (-11.5, -22.25, 33.75)
    return Grid(shape, affine)


@pytest.fixture
def volume() -> Volume:
    """12 slices of 40 x 36 pixels of noise; the axes differ in length and in spacing."""
    grid = axial_grid((12, 40, 36), (1.25, 0.6, 0.5))
    hu = np.random.default_rng(7).integers(-1024, 3000, grid.shape).astype(np.int16)
    return Volume(grid, hu)


@pytest.fixture
def smooth() -> Volume:
    """A slanted bright rod in soft tissue: what interpolation should leave in its place."""
    grid = axial_grid((24, 64, 48), (1.5, 0.75, 1.0))
    k, i, j = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    x, y, z = np.moveaxis(grid.to_lps_mm(np.stack([k, i, j], -1)), -1, 0)
    middle = grid.to_lps_mm([(n - 1) / 2 for n in grid.shape])
    distance = np.hypot(x - middle[0], y - middle[1] - 0.2 * (z - middle[2]))
    hu = 40 + 1000 * np.exp(-((distance / 6) ** 2))
    return Volume(grid, np.rint(hu).astype(np.int16))


@pytest.fixture
def write(tmp_path: Path, volume: Volume):
    """A function that writes the volume as a study below a temporary folder; the paths of its files."""

    def write_to(name: str = "study", options: StudyOptions | None = None, of: Volume | None = None):
        return write_study(of or volume, tmp_path / name, options)

    return write_to


@pytest.fixture
def edit():
    """A function that changes the data sets of files in place."""

    def change(paths: Iterable[Path], what: Edit) -> None:
        for index, path in enumerate(paths):
            ds = dcmread(path)
            what(ds, index)
            ds.save_as(path)

    return change


@pytest.fixture
def set_position():
    """A function that shifts a data set's Image Position (Patient) by (x, y, z) mm."""

    def shift(ds: Dataset, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        at = np.add(ds.ImagePositionPatient, (x, y, z))
        ds.ImagePositionPatient = [f"{value:.6f}" for value in at]

    return shift
