"""A case as one file, so that what is dear to make is made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cspine.anatomy import Vertebra
from cspine.errors import InputError
from cspine.evaluation.cases import Case, FractureBox, LevelTruth
from cspine.volume import Grid, SpineMask, Visibility, Volume
from cspine.whole_files import write_whole


def save_case(case: Case, path: Path) -> None:
    """Write a case, at once or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    truth = {
        "levels": {vertebra.name: asdict(level) for vertebra, level in case.levels.items()},
        "attributes": dict(case.attributes),
        "boxes": None if case.boxes is None else [_box_to_json(box) for box in case.boxes],
    }
    members: dict[str, Any] = {"hu": case.volume.hu, "affine_lps": case.volume.grid.affine_lps}
    if case.mask is not None:
        members["labels"] = case.mask.labels
    write_whole(path, lambda file: np.savez_compressed(file, truth=np.array(json.dumps(truth)), **members))


def load_case(path: Path, identifier: str) -> Case:
    """Read a case back.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(path) as file:
            hu = file["hu"]
            grid = Grid(hu.shape, file["affine_lps"])
            mask = SpineMask.from_labels(grid, file["labels"]) if "labels" in file else None
            truth = json.loads(str(file["truth"]))
        boxes = truth["boxes"]
        return Case(
            identifier=identifier,
            volume=Volume(grid, hu),
            levels={Vertebra[name]: truth_from_json(level) for name, level in truth["levels"].items()},
            mask=mask,
            boxes=None if boxes is None else tuple(_box_from_json(box) for box in boxes),
            attributes=truth["attributes"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(f"The case '{path}' cannot be read: remove the file to make it again.") from error


def truth_from_json(found: Mapping[str, Any]) -> LevelTruth:
    """The truth of a level from what `dataclasses.asdict` and JSON made of it."""
    visibility = found["visibility"]
    return LevelTruth(
        fractured=found["fractured"],
        visibility=None if visibility is None else Visibility(visibility),
        kinds=tuple(found["kinds"]),
        gap_mm=found["gap_mm"],
        detectability=found["detectability"],
        confounders=tuple(found["confounders"]),
    )


def _box_to_json(box: FractureBox) -> dict[str, Any]:
    return {
        "box_lps_mm": np.asarray(box.box_lps_mm).tolist(),
        "level": None if box.level is None else box.level.name,
    }


def _box_from_json(found: Mapping[str, Any]) -> FractureBox:
    level = found["level"]
    return FractureBox(np.array(found["box_lps_mm"], np.float64), None if level is None else Vertebra[level])
