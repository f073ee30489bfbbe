"""Batches of augmented crops for the fracture classifier, from any `CropStudies`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec, VertebraCrop
from cspine.datasets.crop_augmentation import Augmentation, augment, mixed, slice_and_heat_targets
from cspine.datasets.crop_mask_errors import MaskErrors, mistaken
from cspine.datasets.crop_pairs import VertebraPairs
from cspine.datasets.crop_poses import Patch, Voxels
from cspine.datasets.crop_samples import CropStudies, CropStudy, LabelledCrop
from cspine.models.classifier_network import HEAT_STRIDE
from cspine.volume import Grid

MIN_VISIBLE: Final = 0.3
"""A level of whose fracture less is in view is not counted, as the fourth of RSNA 2022 did."""
SHAKE: Final = 0.3
"""How far, in sides of a patch, the place in its middle may be from the fracture."""
BLOCK: Final = 1.75
"""Side of what is read for a patch that may be turned and scaled, in sides of the patch."""
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
class Mistake:
    """A place in a sound vertebra that the network takes for a fracture.

    Attributes:
        study, level: the vertebra.
        row, column: of its crop, pixels.
        logit: how sure the network is.
    """

    study: CropStudy
    level: Vertebra
    row: int
    column: int
    logit: float


class PatchBatches:
    """Batches of parts of vertebrae, all planes of each: where one is broken, and the same of a sound one.

    A fracture is small, so most of a vertebra says nothing about it. And if sound parts were taken from
    elsewhere, the network would learn where bones break rather than how that looks. Samples come from any
    `CropStudies` (see `cspine.datasets.crop_samples`); only fractures whose place is known are used.
    """

    def __init__(
        self,
        studies: CropStudies,
        pairs: int,
        pixels: int,
        views: Views,
        mistakes: Sequence[Mistake] = (),
    ) -> None:
        """Prepare to read.

        Args:
            studies: where the vertebrae come from.
            pairs: of a fractured vertebra and a sound one.
            pixels: side of a part, a multiple of 16.
            views: how they are looked at.
            mistakes: half of the sound parts come from here, where there are any of the level; the surer
                the network was of one, the more often.
        """
        self._draw = VertebraPairs(studies, pairs, located=True)
        self._pixels, self._views = pixels, views
        self._mistakes = {v: [found for found in mistakes if found.level == v] for v in CERVICAL}
        self._rates = {v: _rates(found) for v, found in self._mistakes.items()}

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step: "crops" (N, 2, planes, pixels, pixels), "slices" (N, steps), "heat".

        Raises:
            InputError: too few studies came for a long time.
        """
        rng, generator = np.random.default_rng([self._views.seed, step]), self._views.generator(step)
        how, spec = self._views.augmentation, self._views.spec
        drawn = self._draw(step, rng)
        parts: list[LabelledCrop] = []
        for fractured, sound in zip(drawn[::2], drawn[1::2], strict=True):
            crop = fractured.load()
            place = self._broken_place(crop, rng)
            mistaken = bool(self._mistakes[fractured.level]) and rng.random() < 0.5
            parts.append(self._part(crop, place, rng))
            parts.append(
                self._mistaken(fractured.level, rng) if mistaken else self._part(sound.load(), place, rng)
            )
        whole = as_voxels(parts, self._views.device)
        middle = torch.full((len(parts), 2), whole.image.shape[-1] / 2, device=self._views.device)
        patch = Patch(middle, self._pixels)
        voxels, _ = augment(whole, replace(how, cut=0.0, shift=0.0), generator, patch)
        slices, heat = slice_and_heat_targets(voxels.fracture, spec, HEAT_STRIDE)
        seen, slices, heat = mixed(
            [torch.stack([voxels.image, voxels.mask], 1), slices, heat], how, generator
        )
        return {"crops": seen, "slices": slices, "heat": heat}

    def _broken_place(self, fractured: LabelledCrop, rng: np.random.Generator) -> NDArray[np.float64]:
        """Row and column of a part of the fracture, from the middle of the vertebra."""
        broken = np.argwhere(fractured.fracture if fractured.fracture.any() else fractured.mask)[:, 1:]
        return np.asarray(rng.choice(broken) - _middle(fractured.mask))

    def _part(self, crop: LabelledCrop, place: NDArray[np.float64], rng: np.random.Generator) -> LabelledCrop:
        """More than the patch, so that it can be turned; each shakes on its own."""
        shake = rng.uniform(-SHAKE, SHAKE, 2) * self._pixels
        return _block(
            crop, np.rint(_middle(crop.mask) + place + shake).astype(int), int(BLOCK * self._pixels)
        )

    def _mistaken(self, level: Vertebra, rng: np.random.Generator) -> LabelledCrop:
        """The surroundings of one mistake."""
        known = self._mistakes[level]
        found = known[int(rng.choice(len(known), p=self._rates[level]))]
        shake = rng.uniform(-SHAKE, SHAKE, 2) * self._pixels
        center = np.rint(np.array([found.row, found.column]) + shake).astype(int)
        return _block(found.study.load(found.level), center, int(BLOCK * self._pixels))


def _rates(mistakes: Sequence[Mistake]) -> NDArray[np.float64]:
    """How often each is drawn: the surer the network was, the more often."""
    sure = 1 / (1 + np.exp(-np.array([found.logit for found in mistakes])))
    return np.asarray(sure / sure.sum())


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Row and column of the middle of a mask's bounding box; of the image where the mask is empty."""
    inside = np.argwhere(mask.any(0))
    if not len(inside):
        return np.array(mask.shape[1:]) / 2
    return np.asarray((inside.min(0) + inside.max(0)) / 2)


def _block(crop: LabelledCrop, center: NDArray[np.int_], side: int) -> LabelledCrop:
    """`side` x `side` pixels of all planes; beyond the crop its edge repeats, without mask."""
    size = np.array(crop.image.shape[1:])
    first = center.clip(0, size - 1) - side // 2
    start, stop = first.clip(0), np.minimum(first + side, size)
    rows, columns = (slice(a, b) for a, b in zip(start, stop, strict=True))
    missing = ((0, 0), *zip(start - first, first + side - stop, strict=True))

    def cut(part: NDArray[Any], mode: Literal["edge", "constant"]) -> NDArray[Any]:
        return np.pad(part[:, rows, columns], missing, mode=mode)

    return replace(
        crop,
        image=cut(crop.image, "edge"),
        mask=cut(crop.mask, "constant"),
        fracture=cut(crop.fracture, "constant"),
    )


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
        crops = [drawn.load() for drawn in self._draw(step, rng)]
        return vertebra_batch(crops, self._views, self._views.generator(step))


def vertebra_batch(
    crops: Sequence[LabelledCrop], views: Views, generator: torch.Generator
) -> dict[str, Tensor]:
    """Augment whole crops and make their targets.

    Returns:
        "crops" (N, 2, planes, rows, columns), "fractured" (N,), "weight" (N,), "slices" (N, steps), "heat"
        (N, steps, h, w) and "located" (N,): 0 where slices and heat are unknown.
    """
    whole = as_voxels(crops, views.device)
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
