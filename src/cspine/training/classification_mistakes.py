"""Where the encoder sees fractures in sound vertebrae: the parts from which it has most to learn next.

Parts of sound vertebrae that are drawn anywhere rarely look like a fracture. After a first stage the network
itself says which ones do (Sung and Poggio, "Example-based learning for view-based human face detection",
1998, call it bootstrapping).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from cspine.anatomy import Vertebra
from cspine.datasets.crop_batches import Mistake, as_voxels
from cspine.datasets.crop_samples import CropStudy
from cspine.models.classifier_network import HEAT_STRIDE, FractureNet
from cspine.models.device import autocast
from cspine.whole_files import write_json

log = logging.getLogger(__name__)


PLACES: Final = 3
"""Of one vertebra: from one alone the network would learn which vertebra it is."""
APART: Final = 4
"""Cells of the heat map between two of them: half a patch."""


def mistakes_of(
    network: FractureNet, studies: Sequence[CropStudy], file: Path, device: torch.device
) -> list[Mistake]:
    """The hottest places of every sound vertebra, up to `PLACES` of each; found once and kept in a file.

    The crop of a vertebra shows a part of the next one, too. What is broken there may be among them: that it
    is the neighbour's is for the network to learn from the mask.

    Args:
        network: the classifier after its first stage.
        studies: the training's studies.
        file: JSON; where it exists, nothing is computed, so that a resumed run learns from the same places.
        device: where to compute.

    Raises:
        OutputError: the file cannot be written.
    """
    if not file.exists():
        log.info("looking for what the encoder takes for fractures in %d studies", len(studies))
        network = network.to(device).eval()
        write_json(file, {study.name: _hottest_places(network, study, device) for study in studies})
    found = json.loads(file.read_text())
    return [
        Mistake(study, Vertebra[level], *place)
        for study in studies
        for level, places in found.get(study.name, {}).items()
        for place in places
    ]


Place = tuple[int, int, float]
"""Row and column in pixels and the logit."""


@torch.no_grad()
def _hottest_places(
    network: FractureNet, study: CropStudy, device: torch.device
) -> Mapping[str, Sequence[Place]]:
    """The hottest places of a study's sound vertebrae by the name of the level, hottest first.

    Args:
        network: on `device`, not in training.
        study: whose crops are read.
        device: where to compute.
    """
    sound = sorted(level for level, fractured in study.fractured.items() if not fractured)
    if not sound:
        return {}
    image, mask, _ = as_voxels([study.load(level) for level in sound], device)
    with autocast(device):
        heat = network.encoder(torch.stack([image, mask], 1))[1].amax(1)
    return {level.name: _peaks(cells.float().cpu()) for level, cells in zip(sound, heat, strict=True)}


def _peaks(heat: torch.Tensor) -> list[Place]:
    """Up to `PLACES` maxima of cells (h, w), each at least `APART` from those before it in some direction."""
    found: list[Place] = []
    left, middle = heat.clone(), HEAT_STRIDE // 2
    while len(found) < PLACES and bool(left.isfinite().any()):
        row, column = divmod(int(left.argmax()), left.shape[-1])
        logit = round(float(left[row, column]), 2)
        found.append((HEAT_STRIDE * row + middle, HEAT_STRIDE * column + middle, logit))
        around = [slice(max(0, at - APART + 1), at + APART) for at in (row, column)]
        left[around[0], around[1]] = -torch.inf
    return found
