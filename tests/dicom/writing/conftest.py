"""CT series, masks and findings to write from, made by hand so that every attribute is known."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, generate_uid

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom import codes
from cspine.dicom.provenance import to_bytes
from cspine.dicom.segmentation import segment_numbers
from cspine.dicom.series import CtSeries, LeftOut
from cspine.findings import FractureScores, LevelScore, ModelVersion, OperatingPoint, StudyFindings
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Volume

SLICES, ROWS, COLUMNS = 38, 44, 52
SPACING_MM = (2.5, 0.75, 0.5)
ORIGIN_LPS_MM = (-13.0, -16.5, -40.0)
MODELS = (
    ModelVersion("cspine_ct_segmentation", "0.1.0", "a" * 64),
    ModelVersion("cspine_ct_fracture_classification", "0.2.0", "b" * 64),
)


def header(index: int, uids: dict[str, str], origin_lps_mm: np.ndarray) -> Dataset:
    """The normalised header of one slice."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240506"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "070809"
    ds.AccessionNumber, ds.StudyID, ds.Modality = "ACC0001", "1", "CT"
    ds.Manufacturer, ds.ManufacturerModelName = "SYNTH", "PHANTOMATIC"
    ds.InstitutionName, ds.ReferringPhysicianName = "TEST HOSPITAL", "REF^DOC"
    ds.StudyDescription, ds.SeriesDescription = "CT CERVICAL SPINE", "C-SPINE BONE"
    ds.PatientName, ds.PatientID = "PHANTOM^ANNE", "PHANTOM-001"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19700101", "O", "054Y"
    ds.BodyPartExamined, ds.PatientPosition, ds.SliceThickness = "CSPINE", "HFS", "2.5"
    ds.KVP, ds.ConvolutionKernel = "120", "BONE"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uids["study"], uids["series"]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uids["frame"], ""
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = 3, 1, index + 1
    ds.ImagePositionPatient = [f"{value:.6g}" for value in origin_lps_mm]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.PixelSpacing = [str(SPACING_MM[1]), str(SPACING_MM[2])]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
    return ds


def straight_grid(rows: int = ROWS, columns: int = COLUMNS) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING_MM
    affine[:3, 3], affine[3, 3] = ORIGIN_LPS_MM, 1
    return Grid((SLICES, rows, columns), affine)


def new_uids() -> dict[str, str]:
    return {name: generate_uid() for name in ("study", "series", "frame")}


def spine_labels(grid: Grid, first: Vertebra = Vertebra.C1, last: Vertebra = Vertebra.C7) -> np.ndarray:
    """C1 on top: slanted blocks of five slices whose rims overlap in the axial plane, as vertebrae do."""
    labels = np.zeros(grid.shape, np.uint8)
    for vertebra in CERVICAL:
        top = SLICES - 2 - 5 * (int(vertebra) - 1)
        if not first <= vertebra <= last:
            continue
        for depth in range(4):
            row = 12 + int(vertebra)
            labels[top - 1 - depth, row : row + 8, 20:31] = vertebra
            labels[top - 2 - depth, row + 8 : row + 15, 22 : 27 + depth] = vertebra
    return labels


def make_series(headers: tuple[Dataset, ...], grid: Grid, **more: object) -> CtSeries:
    volume = Volume(grid, np.zeros(grid.shape, np.int16), tuple(h.SOPInstanceUID for h in headers))
    values = {"frame_numbers": (1,) * SLICES, "source_shape": (ROWS, COLUMNS), **more}
    return CtSeries(volume=volume, headers=headers, **values)


@pytest.fixture
def series() -> CtSeries:
    """An axial series with something left out and something to warn of."""
    grid, uids = straight_grid(), new_uids()
    headers = tuple(header(i, uids, grid.to_lps_mm((i, 0, 0))) for i in range(SLICES))
    return make_series(
        headers,
        grid,
        left_out=(LeftOut(2, "localizer (scout) images"),),
        warnings=("Slices are 2.5 mm thick, which can hide fine fractures.",),
    )


@pytest.fixture
def tilted() -> CtSeries:
    """A gantry tilted by 15 degrees: the frames slide along their rows; the volume is de-sheared."""
    uids = new_uids()
    slide_px = np.arange(SLICES) * SPACING_MM[0] * math.tan(math.radians(15)) / SPACING_MM[1]
    grid = straight_grid(rows=ROWS + math.ceil(slide_px[-1]))
    shear_px = np.stack([slide_px, np.zeros(SLICES)], axis=1)
    headers = tuple(header(i, uids, grid.to_lps_mm((i, slide_px[i], 0))) for i in range(SLICES))
    return make_series(headers, grid, shear_px=shear_px)


@pytest.fixture
def enhanced() -> CtSeries:
    """The same as one enhanced multi-frame image: frames from feet to head but for two, stored backwards."""
    grid, uids = straight_grid(), new_uids()
    ds = header(0, uids, np.array(ORIGIN_LPS_MM))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    ds.SOPClassUID, ds.NumberOfFrames = EnhancedCTImageStorage, SLICES + 2
    ds.PerFrameFunctionalGroupsSequence = [
        frame_groups(grid.to_lps_mm((SLICES - 1 - frame, 0, 0))) for frame in range(SLICES + 2)
    ]
    numbers = tuple(SLICES - index for index in range(SLICES))
    volume = Volume(grid, np.zeros(grid.shape, np.int16), (ds.SOPInstanceUID,) * SLICES)
    return CtSeries(volume, (ds,), numbers, (ROWS, COLUMNS))


def frame_groups(origin_lps_mm: np.ndarray) -> Dataset:
    """Functional groups of one frame, the orientation per frame as some vendors have it."""
    groups, position, orientation, measures = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [float(value) for value in origin_lps_mm]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [SPACING_MM[1], SPACING_MM[2]], 3.5
    groups.PlanePositionSequence, groups.PlaneOrientationSequence = [position], [orientation]
    groups.PixelMeasuresSequence = [measures]
    return groups


@pytest.fixture(params=["series", "tilted", "enhanced"])
def any_series(request: pytest.FixtureRequest) -> CtSeries:
    return request.getfixturevalue(request.param)


@pytest.fixture
def mask_of() -> Callable[..., SpineMask]:
    """A function from a series (and the levels in view) to a mask on its volume's grid."""

    def make(series: CtSeries, first: Vertebra = Vertebra.C1, last: Vertebra = Vertebra.C7) -> SpineMask:
        grid = series.volume.grid
        labels = spine_labels(grid, first, last)
        if series.shear_px is not None:
            # Follow the frames, so that every vertebra lies on the same pixels of them as without tilt.
            shift = np.rint(series.shear_px[:, 0]).astype(int)
            labels = np.stack(
                [np.roll(plane, rows, axis=0) for plane, rows in zip(labels, shift, strict=True)]
            )
        return SpineMask.from_labels(grid, labels)

    return make


@pytest.fixture
def findings_of() -> Callable[..., StudyFindings]:
    """A function from a series, its mask and some probabilities (else 0.03) to findings."""

    def make(
        series: CtSeries, mask: SpineMask, fractured: dict[Vertebra, float] | None = None
    ) -> StudyFindings:
        scores = {}
        for vertebra in CERVICAL:
            center = mask.center_lps_mm(vertebra)
            if center is not None:
                probability = (fractured or {}).get(vertebra, 0.03)
                scores[vertebra] = LevelScore(probability, tuple(float(value) for value in center))
        overall = max((score.probability for score in scores.values()), default=0.0)
        found = assess(
            series.volume, mask, FractureScores(scores, overall) if scores else None, OperatingPoint()
        )
        warnings = ("The networks were never shown a real fracture.",)
        return replace(
            found,
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            models=MODELS,
            warnings=warnings,
        )

    return make


@pytest.fixture
def with_header() -> Callable[..., CtSeries]:
    """A function that changes attributes of every header of a series; None takes the attribute away."""

    def change(series: CtSeries, **attributes: object) -> CtSeries:
        for ds in series.headers:
            for keyword, value in attributes.items():
                if value is None:
                    delattr(ds, keyword)
                else:
                    setattr(ds, keyword, value)
        return replace(series)

    return change


@pytest.fixture
def written() -> Callable[[Dataset], Dataset]:
    """A function from a built object to what is read back from its bytes."""
    return lambda built: dcmread(io.BytesIO(to_bytes(built)))


def _planes(written: Dataset, number: int) -> list[tuple[Dataset, np.ndarray]]:
    """Frame groups and pixels of one segment, as pydicom decodes them."""
    pixels = written.pixel_array
    groups = written.PerFrameFunctionalGroupsSequence
    if "SegmentIdentificationSequence" not in groups[0]:
        return [(item, plane == number) for item, plane in zip(groups, pixels, strict=True)]
    return [
        (item, plane > 0)
        for item, plane in zip(groups, pixels, strict=True)
        if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
    ]


class Voxels:
    """Voxels of a mask's grid by code value of the vertebra: as a SEG marks them, and as the mask has."""

    @staticmethod
    def written(written: Dataset, mask: SpineMask) -> dict[str, set[tuple[int, ...]]]:
        """Those at the LPS places of the pixels that are set."""
        shared = written.SharedFunctionalGroupsSequence[0]
        orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        found: dict[str, set[tuple[int, ...]]] = defaultdict(set)
        for vertebra, number in segment_numbers(written).items():
            for item, plane in _planes(written, number):
                origin = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
                row, column = np.nonzero(plane)
                down = np.outer(row * row_mm, orientation[3:])
                right = np.outer(column * column_mm, orientation[:3])
                indices = np.rint(mask.grid.to_index(origin + down + right)).astype(int)
                found[codes.VERTEBRA[vertebra].value] |= set(map(tuple, indices))
        return dict(found)

    @staticmethod
    def of(mask: SpineMask) -> dict[str, set[tuple[int, ...]]]:
        return {
            codes.VERTEBRA[v].value: set(map(tuple, np.argwhere(mask.labels == v)))
            for v in CERVICAL
            if (mask.labels == v).any()
        }


@pytest.fixture
def voxels() -> type[Voxels]:
    return Voxels
