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

import torch

from cspine.anatomy import Vertebra
from cspine.datasets.crop_batches import Mistake, as_voxels
from cspine.datasets.crop_samples import CropStudy
from cspine.models.classifier_network import HEAT_STRIDE, FractureNet
from cspine.models.device import autocast
from cspine.whole_files import write_json

log = logging.getLogger(__name__)


def mistakes_of(
    network: FractureNet, studies: Sequence[CropStudy], file: Path, device: torch.device
) -> list[Mistake]:
    """The hottest place of every sound vertebra with sound neighbours; found once and kept in a file.

    The crop of a vertebra shows a part of the next one too, and what is broken there is no mistake.

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
        write_json(file, {study.name: _hottest(network, study, device) for study in studies})
    found = json.loads(file.read_text())
    return [
        Mistake(study, Vertebra[level], *place)
        for study in studies
        for level, place in found.get(study.name, {}).items()
    ]


@torch.no_grad()
def _hottest(
    network: FractureNet, study: CropStudy, device: torch.device
) -> Mapping[str, tuple[int, int, float]]:
    """Row, column and heat logit by the name of the level."""
    broken = {level for level, fractured in study.fractured.items() if fractured}
    sound = [v for v in sorted(study.fractured) if not broken & {v - 1, v, v + 1}]
    if not sound:
        return {}
    image, mask, _ = as_voxels([study.load(level) for level in sound], device)
    network = network.to(device).eval()
    with autocast(device):
        heat = network.encoder(torch.stack([image, mask], 1))[1].amax(1)
    found = {}
    for level, cells in zip(sound, heat, strict=True):
        row, column = divmod(int(cells.argmax()), cells.shape[-1])
        middle = HEAT_STRIDE // 2
        found[level.name] = (
            HEAT_STRIDE * row + middle,
            HEAT_STRIDE * column + middle,
            round(float(cells.max()), 2),
        )
    return found
