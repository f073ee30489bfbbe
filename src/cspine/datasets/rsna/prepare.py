"""From a third of a terabyte of CT to a few gigabytes of samples: study by study, going on after a kill.

::

    RUN/
        run.json             what the folder was made with; another run must not share it
        folds.csv            the fold of each study
        studies/UID.json     what became of each study; written last, so that what it names is complete
        localization/UID.npy, segmentation/UID.npy      samples of the spine; UID-empty.npy shows none
        crops/UID.npz        crops for the fracture classifier
        report.json          counts, and everything that was skipped, by name
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import THORACIC
from cspine.crops import CropSpec
from cspine.datasets.crop_samples import save_crops
from cspine.datasets.phantom_spines import Sample, without_cervical
from cspine.datasets.rsna.crops import Truth, labelled_crops
from cspine.datasets.rsna.folds import FILE as FOLDS
from cspine.datasets.rsna.folds import deal, read_folds, write_folds
from cspine.datasets.rsna.spines import SpineSpec, spine_sample
from cspine.datasets.rsna.study import RsnaCt, RsnaData, RsnaStudy
from cspine.datasets.rsna.teacher import Teacher, doubts
from cspine.datasets.rsna.writing import write_json, write_whole
from cspine.errors import InputError, NoUsableSeriesError, UsageError
from cspine.settings import LOCALIZATION, SEGMENTATION
from cspine.volume import SpineMask, Visibility

log = logging.getLogger(__name__)

RUN: Final = "run.json"
REPORT: Final = "report.json"
STUDIES: Final = "studies"
CROPS: Final = "crops"
FOLDER_OF: Final = {LOCALIZATION: "localization", SEGMENTATION: "segmentation"}


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


class Preparation:
    """Prepares studies, one after the other, into a folder.

    Args:
        data: the studies.
        folder: where to write; made where it is missing.
        plan: what to make.
        teacher: segments the studies without a mask.

    Raises:
        UsageError: the folder was made with another plan, other data or another teacher.
        OutputError: it cannot be written.
    """

    def __init__(self, data: RsnaData, folder: Path, plan: Plan, teacher: Teacher) -> None:
        self._data, self.folder, self._plan, self._teacher = data, folder, plan, teacher
        self._claim()
        if not (folder / FOLDS).exists():
            write_folds(deal(data.studies, plan.folds, plan.seed), folder / FOLDS)

    @property
    def fold_of(self) -> dict[str, int]:
        """The fold of each study."""
        return read_folds(self.folder / FOLDS)

    def run(self) -> tuple[Prepared, ...]:
        """Prepare every study that is not there yet; writes the report.

        Raises:
            OutputError: the disk is full; the same call goes on from there.
        """
        found = []
        for number, study in enumerate(self._data.studies, start=1):
            record = self.folder / STUDIES / f"{study.uid}.json"
            if not record.exists():
                started = time.monotonic()
                write_json(record, asdict(self._prepare(study)))
                took = time.monotonic() - started
                log.info("study %d of %d prepared in %.1f s", number, len(self._data.studies), took)
            found.append(read_record(record))
        write_json(self.folder / REPORT, self._report(found))
        return tuple(found)

    def _claim(self) -> None:
        wanted = json.loads(json.dumps(asdict(self._plan) | self._identity()))
        path = self.folder / RUN
        if not path.exists():
            write_json(path, wanted)
            return
        try:
            there = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"'{path}' cannot be read: name another folder.") from error
        changed = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        if changed:
            raise UsageError(
                f"'{self.folder}' was prepared with other settings ({', '.join(changed)}): name another "
                "folder, or give the same settings again."
            )

    def _identity(self) -> dict[str, Any]:
        studies = len(self._data.studies)
        masks = sum(study.mask is not None for study in self._data.studies)
        boxes = sum(len(study.boxes) for study in self._data.studies)
        teacher = {model.name: model.sha256 for model in self._teacher.models}
        return {"data": {"studies": studies, "masks": masks, "boxes": boxes}, "teacher": teacher}

    def _prepare(self, study: RsnaStudy) -> Prepared:
        try:
            ct = study.read()
        except (InputError, NoUsableSeriesError) as error:
            return Prepared(study.uid, Labels.NONE, str(error))
        labels, mask, doubt = self._vertebrae(ct)
        if mask is None:
            return Prepared(study.uid, Labels.NONE, doubt, (), ct.unreadable, ct.lost_boxes)
        kind = Labels.PSEUDO if ct.labels is None else Labels.MASK
        rng = np.random.default_rng([self._plan.seed, *study.uid.encode()])
        self._write_spines(study.uid, ct, labels, rng)
        truth = Truth(study.fractured, ct.boxes)
        crops = labelled_crops(ct.series.volume, mask, truth, self._plan.crop, rng)
        (self.folder / CROPS).mkdir(exist_ok=True)
        save_crops(crops, self.folder / CROPS / f"{study.uid}.npz")
        return Prepared(
            study.uid,
            kind,
            levels=tuple(str(crop.level) for crop in crops),
            unreadable=ct.unreadable,
            lost_boxes=ct.lost_boxes,
            unlocated=sum(not crop.located for crop in crops),
        )

    def _vertebrae(self, ct: RsnaCt) -> tuple[NDArray[np.uint8], SpineMask | None, str | None]:
        """Labels on the CT's grid and the cervical ones as a mask, or why there is none."""
        volume = ct.series.volume
        if ct.labels is not None:
            cervical = np.where(ct.labels < THORACIC, ct.labels, np.uint8(0))
            mask = SpineMask.from_labels(volume.grid, cervical)
            if all(found.visibility is Visibility.ABSENT for found in mask.levels):
                return ct.labels, None, "The mask shows no cervical vertebra."
            return ct.labels, mask, None
        mask = self._teacher.segment(volume)
        doubt = doubts(mask)
        if doubt is not None:
            return mask.labels, None, f"No mask, and the networks' own is not believed: {doubt}."
        return mask.labels, mask, None

    def _write_spines(
        self, uid: str, ct: RsnaCt, labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> None:
        specs = {LOCALIZATION: self._plan.localization, SEGMENTATION: self._plan.segmentation}
        for bundle, spec in specs.items():
            folder, true = self.folder / FOLDER_OF[bundle], ct.labels is not None
            sample = spine_sample(ct.series.volume, labels, spec, self._teacher, true=true)
            _save(folder / f"{uid}.npy", sample)
            if spec.empty(rng):
                low_end = bool(rng.random() < 0.5)
                _save(folder / f"{uid}-empty.npy", without_cervical(sample, rng, low_end=low_end))

    def _report(self, found: Sequence[Prepared]) -> Mapping[str, Any]:
        kinds = {str(kind): sum(study.labels is kind for study in found) for kind in Labels}
        return {
            "studies": len(found),
            "without_images": self._data.without_images,
            "excluded_as_defective": self._data.excluded,
            "by_labels": kinds,
            "unreadable_slices": sum(len(study.unreadable) for study in found),
            "boxes_without_slice": sum(study.lost_boxes for study in found),
            "fractured_levels_without_box": sum(study.unlocated for study in found),
            "skipped": {study.uid: study.reason for study in found if study.labels is Labels.NONE},
            "slices_left_out": {study.uid: list(study.unreadable) for study in found if study.unreadable},
        }


def _save(path: Path, sample: Sample) -> None:
    write_whole(path, lambda file: np.save(file, sample))


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
