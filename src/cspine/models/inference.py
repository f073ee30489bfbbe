"""Running a segmentation network on one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cspine.anatomy import RISE_CHANNEL, channel_groups
from cspine.errors import ModelError
from cspine.models.device import autocast

if TYPE_CHECKING:
    import torch

STRIDE: Final = 16
"""The U-Nets halve their images four times, so each axis must be a multiple of this, in voxels or cells."""


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Lay out a 3-D network's weights so that bfloat16 convolutions are several times faster."""
    import torch

    # The overload is missing in torch's stubs.
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def spine_output(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Probability of each class, then the rise in centimetres (`RISE_CHANNEL`), on the network's device.

    Args:
        network: of the segmentation; takes (1, 1, slices, rows, columns), gives (1, 11, ...); one that folds
            gives 16 channels more, on a lattice of cells (`cspine.models.folding`).
        image: (slices, rows, columns) in [0, 1].

    Returns:
        float32 (11, slices, rows, columns); of a network that folds (27, slices / 2, rows / 2, columns / 2):
        after the rise, the probability that each voxel of the cell is bone of a vertebra, then each voxel's
        own rise.

    Raises:
        ModelError: the network gives no rise, or its output is not finite.
    """
    import torch

    found = network_output(network, image).float()
    fold = fold_of(network)
    wanted = RISE_CHANNEL + 1 + (2 * fold**3 if fold > 1 else 0)
    if len(found) != wanted:
        raise ModelError(
            f"The segmentation network gives {len(found)} channels instead of {wanted} "
            "(the classes and the rise): it is of another version; train it again with this one."
        )
    cells, own_bone, own_rise = (found[group] for group in channel_groups(wanted))
    classes, rise = cells[:RISE_CHANNEL], cells[RISE_CHANNEL:]
    return torch.cat([torch.softmax(classes, 0), rise, torch.sigmoid(own_bone), own_rise])


def twofold_output(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Mean of what `spine_output` gives of an image and of its mirror image, left to right.

    A neck is as likely as its mirror image, and noise falls differently on the two. The mirror image of a
    network that folds is moved by half a cell, so that what one cell holds is seen by others, too.

    Args:
        network: of the segmentation, as of `spine_output`.
        image: (slices, rows, columns) in [0, 1], which fill whole cells.

    Raises:
        ValueError: they do not.
        ModelError: as of `spine_output`.
    """
    fold = fold_of(network)
    if any(side % fold for side in image.shape):
        raise ValueError(f"{tuple(image.shape)} voxels do not fill cells of {fold} voxels")
    other = _moved_output if fold > 1 else spine_output
    return (spine_output(network, image) + mirrored(other(network, image.flip(-1)), fold)) / 2


def _moved_output(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """What `spine_output` gives, seen with cells that lie half a cell further back on every axis.

    The cells at one end of the image hold voxels of both ends; there hardly is any bone.
    """
    import torch

    from cspine.models.folding import folded, unfolded

    fold, axes = fold_of(network), (-3, -2, -1)
    found = spine_output(network, image.roll((fold // 2,) * 3, axes))
    cells, *voxels = (found[group] for group in channel_groups(len(found)))
    for axis in axes:  # a cell of the image lies between two of the moved ones
        cells = (cells + cells.roll(-1, axis)) / 2
    back = [unfolded(part[None], fold).roll((-(fold // 2),) * 3, axes) for part in voxels]
    return torch.cat([cells, *(folded(part, fold)[0] for part in back)])


def mirrored(output: torch.Tensor, fold: int) -> torch.Tensor:
    """What `spine_output` gives of an image, turned into what it says of the mirror image, left to right."""
    other = output.flip(-1)
    if fold > 1:  # within a cell, too, the voxels change sides
        for group in channel_groups(len(other))[1:]:
            voxels = other[group]
            voxels.copy_(voxels.reshape(-1, fold, *voxels.shape[1:]).flip(1).reshape(voxels.shape))
    return other


def most_likely(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Which class is the most likely, of any network of the spine: int64 (slices, rows, columns)."""
    from cspine.models.folding import at_voxels

    logits = network_output(network, image)
    whole = at_voxels(logits[None], fold_of(network))[0].argmax(0)
    return whole[tuple(slice(n) for n in image.shape)]


def fold_of(network: torch.nn.Module) -> int:
    """Voxels of a cell along each axis; 1 of a network that does not fold."""
    return int(getattr(network, "fold", 1))


def network_output(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """What the network gives, in its own precision: logits of the classes, and the rise where it has one.

    The image is padded with 0 to multiples of `STRIDE`, voxels or cells, for the network.
    """
    import torch
    import torch.nn.functional as F

    device = next(network.parameters()).device
    fold = fold_of(network)
    missing = [-n % (STRIDE * fold) for n in image.shape]
    padded = F.pad(image.to(device), (0, missing[2], 0, missing[1], 0, missing[0]))
    batch = padded[None, None].contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode(), autocast(device):
        logits = network(batch)[0]
    slices, rows, columns = (-(-n // fold) for n in image.shape)
    found: torch.Tensor = logits[:, :slices, :rows, :columns]
    if not torch.isfinite(found.sum()):
        raise ModelError(
            "A network's output is not a number: its weights are damaged; install the bundle again."
        )
    return found
