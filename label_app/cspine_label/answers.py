"""What `/infer` answers: a file and JSON, for 3D Slicer and OHIF alike."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cspine.findings import StudyFindings
from cspine.settings import CLASSIFICATION, SEGMENTATION
from cspine.volume import SpineMask, Visibility
from cspine_label.cases import ORIGINAL
from cspine_label.desk import MODELS, Desk, described
from cspine_label.errors import RefusedLabelError, UnknownNameError
from cspine_label.images import NIFTI, NRRD, write_image
from cspine_label.labels import LabelRecord
from cspine_label.levels import LABELS, color_of

TYPES: Final = ("uint8", "uint16", "int16")


@dataclass(frozen=True)
class Wish:
    """How a client wants the label map.

    Attributes:
        extension: ".nii.gz", ".nii" or ".nrrd" (`result_extension`).
        dtype: "uint8", "uint16" or "int16" (`result_dtype`).
        compress: of NRRD (`result_compress`).
    """

    extension: str = ".nii.gz"
    dtype: str = "uint8"
    compress: bool = True

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Wish:
        """From the parameters of a request.

        Raises:
            RefusedLabelError: a file or number type that is not written.
        """
        extension = str(params.get("result_extension") or cls.extension)
        dtype = str(params.get("result_dtype") or cls.dtype)
        if extension not in (*NIFTI, *NRRD):
            raise RefusedLabelError(f"'{extension}' files are not written; ask for .nii.gz, .nii or .nrrd.")
        if dtype not in TYPES:
            raise RefusedLabelError(f"Labels of type '{dtype}' are not written; ask for {', '.join(TYPES)}.")
        return cls(extension, dtype, str(params.get("result_compress", True)).lower() not in ("false", "0"))


@dataclass(frozen=True)
class Answer:
    """A result.

    Attributes:
        file: label map, to be removed by who takes it.
        params: JSON.
    """

    file: Path
    params: dict[str, Any]


def check_model(model: str) -> None:
    """Refuse a model that annotators cannot run.

    Raises:
        UnknownNameError: it is none.
    """
    if model not in MODELS:
        raise UnknownNameError(f"There is no model '{model}'; choose {' or '.join(MODELS)}.")


def answer(desk: Desk, model: str, case_id: str, wish: Wish, who: str) -> Answer:
    """Run a model on a case.

    Raises:
        UnknownNameError: an unknown model or case.
        CspineError: the image cannot be analysed, and why.
    """
    check_model(model)
    return (
        _vertebrae(desk, case_id, wish, who)
        if model == SEGMENTATION
        else _fractures(desk, case_id, wish, who)
    )


def _vertebrae(desk: Desk, case_id: str, wish: Wish, who: str) -> Answer:
    _, mask = desk.segment(case_id, who)
    # What was proposed stays beside the final label, so that the two can be compared.
    desk.labels.save(mask, LabelRecord(case_id, ORIGINAL, 0.0, "network", _names(mask), SEGMENTATION))
    told = {**label_names(mask), "levels": described(mask), "model": SEGMENTATION}
    return Answer(_file(mask, wish), told)


def _file(mask: SpineMask, wish: Wish) -> Path:
    path = Path(tempfile.mkdtemp(prefix="cspine-label-")) / f"label{wish.extension}"
    write_image(mask.labels.astype(np.dtype(wish.dtype)), mask.grid, path, compress=wish.compress)
    return path


def label_names(mask: SpineMask) -> dict[str, Any]:
    """Names and colours of the levels in a mask, for viewers that number segments by their order."""
    names = {name: LABELS[name] for name in _names(mask)}
    colors = {str(found.level): color_of(found.level) for found in mask.levels if str(found.level) in names}
    return {"label_names": names, "colors": colors}


def _names(mask: SpineMask) -> tuple[str, ...]:
    return tuple(str(found.level) for found in mask.levels if found.visibility is not Visibility.ABSENT)


def _fractures(desk: Desk, case_id: str, wish: Wish, who: str) -> Answer:
    image = desk.images.read(case_id)
    desk.leases.renew(case_id, who)
    final = desk.final_mask(image) if case_id in desk.labelled() else None
    findings, mask = desk.inference.find_fractures(image, final)
    # MONAI Label's client understands JSON only beside a file: the mask that was judged.
    return Answer(_file(mask, wish), {**_told(findings), **label_names(mask), "model": CLASSIFICATION})


def _told(findings: StudyFindings) -> dict[str, Any]:
    levels = {
        str(found.level): {
            "decision": str(found.decision),
            "probability": found.probability,
            "reason": found.reason,
            "box_lps_mm": found.box_lps_mm,
            "center_lps_mm": found.center_lps_mm,
        }
        for found in findings.levels
    }
    overall = {"decision": str(findings.overall.decision), "probability": findings.overall.probability}
    return {"overall": overall, "fractures": levels, "failure": findings.failure}
