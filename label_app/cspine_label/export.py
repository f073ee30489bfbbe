"""What people said of fractures, written as the fracture classifier's training reads it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cspine.crops import VertebraCrop
from cspine.datasets.crop_samples import save_crops
from cspine.errors import OutputError
from cspine_label.cases import FINAL
from cspine_label.fractures import Annotations
from cspine_label.job import is_validation
from cspine_label.samples import fracture_samples

if TYPE_CHECKING:
    from cspine_label.desk import Desk

log = logging.getLogger(__name__)


def export(desk: Desk, folder: Path) -> int:
    """Write one file for each case with a level that was called present or absent.

    They go into FOLDER/training and, one case in five, FOLDER/calibration: ``cspine train BUNDLE --data
    crops:FOLDER`` takes them.

    Returns:
        How many were written.

    Raises:
        OutputError: the folder cannot be written.
        InputError: an image or label cannot be read.
    """
    places = {False: folder / "training", True: folder / "calibration"}
    try:
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder '{folder}' cannot be made; name another one.") from error
    written = 0
    for case in desk.labelled():
        record = desk.labels.record(case, FINAL)
        if record is None or not record.fractures:
            continue
        image = desk.images.read(case)
        crops = desk.inference.crops(image, desk.final_mask(image))
        written += save_case(crops, record.annotations, places[is_validation(case)], case)
    return written


def save_case(crops: Sequence[VertebraCrop], said: Annotations, folder: Path, case_id: str) -> bool:
    """Write the levels of a case that were called present or absent; whether there are any.

    Raises:
        OutputError: the file cannot be written.
    """
    samples = fracture_samples(crops, said)
    if samples:
        save_crops(samples, folder / f"case-{_number(case_id)}.npz")
    return bool(samples)


def _number(case_id: str) -> str:
    """Eight digits that stand for a case: files are named without saying whose they are."""
    return f"{int(hashlib.sha256(case_id.encode()).hexdigest()[:12], 16) % 10**8:08d}"
