"""Closed surfaces to signed distances on a grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cspine.phantom.template import FloatArray

SAMPLE_MM: Final = 0.35
"""The surface is sampled this densely for distances."""
JITTER: Final = np.array([1.3e-4, 2.1e-4, 3.7e-4])
"""Rays keep off vertices and edges."""


def signed_distance(triangles: FloatArray, box_mm: FloatArray, spacing_mm: float) -> NDArray[np.float32]:
    """Signed distance (z, y, x), mm, negative inside, to a closed surface.

    Args:
        triangles: (N, 3, 3) corners, mm.
        box_mm: (2, 3) smallest and largest (x, y, z) of the grid.
        spacing_mm: of all axes.
    """
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import cKDTree

    low = np.asarray(box_mm[0], np.float64)
    shape = np.floor((box_mm[1] - box_mm[0]) / spacing_mm).astype(int) + 1
    votes = np.zeros(shape, np.int8)
    for axis in range(3):
        order = np.roll(np.arange(3), -axis)
        crossed = _parity(triangles[:, :, order], low[order], shape[order], spacing_mm)
        votes += crossed.transpose(np.argsort(order))
    inside = votes >= 2
    far_out = distance_transform_edt(~inside) if inside.any() else np.full(shape, 99.0)
    far_in = distance_transform_edt(inside)
    rough = (far_out - far_in) * spacing_mm - np.where(inside, -0.5, 0.5) * spacing_mm
    near = np.abs(rough) < 3.0 * spacing_mm
    tree = cKDTree(_samples(triangles))
    exact, _ = tree.query(np.argwhere(near) * spacing_mm + low, distance_upper_bound=6.0 * spacing_mm)
    usable = np.isfinite(exact)
    values = rough
    near_index = np.flatnonzero(near.ravel())[usable]
    sign = np.where(inside.ravel()[near_index], -1.0, 1.0)
    values.ravel()[near_index] = sign * exact[usable]
    return np.ascontiguousarray(values.transpose(2, 1, 0), np.float32)


def _parity(
    triangles: FloatArray, low: FloatArray, shape: NDArray[np.int_], spacing: float
) -> NDArray[np.int8]:
    """1 where a ray along the first axis has crossed the surface an odd number of times."""
    toggles = np.zeros(shape, np.int8)
    corners = (triangles - low) / spacing + JITTER
    first = np.ceil(corners.min(1)[:, 1:]).astype(int).clip(0)
    last = np.minimum(np.floor(corners.max(1)[:, 1:]).astype(int), shape[1:] - 1)
    for triangle, (y0, z0), (y1, z1) in zip(corners, first, last, strict=True):
        if y1 < y0 or z1 < z0:
            continue
        _cross(toggles, triangle, (y0, y1), (z0, z1))
    return np.asarray(np.cumsum(toggles, axis=0, dtype=np.int32) % 2, np.int8)


def _cross(toggles: NDArray[np.int8], triangle: FloatArray, ys: tuple[int, int], zs: tuple[int, int]) -> None:
    """Mark where rays at whole (y, z) meet one triangle."""
    a, b, c = triangle
    e1, e2 = b - a, c - a
    area = e1[1] * e2[2] - e1[2] * e2[1]
    if abs(area) < 1e-12:
        return
    y = np.arange(ys[0], ys[1] + 1)[:, None] - a[1]
    z = np.arange(zs[0], zs[1] + 1)[None] - a[2]
    u = (y * e2[2] - z * e2[1]) / area
    v = (z * e1[1] - y * e1[2]) / area
    hit_y, hit_z = np.nonzero((u >= 0) & (v >= 0) & (u + v < 1))
    if hit_y.size == 0:
        return
    x = a[0] + u[hit_y, hit_z] * e1[0] + v[hit_y, hit_z] * e2[0]
    at = np.clip(np.ceil(x).astype(int), 0, None)
    seen = at < toggles.shape[0]
    np.add.at(toggles, (at[seen], hit_y[seen] + ys[0], hit_z[seen] + zs[0]), 1)


def _samples(triangles: FloatArray) -> FloatArray:
    """Points on the surface, no two neighbours further apart than about SAMPLE_MM."""
    a, e1, e2 = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    size = np.maximum.reduce([np.linalg.norm(e, axis=1) for e in (e1, e2, e1 - e2)])
    found = [triangles.reshape(-1, 3)]
    parts = np.clip(np.ceil(size / SAMPLE_MM), 1, 24).astype(int)
    for n in np.unique(parts):
        some = parts == n
        grid = np.array([(i, j) for i in range(n + 1) for j in range(n + 1 - i)], np.float64) / n
        points = a[some, None] + grid[None, :, :1] * e1[some, None] + grid[None, :, 1:] * e2[some, None]
        found.append(points.reshape(-1, 3))
    return np.concatenate(found)
