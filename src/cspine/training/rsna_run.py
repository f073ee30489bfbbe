"""A run on RSNA 2022 from end to end: samples, folds, training, evaluation; each goes on where it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspine.datasets.rsna.folds import split
from cspine.datasets.rsna.prepare import REPORT, Preparation
from cspine.datasets.rsna.records import Prepared
from cspine.datasets.rsna.study import RsnaData
from cspine.datasets.rsna.teacher import Teacher
from cspine.evaluation.command import (
    METRICS,
    Evaluation,
    build_metrics,
    evaluate,
    summary_lines,
    write_metrics,
)
from cspine.evaluation.result import load_result
from cspine.evaluation.rsna_cases import HELD_OUT, RsnaCases
from cspine.findings import ModelVersion
from cspine.training.rsna import Fold, Profile, link_samples, make_bundles, train_fold
from cspine.whole_files import write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What defines a run beside its data.

    Attributes:
        models: bundles to start from; they label the studies without a mask.
        profile: "compact" or "full".
        folds: how many.
        seed: of the folds and of the errors put into the crops.
        device: where to compute.
    """

    models: Path
    profile: str = "compact"
    folds: int = 5
    seed: int = 0
    device: str = "auto"

    @property
    def wanted(self) -> Profile:
        """The bundles that are trained."""
        return Profile(self.models, self.profile)


@dataclass(frozen=True)
class RsnaRun:
    """A run whose samples are there.

    Attributes:
        data: the downloaded folder.
        output: folder of the run.
        settings: what defines it.
        studies: what became of each study.
        fold_of: the fold of each study.
    """

    data: Path
    output: Path
    settings: Settings
    studies: tuple[Prepared, ...]
    fold_of: Mapping[str, int]

    @classmethod
    def prepare(cls, data: Path, output: Path, settings: Settings, workers: int = 1) -> RsnaRun:
        """Make the samples that are not there yet.

        Args:
            data: the downloaded folder.
            output: folder of the run.
            settings: what defines it.
            workers: processes that share the studies.

        Raises:
            InputError: the data cannot be used.
            UsageError: the folder holds another run.
            ModelError: a bundle is missing or damaged.
            OutputError: the disk is full.
        """
        opened = RsnaData.open(data)
        plan = settings.wanted.plan(folds=settings.folds, seed=settings.seed)
        teacher = Teacher(settings.models, settings.device)
        preparation = Preparation(opened, output, plan, teacher)
        return cls(data, output, settings, preparation.run(workers), preparation.fold_of)

    def summary(self) -> list[str]:
        """What was made, for the terminal."""
        report = json.loads((self.output / REPORT).read_text("utf-8"))
        kinds = report["by_labels"]
        return [
            f"{report['studies']} studies: {kinds['mask']} with masks, {kinds['pseudo']} with pseudo-labels, "
            f"{kinds['none']} skipped; {report['unreadable_slices']} unreadable slices left out",
            str(self.output / REPORT),
        ]

    def fold(self, number: int, training: Mapping[str, Any]) -> list[str]:
        """Train one fold and measure it on its held-out studies; gives the results for the terminal.

        Args:
            number: of the fold.
            training: settings of the train configs ("steps", "minutes", "device", "tensorboard", "seed").

        Raises:
            CspineError: as training and evaluation do.
        """
        fold = self._fold(number)
        make_bundles(self.settings.wanted, fold)
        link_samples(fold, self.studies)
        train_fold(self.settings.wanted, fold, training)
        held_out = {"data": str(self.data.resolve()), "studies": list(fold.split.test)}
        write_json(fold.folder / HELD_OUT, held_out)
        return _evaluate(fold, self.settings.device)

    def pool(self) -> list[str]:
        """Measure all studies of the folds that are done together, each by the fold that never saw it.

        Raises:
            InputError: the result of a study cannot be read.
            OutputError: the metrics cannot be written.
        """
        done = [fold for n in range(self.settings.folds) if (fold := self._fold(n)).metrics.exists()]
        uids = [uid for fold in done for uid in fold.split.test]
        results = [load_result(fold.result(uid)) for fold in done for uid in fold.split.test]
        told = {fold.number: json.loads(fold.metrics.read_text("utf-8")) for fold in done}
        models = [
            ModelVersion(f"{model['name']}, fold {number}", model["version"], model["sha256"])
            for number, metrics in told.items()
            for model in metrics["models"]
        ]
        folder = self.output / "evaluation"
        how = Evaluation(self.settings.models, "", folder, device=self.settings.device, command="cspine rsna")
        cases = RsnaCases(RsnaData.open(self.data), uids, f"rsna-{len(done)}-of-{self.settings.folds}-folds")
        default = next(iter(told.values()))["default_operating_point"]
        metrics = build_metrics(how, [(cases, results)], models, {}, default=default)
        folder.mkdir(exist_ok=True)
        write_metrics(metrics, folder)
        return [*summary_lines(metrics), str(folder / METRICS)]

    def _fold(self, number: int) -> Fold:
        return Fold(self.output, number, split(self.fold_of, number))


def _evaluate(fold: Fold, device: str) -> list[str]:
    log.info("fold %d: measuring %d studies", fold.number, len(fold.split.test))
    data, command = f"rsna:{fold.folder}", f"cspine rsna, fold {fold.number}"
    metrics = evaluate(Evaluation(fold.models, data, fold.metrics.parent, device=device, command=command))
    return [*summary_lines(metrics), str(fold.metrics)]
