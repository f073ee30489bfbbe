"""From files to files: what was read from a study is written back onto its frames."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from cspine.anatomy import CERVICAL
from cspine.dicom import read_ct
from cspine.dicom.provenance import to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation
from cspine.dicom.verification import verify_report, verify_segmentation
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, SpineMask, Volume


def blocks(grid: Grid) -> np.ndarray:
    """C1 on top: seven blocks in the middle of the grid."""
    labels = np.zeros(grid.shape, np.uint8)
    _, rows, columns = grid.shape
    middle = slice(rows // 2 - 7, rows // 2 + 6), slice(columns // 2 - 8, columns // 2 + 7)
    upward = grid.affine_lps[2, 0] > 0
    for vertebra in CERVICAL:
        first = 1 + 3 * (7 - int(vertebra) if upward else int(vertebra) - 1)
        labels[first : first + 3, *middle] = vertebra
    return labels


@pytest.mark.parametrize(
    "options",
    [StudyOptions(), StudyOptions(tilt_deg=15.0), StudyOptions(tilt_deg=-20.0), StudyOptions(enhanced=True)],
    ids=["axial", "tilted", "tilted the other way", "enhanced"],
)
@pytest.mark.parametrize("labelmap", [False, True])
def test_a_study_gets_its_mask_back_on_its_own_frames(options, labelmap, tmp_path: Path, findings_of, voxels):
    affine = np.array([[0, 0, 0.5, -9], [0, 0.75, 0, -14], [1.5, 0, 0, 30], [0, 0, 0, 1]], float)
    grid = Grid((24, 40, 36), affine)
    hu = np.random.default_rng(5).integers(-900, 1500, grid.shape).astype(np.int16)
    files = write_study(Volume(grid, hu), tmp_path, options)
    series = read_ct(tmp_path)
    mask = SpineMask.from_labels(series.volume.grid, blocks(series.volume.grid))
    findings = findings_of(series, mask)
    segmentation = build_segmentation(series, mask, findings, labelmap=labelmap)
    data, report = to_bytes(segmentation), to_bytes(build_report(series, findings, segmentation))
    verify_segmentation(data, series, mask)
    verify_report(report, findings)
    read = dcmread(io.BytesIO(data))
    assert voxels.written(read, mask) == voxels.of(mask)
    sources = {str(dcmread(path).SOPInstanceUID) for path in files}
    assert {str(uid) for uid in _source_uids(read)} <= sources


def _source_uids(segmentation) -> set[str]:
    return {
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for groups in segmentation.PerFrameFunctionalGroupsSequence
    }
