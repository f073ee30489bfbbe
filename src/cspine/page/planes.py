"""Planes cut out of a CT for people to look at: along the spine, and through one vertebra.

These are pictures, not input of a network. Every pixel's place is computed in LPS mm and read from the volume
through its affine, so that oblique, flipped and anisotropic grids come out in true proportion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cspine.anatomy import Vertebra
from cspine.findings import StudyFindings, VertebraFinding
from cspine.volume import FloatArray, Grid, SpineMask, Volume

AIR_HU = -1024.0
SLAB_MM = 0.8
"""The picture along the spine averages three surfaces this far apart, which calms bone kernels."""
OUTLINE_STEP_MM = 0.6
"""Vertebra outlines are traced on pixels of this size."""

# Positive direction of the LPS axes and their opposites, as radiologists letter them.
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


@dataclass(frozen=True, eq=False)
class KeyPicture:
    """One slice of the CT around one vertebra.

    Attributes:
        hu: float32 (rows, columns), square pixels, air outside the volume.
        side_mm: height and width of the picture.
        box_mm: left, top, width and height of the vertebra's box, from the picture's upper left corner.
        letters: patient direction at the left, right, upper and lower edge.
        slice_index, slices: which slice of the volume, from 0, and of how many.
        center_z_mm: LPS z of the picture's middle.
    """

    hu: NDArray[np.float32]
    side_mm: float
    box_mm: tuple[float, float, float, float]
    letters: tuple[str, str, str, str]
    slice_index: int
    slices: int
    center_z_mm: float


@dataclass(frozen=True, eq=False)
class SpinePicture:
    """The sagittal surface that follows the vertebrae's centres, front to the left.

    Attributes:
        hu: float32 (rows, columns), square pixels, air outside the volume.
        left_mm, top_mm: LPS y and z of the picture's upper left corner.
        width_mm, height_mm: its size.
        masks: how much of an outline pixel each level fills, float32 (rows, columns) over the whole picture.
        centers_mm: (from left, from top) of the levels that were seen.
    """

    hu: NDArray[np.float32]
    left_mm: float
    top_mm: float
    width_mm: float
    height_mm: float
    masks: Mapping[Vertebra, NDArray[np.float32]]
    centers_mm: Mapping[Vertebra, tuple[float, float]]


def key_picture(
    volume: Volume, finding: VertebraFinding, *, least_side_mm: float = 88.0, pixels: int = 360
) -> KeyPicture:
    """Cut the finding's key slice, with the vertebra in the middle and the patient's right on the left.

    Args:
        volume: the CT.
        finding: a level that was seen, with box and key slice.
        least_side_mm: side of the picture; larger vertebrae get a larger picture.
        pixels: rows and columns of the picture.

    Raises:
        ValueError: the finding has no box or no key slice.
    """
    if finding.box_lps_mm is None or finding.key_slice is None:
        raise ValueError(f"{finding.level} was not seen, so there is no slice to show")
    right, down = _display_axes(volume.grid)
    origin = volume.grid.to_lps_mm((finding.key_slice, 0, 0))
    box = _box_in_plane(np.asarray(finding.box_lps_mm), origin, right, down)
    side = max(least_side_mm, 1.4 * float((box[1] - box[0]).max()))
    corner = box.mean(0) - side / 2
    at = corner + (np.arange(pixels)[:, None] + 0.5) * side / pixels
    points = origin + at[None, :, :1] * right + at[:, None, 1:] * down
    left, top = box[0] - corner
    width, height = box[1] - box[0]
    center = origin + box.mean(0) @ np.stack([right, down])
    return KeyPicture(
        hu=_sample(volume, points),
        side_mm=side,
        box_mm=(float(left), float(top), float(width), float(height)),
        letters=(_letter(-right), _letter(right), _letter(-down), _letter(down)),
        slice_index=finding.key_slice,
        slices=volume.grid.shape[0],
        center_z_mm=float(center[2]),
    )


def spine_picture(
    volume: Volume, mask: SpineMask | None, findings: StudyFindings, *, aspect: float, rows: int = 620
) -> SpinePicture:
    """Cut the sagittal surface through the vertebrae's centres, or through the volume's middle without any.

    Args:
        volume: the CT.
        mask: its vertebrae; None draws no outlines.
        findings: where the vertebrae are.
        aspect: width divided by height of the picture.
        rows: pixels from top to bottom.
    """
    centers = {f.level: np.array(f.center_lps_mm) for f in findings.levels if f.center_lps_mm is not None}
    left, top, width, height = _spine_field(volume.grid, findings, aspect)
    step = height / rows
    surface = _Surface(volume.grid, centers, left, top)
    points = surface.points(rows, round(width / step), step)
    across = np.array([SLAB_MM, 0.0, 0.0])
    sheets = np.stack([_sample(volume, points + shift * across) for shift in (-1, 0, 1)])
    coarse = surface.points(round(height / OUTLINE_STEP_MM), round(width / OUTLINE_STEP_MM), OUTLINE_STEP_MM)
    return SpinePicture(
        hu=np.asarray(sheets.mean(0), np.float32),
        left_mm=left,
        top_mm=top,
        width_mm=width,
        height_mm=height,
        masks={} if mask is None else {v: _level_on(mask, v, coarse) for v in centers},
        centers_mm={v: (float(c[1] - left), float(top - c[2])) for v, c in centers.items()},
    )


@dataclass(frozen=True, eq=False)
class _Surface:
    """LPS points of a sagittal picture whose x follows the vertebrae from top to bottom."""

    grid: Grid
    centers: Mapping[Vertebra, FloatArray]
    left_mm: float
    top_mm: float

    def points(self, rows: int, columns: int, step_mm: float) -> FloatArray:
        """LPS mm (rows, columns, 3) of the picture's pixel centres."""
        z = self.top_mm - (np.arange(rows) + 0.5) * step_mm
        y = self.left_mm + (np.arange(columns) + 0.5) * step_mm
        x = np.full(rows, _middle(self.grid)[0])
        if self.centers:
            knots = np.array(sorted(self.centers.values(), key=lambda c: float(c[2])))
            x = np.interp(z, knots[:, 2], knots[:, 0])
        return np.stack(np.broadcast_arrays(x[:, None], y[None, :], z[:, None]), -1)


def _spine_field(grid: Grid, findings: StudyFindings, aspect: float) -> tuple[float, float, float, float]:
    """Left (LPS y), top (LPS z), width and height in mm of a field around the vertebrae that were seen."""
    boxes = [f.box_lps_mm for f in findings.levels if f.box_lps_mm is not None]
    if not boxes:
        extent = np.abs(grid.affine_lps[:3, :3]) @ np.array(grid.shape)
        height = float(np.clip(extent[2], 100.0, 400.0))
        middle = _middle(grid)
    else:
        corners = np.array(boxes).reshape(-1, 3)
        low, high = corners.min(0), corners.max(0)
        height = float(max(high[2] - low[2] + 36.0, (high[1] - low[1] + 44.0) / aspect, 100.0))
        middle = (low + high) / 2
        middle[1] += 0.04 * height  # The labels stand behind the spine.
    return float(middle[1] - aspect * height / 2), float(middle[2] + height / 2), aspect * height, height


def _middle(grid: Grid) -> FloatArray:
    return grid.to_lps_mm((np.array(grid.shape) - 1) / 2)


def _sample(volume: Volume, points_lps_mm: FloatArray) -> NDArray[np.float32]:
    index = volume.grid.to_index(points_lps_mm)
    read = map_coordinates(
        volume.hu, np.moveaxis(index, -1, 0), output=np.float32, order=1, mode="grid-constant", cval=AIR_HU
    )
    return np.asarray(read, np.float32)


def _level_on(mask: SpineMask, vertebra: Vertebra, points_lps_mm: FloatArray) -> NDArray[np.float32]:
    """How much each point lies inside the level, 0 to 1; only the level's own box is read."""
    found = mask.level(vertebra)
    out = np.zeros(points_lps_mm.shape[:2], np.float32)
    if found.start is None or found.stop is None:
        return out
    window = tuple(slice(a, b) for a, b in zip(found.start, found.stop, strict=True))
    inside = np.asarray(mask.labels[window] == vertebra, np.float32)
    index = mask.grid.to_index(points_lps_mm) - found.start
    near = ((index > -1) & (index < inside.shape)).all(-1)
    out[near] = map_coordinates(inside, index[near].T, order=1, mode="grid-constant")
    return out


def _display_axes(grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Unit LPS vectors to the right and down the screen within a slice, as radiologists hang it."""
    row, column = (grid.affine_lps[:3, i] / grid.spacing_mm[i] for i in (1, 2))
    vertical, horizontal = (row, column) if _uprightness(row) > _uprightness(column) else (column, row)
    right = horizontal * (1 if horizontal[np.abs(horizontal).argmax()] > 0 else -1)
    down = vertical - (vertical @ right) * right
    down /= np.linalg.norm(down)
    main = int(np.abs(down).argmax())
    towards = -1 if main == 2 else 1  # Down is the feet, or the back where the slice is axial.
    return right, down * (1 if down[main] * towards > 0 else -1)


def _uprightness(axis: FloatArray) -> float:
    """Larger for the axis that belongs upright: head-feet before back-front before left-right."""
    return float(np.abs(axis) @ np.array([0.0, 1.0, 2.0]))


def _letter(direction: FloatArray) -> str:
    main = int(np.abs(direction).argmax())
    return _LETTERS[main][0 if direction[main] > 0 else 1]


def _box_in_plane(box: FloatArray, origin: FloatArray, right: FloatArray, down: FloatArray) -> FloatArray:
    """Smallest and largest (right, down) mm, (2, 2), of the cut of an LPS box with a plane.

    A plane that misses the box (a key slice outside it) gets the shadow of the whole box.
    """
    corners = np.stack(np.meshgrid(*box.T, indexing="ij"), -1).reshape(-1, 3) - origin
    height = corners @ np.cross(right, down)
    cuts = []
    for a in range(8):
        for b in (a ^ 1, a ^ 2, a ^ 4):
            if a < b and height[a] * height[b] <= 0:
                share = height[a] / (height[a] - height[b]) if height[a] != height[b] else 0.0
                cuts.append(corners[a] + share * (corners[b] - corners[a]))
    flat = np.array(cuts or corners) @ np.stack([right, down], -1)
    return np.stack([flat.min(0), flat.max(0)])
