"""What came of one case: everything that metrics are made of, kept as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cspine.anatomy import Vertebra
from cspine.errors import InputError
from cspine.evaluation.boxes import Mark, SliceBoxes
from cspine.evaluation.case_files import truth_from_json
from cspine.evaluation.cases import LevelTruth
from cspine.evaluation.masks import MaskScore
from cspine.findings import Decision
from cspine.volume import Visibility
from cspine.whole_files import write_text


@dataclass(frozen=True)
class LevelResult:
    """One level: the truth, and what the method says.

    Attributes:
        level: which vertebra.
        truth: None where it is not known.
        visibility: as the method sees it.
        probability: of a fracture; None where it was not scored.
        decisions: by name of the operating point.
        mask: None without a true mask, or where the scan does not show the level as a whole.
        key_slice_shows: whether the key slice passes through a fracture of this level; None without one, or
            where the method names no slice.
    """

    level: Vertebra
    truth: LevelTruth | None
    visibility: Visibility
    probability: float | None
    decisions: Mapping[str, Decision]
    mask: MaskScore | None = None
    key_slice_shows: bool | None = None


@dataclass(frozen=True, eq=False)
class Boxes:
    """Vertebra boxes of one study, found and true."""

    found: SliceBoxes
    truth: SliceBoxes


@dataclass(frozen=True)
class Marks:
    """Marks on fractures of one study, and how many fractures there are."""

    marks: tuple[Mark, ...]
    fractures: int


@dataclass(frozen=True, eq=False)
class CaseResult:
    """One case.

    Attributes:
        identifier: of the case.
        failure: the sentence of what stopped it; None where it was analysed.
        levels: C1..C7; empty where the case could not even be read, so that its truth is not known.
        overall: probability of any fracture; None where there is none.
        decisions: on the study, by name of the operating point.
        attributes: of the case.
        boxes, marks: None where the case has no true mask, or no true boxes.
        seconds: by step.
    """

    identifier: str
    failure: str | None
    levels: tuple[LevelResult, ...] = ()
    overall: float | None = None
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    boxes: Boxes | None = None
    marks: Marks | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def fractured(self) -> bool | None:
        """Whether any level is known to be; None where no truth is known."""
        known = [level.truth.fractured for level in self.levels if level.truth is not None]
        return any(known) if known else None

    @property
    def has_mask(self) -> bool:
        """Whether the vertebrae were drawn."""
        return any(level.mask is not None for level in self.levels)

    @property
    def full_view(self) -> bool:
        """Whether all seven vertebrae were drawn, each seen as a whole."""
        return bool(self.levels) and all(level.mask is not None for level in self.levels)


def save_result(result: CaseResult, path: Path) -> None:
    """Write a result, at once or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(json.dumps(_plain(asdict(result)), indent=None, allow_nan=False), path)


def load_result(path: Path) -> CaseResult:
    """Read a result back.

    Raises:
        InputError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        return CaseResult(
            **{
                **found,
                "levels": tuple(_level(entry) for entry in found["levels"]),
                "decisions": _decisions(found["decisions"]),
                "boxes": _boxes(found["boxes"]),
                "marks": _marks(found["marks"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The result '{path}' cannot be read: remove it to measure the case again."
        ) from error


def _plain(value: Any) -> Any:
    """What `json` writes: arrays as lists, levels by name."""
    if isinstance(value, Vertebra):
        return value.name
    if isinstance(value, np.ndarray):
        return np.round(value, 4).tolist()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _level(found: Mapping[str, Any]) -> LevelResult:
    truth, mask = found["truth"], found["mask"]
    return LevelResult(
        level=Vertebra[found["level"]],
        truth=None if truth is None else truth_from_json(truth),
        visibility=Visibility(found["visibility"]),
        probability=found["probability"],
        decisions=_decisions(found["decisions"]),
        mask=None if mask is None else MaskScore(**mask),
        key_slice_shows=found["key_slice_shows"],
    )


def _decisions(found: Mapping[str, str]) -> dict[str, Decision]:
    return {name: Decision(value) for name, value in found.items()}


def _boxes(found: Mapping[str, Any] | None) -> Boxes | None:
    if found is None:
        return None
    both = [
        SliceBoxes(
            np.array(found[name]["places"], np.int64).reshape(-1, 2),
            np.array(found[name]["corners"], np.float64).reshape(-1, 4),
            np.array(found[name]["scores"], np.float64),
        )
        for name in ("found", "truth")
    ]
    return Boxes(*both)


def _marks(found: Mapping[str, Any] | None) -> Marks | None:
    if found is None:
        return None
    return Marks(tuple(Mark(**mark) for mark in found["marks"]), found["fractures"])
