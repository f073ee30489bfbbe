"""Images and labels as the files that annotators' programs read and write: NIfTI, NRRD, and OHIF's raw bytes.

Files count voxels (column, row, slice); NIfTI places them in RAS mm, NRRD says in what. Here everything is
(slice, row, column) and LPS mm, as in `cspine.volume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.errors import InputError, OutputError
from cspine.volume import FloatArray, Grid, Volume
from cspine_label.errors import RefusedLabelError
from cspine_label.lattice import reordered

NIFTI: Final = (".nii.gz", ".nii")
NRRD: Final = (".nrrd",)
RAW: Final = (".bin",)
"""One byte a voxel, columns fastest, slices along the normal: the label map in OHIF's memory."""

_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_SPACES: Final = {
    "left-posterior-superior": np.eye(4),
    "lps": np.eye(4),
    "right-anterior-superior": _TO_LPS,
    "ras": _TO_LPS,
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0, 1.0]),
    "las": np.diag([1.0, -1.0, 1.0, 1.0]),
}


def suffix_of(name: str, suffixes: tuple[str, ...] = (*NIFTI, *NRRD, *RAW)) -> str | None:
    """Which of the endings a file's name has; None for any other."""
    return next((suffix for suffix in suffixes if name.lower().endswith(suffix)), None)


def read_volume(path: Path) -> Volume:
    """Read a CT in Hounsfield units from a NIfTI file.

    Raises:
        InputError: the file cannot be read, or is no single 3-D image.
    """
    values, grid = _read_nifti(path)
    if not np.isfinite(values).all():
        raise InputError(f"'{path.name}' holds values that are not numbers.")
    return Volume(grid, np.clip(np.rint(values), -1024, 32767).astype(np.int16))


def read_label(path: Path, onto: Grid) -> NDArray[Any]:
    """Read an uploaded label on the image's grid, its values as they are.

    Args:
        path: NIfTI, NRRD or raw bytes, told apart by the name.
        onto: the image's grid.

    Raises:
        RefusedLabelError: not readable, another size or place, or more than one label map.
    """
    kind = suffix_of(path.name)
    if kind is None:
        raise RefusedLabelError("The label is no NIfTI, NRRD or raw file; save it as .nii.gz or .nrrd.")
    if kind in RAW:
        return _read_raw(path, onto)
    try:
        values, grid = _read_nifti(path) if kind in NIFTI else _read_nrrd(path)
    except InputError as error:
        raise RefusedLabelError(f"The label cannot be read: {error}") from error
    return reordered(values, grid, onto)


def _read_raw(path: Path, onto: Grid) -> NDArray[np.uint8]:
    values = np.fromfile(path, np.uint8)
    if values.size != np.prod(onto.shape):
        slices, rows, columns = onto.shape
        raise RefusedLabelError(
            f"The label has {values.size} voxels, the image {columns} x {rows} x {slices}; "
            "send the label map of this image."
        )
    return values.reshape(onto.shape)


def write_image(values: NDArray[Any], grid: Grid, path: Path, *, compress: bool = True) -> None:
    """Write an image or label, whole or not at all, as NIfTI or NRRD by the name's ending.

    Raises:
        OutputError: the file cannot be written.
    """
    kind = suffix_of(path.name, (*NIFTI, *NRRD))
    if kind is None:
        raise OutputError(
            f"'{path.name}' is no name for a NIfTI or NRRD file; let it end in .nii.gz or .nrrd."
        )
    part = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind in NIFTI:
            _write_nifti(values, grid, part)
        else:
            _write_nrrd(values, grid, part, compress=compress)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"'{path}' cannot be written: is the disk full or the folder read-only?") from error


def file_affine_lps(grid: Grid) -> FloatArray:
    """(4, 4) from a file's (column, row, slice, 1) to LPS mm."""
    return np.asarray(grid.affine_lps[:, [2, 1, 0, 3]])


def _grid_of(shape: tuple[int, ...], affine_lps: FloatArray, name: str) -> Grid:
    if len(shape) != 3:
        raise InputError(f"'{name}' has {len(shape)} axes; a single 3-D image is needed.")
    try:
        return Grid((shape[2], shape[1], shape[0]), affine_lps[:, [2, 1, 0, 3]])
    except ValueError as error:
        raise InputError(f"'{name}' does not say where its voxels are: {error}.") from error


def _read_nifti(path: Path) -> tuple[NDArray[Any], Grid]:
    import nibabel

    try:
        image = nibabel.load(path)
        shape = image.shape[:3] if len(image.shape) == 4 and image.shape[3] == 1 else image.shape
        values = np.asanyarray(image.dataobj).reshape(shape, order="A")
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"'{path.name}' cannot be read as NIfTI ({type(error).__name__}).") from error
    grid = _grid_of(tuple(int(n) for n in shape), _TO_LPS @ np.asarray(image.affine, np.float64), path.name)
    return values.transpose(2, 1, 0), grid


def _write_nifti(values: NDArray[Any], grid: Grid, path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), _TO_LPS @ file_affine_lps(grid))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _read_nrrd(path: Path) -> tuple[NDArray[Any], Grid]:
    import nrrd

    try:
        values, header = nrrd.read(str(path))
        to_lps = _SPACES[str(header.get("space", "")).lower()]
        affine = np.eye(4)
        affine[:3, :3] = np.array(header["space directions"], np.float64).T
        affine[:3, 3] = header["space origin"]
    except Exception as error:  # pynrrd raises many kinds on damaged files
        raise InputError(f"'{path.name}' cannot be read as an NRRD file with a place in space.") from error
    return values.transpose(2, 1, 0), _grid_of(values.shape, to_lps @ affine, path.name)


def _write_nrrd(values: NDArray[Any], grid: Grid, path: Path, *, compress: bool) -> None:
    import nrrd

    affine = file_affine_lps(grid)
    header: Mapping[str, Any] = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip" if compress else "raw",
    }
    nrrd.write(str(path), values.transpose(2, 1, 0), dict(header))
