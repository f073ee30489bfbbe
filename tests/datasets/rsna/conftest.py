"""A small RSNA 2022 of synthetic necks, and what is known of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cspine.datasets.rsna.study import RsnaData, RsnaStudy
from cspine.phantom import DEFAULT, render, sample_neck
from cspine.phantom.rsna_layout import LayoutStudy, neck_grid, write_layout
from cspine.volume import SpineMask, Volume


@dataclass(frozen=True)
class Small:
    """The layout on disk and the necks behind it, by number."""

    root: Path
    written: dict[int, LayoutStudy]

    @property
    def data(self) -> RsnaData:
        return RsnaData.open(self.root)

    def study(self, number: int) -> RsnaStudy:
        return next(s for s in self.data.studies if s.uid == self.written[number].uid)

    def truth(self, number: int) -> tuple[Volume, np.ndarray, np.ndarray]:
        """CT, labels and fractures as they were rendered, index 0 at the feet."""
        return rendered(self.written[number])


@cache
def rendered(study: LayoutStudy) -> tuple[Volume, np.ndarray, np.ndarray]:
    image = render(study.neck, study.grid, study.scanner)
    return Volume(study.grid, image.hu.numpy()), image.labels.numpy(), image.fracture.numpy() > 0


def layout_study(number: int, *, fractured: bool, **traits: bool) -> LayoutStudy:
    profile = replace(DEFAULT, fractured=float(fractured), displaced=1.0)
    neck = sample_neck(number, profile)
    grid = neck_grid(neck, step_mm=2.5, pixel_mm=2.0, pixels=64)
    return LayoutStudy(number, neck, None, grid, **traits)


TRAITS = {
    101: {"fractured": True},
    102: {"fractured": False, "lossless_jpeg": True},
    103: {"fractured": True, "from_feet": True},
    104: {"fractured": False, "masked": False},
    105: {"fractured": True, "masked": False, "boxed": False, "lossless_jpeg": True, "from_feet": True},
    106: {"fractured": False, "masked": False},
}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    root = tmp_path_factory.mktemp("rsna")
    written = {number: layout_study(number, **traits) for number, traits in TRAITS.items()}
    write_layout(root, tuple(written.values()))
    return Small(root, written)


@pytest.fixture
def copied(small: Small, tmp_path: Path) -> Callable[..., Small]:
    """A function that copies some of the studies to a place that may be damaged."""

    def copy(*numbers: int) -> Small:
        root = tmp_path / "copied"
        shutil.copytree(small.root / "segmentations", root / "segmentations")
        for name in ("train.csv", "train_bounding_boxes.csv"):
            shutil.copy(small.root / name, root / name)
        for number in numbers:
            uid = small.written[number].uid
            shutil.copytree(small.root / "train_images" / uid, root / "train_images" / uid)
        return Small(root, small.written)

    return copy


@pytest.fixture
def as_mask() -> Callable[..., SpineMask]:
    """A function from a volume and labels up to 9 to the mask of C1..C7."""

    def make(volume: Volume, labels: np.ndarray) -> SpineMask:
        return SpineMask.from_labels(volume.grid, np.where(labels < 8, labels, 0).astype(np.uint8))

    return make
