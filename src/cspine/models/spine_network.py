"""The network that names bone: a U-Net that sees the whole neck, refined where its own grid is too coarse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet
from torch import nn


class RefinedUNet(nn.Module):
    """A U-Net and a thin layer at full resolution.

    MONAI's U-Net halves the image before its first features, so its finest ones are two voxels apart, and
    it normalises what becomes the logits. That is enough to tell which vertebra is where, not where its
    surface lies. The refinement sees the image itself beside the U-Net's logits and adds a correction.

    Attributes:
        coarse: the U-Net.
        detail: features of the image, each voxel's own neighbourhood.
        refine: from both to the correction; it starts as none at all.
    """

    def __init__(self, out_channels: int, channels: Sequence[int], detail_channels: int = 16) -> None:
        """Build it untrained.

        Args:
            out_channels: classes.
            channels: features of the U-Net, from its finest level (stride 2) down.
            detail_channels: features at full resolution.
        """
        super().__init__()
        self.coarse = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=out_channels,
            channels=tuple(channels),
            strides=(2,) * (len(channels) - 1),
            num_res_units=1,
            norm="INSTANCE",
        )
        self.detail = Convolution(3, 1, detail_channels, norm="INSTANCE")
        last = nn.Conv3d(detail_channels, out_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        mixed = Convolution(3, detail_channels + out_channels, detail_channels, norm="INSTANCE")
        self.refine = nn.Sequential(mixed, last)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes, slices, rows, columns) of images (B, 1, slices, rows, columns)."""
        rough: torch.Tensor = self.coarse(image)
        correction: torch.Tensor = self.refine(torch.cat([self.detail(image), rough], 1))
        return rough + correction
