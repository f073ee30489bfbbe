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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from cspine.datasets.rsna.folds import FILE as FOLDS
from cspine.datasets.rsna.folds import deal, read_folds, write_folds
from cspine.datasets.rsna.records import Labels, Plan, Prepared, read_record
from cspine.datasets.rsna.study import RsnaData, RsnaStudy
from cspine.datasets.rsna.study_samples import StudySamples
from cspine.datasets.rsna.teacher import Teacher
from cspine.errors import CspineError, InputError, UsageError
from cspine.settings import THREADS
from cspine.whole_files import write_json

log = logging.getLogger(__name__)

RUN: Final = "run.json"
REPORT: Final = "report.json"
STUDIES: Final = "studies"


class Preparation:
    """Prepares studies into a folder.

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

    def run(self, workers: int = 1) -> tuple[Prepared, ...]:
        """Prepare every study that is not there yet; writes the report.

        Args:
            workers: processes that share the studies; each needs about 2 GB of memory.

        Raises:
            OutputError: the disk is full; the same call goes on from there.
            CspineError: a worker was killed.
        """
        started, left = time.monotonic(), [s for s in self._data.studies if not self._record(s).exists()]
        for done, study in enumerate(self._prepare(left, workers), start=1):
            write_json(self.folder / STUDIES / f"{study.uid}.json", asdict(study))
            took = (time.monotonic() - started) / done
            log.info("study %d of %d prepared, %.1f s each", done, len(left), took)
        found = tuple(read_record(self._record(study)) for study in self._data.studies)
        write_json(self.folder / REPORT, self._report(found))
        return found

    def _prepare(self, studies: Sequence[RsnaStudy], workers: int) -> Iterator[Prepared]:
        """Write the samples of the studies; what became of each comes as soon as they are there."""
        if workers <= 1 or len(studies) < 2:
            alone = StudySamples(self.folder, self._plan, self._teacher, THREADS)
            yield from map(alone.prepare, studies)
            return
        start = (self.folder, self._plan, self._teacher.root, self._teacher.device)
        with ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=_start_worker, initargs=start
        ) as pool:
            try:
                yield from pool.map(_work, studies)
            except BrokenProcessPool as error:
                raise CspineError(
                    "A process that makes samples was killed, perhaps for want of memory: start again with "
                    "fewer --workers."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)

    def _record(self, study: RsnaStudy) -> Path:
        return self.folder / STUDIES / f"{study.uid}.json"

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


_WORKER: list[StudySamples] = []
"""Of a worker process: its own, with networks of its own."""


def _start_worker(folder: Path, plan: Plan, models: Path, device: str) -> None:
    import torch

    torch.set_num_threads(1)
    _WORKER.append(StudySamples(folder, plan, Teacher(models, device), threads=1))


def _work(study: RsnaStudy) -> Prepared:
    return _WORKER[0].prepare(study)
