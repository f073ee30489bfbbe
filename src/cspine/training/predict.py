"""What ``python -m monai.bundle run`` does with a bundle's inference config: files in, masks out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cspine.errors import InputError
from cspine.models.device import autocast
from cspine.models.folding import at_voxels
from cspine.models.inference import fold_of

log = logging.getLogger(__name__)

Transform = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A network between the transforms of its config.

    Attributes:
        network: gives logits.
        weights: file of its weights.
        preprocessing: from {"image": path} to {"image": tensor (1, slices, rows, columns)}.
        inferer: calls the network on (1, 1, slices, rows, columns).
        postprocessing: takes "image" and "pred" (channels, slices, rows, columns), and saves.
        device: where to compute.
    """

    network: torch.nn.Module
    weights: str
    preprocessing: Transform
    inferer: Callable[[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]
    postprocessing: Transform
    device: torch.device

    def run(self, images: Sequence[str]) -> list[Mapping[str, Any]]:
        """Predict every file.

        Returns:
            What the postprocessing made of each.

        Raises:
            InputError: there is no file.
        """
        if not images:
            raise InputError("No image was found: name a NIfTI file with --image.")
        self.network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        self.network.to(self.device).eval()
        return [self._predict(path) for path in images]

    @torch.inference_mode()
    def _predict(self, path: str) -> Mapping[str, Any]:
        data = dict(self.preprocessing({"image": path}))
        with autocast(self.device):
            logits = self.inferer(data["image"][None].to(self.device), self._at_voxels)[0]
        data["pred"] = torch.softmax(logits.float().cpu(), 0)
        return self.postprocessing(data)

    def _at_voxels(self, image: torch.Tensor) -> torch.Tensor:
        return at_voxels(self.network(image), fold_of(self.network))
