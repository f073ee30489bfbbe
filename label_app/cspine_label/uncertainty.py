"""How unsure the segmentation is of a case: what the strategies of active learning rank by.

Three numbers, each in [0, 1]; 0 is sure:

- uncertainty: mean entropy over the bone, of several passes with dropout;
- tta: mean variance over the bone between passes on turned and mirrored images;
- disagreement: part of the bone to which those passes give another level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cspine.anatomy import RISE_CHANNEL, THORACIC
from cspine.models.bundle import load_bundle
from cspine.models.inference import channels_last, spine_output
from cspine.models.localizer import find_cervical_spine
from cspine.models.naming import name_vertebrae
from cspine.models.segmenter import cut_patch
from cspine.settings import LOCALIZATION, SEGMENTATION
from cspine.volume import Volume

if TYPE_CHECKING:
    from cspine.method import Method

DROPOUT: Final = 0.15
"""Probability during the passes. The released networks were trained without: it disturbs, no more."""
PASSES: Final = 4
TURN_DEGREES: Final = 6.0
BONE: Final = 0.5

Probabilities = NDArray[np.float32]
"""What `cspine.models.inference.spine_output` gives, (11 or more, ...); of the classes alone, (10, ...)."""


@dataclass(frozen=True)
class Doubt:
    """How unsure a network is of one case; each in [0, 1]."""

    uncertainty: float
    tta: float
    disagreement: float


NO_SPINE: Final = Doubt(1.0, 1.0, 1.0)
"""Where no cervical spine was found at all, the network could not be less sure."""


def doubt_of(method: Method, bundles: Path, volume: Volume) -> Doubt:
    """Look at one case several times."""
    on = torch.device(method.device)
    locate = channels_last(load_bundle(bundles, LOCALIZATION).network(on))
    segmentation = load_bundle(bundles, SEGMENTATION)
    grids = method.model_grids(volume)
    center = find_cervical_spine(locate, grids.localization)
    spec = segmentation.grid_spec()
    if center is None or spec.patch is None:
        return NO_SPINE
    patch = cut_patch(grids.segmentation, center, spec.patch).image
    return doubt_of_patch(channels_last(segmentation.network(on)), patch, spec.pixdim_mm)


def doubt_of_patch(
    network: torch.nn.Module, patch: torch.Tensor, pixdim_mm: tuple[float, float, float]
) -> Doubt:
    """As `doubt_of`, from the patch (slices, rows, columns) that the network sees."""
    plain = _predicted(network, patch)
    bone = plain[1 : THORACIC + 1].sum(0) > BONE
    if not bone.any():
        return NO_SPINE
    with dropout(network, DROPOUT):
        torch.manual_seed(0)
        dropped = np.mean([_predicted(network, patch) for _ in range(PASSES)], axis=0)
    turned = [plain, *(undo(_predicted(network, do(patch))) for do, undo in _poses())]
    return Doubt(
        entropy(dropped[:RISE_CHANNEL], bone),
        variance([output[:RISE_CHANNEL] for output in turned], bone),
        disagreement(turned, pixdim_mm),
    )


def entropy(probabilities: Probabilities, where: NDArray[np.bool_]) -> float:
    """Mean entropy of (channels, ...) over `where`, as part of the largest that is possible."""
    chosen = np.clip(probabilities[:, where].astype(np.float64), 1e-12, 1)
    return _unit(float(-(chosen * np.log(chosen)).sum(0).mean() / np.log(len(probabilities))))


def variance(passes: list[Probabilities], where: NDArray[np.bool_]) -> float:
    """Mean over `where` of the largest variance of a channel, as part of the largest possible, 1/4."""
    return _unit(float(4 * np.stack([p[:, where] for p in passes]).var(0).max(0).mean()))


def disagreement(outputs: list[Probabilities], pixdim_mm: tuple[float, float, float]) -> float:
    """Part of the bone of the first pass to which the others, decoded as a sequence, give another level."""
    names = [name_vertebrae(output, pixdim_mm)[1] for output in outputs]
    first = names[0]
    if not first.any():
        return 1.0
    others = [
        float((other[(first > 0) & (other > 0)] != first[(first > 0) & (other > 0)]).mean())
        if ((first > 0) & (other > 0)).any()
        else 1.0
        for other in names[1:]
    ]
    return _unit(float(np.mean(others)))


@contextmanager
def dropout(network: torch.nn.Module, probability: float) -> Iterator[None]:
    """Have the dropout layers, and only they, work as in training."""
    layers = [m for m in network.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]
    before = [(layer.p, layer.training) for layer in layers]
    for layer in layers:
        layer.p = probability
        layer.train()
    try:
        yield
    finally:
        for layer, (p, training) in zip(layers, before, strict=True):
            layer.p = p
            layer.train(training)


def _predicted(network: torch.nn.Module, patch: torch.Tensor) -> Probabilities:
    found: Probabilities = spine_output(network, patch).cpu().numpy()
    return found


def _poses() -> list[tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[Probabilities], Probabilities]]]:
    """Mirrored left to right, and turned a little about the axis to the head, each with its way back."""
    return [
        (lambda patch: patch.flip(-1), lambda p: np.ascontiguousarray(p[..., ::-1])),
        (lambda patch: _turned(patch[None], TURN_DEGREES)[0], lambda p: _turned_back(p, TURN_DEGREES)),
        (lambda patch: _turned(patch[None], -TURN_DEGREES)[0], lambda p: _turned_back(p, -TURN_DEGREES)),
    ]


def _turned_back(probabilities: Probabilities, degrees: float) -> Probabilities:
    result: Probabilities = _turned(torch.from_numpy(probabilities), -degrees).numpy()
    return result


def _turned(image: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turn (channels, slices, rows, columns) in the plane of rows and columns; outside is the border."""
    angle = torch.deg2rad(torch.tensor(degrees))
    _, slices, rows, columns = image.shape
    cos, sin = float(angle.cos()), float(angle.sin())
    theta = torch.tensor([[cos, -sin * rows / columns, 0.0], [sin * columns / rows, cos, 0.0]])
    planes = image.float().transpose(0, 1)
    grid = F.affine_grid(theta.expand(slices, 2, 3), [slices, 1, rows, columns], align_corners=False)
    turned = F.grid_sample(planes, grid.to(image.device), padding_mode="border", align_corners=False)
    return turned.transpose(0, 1).contiguous()


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
