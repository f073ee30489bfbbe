"""What a synthetic CT study says of itself: options, UIDs and the attributes all images share."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from cspine.volume import FloatArray, Grid

INTERCEPT_HU: Final = -1024
"""Rescale Intercept of what is written; smaller Hounsfield units are written as this."""


class Order(StrEnum):
    """How file names and Instance Numbers run along the slices of the volume."""

    ASCENDING = "ascending"
    DESCENDING = "descending"
    SHUFFLED = "shuffled"


@dataclass(frozen=True)
class StudyOptions:
    """What the study says about itself, and how it is encoded.

    Attributes:
        patient_name, patient_id: identity of the patient; text may be of any script.
        study_description, series_description, body_part, kernel: as in the DICOM attributes of that name.
        series_number: number of the series; another number is another series of the same study.
        image_type: values of Image Type for single-frame images.
        slice_thickness_mm: Slice Thickness; None for the distance of the slices.
        transfer_syntax: explicit or implicit little endian, RLE, JPEG-LS, JPEG 2000 lossless (from 32 x 32
            pixels) or JPEG lossless (SV1).
        tilt_deg: gantry tilt: slices are turned by this about their row axis (which runs along a row of
            pixels) while the table moves on along the volume's slice axis, so that the stack is sheared.
        order: of file names and Instance Numbers.
        enhanced: write one Enhanced CT multi-frame image instead of single-frame images.
        seed: the study; studies of the same seed have the same Study Instance UID.
    """

    patient_name: str = "Phantom^Neck"
    patient_id: str = "PHANTOM-1"
    study_description: str = "CT cervical spine (synthetic)"
    series_description: str = "C-spine bone (synthetic)"
    body_part: str = "CSPINE"
    kernel: str = "BONE"
    series_number: int = 2
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    slice_thickness_mm: float | None = None
    transfer_syntax: str = ExplicitVRLittleEndian
    tilt_deg: float = 0.0
    order: Order = Order.ASCENDING
    enhanced: bool = False
    seed: int = 0


def study_uid(options: StudyOptions) -> UID:
    """Study Instance UID that `write_study` gives a study."""
    return uid(options.seed, "study")


def series_uid(options: StudyOptions) -> UID:
    """Series Instance UID that `write_study` gives a series."""
    return uid(options.seed, "series", options.series_number)


def sop_uid(options: StudyOptions, number: int) -> UID:
    """SOP Instance UID that `write_study` gives the image with Instance Number `number`."""
    return uid(options.seed, "series", options.series_number, "image", number)


def uid(*seed: object) -> UID:
    """A UID that is the same for the same seed (a UUID as a UID, PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '|'.join(map(str, seed))).int}")


def common_attributes(grid: Grid, bits: int, options: StudyOptions) -> Dataset:
    """Everything that all images of the series share, but the pixels and where they are."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid(options), series_uid(options)
    ds.FrameOfReferenceUID = uid(options.seed, "frame of reference")
    ds.PatientName, ds.PatientID = options.patient_name, options.patient_id
    ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20250102"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112"
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = f"A{options.seed}", "", "1"
    ds.StudyDescription, ds.SeriesDescription = options.study_description, options.series_description
    ds.Modality, ds.PatientPosition = "CT", "HFS"
    ds.SeriesNumber, ds.BodyPartExamined = options.series_number, options.body_part
    ds.Manufacturer, ds.ManufacturerModelName = "Fracture Map", "Synthetic neck"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "1"
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = grid.shape[1:]
    ds.BitsAllocated, ds.PixelRepresentation = 16, 0
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    return ds


def thickness_mm(grid: Grid, options: StudyOptions) -> float:
    """Slice Thickness: the one asked for, else the distance of the slices along their normal."""
    if options.slice_thickness_mm is not None:
        return options.slice_thickness_mm
    return float(abs(np.linalg.det(grid.affine_lps[:3, :3])) / (grid.spacing_mm[1] * grid.spacing_mm[2]))


def orientation(grid: Grid) -> FloatArray:
    """Image Orientation (Patient): direction along a row, then down a column; (6,)."""
    axes = grid.affine_lps[:3, :3] / grid.spacing_mm
    return np.concatenate([axes[:, 2], axes[:, 1]])


def decimals(values: Sequence[float] | FloatArray) -> list[str]:
    """Numbers as DICOM decimal strings: at most 16 characters (PS3.5 6.2)."""
    return [_decimal(float(value)) for value in values]


def _decimal(value: float) -> str:
    value = value + 0.0 if value else 0.0
    for digits in range(15, 5, -1):
        if len(text := f"{value:.{digits}g}") <= 16:
            return text
    raise ValueError("a number does not fit a decimal string")
