"""What a network sees: images resampled onto a model's grid, and the crop around one vertebra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspine.anatomy import Vertebra
from cspine.volume import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch


@dataclass(frozen=True, eq=False)
class ModelImage:
    """A CT resampled onto a model's grid and windowed to [0, 1].

    Attributes:
        grid: axes run to the head, to the back and to the patient's left (MONAI axcodes "SPL").
        image: float32 (slices, rows, columns) in [0, 1], on the device that made it.
    """

    grid: Grid
    image: torch.Tensor

    def part(self, first: Sequence[int], shape: tuple[int, int, int]) -> ModelImage:
        """The `shape` voxels from `first` on; they lie inside."""
        window = tuple(slice(int(a), int(a) + int(n)) for a, n in zip(first, shape, strict=True))
        return ModelImage(self.grid.cropped(first, shape), self.image[window])


@dataclass(frozen=True, eq=False)
class PendingImage:
    """A `ModelImage` of which each part is resampled when it is asked for.

    A fine grid over a whole volume has a hundred million voxels; its network sees four of them.

    Attributes:
        grid: as of `ModelImage`.
        resample: makes the image on a part of the grid.
    """

    grid: Grid
    resample: Callable[[Grid], torch.Tensor]

    @property
    def image(self) -> torch.Tensor:
        """All of it."""
        return self.resample(self.grid)

    def part(self, first: Sequence[int], shape: tuple[int, int, int]) -> ModelImage:
        """The `shape` voxels from `first` on; they lie inside."""
        grid = self.grid.cropped(first, shape)
        return ModelImage(grid, self.resample(grid))


@dataclass(frozen=True, eq=False)
class ModelGrids:
    """The whole volume on the grids of the two networks that look for the spine."""

    localization: ModelImage
    segmentation: ModelImage | PendingImage


@dataclass(frozen=True, eq=False)
class VertebraCrop:
    """One vertebra cut out of the CT at the classifier's resolution.

    Attributes:
        level: which vertebra.
        grid: of `image`; axes as in `ModelImage`; slice spacing follows the vertebra's height.
        image: float32 (planes, rows, columns) in [0, 1].
        mask: float32 (planes, rows, columns), 1 inside this vertebra.
    """

    level: Vertebra
    grid: Grid
    image: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class GridSpec:
    """The grid and window that a localization or segmentation network was trained on.

    Attributes:
        pixdim_mm: spacing along (slice, row, column) in "SPL" order.
        patch: voxels of the one patch that the network sees, each a multiple of 16; None for the whole image.
        window_hu: Hounsfield units that become 0 and 1; everything outside is clipped.
    """

    pixdim_mm: tuple[float, float, float]
    patch: tuple[int, int, int] | None
    window_hu: tuple[float, float]


@dataclass(frozen=True)
class CropSpec:
    """The crop that the fracture classifier was trained on.

    The planes lie along the slice axis and cover the vertebra's height and `margin_mm` on both sides. The
    network sees them all and answers for `steps` of them, the middle ones of windows of `window_planes`
    planes, each window two planes further: planes = 2 * (steps - 1) + window_planes.

    Attributes:
        steps: planes that are answered for.
        window_planes: neighbouring CT planes that each of them is seen with at least.
        pixels: rows and columns of a plane.
        field_mm: side of a plane, centred on the vertebra's box.
        margin_mm: above and below the vertebra's box.
        window_hu: Hounsfield units that become 0 and 1.
    """

    steps: int
    window_planes: int
    pixels: int
    field_mm: float
    margin_mm: float
    window_hu: tuple[float, float]

    @property
    def planes(self) -> int:
        """CT planes in a crop."""
        return 2 * (self.steps - 1) + self.window_planes
