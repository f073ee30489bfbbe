"""Cells of voxels: what a network that folds computes on (`cspine.models.spine_network`)."""

from __future__ import annotations

import torch

from cspine.anatomy import BACKGROUND, OCCIPUT, RISE_CHANNEL, THORACIC, channel_groups


def bone_logit(logits: torch.Tensor) -> torch.Tensor:
    """Logit (B, 1, ...) that a voxel or cell is bone of a vertebra, from the logits (B, 10 or more, ...)."""
    other = torch.logaddexp(logits[:, BACKGROUND], logits[:, OCCIPUT])
    bone = logits[:, BACKGROUND + 1 : THORACIC + 1].logsumexp(1)
    return (bone - other)[:, None]


def folded(image: torch.Tensor, fold: int) -> torch.Tensor:
    """Cells (B, fold ** 3, slices / fold, ...) of voxels (B, 1, slices, ...)."""
    if fold == 1:
        return image
    batch, _, slices, rows, columns = image.shape
    cells = image.reshape(batch, slices // fold, fold, rows // fold, fold, columns // fold, fold)
    last = cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, *cells.shape[1:6:2], fold**3)
    return last.permute(0, 4, 1, 2, 3)  # in memory the channels stay last, as convolutions want them


def unfolded(cells: torch.Tensor, fold: int) -> torch.Tensor:
    """Voxels (B, 1, slices * fold, ...) of cells (B, fold ** 3, slices, ...): undoes `folded`."""
    batch, _, slices, rows, columns = cells.shape
    split = cells.reshape(batch, fold, fold, fold, slices, rows, columns).permute(0, 4, 1, 5, 2, 6, 3)
    return split.reshape(batch, 1, slices * fold, rows * fold, columns * fold)


def repeated(cells: torch.Tensor, fold: int) -> torch.Tensor:
    """What cells (..., slices, rows, columns) have, for each of their voxels."""
    for axis in (-3, -2, -1):
        cells = cells.repeat_interleave(fold, axis)
    return cells


def numbers_around(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lowest and the highest number above 0 that each cell and its 26 neighbours have.

    Where they differ, two vertebrae meet, and voxels have to be told apart within a cell.

    Args:
        numbers: (B, slices, rows, columns) whole numbers, 0 for what is no vertebra's.

    Returns:
        Two of the same shape and type; a lowest one without any number around is higher than all.
    """
    above = numbers.max() + 1
    return above - _largest_around(torch.where(numbers > 0, above - numbers, 0)), _largest_around(numbers)


def _largest_around(numbers: torch.Tensor) -> torch.Tensor:
    """The largest number of each cell and its 26 neighbours; a twentieth of the time of a max_pool3d."""
    for axis in (-3, -2, -1):
        first, last = numbers.narrow(axis, 0, 1), numbers.narrow(axis, numbers.shape[axis] - 1, 1)
        numbers = torch.cat([first, numbers, last], axis).unfold(axis, 3, 1).amax(-1)
    return numbers


def at_voxels(logits: torch.Tensor, fold: int) -> torch.Tensor:
    """Logits (B, 10, ...) of the classes of each voxel, from what a network gives for cells or voxels.

    A voxel is bone of a vertebra as the network says of this voxel; of which one, as it says of the cell.
    """
    classes = logits[:, :RISE_CHANNEL]
    if fold == 1:
        return classes
    _, own_bone, _ = channel_groups(logits.shape[1])
    bone = unfolded(logits[:, own_bone], fold).float()
    named = classes.float().clone()
    for group in ([BACKGROUND, OCCIPUT], list(range(BACKGROUND + 1, THORACIC + 1))):
        named[:, group] = named[:, group].log_softmax(1)
    named = repeated(named, fold)
    named[:, 1 : THORACIC + 1] += bone
    return named
