"""What the localization and the segmentation network are trained on, and by which loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from cspine.anatomy import (
    BACKGROUND,
    NETWORK_CHANNELS,
    RISE_CHANNEL,
    THORACIC,
    Vertebra,
    channel_groups,
)
from cspine.datasets.phantom_spines import SampleFolder
from cspine.models.folding import numbers_around, repeated, unfolded
from cspine.training.augment import Augmentation
from cspine.training.loop import Batch

CPU: Final = torch.device("cpu")
T1_BELOW_C7: Final = 0.75
"""Distances between C6 and C7 by which the first thoracic centre lies below C7's, at least."""


@dataclass(frozen=True)
class DiceCe:
    """Soft Dice of the classes in view plus cross-entropy, plus the rise's error where a network gives one.

    MONAI's DiceCELoss asks classes that are not in view for an empty prediction by a ratio whose gradient
    vanishes, and needs one-hot copies of ten channels; here cross-entropy alone deals with absent classes.

    Attributes:
        smooth: voxels added to both sides of the Dice ratio.
        weights: of each channel in the cross-entropy. A larger weight finds vertebrae sooner, for they fill
            one voxel in a hundred, but draws them too thick: at weight w their surface lies where 1 / (1 + w)
            of a voxel is bone.
        rise_weight: of a centimetre's error of the rise (`cspine.anatomy.RISE_CHANNEL`), and once more of
            that of the voxels of a network that folds.
        border_weight: how many times a voxel counts in its error of the rise that may have to decide between
            two vertebrae (`at_borders`). There the product names each voxel by its own rise; some millimetres
            of error change the name at a facet, and nothing in the middle of a body.
        bone_weight: of the cross-entropy between bone and all else in the voxels of a network that folds
            (`cspine.models.folding`); one voxel in thirty is bone, and most others are far from it.
    """

    smooth: float = 10.0
    weights: Sequence[float] = (1.0,) * len(NETWORK_CHANNELS)
    rise_weight: float = 1.0
    border_weight: float = 5.0
    bone_weight: float = 10.0

    def __call__(self, network: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Loss of a batch as `SpineBatches` makes them."""
        output = network(batch["image"]).float()
        fold = batch["label"].shape[1] // output.shape[2]
        cells = batch_of_cells(batch, fold)
        parts = dict(self._of_classes(output[:, :RISE_CHANNEL], cells["label"]))
        if output.shape[1] > RISE_CHANNEL:
            error = rise_error_cm(output[:, RISE_CHANNEL], cells)
            parts |= {"loss": parts["loss"] + self.rise_weight * error, "rise_error_cm": error}
        if fold > 1:
            own = channel_groups(output.shape[1])[1:]
            bone, rise = (unfolded(output[:, group], fold)[:, 0] for group in own)
            weight = torch.where(at_borders(cells["label"]), self.border_weight, 1.0)
            drawn = self._of_bone(bone, batch["label"])
            error = rise_error_cm(rise, batch, repeated(weight, fold))
            loss = parts["loss"] + drawn["bone_loss"] + self.rise_weight * error
            parts |= drawn | {"loss": loss, "voxel_rise_error_cm": error}
        return parts

    def _of_bone(self, logits: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
        """How well bone of vertebrae is told from all else, (B, slices, rows, columns)."""
        bone = ((label > BACKGROUND) & (label <= THORACIC)).float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, bone)
        p = torch.sigmoid(logits)
        dice = (2 * (p * bone).sum() + self.smooth) / (p.sum() + bone.sum() + self.smooth)
        return {"bone_loss": self.bone_weight * cross_entropy + 1 - dice, "bone_dice": dice}

    def _of_classes(self, logits: torch.Tensor, label: torch.Tensor) -> Mapping[str, torch.Tensor]:
        channels = logits.shape[1]
        log_p = torch.log_softmax(logits, 1)
        true = log_p.gather(1, label[:, None])[:, 0]
        weight = torch.tensor(self.weights, device=logits.device)[label]
        cross_entropy = -(weight * true).sum() / weight.sum()
        hits = torch.zeros(channels, device=logits.device).index_add(0, label.flatten(), true.exp().flatten())
        predicted = log_p.exp().sum((0, 2, 3, 4))
        wanted = torch.bincount(label.flatten(), minlength=channels)
        dice = (2 * hits + self.smooth) / (predicted + wanted + self.smooth)
        in_view = wanted[1:] > 0
        lost = 1 - dice[1:][in_view].mean() if bool(in_view.any()) else logits.sum() * 0
        return {"loss": cross_entropy + lost, "cross_entropy": cross_entropy, "dice": 1 - lost}


def label_of_cells(label: torch.Tensor, fold: int) -> torch.Tensor:
    """Label of each cell of `fold` ** 3 voxels, (B, slices, ...): a class where half of them have one.

    Where two classes meet in a cell it takes the higher one.
    """
    if fold == 1:
        return label
    batch, slices, rows, columns = label.shape
    small = label.to(torch.uint8).view(batch, slices // fold, fold, rows // fold, fold, columns // fold, fold)
    classified = (small > BACKGROUND).to(torch.uint8).sum((2, 4, 6), dtype=torch.uint8)
    return torch.where(2 * classified >= fold**3, small.amax((2, 4, 6)), 0).long()


def batch_of_cells(batch: Batch, fold: int) -> Batch:
    """The labels and heights of a batch for cells of `fold` ** 3 voxels."""
    if fold == 1:
        return batch
    height = batch["height_cm"].reshape(len(batch["height_cm"]), -1, fold).mean(2)
    return {**batch, "label": label_of_cells(batch["label"], fold), "height_cm": height}


def at_borders(cells: torch.Tensor) -> torch.Tensor:
    """Cells (B, slices, ...) that see two vertebrae among themselves and their 26 neighbours.

    Args:
        cells: label of each, `label_of_cells`.
    """
    lowest, highest = numbers_around(torch.where(cells <= THORACIC, cells, BACKGROUND))
    return lowest < highest


def rise_error_cm(rise: torch.Tensor, batch: Batch, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean error, in centimetres, of the centres that bone points at.

    Where a thoracic vertebra has its centre is not known, only that it is below C7's: there the error is how
    much too high it is.

    Args:
        rise: (B, slices, rows, columns) that the network gives.
        batch: "label", "center_cm" and "height_cm".
        weight: of each voxel in the mean, the same shape; None for one.
    """
    label = batch["label"]
    # Bone is a small part of an image: only there anything is looked up.
    at = torch.nonzero(label.flatten()).flatten()
    level, slices = label.flatten()[at], at // (label.shape[2] * label.shape[3])
    patient = slices // label.shape[1]
    wanted = batch["center_cm"][patient, level] - batch["height_cm"].flatten()[slices]
    known = torch.isfinite(wanted)
    error = torch.where(known, rise.flatten()[at] - wanted, 0.0)
    cost = torch.where(level == THORACIC, error.clamp(min=0), error.abs())
    counts = known.float() if weight is None else known * weight.flatten()[at]
    return (counts * cost).sum() / counts.sum().clamp(min=1)


@dataclass(frozen=True)
class SpineBatches:
    """Patches of phantoms, augmented.

    Attributes:
        samples: where the phantoms are kept.
        shapes: patches of these sizes, one drawn for each batch; each axis a multiple of 16.
        pixdim_mm: spacing of the samples.
        size: patches a batch.
        seed: of what is drawn; each step draws for itself.
        augmentation: what is done to each patch.
        ease_steps: steps until the augmentation has its full strength. At first the place in the patch tells
            the level, which is quickly learned; then it must be told by what is seen.
        device: where patches are cut and augmented.
    """

    samples: SampleFolder
    shapes: tuple[tuple[int, int, int], ...]
    pixdim_mm: tuple[float, float, float]
    size: int = 2
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    ease_steps: int = 0
    device: torch.device = CPU

    def __call__(self, step: int, /) -> Batch:
        """Make the batch of `step`.

        Returns:
            "image" (B, 1, ...) float and "label" (B, ...) int64; "height_cm" (B, slices) of each slice above
            the lowest one, and "center_cm" (B, 10) of each cervical vertebra's centre; of the thoracic ones
            the highest that it can be; NaN where it is not known.
        """
        rng = np.random.default_rng([self.seed, step])
        shape = self.shapes[int(rng.integers(len(self.shapes)))]
        # Samples written since the last batch take part at once.
        chosen = rng.integers(0, self.samples.available(), self.size)
        augmentation = self.augmentation.eased(min(1.0, step / max(self.ease_steps, 1)))
        samples = [torch.from_numpy(self.samples.read(int(index))).to(self.device) for index in chosen]
        patches = [augmentation(sample, shape, self.pixdim_mm, rng) for sample in samples]
        images, labels, centers = zip(*patches, strict=True)
        image = torch.stack(images)[:, None].contiguous(memory_format=torch.channels_last_3d)
        slice_cm = self.pixdim_mm[0] / 10
        center_cm = torch.stack(centers).to(self.device) * slice_cm
        c6, c7 = center_cm[:, Vertebra.C6], center_cm[:, Vertebra.C7]
        center_cm[:, THORACIC] = c7 - T1_BELOW_C7 * (c6 - c7)
        height_cm = torch.arange(shape[0], device=self.device) * slice_cm
        return {
            "image": image,
            "label": torch.stack(labels),
            "height_cm": height_cm.expand(self.size, -1),
            "center_cm": center_cm,
        }


@torch.inference_mode()
def dice_by_class(
    network: torch.nn.Module, samples: SampleFolder, shape: tuple[int, int, int]
) -> dict[str, float]:
    """Mean Dice of each class over samples cut around their centre, by argmax, where they are in view."""
    from cspine.models.inference import most_likely

    scores: dict[str, list[float]] = {name: [] for name in NETWORK_CHANNELS[1:]}
    with ThreadPoolExecutor(1) as ahead:
        for sample in ahead.map(samples.read, range(samples.available())):
            first = (np.array(sample.shape[1:]) - shape) // 2
            window = tuple(slice(a, a + n) for a, n in zip(first, shape, strict=True))
            image = torch.from_numpy(sample[0][window]).float() / 255
            found = most_likely(network, image).cpu().numpy()
            truth = sample[1][window]
            for channel, name in enumerate(NETWORK_CHANNELS[1:], start=1):
                a, b = found == channel, truth == channel
                if b.any():
                    scores[name].append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return {name: float(np.mean(values)) for name, values in scores.items() if values}
