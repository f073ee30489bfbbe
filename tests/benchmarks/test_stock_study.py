"""The stock graph of the benchmark runs and writes what it should; nothing here looks at a clock."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cspine.models.bundle import METADATA, WEIGHTS, build_network
from cspine.phantom.dicom_study import write_study
from cspine.settings import BUNDLES
from cspine.volume import Grid, Volume

HERE = Path(__file__).resolve().parent
STAGES = {"load", "select", "convert", "segment", "classify", "write_segmentation", "write_report"}
SOP_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.11"}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """The project's bundles with untrained weights, so that the graph can be tried without trained ones."""
    import torch

    root = tmp_path_factory.mktemp("bundles")
    for name in BUNDLES:
        shutil.copytree(HERE.parents[1] / "bundles" / name / "configs", root / name / "configs")
        (root / name / "models").mkdir()
        torch.manual_seed(0)
        torch.save(build_network(root / name).state_dict(), root / name / WEIGHTS)
        metadata = json.loads((root / name / METADATA).read_text())
        weights = (root / name / WEIGHTS).read_bytes()
        metadata["cspine"]["weights_sha256"] = hashlib.sha256(weights).hexdigest()
        (root / name / METADATA).write_text(json.dumps(metadata))
    return root


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Noise of 84 x 90 x 96 mm with a bright rod in it."""
    hu = np.random.default_rng(0).integers(-200, 300, (21, 60, 64)).astype(np.int16)
    hu[:, 25:35, 25:40] = 900
    affine = np.array([[0, 0, 1.5, -48], [0, 1.5, 0, -45], [4.0, 0, 0, -42], [0, 0, 0, 1]])
    folder = tmp_path_factory.mktemp("study")
    write_study(Volume(Grid(hu.shape, affine), hu), folder)
    return folder


@pytest.mark.parametrize(("way", "more"), [("shipped", {"localize"}), ("tuned", set())])
def test_the_stock_graph_goes_from_files_to_seg_and_sr(untrained, study, tmp_path, way, more):
    command = [sys.executable, HERE / "stock_study.py", "--study", study, "--out", tmp_path / "out"]
    done = subprocess.run(
        [*command, "--models", untrained, "--way", way],
        capture_output=True,
        text=True,
        env={**os.environ, "HOLOSCAN_LOG_LEVEL": "ERROR"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["stages"]) == STAGES | more
    assert set(said["probabilities"]) == {*said["levels"], "overall"}
    written = [pydicom.dcmread(path) for path in (tmp_path / "out").glob("*.dcm")]
    assert {str(ds.SOPClassUID) for ds in written} == SOP_CLASSES
    seg = next(ds for ds in written if ds.Modality == "SEG")
    assert (seg.Rows, seg.Columns) == (60, 64)
