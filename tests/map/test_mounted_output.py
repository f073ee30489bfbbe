"""In a container OUTPUT is a mount point: it can be filled, but neither renamed nor removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cspine.errors import OutputError
from cspine.findings import StudyFindings
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, Volume
from fracture_map import names
from fracture_map.publish import opened_output
from fracture_map.summary import encode_findings


@pytest.fixture
def mounted(tmp_path):
    """A file system of its own."""
    folder = tmp_path / "output"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def staged(folder: Path, mark: str) -> dict[str, Path]:
    folder.mkdir()
    files = {name: folder / name for name in names.RESULTS}
    for name, path in files.items():
        path.write_text(f"{mark} {name}")
    files[names.FINDINGS].write_bytes(encode_findings(StudyFindings.failed(mark, "1.2.3")))
    return files


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_results_are_put_into_a_mount_point_and_replaced_there(mounted, tmp_path):
    for mark in ("first", "second"):
        with opened_output(mounted) as output:
            output.publish(staged(tmp_path / mark, mark))
        assert content(mounted) == content(tmp_path / mark)
    assert mounted.is_mount()


def test_a_mount_point_that_is_too_small_keeps_what_it_held(mounted, tmp_path):
    with opened_output(mounted) as output:
        output.publish(staged(tmp_path / "first", "first"))
    large = staged(tmp_path / "second", "second")
    large[names.SEGMENTATION].write_bytes(bytes(1 << 20))
    with pytest.raises(OutputError, match="No space left"), opened_output(mounted) as output:
        output.publish(large)
    assert content(mounted) == content(tmp_path / "first")


def test_without_arguments_the_module_runs_on_the_paths_of_the_map(mounted, tmp_path):
    affine = np.array([[0, 0, 0.75, -15], [0, 1.25, 0, -30], [2, 0, 0, 100], [0, 0, 0, 1]], float)
    hu = np.random.default_rng(3).integers(-1000, 1200, (12, 40, 48)).astype(np.int16)
    write_study(Volume(Grid(hu.shape, affine), hu), tmp_path / "input")
    next((tmp_path / "input").glob("CT00005*")).unlink()
    paths = {"HOLOSCAN_INPUT_PATH": str(tmp_path / "input"), "HOLOSCAN_OUTPUT_PATH": str(mounted)}
    done = subprocess.run(
        [sys.executable, "-m", "fracture_map"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **paths},
    )
    assert done.returncode == 4, done.stderr
    assert {path.name for path in mounted.iterdir()} == {names.REPORT, names.FINDINGS, names.RUN}
