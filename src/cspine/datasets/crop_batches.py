"""Batches of augmented crops for the fracture classifier, from folders of `phantom_crops`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec, VertebraCrop
from cspine.datasets.crop_augmentation import (
    Augmentation,
    Patch,
    Voxels,
    augment,
    heat_targets,
    mixed,
    near_middle,
    slice_and_heat_targets,
)
from cspine.datasets.phantom_crops import LabelledCrop, load_crop, load_fractured
from cspine.errors import InputError
from cspine.models.classifier_network import HEAT_STRIDE
from cspine.volume import Grid

MIN_VISIBLE: Final = 0.3
"""A level of whose fracture less is in view is not counted, as the fourth of RSNA 2022 did."""
REFRESH_STEPS: Final = 25
PATIENCE_S: Final = 900.0
"""How long to wait for the first necks."""


@dataclass(frozen=True)
class NeckFile:
    """A file of crops: its levels, and whether they are fractured."""

    path: Path
    fractured: Mapping[Vertebra, bool]


class NeckFiles:
    """The necks of a folder, growing while a worker fills it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, NeckFile] = {}

    def refresh(self) -> Sequence[NeckFile]:
        """All necks that are there now, by name."""
        for path in sorted(self._folder.glob("neck-*.npz")):
            if path not in self._known:
                self._known[path] = NeckFile(path, load_fractured(path))
        return tuple(self._known[path] for path in sorted(self._known))

    def wait_for(self, count: int) -> Sequence[NeckFile]:
        """Wait until there are `count` necks.

        Raises:
            InputError: none came for a long time.
        """
        until = time.monotonic() + PATIENCE_S
        while len(found := self.refresh()) < count:
            if time.monotonic() > until:
                raise InputError(f"'{self._folder}' holds {len(found)} necks, {count} are needed to start.")
            time.sleep(1.0)
        return found


@dataclass(frozen=True)
class WindowPlan:
    """What a batch of windows is made of.

    Attributes:
        pairs: pairs of vertebrae, one fractured and one sound each.
        windows: windows of each vertebra; neighbours hold nearly the same image.
        patch: pixels of the patch around the fracture or somewhere on the vertebra, a multiple of 32; None
            for the whole window.
    """

    pairs: int
    windows: int = 4
    patch: int | None = None


class PlaneBatches:
    """Batches of single windows: of each fractured vertebra, beside a sound one of the same level.

    Matching the level keeps the network from learning that C7 is fractured more often than C3; what is true
    of that the study head learns, from necks drawn at their natural rate. Of a fractured vertebra every other
    window shows the fracture, the more of it the likelier.
    """

    def __init__(self, folder: Path, spec: CropSpec, plan: WindowPlan, how: Augmentation, seed: int) -> None:
        """Prepare to read.

        Args:
            folder: of `phantom_crops`.
            spec: of the crops.
            plan: of a batch.
            how: augmentation.
            seed: of everything drawn here.
        """
        self._files, self._spec, self._plan, self._how, self._seed = NeckFiles(folder), spec, plan, how, seed
        self._necks: Sequence[NeckFile] = ()

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step: "windows" (B, planes + 1, rows, columns), "slices" (B,), "heat" (B, h, w).

        Raises:
            InputError: too few necks came for a long time.
        """
        if step % REFRESH_STEPS == 0 or not self._necks:
            self._necks = self._files.wait_for(2 * self._plan.pairs)
        rng = np.random.default_rng([self._seed, step])
        parts = [self._windows(load_crop(neck.path, level), rng) for neck, level in self._choose(rng)]
        whole = Voxels(*(torch.cat(part) for part in zip(*parts, strict=True)))
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        voxels, _ = augment(whole, replace(self._how, cut=0.0), generator, self._patch(whole, rng))
        slices, heat = heat_targets(voxels.fracture, HEAT_STRIDE)
        windows, slices, heat = mixed(
            [torch.cat([voxels.image, voxels.mask], 1), slices[:, 0], heat[:, 0]], self._how, generator
        )
        return {"windows": windows, "slices": slices, "heat": heat}

    def _windows(self, crop: LabelledCrop, rng: np.random.Generator) -> Voxels:
        """Some windows of a crop, as a batch."""
        voxels, planes, count = as_voxels([crop]), self._spec.window_planes, self._plan.windows
        near = near_middle(voxels.fracture, self._spec)[0]
        steps = rng.permutation(self._spec.steps)[:count]
        broken = np.sqrt(near.sum((1, 2), dtype=torch.float64).numpy())
        if broken.any():
            steps[: count // 2] = rng.choice(len(broken), count // 2, p=broken / broken.sum())
        image = torch.stack([voxels.image[0, 2 * k : 2 * k + planes] for k in steps])
        return Voxels(image, voxels.mask[0, 2 * steps + planes // 2][:, None], near[steps][:, None])

    def _patch(self, whole: Voxels, rng: np.random.Generator) -> Patch | None:
        """Patches that hold a broken voxel where there is one, else one of the vertebra, anywhere in them."""
        if self._plan.patch is None:
            return None
        centers = rng.uniform(-0.4, 0.4, (len(whole.image), 2)) * self._plan.patch
        for place, (mask, fracture) in enumerate(zip(whole.mask, whole.fracture, strict=True)):
            target = fracture if fracture.any() else mask
            inside = np.argwhere(target[0].numpy() > 0)
            centers[place] += rng.choice(inside) if len(inside) else self._spec.pixels / 2
        return Patch(torch.from_numpy(centers).float(), self._plan.patch)

    def _choose(self, rng: np.random.Generator) -> list[tuple[NeckFile, Vertebra]]:
        levels = [v for v in CERVICAL if self._with(v, True) and self._with(v, False)]
        # Square root: rare levels are seen more often than they break, common ones still most.
        rates = np.sqrt([len(self._with(v, True)) for v in levels])
        chosen = []
        for _ in range(self._plan.pairs):
            level = levels[int(rng.choice(len(levels), p=rates / rates.sum()))]
            for fractured in (True, False):
                necks = self._with(level, fractured)
                chosen.append((necks[int(rng.integers(len(necks)))], level))
        return chosen

    def _with(self, level: Vertebra, fractured: bool) -> list[NeckFile]:
        return [neck for neck in self._necks if neck.fractured.get(level) is fractured]


def vertebra_batch(
    crops: Sequence[LabelledCrop], spec: CropSpec, how: Augmentation, generator: torch.Generator
) -> dict[str, Tensor]:
    """Augment whole crops and make their targets.

    Returns:
        "crops" (N, 2, planes, rows, columns), "fractured" (N,), "weight" (N,) and "slices" (N, steps).
    """
    voxels, visible = augment(as_voxels(crops), how, generator)
    slices, _ = slice_and_heat_targets(voxels.fracture, spec, HEAT_STRIDE)
    return {
        "crops": torch.stack([voxels.image, voxels.mask], 1),
        "fractured": torch.tensor([float(crop.fractured) for crop in crops]),
        "weight": (visible >= MIN_VISIBLE).float(),
        "slices": slices,
    }


def as_voxels(crops: Sequence[LabelledCrop]) -> Voxels:
    """Stack crops: each part (N, planes, rows, columns) float32."""
    image, mask, fracture = (
        torch.from_numpy(np.stack([getattr(crop, name) for crop in crops]).astype(np.float32))
        for name in ("image", "mask", "fracture")
    )
    return Voxels(image / 255, mask, fracture)


def as_vertebra_crops(path: Path) -> tuple[VertebraCrop, ...]:
    """The seven crops of a neck as the classifier receives them; their grids are index grids."""
    found = []
    for vertebra in CERVICAL:
        voxels = as_voxels([load_crop(path, vertebra)])
        image, mask = voxels.image[0], voxels.mask[0]
        grid = Grid((image.shape[0], image.shape[1], image.shape[2]), np.eye(4))
        found.append(VertebraCrop(vertebra, grid, image, mask))
    return tuple(found)
