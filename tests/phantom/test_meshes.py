"""Anatomy from surface meshes: reading, voxelising, refusing."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from cspine.anatomy import CERVICAL
from cspine.errors import InputError
from cspine.phantom import MeshAnatomy, sample_neck
from cspine.phantom.meshes import read_stl
from cspine.phantom.voxelise import signed_distance


def box_triangles(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    corners = np.array([[(low, high)[(k >> axis) & 1][axis] for axis in range(3)] for k in range(8)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners[np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])]


def write_stl(path: Path, triangles: np.ndarray) -> None:
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *t.ravel(), 0) for t in triangles)
    path.write_bytes(b"\0" * 80 + struct.pack("<I", len(triangles)) + body)


def test_a_stl_file_is_read_as_it_was_written(tmp_path):
    triangles = box_triangles((1, 2, 3), (5, 7, 11))
    write_stl(tmp_path / "C1_x.stl", triangles)
    assert np.array_equal(read_stl(tmp_path / "C1_x.stl"), triangles)


def test_distances_to_a_box_are_right_inside_and_outside():
    triangles = box_triangles((0, 0, 0), (8, 12, 16))
    sdf = signed_distance(triangles, np.array([(-3.0, -3, -3), (11.0, 15, 19)]), 0.5)
    assert sdf.shape == (45, 37, 29)
    at = lambda x, y, z: sdf[int((z + 3) / 0.5), int((y + 3) / 0.5), int((x + 3) / 0.5)]  # noqa: E731
    assert at(4, 6, 15) == pytest.approx(-1.0, abs=0.1)
    assert at(4, 6, 17) == pytest.approx(1.0, abs=0.1)
    assert at(-1, 6, 8) == pytest.approx(1.0, abs=0.1)
    assert at(4, 6, 8) < -3
    assert (sdf < 0).sum() * 0.125 == pytest.approx(8 * 12 * 16, rel=0.2)


def test_a_folder_that_does_not_exist_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist"):
        MeshAnatomy(tmp_path / "nowhere")


def test_a_folder_without_some_levels_is_refused_by_their_names(tmp_path):
    for vertebra in CERVICAL[:5]:
        write_stl(tmp_path / f"{vertebra.name}_x.stl", box_triangles((0, 0, 0), (1, 1, 1)))
    with pytest.raises(InputError, match=r"no STL file for C6, C7, skull"):
        MeshAnatomy(tmp_path)


def test_a_truncated_mesh_is_refused(tmp_path):
    path = tmp_path / "C1_x.stl"
    write_stl(path, box_triangles((0, 0, 0), (1, 1, 1)))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"C1_x.stl is not a complete binary STL"):
        read_stl(path)


def test_meshes_that_are_no_vertebrae_are_refused(tmp_path):
    for vertebra in CERVICAL:
        write_stl(tmp_path / f"{vertebra.name}_x.stl", box_triangles((0, 0, 0), (9, 8, 7)))
    write_stl(tmp_path / "occipital_x.stl", box_triangles((0, 0, 0), (9, 8, 7)))
    with pytest.raises(InputError, match=r"C1 shows no canal"):
        sample_neck(0, anatomy=MeshAnatomy(tmp_path, tmp_path / "cache"))


def test_real_surfaces_give_necks_with_all_levels_in_order(real_data, tmp_path_factory):
    folder = real_data("anatomy-meshes")
    cache = tmp_path_factory.mktemp("anatomy")
    neck = sample_neck(4, anatomy=MeshAnatomy(folder, cache))
    assert neck.source == "surface meshes"
    assert len(list(cache.glob("*.npz"))) == 1
    heights = [neck.bones[v.name].center_lps_mm[2] for v in CERVICAL]
    assert (np.diff(heights) < -10).all()
    volumes_cm3 = [
        float((neck.bones[v.name].shape.values < 0).sum()) * neck.bones[v.name].shape.spacing_mm ** 3 / 1000
        for v in CERVICAL
    ]
    # Measured on the surfaces themselves.
    assert volumes_cm3 == pytest.approx([9.9, 12.1, 9.4, 8.3, 9.7, 10.1, 12.6], rel=0.06)
