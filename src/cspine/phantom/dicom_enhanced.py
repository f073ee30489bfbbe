"""The functional groups that make a series one Enhanced CT multi-frame image (PS3.3 A.38)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage

from cspine.phantom.dicom_attributes import (
    INTERCEPT_HU,
    StudyOptions,
    decimals,
    orientation,
    sop_uid,
    thickness_mm,
    uid,
)
from cspine.volume import Grid

_FRAME_TYPE: Final = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")


def enhanced_image(common: Dataset, grid: Grid, slices: NDArray[np.intp], options: StudyOptions) -> Dataset:
    """Turn the attributes that all slices share into those of one Enhanced CT image, without pixels.

    Args:
        common: attributes of the patient, the study, the series and the pixels; changed in place.
        grid: of the frames as they are stored.
        slices: slice of the grid that each frame holds.
        options: identity and encoding.
    """
    ds = common
    del ds.AcquisitionDate, ds.AcquisitionTime
    ds.SOPClassUID, ds.SOPInstanceUID = EnhancedCTImageStorage, sop_uid(options, 1)
    ds.NumberOfFrames, ds.InstanceNumber = grid.shape[0], 1
    ds.ImageType = list(_FRAME_TYPE)
    ds.PixelPresentation, ds.VolumetricProperties = "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique, ds.ContentQualification = "NONE", "RESEARCH"
    ds.PresentationLUTShape, ds.AcquisitionNumber = "IDENTITY", 1
    ds.AcquisitionDateTime, ds.AcquisitionDuration = "20250102101112", 1.0
    ds.AcquisitionContextSequence = Sequence()
    _dimensions(ds, options)
    ds.SharedFunctionalGroupsSequence = Sequence([_shared(grid, options)])
    ds.PerFrameFunctionalGroupsSequence = Sequence([_frame(grid, int(index)) for index in slices])
    return ds


def _item(**values: object) -> Sequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _dimensions(ds: Dataset, options: StudyOptions) -> None:
    organization = uid(options.seed, options.series_number, "dimensions")
    ds.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organization)
    ds.DimensionOrganizationType = "3D"
    pointers = []
    for keyword in ("StackID", "InStackPositionNumber"):
        (pointer,) = _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=Tag(keyword),
            FunctionalGroupPointer=Tag("FrameContentSequence"),
            DimensionDescriptionLabel=keyword,
        )
        pointers.append(pointer)
    ds.DimensionIndexSequence = Sequence(pointers)


def _shared(grid: Grid, options: StudyOptions) -> Dataset:
    (groups,) = _item(
        PixelMeasuresSequence=_item(
            PixelSpacing=decimals(grid.spacing_mm[1:]),
            SliceThickness=decimals([thickness_mm(grid, options)])[0],
        ),
        PlaneOrientationSequence=_item(ImageOrientationPatient=decimals(orientation(grid))),
        FrameAnatomySequence=_item(
            FrameLaterality="U",
            AnatomicRegionSequence=_code("122494005", "SCT", "Cervical spine"),
        ),
        PixelValueTransformationSequence=_item(
            RescaleIntercept=INTERCEPT_HU, RescaleSlope=1, RescaleType="HU"
        ),
        FrameVOILUTSequence=_item(WindowCenter=400, WindowWidth=2000),
        CTImageFrameTypeSequence=_item(
            FrameType=list(_FRAME_TYPE),
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
        ),
        CTReconstructionSequence=_item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel=options.kernel,
            ConvolutionKernelGroup="BONE",
            ReconstructionDiameter=float(grid.spacing_mm[2] * grid.shape[2]),
            ReconstructionPixelSpacing=[float(step) for step in grid.spacing_mm[1:]],
            ReconstructionAngle=360.0,
            ImageFilter="NONE",
        ),
        IrradiationEventIdentificationSequence=_item(
            IrradiationEventUID=uid(options.seed, options.series_number, "irradiation")
        ),
    )
    for keyword, sequence in _acquisition(grid, options).items():
        setattr(groups, keyword, sequence)
    return groups


def _acquisition(grid: Grid, options: StudyOptions) -> dict[str, Sequence]:
    """The groups that describe the scanner's work (required of original images)."""
    center = [float(x) for x in grid.to_lps_mm([(n - 1) / 2 for n in grid.shape])]
    width = float(grid.spacing_mm[2] * grid.shape[2])
    collimation = thickness_mm(grid, options)
    return {
        "CTAcquisitionTypeSequence": _item(
            AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"
        ),
        "CTAcquisitionDetailsSequence": _item(
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=collimation,
            TotalCollimationWidth=collimation * 16,
            TableHeight=0.0,
            GantryDetectorTilt=options.tilt_deg,
            DataCollectionDiameter=width,
        ),
        "CTTableDynamicsSequence": _item(TableSpeed=20.0, TableFeedPerRotation=10.0, SpiralPitchFactor=0.9),
        "CTGeometrySequence": _item(
            DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=550.0
        ),
        "CTPositionSequence": _item(
            TablePosition=0.0,
            DataCollectionCenterPatient=center,
            ReconstructionTargetCenterPatient=center,
        ),
        "CTExposureSequence": _item(
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=200.0,
            ExposureInmAs=100.0,
            ExposureModulationType="NONE",
        ),
        "CTXRayDetailsSequence": _item(
            KVP=120.0,
            FocalSpots=[1.0],
            FilterType="FLAT",
            FilterMaterial="ALUMINUM",
            CalciumScoringMassFactorPatient=None,
        ),
    }


def _frame(grid: Grid, index: int) -> Dataset:
    (groups,) = _item(
        FrameContentSequence=_item(
            StackID="1",
            InStackPositionNumber=index + 1,
            DimensionIndexValues=[1, index + 1],
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime="20250102101112",
            FrameAcquisitionDateTime="20250102101112",
            FrameAcquisitionDuration=1.0,
        ),
        PlanePositionSequence=_item(ImagePositionPatient=decimals(grid.to_lps_mm((index, 0, 0)))),
    )
    return groups
