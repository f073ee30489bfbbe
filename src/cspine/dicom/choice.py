"""Which images of a study are CT of the patient, and which series of them is best to look for fractures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from cspine.dicom.enhanced import enhanced_frames, value_types
from cspine.dicom.files import is_directory
from cspine.dicom.frames import Frame, single_frame
from cspine.dicom.geometry import SAME_MM
from cspine.dicom.headers import Header, integer, text, texts
from cspine.dicom.series import LeftOut
from cspine.settings import LIMITED_THICKNESS_MM
from cspine.volume import FloatArray, Grid

CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT: Final = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT Image Storage and Legacy Converted Enhanced CT Image Storage."""
REFORMATTED: Final = frozenset(
    {
        "MPR",
        "MIP",
        "MINIP",
        "VRT",
        "SSD",
        "3D",
        "REFORMATTED",
        "PROJECTION",
        "CURVED",
        "AVERAGE",
        "SUBTRACTION",
    }
)
"""Image Type values (PS3.3 C.8.2.1.1.1 and vendors' own) of images computed from others."""
PARAMETRIC: Final = frozenset(
    {"PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "TMAX", "Z_EFF", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY"}
)
"""Image Type values of maps whose pixels are not Hounsfield units."""
HOUNSFIELD: Final = frozenset({"HU", "US", ""})
"""Rescale Types of CT: Hounsfield units, or 'unspecified' (PS3.3 C.11.1.1.2)."""

AXIAL_COSINE: Final = 0.70
"""Cosine of 45 degrees: slices inclined by less against the patient's axis are axial or tilted."""
THICK_MM: Final = 3.0
"""Slices thicker than this are taken only where nothing thinner is there, whatever their names promise."""
SHORT_MM: Final = 60.0
"""A shorter stack cannot show the cervical spine (C1 to C7 take 90 mm or more)."""

_NECK: Final = re.compile(r"neck|c[ -]?spine|cerv|\bhws\b|\bcs\b|hals", re.IGNORECASE)
_ELSEWHERE: Final = re.compile(
    r"head|brain|skull|sinus|chest|thora|lung|abd|pelv|lumb|\bl[ -]?spine|\bt[ -]?spine|knee|hip|foot|hand",
    re.IGNORECASE,
)
_BONE_KERNEL: Final = re.compile(
    # GE; Philips; Toshiba/Canon FC30-39 and FC80-89; Siemens from 55 on (B60s, H70h, Br64d, Hr59).
    r"bone|edge|sharp|^(d|e|l|y[a-d])$|^fc(3|8)\d|^[a-z]{1,2}(5[5-9]|[6-9]\d)",
    re.IGNORECASE,
)


class Kernel(IntEnum):
    """What a series was reconstructed for; smaller is better for fractures."""

    BONE = 0
    UNKNOWN = 1
    SOFT = 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """The frames of one series, or of one acquisition in it (then with its number)."""

    frames: tuple[Frame, ...]
    acquisition: int | None = None

    @property
    def name(self) -> str:
        """What to call it: the Series Number, which tells nothing about the patient."""
        number = integer(self.frames[0].header.dataset, "SeriesNumber")
        series = "A series without number" if number is None else f"Series {number}"
        return series if self.acquisition is None else f"{series}, acquisition {self.acquisition}"

    @property
    def kernel(self) -> Kernel:
        """What it was reconstructed for, by Convolution Kernel, else by its description."""
        header = self.frames[0].header
        kernel = text(header.dataset, "ConvolutionKernel")
        if not kernel:
            named_bone = "bone" in text(header.dataset, "SeriesDescription").lower()
            return Kernel.BONE if named_bone else Kernel.UNKNOWN
        return Kernel.BONE if _BONE_KERNEL.search(kernel) else Kernel.SOFT

    @cached_property
    def thickness_mm(self) -> float:
        """The larger of the nominal thickness and the usual distance of the slices."""
        nominal = max((frame.thickness_mm or 0.0 for frame in self.frames), default=0.0)
        steps = np.diff(np.unique(self.heights_mm))
        steps = steps[steps > SAME_MM]
        return max(nominal, float(np.median(steps)) if len(steps) else 0.0)

    @cached_property
    def heights_mm(self) -> FloatArray:
        """Positions along the normal; empty where they are not known."""
        first = self.frames[0]
        if first.orientation is None or any(frame.position_lps_mm is None for frame in self.frames):
            return np.zeros(0)
        normal = np.cross(first.orientation[:3], first.orientation[3:])
        places = np.array([frame.position_lps_mm for frame in self.frames], np.float64)
        return np.asarray(places @ normal)

    def rank(self) -> tuple[float | str, ...]:
        """Sort key: the best series first.

        Long enough and not thick; then what description and Body Part Examined say (only hints: they lie);
        then thin before limited, bone before soft, thin before thick, long before short.
        """
        heights, thickness = self.heights_mm, self.thickness_mm
        extent = float(np.ptp(heights)) if len(heights) else 0.0
        dataset = self.frames[0].header.dataset
        return (
            extent < SHORT_MM,
            thickness > THICK_MM,
            self._region(),
            thickness > LIMITED_THICKNESS_MM,
            self.kernel,
            round(thickness, 2),
            -round(extent, 1),
            -len(self.frames),
            integer(dataset, "SeriesNumber") or 0,
            text(dataset, "SeriesInstanceUID"),
            self.frames[0].acquisition or 0,
        )

    def _region(self) -> int:
        dataset = self.frames[0].header.dataset
        hints = " ".join(
            text(dataset, keyword) for keyword in ("BodyPartExamined", "SeriesDescription", "ProtocolName")
        )
        if _NECK.search(hints):
            return 0
        return 2 if _ELSEWHERE.search(hints) else 1


def sift(headers: Iterable[Header]) -> tuple[tuple[Header, ...], tuple[LeftOut, ...]]:
    """Keep the CT images of the patient, and say what the others are."""
    usable, reasons = [], Counter[str]()
    for header in headers:
        reason = why_not(header)
        if reason is None:
            usable.append(header)
        else:
            reasons[reason] += 1
    return tuple(usable), tuple(LeftOut(count, reason) for reason, count in reasons.items())


def why_not(header: Header) -> str | None:
    """Why an image is not analysed; None for a CT image of the patient."""
    dataset = header.dataset
    if is_directory(header):
        return "DICOMDIR, not an image"
    modality = text(dataset, "Modality")
    # De-identified images, as those of RSNA 2022, may lack it: then the SOP class tells.
    if modality not in ("CT", ""):
        return f"modality {modality if re.fullmatch('[A-Z]{2,8}', modality) else 'unknown'}, not CT"
    if header.sop_class != CT_IMAGE and header.sop_class not in ENHANCED_CT:
        return "secondary captures or other objects, not CT images"
    kinds = {part for value in texts(dataset, "ImageType") for part in re.split(r"[ _]", value.upper())}
    kinds |= {value.upper() for value in texts(dataset, "ImageType")}
    if "LOCALIZER" in kinds:
        return "localizer (scout) images"
    if integer(dataset, "SamplesPerPixel") not in (1, None) or not _is_monochrome(header):
        return "colour images, not CT values"
    if kinds & PARAMETRIC:
        return "parametric maps such as perfusion, not Hounsfield units"
    if texts(dataset, "ImageType")[:2] == ("DERIVED", "SECONDARY") or kinds & REFORMATTED:
        return "derived images (reformats, projections or summaries), not original slices"
    if not _rescale_types(header) <= HOUNSFIELD:
        return "values that are not Hounsfield units"
    return None


def _is_monochrome(header: Header) -> bool:
    photometric = text(header.dataset, "PhotometricInterpretation")
    return not photometric or photometric.startswith("MONOCHROME")


def _rescale_types(header: Header) -> frozenset[str]:
    if header.sop_class in ENHANCED_CT:
        return value_types(header)
    return frozenset({text(header.dataset, "RescaleType")})


def candidates(headers: Sequence[Header]) -> tuple[Candidate, ...]:
    """Group CT images into series, and series of several overlapping acquisitions into those.

    Raises:
        InputError: a multi-frame image contradicts itself.
    """
    found: list[Candidate] = []
    series: dict[str, list[Frame]] = {}
    for header in headers:
        if header.sop_class in ENHANCED_CT:
            found += _acquisitions(enhanced_frames(header))
        else:
            series.setdefault(text(header.dataset, "SeriesInstanceUID"), []).append(single_frame(header))
    for frames in series.values():
        found += _acquisitions(tuple(frames))
    return tuple(sorted(found, key=Candidate.rank))


def _acquisitions(frames: tuple[Frame, ...]) -> list[Candidate]:
    """Split a series where its acquisitions cover the same part of the patient.

    Scanners that step along the patient count each step as an acquisition: those stay together.
    """
    groups: dict[int | None, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.acquisition, []).append(frame)
    parts = [Candidate(tuple(group), acquisition) for acquisition, group in groups.items()]
    spans = sorted((h.min(), h.max()) for part in parts if len(h := part.heights_mm))
    overlap = any(after[0] < before[1] - SAME_MM for before, after in pairwise(spans))
    return parts if overlap and len(spans) == len(parts) else [Candidate(frames)]


def is_axial(grid: Grid) -> bool:
    """Whether the slices are axial or tilted, rather than sagittal or coronal."""
    return abs(float(grid.affine_lps[2, 0])) >= AXIAL_COSINE * grid.spacing_mm[0]
