"""The network that names bone: a U-Net that sees the whole neck, refined where its own grid is too coarse.

A network that folds takes each block of 2 x 2 x 2 voxels as eight channels of one cell. It computes on the
cells alone, at an eighth of the cost, and its last channels, two for each voxel of a cell, tell the voxels
apart again: whether one is bone, and at which vertebra's centre it points.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet
from torch import nn

from cspine.anatomy import RISE_CHANNEL, channel_groups
from cspine.models.folding import bone_logit, folded


class RefinedUNet(nn.Module):
    """A U-Net and a few layers at full resolution that correct it.

    MONAI's U-Net halves the image before its first features, so its finest ones are two voxels apart, and
    it normalises what becomes the logits. That is enough to tell which vertebra is where, not where its
    surface lies. The refinement sees the image itself beside the U-Net's logits and adds a correction.

    Attributes:
        fold: voxels of a cell along each axis; 1 where the network computes on the voxels themselves.
        coarse: the U-Net.
        detail: features of the image, each cell's own neighbourhood.
        refine: from both to the correction; it starts as none at all.
    """

    def __init__(
        self,
        out_channels: int,
        channels: Sequence[int],
        detail_channels: int = 16,
        fold: int = 1,
        detail_blocks: int = 0,
    ) -> None:
        """Build it untrained.

        Args:
            out_channels: classes, and the rise; a network that folds adds two for each voxel of a cell.
            channels: features of the U-Net, from its finest level (stride 2) down.
            detail_channels: features at full resolution.
            fold: voxels of a cell along each axis.
            detail_blocks: residual blocks of the refinement, each of which sees four cells further.
        """
        super().__init__()
        self.fold = fold
        voxels = fold**3
        self.coarse = UNet(
            spatial_dims=3,
            in_channels=voxels,
            out_channels=out_channels,
            channels=tuple(channels),
            strides=(2,) * (len(channels) - 1),
            num_res_units=1,
            norm="INSTANCE",
        )
        self.detail = Convolution(3, voxels, detail_channels, norm="INSTANCE")
        last = nn.Conv3d(detail_channels, out_channels + (2 * voxels if fold > 1 else 0), 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        mixed = Convolution(3, detail_channels + out_channels, detail_channels, norm="INSTANCE")
        blocks = (_Residual(detail_channels) for _ in range(detail_blocks))
        self.refine = nn.Sequential(mixed, *blocks, last)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes, slices, rows, columns) of images (B, 1, slices, rows, columns).

        A network that folds gives them for each cell, so each axis is `fold` times shorter; then, in
        `fold` ** 3 channels each, the logits that each voxel of the cell is bone of a vertebra, and its rise.
        """
        cells = folded(image, self.fold)
        rough: torch.Tensor = self.coarse(cells)
        correction: torch.Tensor = self.refine(torch.cat([self.detail(cells), rough], 1))
        if self.fold == 1:
            return rough + correction
        more, bone, rise = (correction[:, group] for group in channel_groups(correction.shape[1]))
        named = rough + more
        return torch.cat([named, bone + bone_logit(named), rise + named[:, RISE_CHANNEL, None]], 1)


class _Residual(nn.Module):
    """Two convolutions, added to what they read; at first they add nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(3, channels, channels, norm="INSTANCE")
        self.second = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.second(self.first(x))
        return x + added
