"""Fracture boxes of RSNA 2022, from pixels of numbered files to voxels and millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cspine.datasets.rsna.tables import SliceBox
from cspine.dicom import CtSeries
from cspine.dicom.headers import quietly, read_header, text
from cspine.errors import InputError
from cspine.volume import FloatArray, Grid


@dataclass(frozen=True)
class VoxelBox:
    """A box around a fracture in one slice of a volume.

    Attributes:
        slice: index of the slice.
        rows, columns: first and last edge, in voxels; 0 is the centre of the first one, so that a box around
            it alone goes from -0.5 to 0.5.
    """

    slice: int
    rows: tuple[float, float]
    columns: tuple[float, float]

    def box_lps_mm(self, grid: Grid) -> FloatArray:
        """Smallest and largest LPS corner, (2, 3) mm, of the box as thick as its slice."""
        sides = ((self.slice - 0.5, self.slice + 0.5), self.rows, self.columns)
        corners = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
        points = grid.to_lps_mm(corners)
        return np.stack([points.min(0), points.max(0)])


def voxel_boxes(
    boxes: Sequence[SliceBox], images: Path, series: CtSeries
) -> tuple[tuple[VoxelBox, ...], int]:
    """Find the slice of each box.

    A slice is found by the SOP Instance UID of the file that the box names: neither do the files' numbers run
    with the slices (in about 196 studies they run the other way), nor need every file be in the series.

    Args:
        boxes: of the table.
        images: folder of the files.
        series: the CT read from them.

    Returns:
        The boxes whose slice is in the series, and the number of those whose is not.
    """
    slices = {uid: index for index, uid in enumerate(series.volume.slice_uids)}
    uids = {number: _sop_uid(images / f"{number}.dcm") for number in {box.slice_number for box in boxes}}
    found = []
    for box in boxes:
        index = slices.get(uids[box.slice_number] or "")
        if index is not None:
            found.append(_on_voxels(box, index, series))
    return tuple(found), len(boxes) - len(found)


def _on_voxels(box: SliceBox, index: int, series: CtSeries) -> VoxelBox:
    # Of a series whose gantry was tilted, each frame lies elsewhere in the wider, de-sheared matrix.
    row, column = (0.0, 0.0) if series.shear_px is None else series.shear_px[index].tolist()
    top, left = box.y - 0.5 + row, box.x - 0.5 + column
    return VoxelBox(index, (top, top + box.height), (left, left + box.width))


def _sop_uid(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        with quietly():
            header = read_header(path)
    except InputError:
        return None
    return None if header is None else text(header.dataset, "SOPInstanceUID")
