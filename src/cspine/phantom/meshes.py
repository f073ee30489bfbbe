"""Anatomy from a folder of surface meshes: BodyParts3D, or anything laid out like it.

The folder holds binary STL files in one common frame, LPS mm, whose names begin with C1_ .. C7_ and, for the
surroundings, with occipital, temporal and so on. BodyParts3D is (c) The Database Center for Life Science,
CC BY-SA 2.1 Japan: what is trained on it carries that attribution.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.errors import InputError
from cspine.phantom.procedural import ProceduralAnatomy
from cspine.phantom.template import FloatArray, SdfVolume, Template, VertebraShape, measure
from cspine.phantom.voxelise import signed_distance

logger = logging.getLogger(__name__)

CACHE_VERSION: Final = 3
VERTEBRA_SPACING_MM: Final = 0.75
SKULL_SPACING_MM: Final = 1.5
SKULL_PARTS: Final = (
    "occipital", "temporal", "sphenoid", "maxilla", "palatine", "zygomatic", "frontal", "parietal",
)  # fmt: skip
SKULL_BOX_MM: Final = np.array([(-85.0, -125.0, -30.0), (85.0, 120.0, 150.0)])
"""Of the skull, in C1's frame: what a CT of the neck can show."""


def read_stl(path: Path) -> FloatArray:
    """Triangles (N, 3, 3) of a binary STL file.

    Raises:
        InputError: it cannot be read or is no binary STL.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The mesh {path.name} cannot be read ({error.strerror}); check the folder."
        ) from error
    count = int.from_bytes(data[80:84], "little") if len(data) >= 84 else -1
    if count < 4 or len(data) < 84 + 50 * count:
        raise InputError(f"{path.name} is not a complete binary STL file; export the mesh as binary STL.")
    record = np.dtype([("floats", "<f4", (12,)), ("attribute", "<u2")])
    triangles = np.frombuffer(data, record, count, 84)["floats"][:, 3:].reshape(-1, 3, 3)
    if not np.isfinite(triangles).all():
        raise InputError(f"{path.name} holds points that are not numbers; export the mesh again.")
    return triangles.astype(np.float64)


def _find(folder: Path) -> dict[str, list[Path]]:
    """STL files of each bone; complains unless C1..C7 and the occiput are there."""
    if not folder.is_dir():
        raise InputError(
            f"The folder of anatomy meshes {folder} does not exist; name one that holds C1_*.stl."
        )
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".stl")
    found = {
        v.name: [p for p in files if p.name.startswith(f"{v.name}_") or p.stem == v.name] for v in CERVICAL
    }
    found["skull"] = [p for p in files if p.name.lower().startswith(SKULL_PARTS)]
    for name in ("mandible", "hyoid"):
        found[name] = [p for p in files if p.name.lower().startswith(name)]
    missing = [name for name in (*(v.name for v in CERVICAL), "skull") if not found[name]]
    if missing:
        raise InputError(
            f"The folder of anatomy meshes {folder} has no STL file for {', '.join(missing)}; "
            "add them (C1_*.stl to C7_*.stl, occipital_*.stl)."
        )
    return found


@dataclass(frozen=True, eq=False)
class _Frame:
    """A bone's own frame: rotation to the folder's frame, origin, half width, depth, height of the body."""

    rotation: FloatArray
    origin: FloatArray
    body: tuple[float, float, float]

    def to_local(self, points: FloatArray) -> FloatArray:
        return np.asarray((points - self.origin) @ self.rotation)


def _middle_parts(triangles: FloatArray) -> tuple[float, list[FloatArray]]:
    """Midline x, and points (M, 2) (y, z) of the pieces cut by the midsagittal plane, from front to back."""
    from scipy.ndimage import label

    step = 0.75
    low, high = triangles.reshape(-1, 3).min(0) - 3, triangles.reshape(-1, 3).max(0) + 3
    sdf = signed_distance(triangles, np.stack([low, high]), step)
    middle = 0.5 * (low[0] + high[0])
    k = round((middle - low[0]) / step)
    cut = (sdf[:, :, k - 2 : k + 3] < 0).mean(-1) > 0.5
    pieces, count = label(cut)
    points = [
        np.argwhere(pieces == n + 1)[:, ::-1] * step + low[1:]
        for n in range(count)
        if np.count_nonzero(pieces == n + 1) * step**2 > 12
    ]
    return float(middle), sorted(points, key=lambda p: float(p[:, 0].mean()))


def _frames(meshes: Mapping[str, FloatArray]) -> dict[str, _Frame]:
    """Where each vertebra's frame lies: the middle of its body, upright along the column."""
    middles, bodies, arches = {}, {}, {}
    for v in CERVICAL:
        middles[v.name], parts = _middle_parts(meshes[v.name])
        if len(parts) < 2:
            raise InputError(
                f"The mesh of {v.name} shows no canal in its middle; give closed surfaces in LPS."
            )
        body = parts[0]
        if v.name == "C2":
            body = body[body[:, 1] < body[:, 1].min() + 17.0]
        bodies[v.name], arches[v.name] = body, parts[-1]
    centers = {n: np.array([middles[n], *_box_middle(bodies[n])]) for n in bodies}
    frames = {}
    names = [v.name for v in CERVICAL]
    for i, name in enumerate(names):
        if name == "C1":
            back = arches[name].mean(0) - bodies[name].mean(0)
            up = np.array([0.0, -back[1], back[0]])
            centers[name][1:] += 10.0 * back / np.linalg.norm(back)
        else:
            upper = centers[names[i - 1]] if i > 1 else centers[name]
            up = upper - centers[names[min(i + 1, 6)]]
            up[0] = 0.0
        if name not in ("C1", "C2"):
            up = _upright(bodies[name], up)
        frames[name] = _frame(meshes[name], centers[name], up / np.linalg.norm(up), bodies[name])
    return frames


def _upright(body: FloatArray, up: FloatArray) -> FloatArray:
    """Turn `up` until both end plates of a midsagittal section (M, 2) (y, z) lie level on average."""
    angle = float(np.arctan2(-up[1], up[2]))
    for _ in range(2):
        c, s = np.cos(angle), np.sin(angle)
        y, z = body[:, 0] * c + body[:, 1] * s, -body[:, 0] * s + body[:, 1] * c
        low, high = (float(v) for v in np.percentile(y, [12, 88]))
        bins = np.linspace(low, high, 9)
        columns = [z[(y >= a) & (y < b)] for a, b in pairwise(bins)]
        middle = 0.5 * (bins[1:] + bins[:-1])
        edges = [[float(edge(column)) for column in columns] for edge in (np.max, np.min)]
        slope = float(np.mean([np.polyfit(middle, edge, 1)[0] for edge in edges]))
        angle += float(np.clip(np.arctan(slope), -0.3, 0.3))
    return np.array([0.0, -np.sin(angle), np.cos(angle)])


def _box_middle(points: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (points.min(0) + points.max(0)))


def _frame(triangles: FloatArray, center: FloatArray, up: FloatArray, body: FloatArray) -> _Frame:
    x = np.array([1.0, 0.0, 0.0])
    rotation = np.stack([x, np.cross(up, x), up], -1)
    turned = (np.concatenate([np.full((len(body), 1), center[0]), body], 1) - center) @ rotation
    half = 0.5 * (np.percentile(turned, 98, axis=0) - np.percentile(turned, 2, axis=0))
    points = (triangles.reshape(-1, 3) - center) @ rotation
    front = points[(np.abs(points[:, 2]) < 3) & (np.abs(points[:, 1] + 0.45 * half[1]) < 3)]
    inner = front[np.abs(front[:, 0]) < 13] if len(front) else front
    width = float(np.percentile(np.abs(inner[:, 0]), 90)) if len(inner) > 5 else 9.0
    return _Frame(rotation, center, (width, float(half[1]), float(half[2])))


def _volume(triangles: list[FloatArray], frame: _Frame, spacing: float, box: FloatArray | None) -> SdfVolume:
    """Union of surfaces in a frame; cut at `box` where one is given."""
    local = [frame.to_local(t.reshape(-1, 3)).reshape(t.shape) for t in triangles]
    everything = np.concatenate(local).reshape(-1, 3)
    low, high = everything.min(0) - 4.0, everything.max(0) + 4.0
    if box is not None:
        low, high = np.maximum(low, box[0]), np.minimum(high, box[1])
    bounds = np.stack([low, high])
    values = np.minimum.reduce([signed_distance(t, bounds, spacing) for t in local])
    for axis in range(3):  # a cut bone must still be closed
        for end in (0, -1):
            face = values.swapaxes(0, axis)[end]
            np.maximum(face, spacing, out=face)
    return SdfVolume(torch.from_numpy(values), (float(low[0]), float(low[1]), float(low[2])), spacing)


def _build(found: Mapping[str, list[Path]]) -> dict[str, NDArray[np.float32] | FloatArray]:
    """All arrays of the template, as the cache keeps them."""
    meshes = {name: [read_stl(p) for p in paths] for name, paths in found.items() if paths}
    frames = _frames({v.name: np.concatenate(meshes[v.name]) for v in CERVICAL})
    arrays: dict[str, NDArray[np.float32] | FloatArray] = {}
    for name, triangles in meshes.items():
        frame = frames.get(name, frames["C1"])
        spacing = SKULL_SPACING_MM if name == "skull" else VERTEBRA_SPACING_MM
        sdf = _volume(triangles, frame, spacing, SKULL_BOX_MM if name == "skull" else None)
        arrays[f"{name}/values"] = sdf.values.numpy()
        arrays[f"{name}/place"] = np.array([*sdf.origin_mm, spacing])
    for name, frame in frames.items():
        arrays[f"{name}/body"] = np.array(frame.body)
        arrays[f"{name}/frame"] = np.concatenate([frame.rotation.ravel(), frame.origin])
    return arrays


def _cached(folder: Path, cache: Path) -> dict[str, NDArray[np.float32] | FloatArray]:
    """Read the arrays from the cache, or build and keep them there."""
    found = _find(folder)
    digest = hashlib.sha256(str(CACHE_VERSION).encode())
    for name in sorted(found):
        for path in found[name]:
            digest.update(f"{name}:{path.name}:".encode() + path.read_bytes())
    kept = cache / f"anatomy-{digest.hexdigest()[:16]}.npz"
    if not kept.is_file():
        logger.info("voxelising the anatomy meshes, once")
        arrays = _build(found)
        cache.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.stem}-{np.random.SeedSequence().entropy}.part.npz")
        small: dict[str, Any] = {key: value.astype(np.float32) for key, value in arrays.items()}
        np.savez_compressed(partial, **small)
        partial.replace(kept)
    with np.load(kept) as data:
        return {key: data[key] for key in data.files}


@lru_cache(maxsize=4)
def _template(folder: Path, cache: Path) -> Template:
    arrays = _cached(folder, cache)

    def sdf(name: str) -> SdfVolume:
        x, y, z, spacing = (float(v) for v in arrays[f"{name}/place"])
        return SdfVolume(
            torch.from_numpy(np.asarray(arrays[f"{name}/values"], np.float32)), (x, y, z), spacing
        )

    names = [v.name for v in CERVICAL]
    centers = {n: np.asarray(arrays[f"{n}/frame"][9:], np.float64) for n in names}
    steps = [float(np.linalg.norm(centers[a] - centers[b])) for a, b in pairwise(names)]
    shapes = {}
    for i, name in enumerate(names):
        volume = sdf(name)
        hw, hd, hh = (float(v) for v in arrays[f"{name}/body"])
        near = steps[max(i - 1, 0) : i + 1] if i != 1 else [steps[1] * 1.05]
        landmarks = measure(volume, (hw, hd, hh), ring=name == "C1")
        shapes[name] = VertebraShape(volume, landmarks, float(np.mean(near)))
    for k, name in enumerate(("T1", "T2", "T3"), start=1):
        shapes[name] = _enlarged(shapes["C7"], 1.0 + 0.07 * k)
    axis = np.asarray(arrays["C2/frame"][:9], np.float64).reshape(3, 3)
    offset = (centers["C1"] - centers["C2"]) @ axis
    others = {n: sdf(n) for n in ("skull", "mandible", "hyoid") if f"{n}/values" in arrays}
    return Template(
        vertebrae=shapes,
        others=others,
        atlas_offset_mm=(float(offset[0]), float(offset[1]), float(offset[2])),
        source="surface meshes",
        pitch_mm=float(np.mean(steps[2:5])),
    )


def _enlarged(shape: VertebraShape, factor: float) -> VertebraShape:
    """The same bone, larger in all directions: the nearest thing to T1 where the source has none."""
    old = shape.sdf
    x, y, z = old.origin_mm
    sdf = SdfVolume(old.values * factor, (x * factor, y * factor, z * factor), old.spacing_mm * factor)
    return VertebraShape(sdf, shape.landmarks.scaled(np.full(3, factor)), shape.pitch_mm * factor)


@dataclass(frozen=True)
class MeshAnatomy:
    """Bones of real people from a folder of surface meshes; thoracic ones are borrowed where it has none.

    Attributes:
        folder: holds binary STL files, see the module's text.
        cache: where voxelised bones are kept; None for ~/.cache/cspine.
    """

    folder: Path
    cache: Path | None = None

    def __post_init__(self) -> None:
        _find(Path(self.folder))

    def template(self, rng: np.random.Generator, variants: int) -> Template:
        """The bones of the folder; the thoracic vertebrae are enlarged C7s or built-in ones, by chance."""
        cache = self.cache or Path.home() / ".cache" / "cspine"
        own = _template(Path(self.folder).resolve(), Path(cache))
        if rng.random() < 0.5:
            return own
        lent = ProceduralAnatomy().template(rng, variants)
        thorax = {n: lent.vertebrae[n] for n in ("T1", "T2", "T3")}
        size = own.pitch_mm / lent.pitch_mm
        fitted = {n: _enlarged(shape, size) for n, shape in thorax.items()}
        return replace(own, vertebrae={**own.vertebrae, **fitted})
