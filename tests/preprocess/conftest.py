"""Volumes on random grids, and MONAI's own transforms beside which ours must stand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cspine.crops import CropSpec, GridSpec
from cspine.preprocess.preprocessor import Preprocessor
from cspine.volume import Grid, SpineMask, Volume

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make_grid(shape, spacing_mm, ways=(1, 2, 3), *, degrees=(0, 0, 0), origin=(0, 0, 0)):
    """A grid; before it is turned its axes run to the head (1), back (2), left (3) or the other way (-1)."""
    order = np.abs(ways) - 1
    base = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])[:, order] * np.sign(ways)
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ base * np.array(spacing_mm, float)
    affine[:3, 3] = origin
    return Grid(tuple(shape), affine)


def random_grid(rng: np.random.Generator, largest: int = 40, tilt: float = 20.0) -> Grid:
    """Any order and direction of axes, every second one oblique, three different lengths and spacings."""
    return make_grid(
        rng.permutation(np.arange(8, largest))[:3].tolist(),
        rng.uniform(0.3, 3.0, 3),
        rng.permutation([1, 2, 3]) * rng.choice([-1, 1], 3),
        degrees=rng.uniform(-tilt, tilt, 3) * rng.integers(0, 2),
        origin=rng.uniform(-300, 300, 3),
    )


@dataclass(frozen=True)
class Grids:
    """The two makers of grids, for tests that ask for the fixture `grids`."""

    make: Callable[..., Grid] = make_grid
    random: Callable[..., Grid] = random_grid


@pytest.fixture
def grids() -> Grids:
    return Grids()


@pytest.fixture
def noise() -> Callable[[Grid, np.random.Generator], Volume]:
    """A function from a grid to a volume of noise beyond both ends of every window."""

    def fill(grid: Grid, rng: np.random.Generator) -> Volume:
        return Volume(grid, rng.integers(-1500, 2500, grid.shape).astype(np.int16))

    return fill


@pytest.fixture
def blocks() -> Callable[..., SpineMask]:
    """A function that puts cuboids of labels, {level: (start, stop)}, onto a grid."""

    def place(grid: Grid, boxes: dict) -> SpineMask:
        labels = np.zeros(grid.shape, np.uint8)
        for level, (start, stop) in boxes.items():
            labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = level
        return SpineMask.from_labels(grid, labels)

    return place


@pytest.fixture
def monai_spl():
    """MONAI's Orientation("SPL"), Spacing and ScaleIntensityRange: volume to (image, LPS affine)."""
    from cspine import cuda_runtime

    cuda_runtime.preload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.data import MetaTensor
        from monai.transforms import Compose, Orientation, ScaleIntensityRange, Spacing
    labels = (("L", "R"), ("P", "A"), ("I", "S"))

    def transform(volume: Volume, spec: GridSpec) -> tuple[np.ndarray, np.ndarray]:
        chain = Compose(
            [
                Orientation(axcodes="SPL", labels=labels),
                Spacing(pixdim=spec.pixdim_mm, mode="bilinear", padding_mode="border", dtype=np.float64),
                ScaleIntensityRange(*spec.window_hu, 0.0, 1.0, clip=True),
            ]
        )
        affine_ras = torch.tensor(LPS_RAS @ volume.grid.affine_lps)
        made = chain(MetaTensor(torch.tensor(volume.hu.astype(np.float64))[None], affine=affine_ras))
        return made[0].numpy(), LPS_RAS @ made.affine.numpy()

    return transform


@pytest.fixture(scope="session")
def localization() -> GridSpec:
    return GridSpec(pixdim_mm=(3.0, 2.6, 2.2), patch=None, window_hu=(-1000.0, 1000.0))


@pytest.fixture(scope="session")
def segmentation() -> GridSpec:
    return GridSpec(pixdim_mm=(1.1, 0.9, 1.3), patch=(32, 32, 48), window_hu=(-500.0, 1300.0))


@pytest.fixture(scope="session")
def crop_spec() -> CropSpec:
    return CropSpec(
        steps=5, window_planes=3, pixels=24, field_mm=36.0, margin_mm=2.0, window_hu=(-500.0, 1300.0)
    )


@pytest.fixture(scope="session")
def preprocessor(localization, segmentation, crop_spec) -> Iterator[Preprocessor]:
    """One for all tests, which is how it is used: reused from study to study."""
    with Preprocessor(localization, segmentation, crop_spec, device="cpu", threads=2) as made:
        yield made
