"""The fracture classifier's network: a vertebra as a volume, its planes in order, a study as seven of them.

A 3-D residual network reads the crop of a vertebra, for half of the fractures of a cervical spine (dens,
facets) run in the axial plane and show in no single one. It gives a heat map of the fracture and features of
every other plane; a bidirectional GRU reads these in order, and three heads answer: does this plane show a
fracture (slice), where in the plane (heat map), and is the vertebra fractured (level, attention over the
planes). A small transformer then sees the seven vertebrae together and answers for each of them again and for
the spine as a whole.

The network sees the image only. Masks of broken vertebrae are ragged, and so are those that a segmentation
draws badly: a network that reads their outline calls the latter fractured, and measures well on true masks
alone. Here the mask says where an answer counts, with half a centimetre to spare, and no more.

Crops along the vertebra, a recurrent net over planes and a head for the study are what the winners of RSNA
2022 had in common; they read planes in two dimensions with the mask as a channel, at several times the cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cspine.models.classifier_heads import SequenceHead, StudyHead, StudyLogits

HEAT_STRIDE = 4
"""Pixels of the crop behind one cell of the heat map, each way."""
FOLD = 2
"""Pixels each way that become channels."""
NEAR_PART = 0.1
"""Part of the mask around a cell from which on the cell counts in full."""
FAR = -8.0
"""What is added to the heat's logit where there is no mask around."""
SHOULDER = 0.15
"""By how much a compressed image passes the knee at most: 300 HU of a window of 2000."""


class VertebraLogits(NamedTuple):
    """What the encoder says of N vertebrae, each alone.

    Attributes:
        embedding: (N, E) for the study head.
        level: (N,) logit of a fracture in this vertebra.
        slices: (N, steps) logit of a fracture in that plane or beside it.
        heat: (N, steps, rows / 4, columns / 4) logit of a fracture in that cell.
    """

    embedding: Tensor
    level: Tensor
    slices: Tensor
    heat: Tensor


@dataclass(frozen=True)
class Widths:
    """How wide the network is.

    Attributes:
        channels: of the stem and of the stages, at strides 2, 4, 8 and 16 in the plane, half of that across.
        blocks: residual blocks of each stage after the stem.
        merged: channels of the stride-4 map that the heat map and the pooling read.
        recurrent: hidden units of the GRU each way; the embedding has twice as many.
        study: width of the study head.
    """

    channels: tuple[int, ...] = (24, 48, 96, 160)
    blocks: tuple[int, ...] = (1, 2, 2)
    merged: int = 64
    recurrent: int = 96
    study: int = 96


class FractureNet(nn.Module):
    """The whole classifier.

    Args:
        steps: planes that are answered for, every other one.
        window_planes: planes of the crop that lie around each of them at least: 1, 5, 9 or so on, so that the
            middle ones are those that a stride of 2 leaves.
        dropout: of the features before the GRU, and in the study head.
        knee: from where on the image is compressed (`compressed`), in [0, 1]; None for nowhere.
        widths: of the layers; None for the defaults.

    Raises:
        ValueError: another number of window planes.
    """

    def __init__(
        self,
        *,
        steps: int = 15,
        window_planes: int = 5,
        dropout: float = 0.1,
        knee: float | None = None,
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        if window_planes % 4 != 1:
            raise ValueError(f"window_planes must be 1, 5, 9 or so on, not {window_planes}")
        sizes = widths or Widths()
        self.steps, self.window_planes = steps, window_planes
        self.encoder = VertebraEncoder(steps, window_planes, sizes, knee)
        self.sequence = SequenceHead(self.encoder.features, sizes.recurrent, dropout)
        self.study = StudyHead(2 * sizes.recurrent, sizes.study, dropout)

    def encode(self, crops: Tensor) -> VertebraLogits:
        """Read vertebrae one by one.

        Args:
            crops: (N, 2, planes, rows, columns): image in [0, 1] and mask.
        """
        features, heat = self.encoder(crops)
        embedding, level, slices = self.sequence(features)
        return VertebraLogits(embedding, level, slices, heat)

    def forward(self, crops: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Read whole studies; absent levels are not encoded.

        Args:
            crops: (S, 7, 2, planes, rows, columns), anything where a level is absent.
            present: (S, 7) bool.

        Returns:
            "levels" (S, 7), "overall" (S,), "slices" (S, 7, steps) and "heat" (S, 7, steps, h, w) logits;
            zeros for absent levels.
        """
        found = self.encode(crops[present])
        embeddings = _scatter(found.embedding, present)
        study: StudyLogits = self.study(embeddings, _scatter(found.level, present), present)
        return {
            "levels": study.levels,
            "overall": study.overall,
            "slices": _scatter(found.slices, present),
            "heat": _scatter(found.heat, present),
        }


class VertebraEncoder(nn.Module):
    """A crop of a vertebra, or a part of all its planes, to features of every other plane and a heat map."""

    def __init__(self, steps: int, window_planes: int, sizes: Widths, knee: float | None = None) -> None:
        super().__init__()
        self._knee = knee
        self.planes = 2 * (steps - 1) + window_planes
        self._answered = slice(window_planes // 4, window_planes // 4 + steps)
        widths = sizes.channels
        self.stem = nn.Sequential(*_convolution(FOLD * FOLD, widths[0], 1), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList(
            _stage(narrow, wide, blocks)
            for narrow, wide, blocks in zip(widths[:-1], widths[1:], sizes.blocks, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv3d(wide, sizes.merged, 1) for wide in widths[1:])
        self.merge = nn.Sequential(*_convolution(sizes.merged, sizes.merged, 1), nn.ReLU(inplace=True))
        self.heat = nn.Conv3d(sizes.merged, 1, 1)
        nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]  # fractures are rare: start there
        pooled = 2 * sizes.merged + widths[-1] + 1
        self.plane = nn.Linear(pooled, 1)
        self.features = pooled + 1

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 2, planes, rows, columns) to features (N, steps, F) and heat logits (N, steps, h, w).

        The last feature is the plane's own logit of a fracture.

        Raises:
            ValueError: a crop with another number of planes than the network was built for.
        """
        if crops.ndim != 5 or crops.shape[1:3] != (2, self.planes):
            raise ValueError(f"crops must be (N, 2, {self.planes}, rows, columns), not {tuple(crops.shape)}")
        near = nearness(crops[:, 1])
        x, maps = self.stem(folded(compressed(crops[:, :1], self._knee))), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        merged = self.lateral[-1](maps[-1])
        for lateral, finer in zip(list(self.lateral)[-2::-1], maps[-2::-1], strict=True):
            merged = lateral(finer) + nn.functional.interpolate(merged, size=finer.shape[2:])
        merged = self.merge(merged)
        heat = self.heat(merged)[:, 0].float() + near.clamp(min=math.exp(FAR)).log()
        pooled = self._pool(merged, maps[-1], heat, near)[:, self._answered]
        with torch.autocast(pooled.device.type, enabled=False):
            return torch.cat([pooled, self.plane(pooled)], -1), heat[:, self._answered]

    def _pool(self, merged: Tensor, deepest: Tensor, heat: Tensor, near: Tensor) -> Tensor:
        """Of each plane its mean, what is under the heat, what lies around, how hot it is: (N, planes, F)."""
        weights = heat.flatten(2).softmax(2).to(merged.dtype)
        under = torch.einsum("ncsp,nsp->nsc", merged.flatten(3), weights)
        planes, rows, columns = deepest.shape[2:]
        coarse = nn.functional.adaptive_avg_pool3d(near, (planes, rows, columns))
        around = nn.functional.interpolate(_mean_near(deepest, coarse), size=merged.shape[2], mode="linear")
        peak = heat.flatten(2).logsumexp(2, keepdim=True)
        parts = [_mean_near(merged, near).transpose(1, 2), under, around.transpose(1, 2), peak]
        return torch.cat([part.float() for part in parts], dim=2)


def _mean_near(features: Tensor, near: Tensor) -> Tensor:
    """Means (N, C, planes) of features (N, C, planes, h, w) on the vertebra; 0 in planes without it."""
    weights = near / near.sum((2, 3), keepdim=True).clamp(min=1e-3)
    return torch.einsum("ncshw,nshw->ncs", features, weights.to(features.dtype)).float()


def nearness(mask: Tensor) -> Tensor:
    """How far each cell of the heat map counts as this vertebra: 1 on it and beside it, 0 elsewhere.

    Args:
        mask: (N, planes, rows, columns).

    Returns:
        (N, every other plane, rows / 4, columns / 4): 1 where a tenth of five planes of 12 x 12 pixels is
        mask, less where less is.
    """
    cells = nn.functional.avg_pool3d(
        mask[:, None], (5, HEAT_STRIDE, HEAT_STRIDE), (2, HEAT_STRIDE, HEAT_STRIDE), (2, 0, 0)
    )
    around = nn.functional.avg_pool3d(cells, (1, 3, 3), 1, (0, 1, 1))
    return (around[:, 0].float() / NEAR_PART).clamp(max=1)


def compressed(image: Tensor, knee: float | None) -> Tensor:
    """The image, any shape, with less contrast in dense bone: from `knee` on it nears `knee` + `SHOULDER`.

    A gap is darker than all of that; how dense one part of dense bone is beside another tells of wear, not of
    fractures.
    """
    if knee is None:
        return image
    above = (image - knee).clamp(min=0)
    return image.clamp(max=knee) + SHOULDER * (1 - torch.exp(-above / SHOULDER))


def folded(crops: Tensor) -> Tensor:
    """Put 2 x 2 pixels of a plane into channels: half the resolution without losing a hairline.

    Args:
        crops: (N, C, planes, rows, columns).

    Returns:
        (N, 4 C, planes, rows / 2, columns / 2), channels last.
    """
    count, channels, planes, rows, columns = crops.shape
    cells = crops.view(count, channels, planes, rows // FOLD, FOLD, columns // FOLD, FOLD)
    stacked = cells.permute(0, 1, 4, 6, 2, 3, 5).reshape(count, -1, planes, rows // FOLD, columns // FOLD)
    return stacked.contiguous(memory_format=torch.channels_last_3d)


class ResidualBlock(nn.Module):
    """Two dense convolutions with a shortcut (depthwise ones cost three times more a MAC on a CPU)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, outputs, stride), nn.ReLU(inplace=True), *_convolution(outputs, outputs, 1)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, d, h, w) to (N, outputs, d / stride, h / stride, w / stride)."""
        return nn.functional.relu(self.body(x) + self.shortcut(x), inplace=True)


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, 2)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def _scatter(values: Tensor, present: Tensor) -> Tensor:
    """Put (N, ...) values of the present levels into (S, 7, ...) zeros."""
    out = values.new_zeros(*present.shape, *values.shape[1:])
    out[present] = values
    return out
