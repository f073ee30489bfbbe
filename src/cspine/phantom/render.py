"""Images of a neck on any grid: what the scanner shows, and the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from cspine.phantom.bone import Bone, matter
from cspine.phantom.neck import Neck
from cspine.phantom.scanner import Scanner, scan
from cspine.phantom.surroundings import Rod
from cspine.phantom.template import FloatArray
from cspine.phantom.tissue import AIR_HU, Tissue, noise, tissue_at
from cspine.volume import Grid

TISSUE_STEP_MM: Final = 3.0
TEXTURE_CELL_MM: Final = 1.2
PATCH_CELL_MM: Final = 10.0
COARSE_MM: Final = 3.0
CHUNK: Final = 1 << 20
"""Points evaluated at once: bounds memory on native grids."""


@dataclass(frozen=True, eq=False)
class PhantomImage:
    """A neck on a grid.

    Attributes:
        hu: int16 (slices, rows, columns).
        labels: uint8, 1..7 C1..C7, 8 T1 and below, 9 skull, 0 all else.
        fracture: uint8, 1 where the bone is broken.
    """

    hu: torch.Tensor
    labels: torch.Tensor
    fracture: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Window:
    """A box of voxels of a grid: first and one past the last index."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        a, b = self.start, self.stop
        return slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])

    @property
    def shape(self) -> tuple[int, int, int]:
        a, b = self.start, self.stop
        return b[0] - a[0], b[1] - a[1], b[2] - a[2]


def render(
    neck: Neck,
    grid: Grid,
    scanner: Scanner | None = None,
    *,
    device: str | torch.device = "cpu",
    detail_mm: float | None = None,
) -> PhantomImage:
    """Render a neck on a grid.

    Args:
        neck: what to render.
        grid: where the voxels are; any orientation and spacing.
        scanner: what took the image; None gives ideal HU without blur and noise.
        device: where to compute and where the tensors stay.
        detail_mm: width over which an edge is smeared; None for the grid's own voxels. A coarse grid whose
            values are taken from a finer image without averaging shows that image's detail.
    """
    canvas = _Canvas(neck, grid, torch.device(device), detail_mm)
    canvas.paint_tissue()
    for rod in neck.rods:
        canvas.paint_rod(rod)
    for bone in neck.bones.values():
        canvas.paint_bone(bone)
    hu = canvas.hu if scanner is None else scan(canvas.hu, grid, scanner)
    return PhantomImage(
        hu.round_().clamp_(-1024, 3071).to(torch.int16), canvas.labels, canvas.broken.to(torch.uint8)
    )


class _Canvas:
    """The volumes under work."""

    def __init__(self, neck: Neck, grid: Grid, device: torch.device, detail_mm: float | None = None) -> None:
        self.neck, self.grid, self.device = neck, grid, device
        self.voxel_mm = detail_mm or float(np.prod(grid.spacing_mm) ** (1 / 3))
        self.hu = torch.empty(grid.shape, dtype=torch.float32, device=device)
        self.labels = torch.zeros(grid.shape, dtype=torch.uint8, device=device)
        self.nearest = torch.zeros(grid.shape, dtype=torch.float32, device=device)
        self.broken = torch.zeros(grid.shape, dtype=torch.bool, device=device)

    def points(self, window: _Window, rotation: FloatArray, center_mm: FloatArray) -> torch.Tensor:
        """Voxel centres (N, 3) of a window in the frame with this rotation to LPS and this origin."""
        matrix = rotation.T @ self.grid.affine_lps[:3, :3]
        offset = rotation.T @ (self.grid.affine_lps[:3, 3] - center_mm)
        axes = [
            torch.arange(a, b, dtype=torch.float32, device=self.device)
            for a, b in zip(window.start, window.stop, strict=True)
        ]
        out = torch.empty((*window.shape, 3), dtype=torch.float32, device=self.device)
        for k in range(3):
            first = axes[0] * float(matrix[k, 0]) + float(offset[k])
            plane = (axes[1] * float(matrix[k, 1]))[:, None] + (axes[2] * float(matrix[k, 2]))[None]
            out[..., k] = first[:, None, None] + plane
        return out.reshape(-1, 3)

    def window(self, box_lps_mm: FloatArray) -> _Window | None:
        """The voxels that a box in LPS may touch."""
        corners = np.stack(np.meshgrid(*box_lps_mm.T, indexing="ij"), -1).reshape(-1, 3)
        index = self.grid.to_index(corners)
        start = np.clip(np.floor(index.min(0)), 0, self.grid.shape).astype(int)
        stop = np.clip(np.ceil(index.max(0)) + 1, 0, self.grid.shape).astype(int)
        if (stop <= start).any():
            return None
        return _Window(tuple(start.tolist()), tuple(stop.tolist()))

    def slabs(self, window: _Window) -> list[_Window]:
        """The window cut along slices into pieces of at most CHUNK voxels."""
        area = window.shape[1] * window.shape[2]
        deep = max(1, CHUNK // area)
        cuts = range(window.start[0], window.stop[0], deep)
        return [
            _Window((k, *window.start[1:]), (min(k + deep, window.stop[0]), *window.stop[1:])) for k in cuts
        ]

    def paint_tissue(self) -> None:
        """Soft tissue, from a coarse lattice that spans the grid."""
        shape = self.grid.shape
        coarse = [
            max(2, int(np.ceil((n - 1) * s / TISSUE_STEP_MM)) + 1)
            for n, s in zip(shape, self.grid.spacing_mm, strict=True)
        ]
        steps = [(n - 1) / (c - 1) for n, c in zip(shape, coarse, strict=True)]
        affine = self.grid.affine_lps.copy()
        affine[:3, :3] = affine[:3, :3] * np.where(np.array(steps) > 0, steps, 1.0)
        small = _Canvas(self.neck, Grid((coarse[0], coarse[1], coarse[2]), affine), self.device)
        whole = _Window((0, 0, 0), (coarse[0], coarse[1], coarse[2]))
        fields = tissue_at(self.neck.tissue, small.points(whole, np.eye(3), np.zeros(3)))
        stack = torch.stack(
            [fields.soft_hu, fields.skin_mm, fields.air_mm, fields.vessel_mm, fields.vessel_hu]
        ).reshape(5, *coarse)
        v = self.voxel_mm
        for k, (soft, skin, air, vessel, vessel_hu) in enumerate(_slices(stack, shape)):
            hu = soft + (0.5 - vessel / v).clamp_(0, 1) * (vessel_hu - soft)
            hu += (0.5 - air / v).clamp_(0, 1) * (AIR_HU - hu)
            self.hu[k] = hu + (0.5 + skin / v).clamp_(0, 1) * (AIR_HU - hu)
        self._paint_table(self.neck.tissue)

    def _paint_table(self, tissue: Tissue) -> None:
        if tissue.table_y_mm is None:
            return
        y = float(tissue.table_y_mm)
        box = np.array([(-220.0, y, -400.0), (220.0, y + 30.0, 400.0)])
        window = self.window(box)
        if window is None:
            return
        for slab in self.slabs(window):
            p = self.points(slab, np.eye(3), np.zeros(3))
            curved = p[:, 1] - y + 0.0006 * p[:, 0] ** 2
            shell = ((curved > 0) & (curved < 3.0)) | ((curved > 22.0) & (curved < 24.0))
            inner = (curved >= 3.0) & (curved <= 22.0)
            hu = self.hu[slab.slices]
            hu[shell.reshape(slab.shape)] = -250.0
            hu[inner.reshape(slab.shape)] = -900.0

    def paint_rod(self, rod: Rod) -> None:
        """A bone without label."""
        for segment in range(len(rod.points_mm) - 1):
            window = self.window(rod.segment_box_mm(segment, self.voxel_mm))
            if window is None:
                continue
            for slab in self.slabs(window):
                d = rod.distance(self.points(slab, np.eye(3), np.zeros(3)), segment)
                cover = (0.5 - d / self.voxel_mm).clamp_(0, 1)
                core = (0.5 - (d + 1.0) / self.voxel_mm).clamp_(0, 1)
                bone = rod.cortex_hu + core * (rod.marrow_hu - rod.cortex_hu)
                hu = self.hu[slab.slices]
                hu += (cover * (bone - hu.reshape(-1))).reshape(slab.shape)

    def paint_bone(self, bone: Bone) -> None:
        """A bone with density, label and fracture zone."""
        window = self.window(bone.box_lps_mm(margin_mm=3.0 + self.voxel_mm))
        if window is None:
            return
        for slab in self.slabs(window):
            self._paint_slab(bone, slab)

    def near(self, bone: Bone, slab: _Window) -> torch.Tensor:
        """Flat indices (N,) of a slab's voxels that may touch a bone: looked for every few millimetres."""
        strides = [max(1, int(COARSE_MM / s)) for s in self.grid.spacing_mm]
        matrix = bone.rotation.T @ self.grid.affine_lps[:3, :3]
        offset = bone.rotation.T @ (self.grid.affine_lps[:3, 3] - bone.center_lps_mm)
        first = np.array(slab.start) + (np.array(strides) - 1) / 2
        counts = [-(-n // s) for n, s in zip(slab.shape, strides, strict=True)]
        axes = [
            torch.arange(n, dtype=torch.float32, device=self.device) * s + float(f)
            for n, s, f in zip(counts, strides, first, strict=True)
        ]
        index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        q = _affine(index, matrix, offset) / _tensor(bone.scale, index)
        cell = 0.5 * float(np.linalg.norm(np.array(strides) * self.grid.spacing_mm))
        coarse = (
            bone.shape.sample(q) * float(bone.scale.max()) < bone.reach_mm + self.voxel_mm + cell
        ).reshape(counts)
        for axis, stride in enumerate(strides):
            coarse = coarse.repeat_interleave(stride, axis)
        d, h, w = slab.shape
        return torch.nonzero(coarse[:d, :h, :w].reshape(-1))[:, 0]

    def indices(self, flat: torch.Tensor, slab: _Window) -> torch.Tensor:
        """(slice, row, column) (N, 3) in the grid, int64, of flat indices of a slab."""
        _, h, w = slab.shape
        k = torch.div(flat, h * w, rounding_mode="floor")
        rest = flat - k * (h * w)
        i = torch.div(rest, w, rounding_mode="floor")
        return torch.stack([k, i, rest - i * w], -1) + torch.tensor(slab.start, device=self.device)

    def _paint_slab(self, bone: Bone, slab: _Window) -> None:
        near = self.near(bone, slab)
        if near.numel() == 0:
            return
        index = self.indices(near, slab)
        matrix = bone.rotation.T @ self.grid.affine_lps[:3, :3]
        offset = bone.rotation.T @ (self.grid.affine_lps[:3, 3] - bone.center_lps_mm)
        q = _affine(index.to(torch.float32), matrix, offset)
        _, h, w = self.grid.shape
        self._mix(bone, q, (index[:, 0] * h + index[:, 1]) * w + index[:, 2])

    def _mix(self, bone: Bone, q: torch.Tensor, at: torch.Tensor) -> None:
        """Lay a bone over what is there, at points (N, 3) of its frame and flat indices (N,) of the grid."""
        strength = bone.look.texture_hu * min(1.0, 1.0 / self.voxel_mm)
        texture = noise(q, TEXTURE_CELL_MM, self.neck.tissue.seed ^ 5) * strength
        texture = texture + noise(q, 5.0, self.neck.tissue.seed ^ 6) * bone.look.texture_hu * 0.7
        texture = texture + noise(q, PATCH_CELL_MM, self.neck.tissue.seed ^ 7) * bone.look.patch_hu
        found = matter(bone, q, self.voxel_mm, texture)
        hu, labels, nearest = self.hu.view(-1), self.labels.view(-1), self.nearest.view(-1)
        hu[at] = hu[at] * (1 - found.cover) + found.hu
        best = nearest[at]
        wins = found.distance < best
        labels[at[wins]] = bone.label
        nearest[at] = torch.minimum(best, found.distance)
        if bone.cracks or bone.compression is not None:
            self.broken.view(-1)[at] |= found.broken


def _slices(coarse: torch.Tensor, shape: tuple[int, int, int]) -> Iterator[torch.Tensor]:
    """Fields (C, slices, rows, columns) stretched to `shape` by trilinear interpolation, slice by slice.

    A coarse slice is stretched once for all fine ones beside it, and never is a whole fine volume held.
    """
    at = np.linspace(0.0, coarse.shape[1] - 1.0, shape[0])
    stretched: dict[int, torch.Tensor] = {}
    for position in at:
        low = min(int(position), coarse.shape[1] - 2)
        for plane in (low, low + 1):
            if plane not in stretched:
                stretched[plane] = F.interpolate(
                    coarse[None, :, plane], size=shape[1:], mode="bilinear", align_corners=True
                )[0]
        stretched = {plane: stretched[plane] for plane in (low, low + 1)}
        yield torch.lerp(stretched[low], stretched[low + 1], float(position) - low)


def _tensor(values: FloatArray, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def _affine(index: torch.Tensor, matrix: FloatArray, offset: FloatArray) -> torch.Tensor:
    """Voxel indices (N, 3) through a (3, 3) matrix and an offset."""
    return index @ _tensor(matrix.T.copy(), index) + _tensor(offset, index)
