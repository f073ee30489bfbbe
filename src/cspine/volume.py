"""A CT volume and a vertebra mask, each on one regular grid in DICOM patient coordinates.

Frames: LPS millimetres (x to the patient's left, y to the back, z to the head), as DICOM has it.
Indices are (slice, row, column); index 0 is the centre of the first voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cspine.anatomy import CERVICAL, Vertebra

FloatArray = NDArray[np.float64]

MIN_LEVEL_MM3: Final = 200.0
"""A smaller piece of a vertebra is not evidence that it was seen (the smallest whole one, C1, has 6000)."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels: how many, and where their centres are.

    Attributes:
        shape: number of (slices, rows, columns), each at least 1.
        affine_lps: (4, 4) float64; (slice, row, column, 1) to LPS mm of the voxel's centre. Columns need
            not be orthogonal to the patient's axes nor right-handed, but they span space.
    """

    shape: tuple[int, int, int]
    affine_lps: FloatArray

    def __post_init__(self) -> None:
        affine = np.array(self.affine_lps, dtype=np.float64)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid needs three axes of at least one voxel, not {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or tuple(affine[3]) != (0, 0, 0, 1):
            raise ValueError("the affine must be a finite (4, 4) matrix with last row 0 0 0 1")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError("the affine maps the grid onto a plane")
        affine.setflags(write=False)
        object.__setattr__(self, "affine_lps", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column)."""
        steps = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])

    @cached_property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3])))

    def to_lps_mm(self, index: ArrayLike) -> FloatArray:
        """Map voxel indices (..., 3) to LPS mm (..., 3)."""
        points = np.asarray(index, np.float64)
        return np.asarray(points @ self.affine_lps[:3, :3].T + self.affine_lps[:3, 3])

    def to_index(self, lps_mm: ArrayLike) -> FloatArray:
        """Map LPS mm (..., 3) to fractional voxel indices (..., 3)."""
        offset = np.asarray(lps_mm, np.float64) - self.affine_lps[:3, 3]
        return np.asarray(offset @ np.linalg.inv(self.affine_lps[:3, :3]).T)

    def cropped(self, start: ArrayLike, shape: tuple[int, int, int]) -> Grid:
        """The grid whose first voxel is voxel `start` of this one; `start` may lie outside."""
        affine = self.affine_lps.copy()
        affine[:3, 3] = self.to_lps_mm(start)
        return Grid(shape, affine)

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether the two grids place every voxel alike, to within `tolerance_mm` at the corners."""
        if self.shape != other.shape:
            return False
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), -1).reshape(-1, 3)
        return bool(np.abs(self.to_lps_mm(corners) - other.to_lps_mm(corners)).max() <= tolerance_mm)


def _frozen(array: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...], what: str) -> np.ndarray:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"{what} must be {np.dtype(dtype)} of shape {shape}, not {array.dtype} {array.shape}"
        )
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT in Hounsfield units on one grid.

    Attributes:
        grid: where the voxels are.
        hu: int16 (slices, rows, columns), native byte order, C-contiguous, read-only.
        slice_uids: SOP Instance UID of the source image behind each slice; empty where there is none
            (a phantom that was not written as DICOM). An enhanced multi-frame CT repeats its one UID.
    """

    grid: Grid
    hu: NDArray[np.int16]
    slice_uids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "hu", _frozen(self.hu, np.int16, self.grid.shape, "hu"))
        if self.slice_uids and len(self.slice_uids) != self.grid.shape[0]:
            raise ValueError("there must be one source UID for each slice")


class Visibility(StrEnum):
    """How much of a vertebra the scan shows. Absent means not seen, never 'not fractured'."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    ABSENT = "absent"


@dataclass(frozen=True)
class SegmentedLevel:
    """One vertebra as the segmentation found it.

    Attributes:
        level: which vertebra.
        visibility: complete, cut by the edge of the volume (partial), or not found (absent).
        start, stop: half-open box in voxels of the mask's grid, (slice, row, column); None when absent.
        margin: how much more likely (difference of log-posterior, nats per vertebra) the chosen sequence of
            levels is than the best other one; None where the mask was not decoded from a network.
    """

    level: Vertebra
    visibility: Visibility
    start: tuple[int, int, int] | None = None
    stop: tuple[int, int, int] | None = None
    margin: float | None = None

    def box_lps_mm(self, grid: Grid) -> FloatArray | None:
        """Smallest and largest LPS corner, (2, 3) mm, of the voxels' outer faces; None when absent."""
        if self.start is None or self.stop is None:
            return None
        bounds = np.array([self.start, self.stop], np.float64) - 0.5
        corners = np.stack(np.meshgrid(*bounds.T, indexing="ij"), -1).reshape(-1, 3)
        points = grid.to_lps_mm(corners)
        return np.stack([points.min(0), points.max(0)])


@dataclass(frozen=True, eq=False)
class SpineMask:
    """Which voxel belongs to which cervical vertebra, on the grid of the volume it was made from.

    Attributes:
        grid: where the voxels are.
        labels: uint8 (slices, rows, columns), 0 or the value of a `Vertebra`; read-only.
        levels: the seven levels in order.
    """

    grid: Grid
    labels: NDArray[np.uint8]
    levels: tuple[SegmentedLevel, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _frozen(self.labels, np.uint8, self.grid.shape, "labels"))
        if tuple(found.level for found in self.levels) != CERVICAL:
            raise ValueError("a mask describes C1..C7 in order")

    @classmethod
    def from_labels(
        cls, grid: Grid, labels: NDArray[np.uint8], margins: dict[Vertebra, float] | None = None
    ) -> SpineMask:
        """Build a mask and describe its levels from the labels alone.

        A level below `MIN_LEVEL_MM3` is absent and its voxels are cleared; a level that reaches the first or
        last plane of any axis is partial.

        Raises:
            ValueError: a label that is neither 0 nor a cervical vertebra, or a shape that is not the grid's.
        """
        boxes = label_boxes(labels)
        unknown = sorted(set(boxes) - {int(v) for v in CERVICAL})
        if unknown:
            raise ValueError(f"labels {unknown} are no cervical vertebra")
        levels = []
        for vertebra in CERVICAL:
            found = _describe(grid, labels, vertebra, boxes.get(int(vertebra)), (margins or {}).get(vertebra))
            if found.visibility is Visibility.ABSENT and int(vertebra) in boxes:
                labels = np.where(labels == vertebra, np.uint8(0), labels)
            levels.append(found)
        return cls(grid, labels, tuple(levels))

    def level(self, vertebra: Vertebra) -> SegmentedLevel:
        """The description of one level."""
        return self.levels[CERVICAL.index(vertebra)]

    def center_lps_mm(self, vertebra: Vertebra) -> FloatArray | None:
        """Centre of mass of one level, (3,) LPS mm; None when absent."""
        found = self.level(vertebra)
        if found.start is None or found.stop is None:
            return None
        window = tuple(slice(a, b) for a, b in zip(found.start, found.stop, strict=True))
        inside = np.argwhere(self.labels[window] == vertebra)
        return self.grid.to_lps_mm(inside.mean(0) + found.start)


def label_boxes(labels: NDArray[np.uint8]) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Half-open (start, stop) box of each non-zero label, in voxels."""
    from scipy.ndimage import find_objects

    return {
        number: (tuple(s.start for s in window), tuple(s.stop for s in window))
        for number, window in enumerate(find_objects(labels), start=1)
        if window is not None
    }


def _describe(
    grid: Grid,
    labels: NDArray[np.uint8],
    vertebra: Vertebra,
    box: tuple[tuple[int, ...], tuple[int, ...]] | None,
    margin: float | None,
) -> SegmentedLevel:
    if box is None:
        return SegmentedLevel(vertebra, Visibility.ABSENT)
    start, stop = box
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    if np.count_nonzero(labels[window] == vertebra) * grid.voxel_mm3 < MIN_LEVEL_MM3:
        return SegmentedLevel(vertebra, Visibility.ABSENT)
    cut = any(a == 0 or b == n for a, b, n in zip(start, stop, grid.shape, strict=True))
    visibility = Visibility.PARTIAL if cut else Visibility.COMPLETE
    return SegmentedLevel(
        vertebra, visibility, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), margin
    )
