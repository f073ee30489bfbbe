"""Write a volume as the DICOM study that a scanner would have sent: for the demo, the bench and the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1

from cspine.phantom.dicom_attributes import (
    INTERCEPT_HU,
    Order,
    StudyOptions,
    common_attributes,
    decimals,
    orientation,
    series_uid,
    sop_uid,
    study_uid,
    thickness_mm,
)
from cspine.volume import Grid, Volume

_IMPLEMENTATION: Final = UID("2.25.229236512345678901234567890123456789")
_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def write_study(volume: Volume, folder: Path, options: StudyOptions | None = None) -> tuple[Path, ...]:
    """Write a volume as one CT series.

    Args:
        volume: the CT; its axes must be at right angles. Hounsfield units below -1024 become -1024.
        folder: where to write; made where absent. Files are called CT00001.dcm and so on.
        options: identity and encoding.

    Returns:
        The paths of the files in the order of the volume's slices (one path for a multi-frame image).

    Raises:
        ValueError: the volume's axes are not at right angles.
    """
    options = options or StudyOptions()
    folder.mkdir(parents=True, exist_ok=True)
    grid, hu = _acquire(volume, options.tilt_deg)
    stored = (np.maximum(hu, INTERCEPT_HU).astype(np.int32) - INTERCEPT_HU).astype(np.uint16)
    numbers = _numbers(len(stored), options)
    bits = 12 if int(stored.max(initial=0)) < 4096 else 16
    if options.enhanced:
        from cspine.phantom.dicom_enhanced import enhanced_image

        slices = np.argsort(numbers)
        image = enhanced_image(common_attributes(grid, bits, options), grid, slices, options)
        return (_save(_with_pixels(image, stored[slices], options), folder / "CT00001.dcm", options),)
    paths = []
    for k, number in enumerate(numbers):
        image = common_attributes(grid, bits, options)
        _place(image, grid, k, int(number), options)
        paths.append(_save(_with_pixels(image, stored[k], options), folder / f"CT{number:05d}.dcm", options))
    return tuple(paths)


def _acquire(volume: Volume, tilt_deg: float) -> tuple[Grid, NDArray[np.int16]]:
    """What the scanner sees: the volume itself, or resampled (linearly) on sheared slices."""
    axes = volume.grid.affine_lps[:3, :3] / volume.grid.spacing_mm
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-5:
        raise ValueError("a volume is written as DICOM only where its axes are at right angles")
    if tilt_deg == 0.0:
        return volume.grid, volume.hu
    from scipy.ndimage import affine_transform

    grid = _tilted(volume.grid, np.deg2rad(tilt_deg))
    to_volume = np.linalg.inv(volume.grid.affine_lps) @ grid.affine_lps
    hu = affine_transform(
        volume.hu, to_volume[:3, :3], to_volume[:3, 3], volume.grid.shape, order=1, cval=INTERCEPT_HU
    )
    return grid, hu


def _tilted(grid: Grid, tilt: float) -> Grid:
    affine = grid.affine_lps.copy()
    step, down = affine[:3, 0], affine[:3, 1]
    turned = np.cos(tilt) * down / np.linalg.norm(down) - np.sin(tilt) * step / np.linalg.norm(step)
    affine[:3, 1] = turned * np.linalg.norm(down)
    middle = (np.array(grid.shape) - 1) / 2
    affine[:3, 3] = grid.to_lps_mm(middle) - affine[:3, :3] @ middle
    return Grid(grid.shape, affine)


def _numbers(count: int, options: StudyOptions) -> NDArray[np.intp]:
    ascending = np.arange(1, count + 1)
    if options.order is Order.DESCENDING:
        return ascending[::-1]
    if options.order is Order.SHUFFLED:
        return np.random.default_rng(options.seed).permutation(ascending)
    return ascending


def _place(ds: Dataset, grid: Grid, index: int, number: int, options: StudyOptions) -> None:
    """Add what makes the attributes of the series those of one CT image."""
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, sop_uid(options, number)
    ds.ImageType, ds.InstanceNumber, ds.AcquisitionNumber = list(options.image_type), number, 1
    ds.ImageOrientationPatient = decimals(orientation(grid))
    ds.ImagePositionPatient = decimals(grid.to_lps_mm((index, 0, 0)))
    ds.PixelSpacing = decimals(grid.spacing_mm[1:])
    ds.SliceThickness = decimals([thickness_mm(grid, options)])[0]
    ds.GantryDetectorTilt, ds.ConvolutionKernel, ds.KVP = options.tilt_deg, options.kernel, 120
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT_HU, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = 400, 2000


def _with_pixels(ds: Dataset, stored: NDArray[np.uint16], options: StudyOptions) -> Dataset:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    ds.file_meta.ImplementationClassUID = _IMPLEMENTATION
    syntax = UID(options.transfer_syntax)
    native = syntax if syntax in _UNCOMPRESSED else ExplicitVRLittleEndian
    ds.file_meta.TransferSyntaxUID = native
    ds.PixelData = stored.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    if syntax not in (*_UNCOMPRESSED, JPEGLosslessSV1):
        ds.compress(syntax, generate_instance_uid=False)
    return ds


def _save(ds: Dataset, path: Path, options: StudyOptions) -> Path:
    ds.save_as(path, enforce_file_format=True)
    if UID(options.transfer_syntax) == JPEGLosslessSV1:
        _to_jpeg_lossless(path)
    return path


def _to_jpeg_lossless(path: Path) -> None:
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError(f"{path.name} cannot be compressed")
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"{path.name} cannot be compressed")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    if not writer.Write():
        raise ValueError(f"{path.name} cannot be written")


__all__ = ["Order", "StudyOptions", "series_uid", "sop_uid", "study_uid", "write_study"]
