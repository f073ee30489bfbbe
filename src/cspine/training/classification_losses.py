"""What the fracture classifier minimises, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from cspine.training.loop import Batch

FOCAL_GAMMA: Final = 2.0


@dataclass(frozen=True)
class LossWeights:
    """Shares of the parts of the losses.

    Attributes:
        heat: of the heat map beside the plane's logit, both counted in full: phantoms know every voxel of
            every fracture, and that is by far the quickest signal to learn from. (The .2 that suits RSNA 2022
            reckons with boxes for one study in eight.)
        slices: of the planes beside the level.
        vertebra_heat: of the heat map beside the level.
        overall: of the spine beside the levels.
        positive: of a fracture beside its absence in the study's loss, as in the metric of RSNA 2022.
    """

    heat: float = 1.0
    slices: float = 0.2
    vertebra_heat: float = 0.2
    overall: float = 0.5
    positive: float = 2.0


def encoder_loss(weights: LossWeights, encoder: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Loss of the encoder: in which planes is a fracture, and where in them."""
    features, heat = encoder(batch["crops"])
    plane = F.binary_cross_entropy_with_logits(features[..., -1], batch["slices"])
    where = heat_loss(heat.float(), batch["heat"])
    return {"loss": plane + weights.heat * where, "plane": plane, "heat": where}


def heat_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss per fractured cell (Lin et al. 2017) plus soft Dice over the batch."""
    error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    focal = (error * (p - target).abs() ** FOCAL_GAMMA).sum() / target.sum().clamp(min=1)
    dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    return 0.1 * focal + dice


def sequence_loss(weights: LossWeights, sequence: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Loss of single vertebrae; half of a batch is fractured, so positives need no further weight."""
    _, level_logits, slice_logits = sequence(batch["features"])
    return _vertebra_terms(weights, level_logits, slice_logits, batch)


def vertebra_loss(weights: LossWeights, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Loss of single vertebrae from the image on; planes and heat count where they are known."""
    found = network(batch["crops"])
    values = _vertebra_terms(weights, found.level, found.slices, batch)
    known = batch["located"] > 0
    heat = heat_loss(found.heat[known].float(), batch["heat"][known])
    return {**values, "loss": values["loss"] + weights.vertebra_heat * heat, "heat": heat}


def _vertebra_terms(
    weights: LossWeights, level_logits: Tensor, slice_logits: Tensor, batch: Batch
) -> dict[str, Tensor]:
    level = F.binary_cross_entropy_with_logits(level_logits, batch["fractured"], batch["weight"])
    known = batch["located"][:, None].expand_as(slice_logits)
    slices = F.binary_cross_entropy_with_logits(slice_logits, batch["slices"], known)
    return {"loss": level + weights.slices * slices, "level": level, "slices": slices}


def study_loss(weights: LossWeights, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Loss of whole studies: the levels in view, and whether any of them is fractured."""
    present, target = batch["present"].bool(), batch["fractured"]
    found = head(batch["embedding"], batch["level"], present)
    weight = present * (1 + (weights.positive - 1) * target)
    error = F.binary_cross_entropy_with_logits(found.levels, target, reduction="none")
    level = (error * weight).sum() / weight.sum()
    fractured = (target * present).amax(1)
    emphasis = 1 + (weights.positive - 1) * fractured
    overall = F.binary_cross_entropy_with_logits(found.overall, fractured, emphasis)
    return {"loss": level + weights.overall * overall, "level": level, "overall": overall}
