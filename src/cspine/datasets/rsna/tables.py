"""The two tables of RSNA 2022: which vertebrae are broken, and boxes around fractures in some slices."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import InputError

LABELS: Final = "train.csv"
BOXES: Final = "train_bounding_boxes.csv"
STUDY: Final = "StudyInstanceUID"
OVERALL: Final = "patient_overall"
LABEL_COLUMNS: Final = (STUDY, OVERALL, *(str(vertebra) for vertebra in CERVICAL))
BOX_COLUMNS: Final = (STUDY, "x", "y", "width", "height", "slice_number")


@dataclass(frozen=True)
class SliceBox:
    """A box around a fracture in one image, as the table has it.

    Attributes:
        slice_number: the image is the study's file ``<slice_number>.dcm``.
        x, y: left and upper edge, pixels from the outer corner of the image's first pixel.
        width, height: pixels.
    """

    slice_number: int
    x: float
    y: float
    width: float
    height: float


def read_labels(path: Path) -> dict[str, Mapping[Vertebra, bool]]:
    """Read ``train.csv``: the fractured levels of each study, by Study Instance UID.

    Raises:
        InputError: the table cannot be read, lacks a column, names a study twice, holds something else than
            0 and 1, or says of the patient as a whole what its levels do not.
    """
    found: dict[str, Mapping[Vertebra, bool]] = {}
    for line, row in _rows(path, LABEL_COLUMNS):
        if row[STUDY] in found:
            raise InputError(f"{path.name}, line {line}: the study stands there twice; download it again.")
        if not {row[name] for name in LABEL_COLUMNS[1:]} <= {"0", "1"}:
            raise InputError(f"{path.name}, line {line}: the labels are not 0 or 1; download it again.")
        levels = {vertebra: row[str(vertebra)] == "1" for vertebra in CERVICAL}
        if any(levels.values()) != (row[OVERALL] == "1"):
            raise InputError(f"{path.name}, line {line}: {OVERALL} contradicts C1..C7; download it again.")
        found[row[STUDY]] = levels
    if not found:
        raise InputError(f"{path.name} holds no study; download it again.")
    return found


def read_boxes(path: Path) -> dict[str, tuple[SliceBox, ...]]:
    """Read ``train_bounding_boxes.csv``: the boxes of each study that has any, by Study Instance UID.

    Raises:
        InputError: the table cannot be read, lacks a column, or holds something else than numbers.
    """
    found: dict[str, list[SliceBox]] = {}
    for line, row in _rows(path, BOX_COLUMNS):
        try:
            x, y, width, height = (float(row[name]) for name in BOX_COLUMNS[1:5])
            box = SliceBox(int(row["slice_number"]), x, y, width, height)
        except ValueError:
            raise InputError(f"{path.name}, line {line}: not all are numbers; download it again.") from None
        if not (width > 0 and height > 0):
            raise InputError(f"{path.name}, line {line}: the box is empty; download it again.")
        found.setdefault(row[STUDY], []).append(box)
    return {study: tuple(boxes) for study, boxes in found.items()}


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a table, with their numbers in the file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path.name} has no column '{missing[0]}' ({len(missing)} of {len(columns)} are "
                    "missing); use the table of RSNA 2022 as it was downloaded."
                )
            for row in reader:
                yield reader.line_num, {name: (row[name] or "").strip() for name in columns}
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read ({error.strerror}); name the folder that holds it beside "
            "train_images, as downloaded."
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path.name} is not a CSV table; download it again.") from None
