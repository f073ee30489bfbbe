"""Batches of augmented crops for the fracture classifier, from any `CropStudies`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from zlib import crc32

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
    resliced,
    slice_and_heat_targets,
)
from cspine.datasets.crop_mask_errors import MaskErrors, mistaken
from cspine.datasets.crop_samples import CropStudies, CropStudy, LabelledCrop
from cspine.models.classifier_network import HEAT_STRIDE
from cspine.volume import Grid

MIN_VISIBLE: Final = 0.3
"""A level of whose fracture less is in view is not counted, as the fourth of RSNA 2022 did."""
REFRESH_STEPS: Final = 25
CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Views:
    """How crops are looked at.

    Attributes:
        spec: of the crops.
        augmentation: of each view.
        seed: of everything drawn.
        count: views of each crop, where its features are kept.
        device: where the augmentation is computed.
    """

    spec: CropSpec
    augmentation: Augmentation
    seed: int
    count: int = 1
    device: torch.device = CPU

    def generator(self, step: int) -> torch.Generator:
        """Where the chance of one step comes from."""
        return torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)


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


class VertebraPairs:
    """Draws fractured vertebrae, each beside a sound one of the same level.

    Matching the level keeps the network from learning that C7 is fractured more often than C3; what is true
    of that the study head learns, from necks drawn at their natural rate.
    """

    def __init__(self, studies: CropStudies, pairs: int, *, located: bool) -> None:
        """Prepare to draw.

        Args:
            studies: where the vertebrae come from.
            pairs: how many at once.
            located: leave out fractures of which nobody knows where they are.
        """
        self._source, self._pairs, self._located = studies, pairs, located
        self._sorted: dict[tuple[Vertebra, bool], list[CropStudy]] = {}

    def __call__(self, step: int, rng: np.random.Generator) -> list[LabelledCrop]:
        """The vertebrae of one step: fractured, sound, fractured and so on.

        Raises:
            InputError: too few studies came for a long time.
        """
        if step % REFRESH_STEPS == 0 or not self._sorted:
            self._sort(self._source.wait_for(2 * self._pairs))
        levels = [v for v in CERVICAL if self._sorted[v, True] and self._sorted[v, False]]
        # Square root: rare levels are seen more often than they break, common ones still most.
        rates = np.sqrt([len(self._sorted[v, True]) for v in levels])
        chosen = []
        for _ in range(self._pairs):
            level = levels[int(rng.choice(len(levels), p=rates / rates.sum()))]
            for fractured in (True, False):
                studies = self._sorted[level, fractured]
                chosen.append(studies[int(rng.integers(len(studies)))].load(level))
        return chosen

    def _sort(self, studies: Sequence[CropStudy]) -> None:
        self._sorted = {(v, broken): [] for v in CERVICAL for broken in (True, False)}
        for study in studies:
            for level, broken in study.fractured.items():
                if study.located[level] or not (broken and self._located):
                    self._sorted[level, broken].append(study)


class PlaneBatches:
    """Batches of single windows: of each fractured vertebra, beside a sound one of the same level.

    Samples come from any `CropStudies` (see `cspine.datasets.crop_samples`); only fractures whose place is
    known are used. Of a fractured vertebra every other window shows the fracture, mostly where there is most
    of it.
    """

    def __init__(self, studies: CropStudies, plan: WindowPlan, views: Views) -> None:
        """Prepare to read."""
        self._draw = VertebraPairs(studies, plan.pairs, located=True)
        self._plan, self._views = plan, views

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step: "windows" (B, planes + 1, rows, columns), "slices" (B,), "heat" (B, h, w).

        Raises:
            InputError: too few studies came for a long time.
        """
        rng, generator = np.random.default_rng([self._views.seed, step]), self._views.generator(step)
        how = self._views.augmentation
        parts = [self._windows(crop, rng, generator) for crop in self._draw(step, rng)]
        whole = Voxels(*(torch.cat(part) for part in zip(*parts, strict=True)))
        voxels, _ = augment(whole, replace(how, cut=0.0), generator, self._patch(whole, rng))
        slices, heat = heat_targets(voxels.fracture, HEAT_STRIDE)
        windows, slices, heat = mixed(
            [torch.cat([voxels.image, voxels.mask], 1), slices[:, 0], heat[:, 0]], how, generator
        )
        return {"windows": windows, "slices": slices, "heat": heat}

    def _windows(self, crop: LabelledCrop, rng: np.random.Generator, generator: torch.Generator) -> Voxels:
        """Some windows of a crop, as a batch."""
        spec, count = self._views.spec, self._plan.windows
        voxels, planes = as_voxels([crop], self._views.device), spec.window_planes
        seen = resliced(voxels.image, self._views.augmentation, generator)[0]
        near = near_middle(voxels.fracture, spec)[0]
        steps = rng.permutation(spec.steps)[:count]
        broken = np.sqrt(near.sum((1, 2), dtype=torch.float64).cpu().numpy())
        if broken.any():
            steps[: count // 2] = rng.choice(len(broken), count // 2, p=broken / broken.sum())
        image = torch.stack([seen[2 * k : 2 * k + planes] for k in steps])
        return Voxels(image, voxels.mask[0, 2 * steps + planes // 2][:, None], near[steps][:, None])

    def _patch(self, whole: Voxels, rng: np.random.Generator) -> Patch | None:
        """Patches that hold a broken voxel where there is one, else one of the vertebra, anywhere in them."""
        if self._plan.patch is None:
            return None
        centers = rng.uniform(-0.4, 0.4, (len(whole.image), 2)) * self._plan.patch
        for place, (mask, fracture) in enumerate(zip(whole.mask, whole.fracture, strict=True)):
            target = fracture if fracture.any() else mask
            inside = np.argwhere(target[0].cpu().numpy() > 0)
            centers[place] += rng.choice(inside) if len(inside) else self._views.spec.pixels / 2
        return Patch(torch.from_numpy(centers).float().to(self._views.device), self._plan.patch)


class VertebraBatches:
    """Batches of whole vertebrae in pairs, for training from the image to the level's answer at once.

    Here fractures whose place is unknown count too: RSNA 2022 has boxes for one study in eight.
    """

    def __init__(self, studies: CropStudies, pairs: int, views: Views) -> None:
        """Prepare to read."""
        self._draw, self._views = VertebraPairs(studies, pairs, located=False), views

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step, as `vertebra_batch` makes it.

        Raises:
            InputError: too few studies came for a long time.
        """
        rng = np.random.default_rng([self._views.seed, step])
        return vertebra_batch(self._draw(step, rng), self._views, self._views.generator(step))


def vertebra_batch(
    crops: Sequence[LabelledCrop], views: Views, generator: torch.Generator
) -> dict[str, Tensor]:
    """Augment whole crops and make their targets.

    Returns:
        "crops" (N, 2, planes, rows, columns), "fractured" (N,), "weight" (N,), "slices" (N, steps), "heat"
        (N, steps, h, w) and "located" (N,): 0 where slices and heat are unknown.
    """
    whole = as_voxels(crops, views.device)
    whole = whole._replace(image=resliced(whole.image, views.augmentation, generator))
    voxels, visible = augment(whole, views.augmentation, generator)
    slices, heat = slice_and_heat_targets(voxels.fracture, views.spec, HEAT_STRIDE)

    def each(values: Sequence[bool]) -> Tensor:
        return torch.tensor([float(value) for value in values], device=views.device)

    return {
        "crops": torch.stack([voxels.image, voxels.mask], 1),
        "fractured": each([crop.fractured for crop in crops]),
        "weight": (visible >= MIN_VISIBLE).float(),
        "slices": slices,
        "heat": heat,
        "located": each([crop.located for crop in crops]),
    }


def as_voxels(crops: Sequence[LabelledCrop], device: torch.device = CPU) -> Voxels:
    """Stack crops: each part (N, planes, rows, columns) float32."""
    image, mask, fracture = (
        torch.from_numpy(np.stack([getattr(crop, name) for crop in crops])).to(device).float()
        for name in ("image", "mask", "fracture")
    )
    return Voxels(image / 255, mask, fracture)


def as_vertebra_crops(study: CropStudy) -> tuple[VertebraCrop, ...]:
    """The crops of a study as the classifier receives them: with a segmentation's errors in their masks.

    The same study gives the same errors. The grids are index grids.
    """
    generator = torch.Generator().manual_seed(crc32(study.name.encode()))
    found = []
    for level in sorted(study.fractured):
        voxels = as_voxels([study.load(level)])
        mask = mistaken(voxels.mask, voxels.image, MaskErrors(none=0.0), generator)[0]
        image = voxels.image[0]
        grid = Grid((image.shape[0], image.shape[1], image.shape[2]), np.eye(4))
        found.append(VertebraCrop(level, grid, image, mask))
    return tuple(found)
