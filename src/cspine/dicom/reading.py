"""Read a study: find its CT series, choose one, place it in space, decode it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from cspine.dicom.choice import CT_IMAGE, ENHANCED_CT, Candidate, Kernel, candidates, is_axial, sift, why_not
from cspine.dicom.decoding import read_volume
from cspine.dicom.files import check_complete, is_directory, opened_input
from cspine.dicom.frames import Frame
from cspine.dicom.geometry import Stack, stack_frames
from cspine.dicom.headers import Header, quietly, read_header, text
from cspine.dicom.normalise import normalise
from cspine.dicom.pixels import LOSSY, check_decodable, read_plane
from cspine.dicom.series import CtSeries, LeftOut
from cspine.errors import CspineError, InputError, NoUsableSeriesError
from cspine.settings import LIMITED_THICKNESS_MM, MAX_THICKNESS_MM, THREADS
from cspine.volume import Volume

log = logging.getLogger(__name__)

EVIDENCE_IMAGES = 8
"""Most headers that stand for a study that could not be analysed."""


@dataclass(frozen=True, eq=False)
class _Choice:
    candidate: Candidate
    stack: Stack
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]


def read_ct(source: Path, *, threads: int = THREADS) -> CtSeries:
    """Read the CT series of a study that is best to look for fractures of the cervical spine.

    Args:
        source: a folder, a single file, a zip file or a DICOMDIR; read only.
        threads: for decoding.

    Returns:
        The series as a volume, with its headers and everything that was left out.

    Raises:
        InputError: the input cannot be read, is incomplete or contradicts itself.
        NoUsableSeriesError: it was read, but holds no CT series that can be analysed.
    """
    with quietly(), opened_input(source) as paths:
        headers, strays = _read_headers(paths)
        check_complete(paths)
        _check_one_study(headers)
        _check_pixels(headers)
        usable, left_out = sift(headers)
        choice = _choose(usable, (*strays, *left_out))
        log.info("%s was chosen: %d slices", choice.candidate.name, len(choice.stack.frames))
        return _assemble(choice, threads)


def read_evidence(source: Path) -> tuple[Dataset, ...]:
    """Headers that stand for a study that could not be analysed: one of each of its first series.

    Returns:
        At most a few headers of images, CT first, normalised for writing, without pixels; none where the
        input cannot be read, or holds more than one patient or study.
    """
    return tuple(dataset for dataset in _representatives(source) if "Rows" in dataset)


def read_identity(source: Path) -> Dataset | None:
    """A header that says whose study an input is, for the report of a failure.

    Returns:
        One header, of a CT image where there is one, normalised for writing, without pixels; None where no
        single patient and study are known.
    """
    return next(iter(_representatives(source)), None)


def _representatives(source: Path) -> tuple[Dataset, ...]:
    """A header of each of the first series: CT images, then other images, then what is no image."""
    try:
        with quietly(), opened_input(source) as paths:
            headers = [
                header for header in map(_header_or_none, paths) if header and not is_directory(header)
            ]
            _check_one_study(headers)
            known = [header for header in headers if text(header.dataset, "StudyInstanceUID")]
            first: dict[str, Header] = {}
            for header in sorted(known, key=_strangeness):
                first.setdefault(text(header.dataset, "SeriesInstanceUID"), header)
            found = [header.dataset for header in first.values()][:EVIDENCE_IMAGES]
            for dataset in found:
                normalise(dataset)
            return tuple(found)
    except CspineError:
        return ()


def _strangeness(header: Header) -> tuple[bool, bool]:
    return why_not(header) is not None, "Rows" not in header.dataset


def _header_or_none(path: Path) -> Header | None:
    try:
        return read_header(path)
    except InputError:
        return None


def _read_headers(paths: Iterable[Path]) -> tuple[list[Header], tuple[LeftOut, ...]]:
    """All DICOM headers. One thread: parsing holds the interpreter's lock, and two were not faster."""
    headers, strays = [], 0
    for path in paths:
        header = read_header(path)
        if header is None:
            strays += 1
        else:
            headers.append(header)
    if not headers:
        raise InputError("The input holds no DICOM file; name a folder, zip file or DICOMDIR of a CT.")
    return headers, (LeftOut(strays, "files that are not DICOM"),) if strays else ()


def _check_pixels(headers: Sequence[Header]) -> None:
    images = [header for header in headers if _is_ct(header)]
    empty = [header for header in images if not _has_pixels(header)]
    if empty:
        raise InputError(
            f"{len(empty)} of {len(images)} CT images hold no pixels ('{empty[0].name}'); "
            "they are truncated, or only headers were sent."
        )


def _is_ct(header: Header) -> bool:
    return header.sop_class in (CT_IMAGE, *ENHANCED_CT)


def _has_pixels(header: Header) -> bool:
    return header.pixels_at is not None or header.is_deflated


def _check_one_study(headers: Sequence[Header]) -> None:
    # A CT image without pixels is truncated, perhaps before it says whose it is.
    images = [
        header.dataset
        for header in headers
        if not is_directory(header) and (_has_pixels(header) or not _is_ct(header))
    ]
    patients = {
        text(dataset, "PatientID") or f"{text(dataset, 'PatientName')}|{text(dataset, 'PatientBirthDate')}"
        for dataset in images
    }
    studies = {text(dataset, "StudyInstanceUID") for dataset in images}
    for what, found in (("patients", patients), ("studies", studies)):
        if len(found) > 1:
            raise InputError(f"The input holds {len(found)} {what}; give one study of one patient at a time.")


def _choose(headers: Sequence[Header], left_out: tuple[LeftOut, ...]) -> _Choice:
    """Take the best series that can be placed in space; say why each of the others was not taken."""
    chosen: tuple[Candidate, Stack] | None = None
    reasons, warnings, errors = list(left_out), [], []
    for candidate in candidates(headers):
        count = len(candidate.frames)
        if chosen is not None:
            reasons.append(LeftOut(count, f"{candidate.name}: {chosen[0].name} was preferred"))
            continue
        try:
            chosen = candidate, _place(candidate)
        except CspineError as error:
            errors.append(error)
            reasons.append(LeftOut(count, f"{candidate.name}: {error}"))
            if not isinstance(error, NoUsableSeriesError):
                warnings.append(f"{candidate.name} was not used: {error}")
    if chosen is None:
        # What is wrong with an axial CT tells more than that another series is none.
        broken = [error for error in errors if isinstance(error, InputError)]
        raise next(iter([*broken, *errors]), _nothing_usable(left_out))
    return _Choice(*chosen, tuple(reasons), tuple(warnings))


def _nothing_usable(left_out: tuple[LeftOut, ...]) -> NoUsableSeriesError:
    held = "; ".join(f"{left.count} x {left.reason}" for left in left_out)
    return NoUsableSeriesError(f"The input holds no CT series to analyse ({held}); send an axial CT.")


def _place(candidate: Candidate) -> Stack:
    """Where a series lies in space.

    Raises:
        InputError, NoUsableSeriesError: why it cannot be analysed.
    """
    headers = dict.fromkeys(frame.header for frame in candidate.frames)
    for header in headers:
        check_decodable(header)
    stack = stack_frames(candidate.frames)
    if not is_axial(stack.grid):
        raise NoUsableSeriesError("The slices are sagittal or coronal; send the axial series.")
    if candidate.thickness_mm > MAX_THICKNESS_MM + 0.01:
        raise NoUsableSeriesError(
            f"The slices are {candidate.thickness_mm:.1f} mm thick; at most {MAX_THICKNESS_MM:.0f} mm can be "
            "analysed, send a thinner reconstruction."
        )
    return stack


def _assemble(choice: _Choice, threads: int) -> CtSeries:
    stack = choice.stack
    hu = read_volume(stack.frames, stack.grid.shape, stack.shear_px, threads)
    left_out = [*choice.left_out, *_drop_duplicates(stack)]
    headers = list(dict.fromkeys(frame.header for frame in stack.frames))
    replaced = {keyword for header in headers for keyword in normalise(header.dataset)}
    uids = tuple(str(frame.header.dataset.SOPInstanceUID) for frame in stack.frames)
    return CtSeries(
        volume=Volume(stack.grid, hu, uids),
        headers=tuple(header.dataset for header in headers),
        frame_numbers=tuple(frame.index + 1 for frame in stack.frames),
        source_shape=stack.frames[0].shape,
        shear_px=stack.shear_px,
        left_out=tuple(left_out),
        warnings=(*choice.warnings, *_warnings(choice.candidate, replaced)),
    )


def _drop_duplicates(stack: Stack) -> tuple[LeftOut, ...]:
    """Check that frames at the position of another show the same, so that dropping them loses nothing."""
    for index, frame in stack.duplicates:
        kept = stack.frames[index]
        if not np.array_equal(read_plane(frame), read_plane(kept)):
            raise InputError(
                f"Two slices at one position differ ('{kept.header.name}' and '{frame.header.name}'); "
                "send one acquisition or phase at a time."
            )
    count = len(stack.duplicates)
    return (LeftOut(count, "copies of slices that were already there"),) if count else ()


def _warnings(candidate: Candidate, replaced: set[str]) -> tuple[str, ...]:
    found = []
    if candidate.thickness_mm > LIMITED_THICKNESS_MM:
        found.append(
            f"The slices are {candidate.thickness_mm:.1f} mm thick; fine fractures show in slices of up to "
            f"{LIMITED_THICKNESS_MM} mm."
        )
    if candidate.kernel is Kernel.SOFT:
        found.append("The series has a soft-tissue kernel; fractures show better with a bone kernel.")
    lossy = sorted({LOSSY[s] for frame in candidate.frames if (s := frame.header.transfer_syntax) in LOSSY})
    if lossy:
        found.append(f"The images may have been compressed with loss ({', '.join(lossy)}).")
    if replaced:
        found.append(f"The images lack valid identifiers, made up here: {', '.join(sorted(replaced))}.")
    return tuple(found)


__all__ = ["Frame", "read_ct", "read_evidence", "read_identity"]
