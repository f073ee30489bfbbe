"""Synthetic necks in the folder layout of RSNA 2022, with its quirks, to try its reader and its training on.

::

    ROOT/train.csv                      StudyInstanceUID, patient_overall, C1..C7
    ROOT/train_bounding_boxes.csv       boxes around fractures, slice by slice
    ROOT/train_images/<uid>/<n>.dcm     sparse headers; n counts from the head, in some studies from the feet
    ROOT/segmentations/<uid>.nii        stored sagittally and turned; its affine says how
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1

from cspine.anatomy import CERVICAL, THORACIC
from cspine.phantom.dicom_attributes import Order, StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.phantom.neck import Neck
from cspine.phantom.render import render
from cspine.phantom.scanner import Scanner
from cspine.volume import Grid, Volume

UID_ROOT: Final = "1.2.826.0.1.3680043."
KEPT: Final = {
    *("SOPInstanceUID", "ContentDate", "ContentTime", "PatientName", "PatientID", "SliceThickness"),
    *(
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "SamplesPerPixel",
    ),
    *("PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope"),
    "PixelData",
}
"""What the contest left of the headers: no modality, and the SOP class in the file meta information only."""
MIN_BOX_PIXELS: Final = 3


@dataclass(frozen=True, eq=False)
class LayoutStudy:
    """One study of the layout.

    Attributes:
        number: last part of its UID.
        neck: what it shows.
        scanner: what took it.
        grid: of the CT, index 0 at the feet.
        masked: whether its mask is among the segmentations.
        boxed: whether its fractures have boxes.
        lossless_jpeg: whether its images are JPEG lossless.
        from_feet: whether its files are numbered from the feet.
    """

    number: int
    neck: Neck
    scanner: Scanner | None
    grid: Grid
    masked: bool = True
    boxed: bool = True
    lossless_jpeg: bool = False
    from_feet: bool = False

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return f"{UID_ROOT}{self.number}"

    def slice_number(self, index: int) -> int:
        """The number of the file of a slice."""
        return index + 1 if self.from_feet else self.grid.shape[0] - index


def neck_grid(neck: Neck, *, step_mm: float, pixel_mm: float, pixels: int) -> Grid:
    """An axial grid, index 0 at the feet, that shows C1..C7 and 15 mm above and below.

    Args:
        neck: what it shows.
        step_mm: from slice to slice.
        pixel_mm: side of a pixel.
        pixels: rows and columns.
    """
    (low_x, low_y, low_z), (high_x, high_y, high_z) = neck.spine_box_lps_mm
    slices = int(np.ceil((high_z - low_z + 30) / step_mm))
    affine = np.array([[0, 0, pixel_mm, 0], [0, pixel_mm, 0, 0], [step_mm, 0, 0, low_z - 15], [0, 0, 0, 1]])
    affine[:2, 3] = np.array([low_x + high_x, low_y + high_y]) / 2 - pixel_mm * (pixels - 1) / 2
    return Grid((slices, pixels, pixels), affine)


def write_layout(root: Path, studies: Sequence[LayoutStudy]) -> None:
    """Write studies, their masks and the two tables.

    Args:
        root: folder of the layout; made where it is missing.
        studies: what to write.
    """
    (root / "segmentations").mkdir(parents=True, exist_ok=True)
    boxes: list[tuple[object, ...]] = []
    for study in studies:
        image = render(study.neck, study.grid, study.scanner)
        labels = image.labels.numpy()
        _write_images(root / "train_images" / study.uid, study, Volume(study.grid, image.hu.numpy()))
        if study.masked:
            write_mask(root / "segmentations" / f"{study.uid}.nii", labels, study.grid)
        if study.boxed:
            boxes += _boxes(study, image.fracture.numpy() > 0)
    columns = ("StudyInstanceUID", "patient_overall", *map(str, CERVICAL))
    _write_table(root / "train.csv", columns, [_labels(study) for study in studies])
    columns = ("StudyInstanceUID", "x", "y", "width", "height", "slice_number")
    _write_table(root / "train_bounding_boxes.csv", columns, boxes)


def _labels(study: LayoutStudy) -> tuple[object, ...]:
    broken = study.neck.fractured
    return (study.uid, int(bool(broken)), *(int(vertebra in broken) for vertebra in CERVICAL))


def _boxes(study: LayoutStudy, broken: NDArray[np.bool_]) -> Iterator[tuple[object, ...]]:
    """One box a slice and fracture, around its broken voxels."""
    for fracture in study.neck.fractures:
        zone = broken & _within(study.grid, fracture.box_lps_mm)
        for index in np.flatnonzero(zone.any((1, 2))):
            rows, columns = np.nonzero(zone[index])
            if len(rows) < MIN_BOX_PIXELS:
                continue
            y, x = rows.min(), columns.min()
            yield study.uid, x, y, np.ptp(columns) + 1, np.ptp(rows) + 1, study.slice_number(int(index))


def _within(grid: Grid, box_lps_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Voxels of an axial grid in a box."""
    low, high = np.sort(grid.to_index(box_lps_mm), axis=0)
    sides = [(np.arange(n) >= a) & (np.arange(n) <= b) for n, a, b in zip(grid.shape, low, high, strict=True)]
    return np.asarray(sides[0][:, None, None] & sides[1][:, None] & sides[2])


def _write_images(folder: Path, study: LayoutStudy, volume: Volume) -> None:
    options = StudyOptions(
        seed=study.number,
        transfer_syntax=JPEGLosslessSV1 if study.lossless_jpeg else ExplicitVRLittleEndian,
        order=Order.ASCENDING if study.from_feet else Order.DESCENDING,
    )
    for path in write_study(volume, folder, options):
        image = dcmread(path)
        for element in list(image):
            if element.keyword not in KEPT:
                del image[element.tag]
        image.StudyInstanceUID = image.PatientID = image.PatientName = study.uid
        image.SeriesInstanceUID = f"{study.uid}.1"
        image.SOPInstanceUID = f"{study.uid}.1.{image.InstanceNumber}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
        path.unlink()


def write_mask(path: Path, labels: NDArray[np.uint8], grid: Grid) -> None:
    """Write a mask as the contest has them: sagittal planes, turned twice, T1 and T2 but no skull.

    Args:
        path: the NIfTI file.
        labels: uint8 of `grid.shape`: 1..7 C1..C7, 8 T1 and below, 9 skull.
        grid: of the CT.
    """
    import nibabel

    named = np.where(labels <= THORACIC, labels, 0).astype(np.uint8)
    named[: _second_thoracic(named)][named[: _second_thoracic(named)] == THORACIC] = THORACIC + 1
    slices, rows, _ = grid.shape
    stored = named[::-1, ::-1].transpose(1, 0, 2)
    # From an index of `stored` to one of the CT.
    to_ct = np.array([[0.0, -1, 0, slices - 1], [-1, 0, 0, rows - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine_lps @ to_ct
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine_ras), path)


def _second_thoracic(labels: NDArray[np.uint8]) -> int:
    """The slice below which thoracic bone is called T2; about half of it."""
    thoracic = np.flatnonzero((labels == THORACIC).any((1, 2)))
    return int(thoracic[len(thoracic) // 2]) if thoracic.size else 0


def _write_table(path: Path, columns: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)
