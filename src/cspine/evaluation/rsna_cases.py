"""Studies of RSNA 2022 as cases: patients, read from DICOM as the product reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from cspine.anatomy import CERVICAL, THORACIC
from cspine.datasets.rsna.boxes import VoxelBox
from cspine.datasets.rsna.study import RsnaCt, RsnaData, RsnaStudy
from cspine.errors import InputError, UsageError
from cspine.evaluation.cases import Case, FractureBox, LevelTruth
from cspine.settings import LIMITED_THICKNESS_MM
from cspine.volume import FloatArray, Grid, SpineMask

HELD_OUT: Final = "held-out.json"
"""In a fold's folder: where the data are and which studies were held out."""


@dataclass(frozen=True)
class RsnaCases:
    """Some studies of RSNA 2022.

    Attributes:
        data: the data set.
        uids: of the studies to measure.
        name: of the set.
    """

    data: RsnaData
    uids: Sequence[str]
    name: str

    @property
    def description(self) -> str:
        """For the report."""
        return (
            f"{len(self.uids)} studies of patients of the RSNA 2022 training set, held out from this "
            "training; labels by radiologists. Where no mask was drawn, every level counts as in view."
        )

    @property
    def synthetic(self) -> bool:
        """These are patients."""
        return False

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes these cases what they are."""
        return {"source": "rsna2022", "sha256": hashlib.sha256("|".join(self.uids).encode()).hexdigest()}

    def identifiers(self) -> Sequence[str]:
        """The Study Instance UIDs, which the contest made up."""
        return list(self.uids)

    def load(self, identifier: str) -> Case:
        """Read one study.

        Raises:
            InputError, NoUsableSeriesError: why it cannot be read.
        """
        study = self._studies[identifier]
        ct = study.read()
        return Case(
            identifier,
            ct.series.volume,
            _levels(study, mask := _mask(ct)),
            mask,
            _boxes(study, ct),
            _attributes(study, ct),
        )

    @cached_property
    def _studies(self) -> Mapping[str, RsnaStudy]:
        return {study.uid: study for study in self.data.studies}


def rsna_set(folder: Path) -> RsnaCases:
    """The studies that were held out from one fold of a run of ``cspine rsna``.

    Args:
        folder: of the fold.

    Raises:
        UsageError: it is no such folder.
        InputError: the data are not where they were, or studies are missing.
    """
    try:
        content = json.loads((folder / HELD_OUT).read_text("utf-8"))
        root, uids = Path(content["data"]), tuple(content["studies"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"'{folder}' is no fold of a run of cspine rsna: name one, as RUN/fold-0."
        ) from error
    data = RsnaData.open(root)
    missing = set(uids) - {study.uid for study in data.studies}
    if missing:
        raise InputError(f"{len(missing)} of the fold's {len(uids)} studies are not in '{root}' any more.")
    return RsnaCases(data, uids, f"rsna-{folder.resolve().name}")


def _mask(ct: RsnaCt) -> SpineMask | None:
    if ct.labels is None:
        return None
    cervical = np.where(ct.labels < THORACIC, ct.labels, np.uint8(0))
    return SpineMask.from_labels(ct.series.volume.grid, cervical)


def _levels(study: RsnaStudy, mask: SpineMask | None) -> dict[Any, LevelTruth]:
    return {
        vertebra: LevelTruth(
            study.fractured[vertebra], None if mask is None else mask.level(vertebra).visibility
        )
        for vertebra in CERVICAL
    }


def _boxes(study: RsnaStudy, ct: RsnaCt) -> tuple[FractureBox, ...] | None:
    """One box a fracture, as far as slices tell; None where a fractured study has no boxes."""
    if study.any_fractured and not ct.boxes:
        return None
    broken = [vertebra for vertebra in CERVICAL if study.fractured[vertebra]]
    level = broken[0] if len(broken) == 1 else None
    return tuple(FractureBox(box, level) for box in fracture_boxes(ct.boxes, ct.series.volume.grid))


def fracture_boxes(boxes: Sequence[VoxelBox], grid: Grid) -> tuple[FloatArray, ...]:
    """Join boxes that touch in neighbouring slices: (2, 3) LPS corners of each fracture."""
    groups: list[list[VoxelBox]] = []
    for box in sorted(boxes, key=lambda box: box.slice):
        touched = [group for group in groups if any(_touch(box, other) for other in group)]
        groups = [group for group in groups if group not in touched]
        groups.append([box, *(other for group in touched for other in group)])
    found = []
    for group in groups:
        corners = np.stack([box.box_lps_mm(grid) for box in group])
        found.append(np.stack([corners[:, 0].min(0), corners[:, 1].max(0)]))
    return tuple(found)


def _touch(one: VoxelBox, other: VoxelBox) -> bool:
    near = abs(one.slice - other.slice) <= 1
    rows = one.rows[0] < other.rows[1] and other.rows[0] < one.rows[1]
    columns = one.columns[0] < other.columns[1] and other.columns[0] < one.columns[1]
    return near and rows and columns


def _attributes(study: RsnaStudy, ct: RsnaCt) -> dict[str, str]:
    thin = ct.series.volume.grid.spacing_mm[0] <= LIMITED_THICKNESS_MM
    return {
        "slice distance": f"{'up to' if thin else 'over'} {LIMITED_THICKNESS_MM:g} mm",
        "mask": "drawn" if ct.labels is not None else "none",
        "fractured levels": str(min(3, sum(study.fractured.values()))),
    }
