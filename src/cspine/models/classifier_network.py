"""The fracture classifier's network: a vertebra as a sequence of planes, a study as a sequence of vertebrae.

A crop becomes `steps` windows of neighbouring CT planes with the vertebra's mask. One 2-D residual network
reads every window, a bidirectional GRU reads the windows in order, and three heads answer: does this plane
show a fracture (slice), where in the plane (heat map), and is the vertebra fractured (level, attention over
the planes). A small transformer then sees the seven vertebrae together and answers for each of them again and
for the spine as a whole. The design follows what the winners of RSNA 2022 had in common: vertebra-aligned
crops, the mask as a channel, a recurrent net over planes and a head for the study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cspine.anatomy import CERVICAL

HEAT_STRIDE = 8
"""Pixels of the crop behind one cell of the heat map, each way."""


class VertebraLogits(NamedTuple):
    """What the encoder says of N vertebrae, each alone.

    Attributes:
        embedding: (N, E) for the study head.
        level: (N,) logit of a fracture in this vertebra.
        slices: (N, steps) logit of a fracture in the window's middle plane.
        heat: (N, steps, rows / 8, columns / 8) logit of a fracture in that cell.
    """

    embedding: Tensor
    level: Tensor
    slices: Tensor
    heat: Tensor


class StudyLogits(NamedTuple):
    """What the study head says of S studies.

    Attributes:
        levels: (S, 7) logits, C1..C7; those of absent levels mean nothing.
        overall: (S,) logit of any fracture.
    """

    levels: Tensor
    overall: Tensor


@dataclass(frozen=True)
class Widths:
    """How wide the network is.

    Attributes:
        channels: of the five stages, at strides 2, 4, 8, 16 and 32.
        blocks: residual blocks of each stage.
        merged: channels of the stride-8 map that the heat map and the pooling read.
        recurrent: hidden units of the GRU each way; the embedding has twice as many.
        study: width of the study head.
    """

    channels: tuple[int, ...] = (24, 48, 96, 160, 256)
    blocks: tuple[int, ...] = (1, 1, 2, 2, 1)
    merged: int = 96
    recurrent: int = 96
    study: int = 96


class FractureNet(nn.Module):
    """The whole classifier.

    Args:
        steps: windows of a crop.
        window_planes: neighbouring CT planes of a window (odd).
        dropout: of the features before the GRU, and in the study head.
        widths: of the layers; None for the defaults.
    """

    def __init__(
        self,
        *,
        steps: int = 15,
        window_planes: int = 5,
        dropout: float = 0.1,
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        sizes = widths or Widths()
        self.steps, self.window_planes = steps, window_planes
        self.encoder = PlaneEncoder(window_planes + 1, sizes)
        self.sequence = SequenceHead(self.encoder.features, sizes.recurrent, dropout)
        self.study = StudyHead(2 * sizes.recurrent, sizes.study, dropout)

    def encode(self, crops: Tensor) -> VertebraLogits:
        """Read vertebrae one by one.

        Args:
            crops: (N, 2, planes, rows, columns): image in [0, 1] and mask.
        """
        count = crops.shape[0]
        features, heat = self.encoder(self.windows(crops))
        embedding, level, slices = self.sequence(features.view(count, self.steps, -1))
        return VertebraLogits(embedding, level, slices, heat.view(count, self.steps, *heat.shape[-2:]))

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

    def windows(self, crops: Tensor) -> Tensor:
        """Cut crops into windows: (N * steps, window_planes + 1, rows, columns), channels last.

        Raises:
            ValueError: a crop with another number of planes than the network was built for.
        """
        planes = 2 * (self.steps - 1) + self.window_planes
        if crops.ndim != 5 or crops.shape[1:3] != (2, planes):
            raise ValueError(f"crops must be (N, 2, {planes}, rows, columns), not {tuple(crops.shape)}")
        image = crops[:, 0].unfold(1, self.window_planes, 2).permute(0, 1, 4, 2, 3)
        middle = crops[:, 1].unfold(1, self.window_planes, 2)[..., self.window_planes // 2]
        stacked = torch.cat([image, middle.unsqueeze(2)], dim=2).flatten(0, 1)
        return stacked.contiguous(memory_format=torch.channels_last)


class PlaneEncoder(nn.Module):
    """A window of planes to one feature vector and a stride-8 heat map."""

    def __init__(self, inputs: int, sizes: Widths) -> None:
        super().__init__()
        # Folding 2 x 2 pixels into channels halves the resolution without losing a hairline.
        self.fold = nn.PixelUnshuffle(2)
        widths = (4 * inputs, *sizes.channels)
        self.stages = nn.ModuleList(
            _stage(widths[i], widths[i + 1], sizes.blocks[i], stride=1 if i == 0 else 2)
            for i in range(len(sizes.channels))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, sizes.merged, 1, bias=False) for c in sizes.channels[2:])
        self.merge = nn.Sequential(nn.BatchNorm2d(sizes.merged), nn.ReLU(inplace=True))
        self.heat = nn.Conv2d(sizes.merged, 1, 1)
        nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]  # fractures are rare: start there
        pooled = 2 * sizes.merged + sizes.channels[-1] + 1
        self.plane = nn.Linear(pooled, 1)
        self.features = pooled + 1

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, planes + 1, rows, columns) to features (B, F) and heat logits (B, h, w).

        The last feature is the plane's own logit of a fracture.
        """
        x, maps = self.fold(windows), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        merged = self.lateral[0](maps[2])
        for lateral, deeper in zip(list(self.lateral)[1:], maps[3:], strict=True):
            merged = merged + nn.functional.interpolate(lateral(deeper), size=merged.shape[-2:])
        merged = self.merge(merged)
        heat = self.heat(merged).float()
        pooled = self._pool(merged, maps[-1], heat)
        with torch.autocast(pooled.device.type, enabled=False):
            return torch.cat([pooled, self.plane(pooled)], 1), heat[:, 0]

    def _pool(self, merged: Tensor, deepest: Tensor, heat: Tensor) -> Tensor:
        """Mean of the plane, what is under the heat, and how hot it gets: (B, F)."""
        weights = heat.flatten(1).softmax(1).to(merged.dtype)
        under = torch.einsum("bcn,bn->bc", merged.flatten(2), weights)
        peak = heat.flatten(1).logsumexp(1, keepdim=True)
        parts = [merged.mean((2, 3)), under, deepest.mean((2, 3)), peak]
        return torch.cat([part.float() for part in parts], dim=1)


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions with a shortcut (depthwise ones cost three times more a MAC on a CPU)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        return nn.functional.relu(self.body(x) + self.shortcut(x), inplace=True)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


class SequenceHead(nn.Module):
    """Planes in order to slice logits, an embedding and the level's logit."""

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Linear(features, 2 * hidden), nn.LayerNorm(2 * hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.gru = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.slice = nn.Linear(2 * hidden, 1)
        self.attention = nn.Linear(2 * hidden, 1)
        self.level = nn.Linear(2 * hidden + 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (N, steps, F) to embedding (N, 2 * hidden), level (N,) and slices (N, steps)."""
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.gru(self.squeeze(features.float()))
            # The plane's own logit is the start; what its neighbours say is added.
            slices = self.slice(states).squeeze(-1) + features[..., -1].float()
            # Planes that look fractured draw the attention; what it learns beyond that is added.
            weights = (self.attention(states).squeeze(-1) + slices).softmax(1)
            embedding = torch.einsum("nsf,ns->nf", states, weights)
            peak = slices.logsumexp(1, keepdim=True)
            return embedding, self.level(torch.cat([embedding, peak], 1)).squeeze(-1), slices


class StudyHead(nn.Module):
    """Seven vertebrae seen together: refined level logits and the spine's logit.

    It starts as the identity on the level logits and learns what neighbours and the level's own rate of
    fractures change. Absent levels are masked out of the attention, so that they have no influence.
    """

    def __init__(self, embedding: int, width: int, dropout: float, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Linear(embedding + 1, width)
        self.position = nn.Parameter(torch.zeros(len(CERVICAL) + 1, width))
        nn.init.normal_(self.position, std=0.1)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.level = nn.Linear(width, 1)
        self.overall = nn.Linear(width + 1, 1)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)

    def forward(self, embeddings: Tensor, level_logits: Tensor, present: Tensor) -> StudyLogits:
        """Map embeddings (S, 7, E), level logits (S, 7) and present (S, 7) bool to `StudyLogits`."""
        levels = self.token(torch.cat([embeddings, level_logits.unsqueeze(-1)], -1)) + self.position[1:]
        whole = self.position[:1].expand(len(levels), 1, -1)
        seen = nn.functional.pad(present, (1, 0), value=True)
        out = self.encoder(torch.cat([whole, levels], 1), src_key_padding_mask=~seen)
        refined = level_logits + self.level(out[:, 1:]).squeeze(-1)
        strongest = refined.masked_fill(~present, -1e4).logsumexp(1, keepdim=True)
        overall = self.overall(torch.cat([out[:, 0], strongest], 1)).squeeze(-1)
        return StudyLogits(torch.where(present, refined, 0.0), overall)


def _scatter(values: Tensor, present: Tensor) -> Tensor:
    """Put (N, ...) values of the present levels into (S, 7, ...) zeros."""
    out = values.new_zeros(*present.shape, *values.shape[1:])
    out[present] = values
    return out
