"""The network that names bone: a U-Net that sees the whole neck, refined where its own grid is too coarse.

A network that folds takes each block of 2 x 2 x 2 voxels as eight channels of one cell. It computes on the
cells alone, at an eighth of the cost, and its last eight channels tell the voxels of a cell apart again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet
from torch import nn

from cspine.models.folding import bone_logit, folded


class RefinedUNet(nn.Module):
    """A U-Net and a thin layer at full resolution.

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
        self, out_channels: int, channels: Sequence[int], detail_channels: int = 16, fold: int = 1
    ) -> None:
        """Build it untrained.

        Args:
            out_channels: classes, and the rise; a network that folds adds one for each voxel of a cell.
            channels: features of the U-Net, from its finest level (stride 2) down.
            detail_channels: features at full resolution.
            fold: voxels of a cell along each axis.
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
        last = nn.Conv3d(detail_channels, out_channels + (voxels if fold > 1 else 0), 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        mixed = Convolution(3, detail_channels + out_channels, detail_channels, norm="INSTANCE")
        self.refine = nn.Sequential(mixed, last)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes, slices, rows, columns) of images (B, 1, slices, rows, columns).

        A network that folds gives them for each cell, so each axis is `fold` times shorter; then, in
        `fold` ** 3 channels more, the logits that each voxel of the cell is bone of a vertebra.
        """
        cells = folded(image, self.fold)
        rough: torch.Tensor = self.coarse(cells)
        correction: torch.Tensor = self.refine(torch.cat([self.detail(cells), rough], 1))
        if self.fold == 1:
            return rough + correction
        named = rough + correction[:, : rough.shape[1]]
        return torch.cat([named, correction[:, rough.shape[1] :] + bone_logit(named)], 1)
