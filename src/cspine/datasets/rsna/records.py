"""What defines a prepared folder, and what became of each study in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cspine.crops import CropSpec
from cspine.datasets.rsna.spines import SpineSpec
from cspine.errors import InputError


class Labels(StrEnum):
    """Where the vertebrae of a prepared study come from."""

    MASK = "mask"
    PSEUDO = "pseudo"
    NONE = "none"


@dataclass(frozen=True)
class Prepared:
    """What became of one study.

    Attributes:
        uid: Study Instance UID.
        labels: where its vertebrae come from; without any there are no samples.
        reason: why there are none; None where there are.
        levels: names of the levels that crops were cut of.
        unreadable: names of the files that were left out.
        lost_boxes: boxes around fractures in images that are not in the series.
        unlocated: fractured levels that no box shows.
    """

    uid: str
    labels: Labels
    reason: str | None = None
    levels: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    lost_boxes: int = 0
    unlocated: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything that defines a prepared folder.

    Attributes:
        localization, segmentation: samples of the two networks of the spine.
        crop: of the classifier.
        folds: how many.
        seed: of the folds and of the errors put into the crops.
    """

    localization: SpineSpec
    segmentation: SpineSpec
    crop: CropSpec
    folds: int = 5
    seed: int = 0


def read_record(path: Path) -> Prepared:
    """Read what became of a study.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        return Prepared(
            **content
            | {
                "labels": Labels(content["labels"]),
                "levels": tuple(content["levels"]),
                "unreadable": tuple(content["unreadable"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' cannot be read: remove it to have the study prepared again.") from error
