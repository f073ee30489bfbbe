"""The process that trains a candidate: ``python -m cspine_label.training_job FOLDER`` (see `job`).

Samples are made of the labelled cases and of phantoms, `cspine.training.fit` starts from the reference
weights, and candidate and reference are measured on the same validation set.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cspine.datasets.phantom_spines import (
    HELD_OUT_SEED,
    SampleFolder,
    SampleSpec,
    render_sample,
    sample_path,
)
from cspine.datasets.spine_samples import Sample
from cspine.device import pick_device
from cspine.method import Method
from cspine.models.bundle import WEIGHTS, Bundle, build_network, load_bundle, read_json
from cspine.training import Batch, Checkpoint, Plan, Task, export_weights, fit
from cspine.training.checkpoint import load_weights
from cspine.training.segmentation import DiceCe, SpineBatches, dice_by_class
from cspine.whole_files import write_json
from cspine_label.job import EVALUATION, PROGRESS, Job, LabelledFile, as_process
from cspine_label.levels import LABELS
from cspine_label.samples import Shape, read_labelled, spine_sample
from cspine_label.shelf import give_version

log = logging.getLogger(__name__)

REHEARSAL_SEED: Final = 500_000
"""First seed of the phantoms among the training samples: apart from those of other trainings."""
LEARNING_RATE: Final = 3e-4
"""A fifth of that from random weights: the network knows most of it already."""
TRAIN_CONFIG: Final = Path("configs/train.json")


@dataclass(frozen=True)
class _Shapes:
    """Of samples and patches, as the bundle's own training has them."""

    sample: Shape
    patches: tuple[Shape, ...]
    batch_size: int

    @classmethod
    def of(cls, bundle: Path) -> _Shapes:
        data = read_json(bundle, TRAIN_CONFIG)["spine_data"]
        patches = tuple(_shape(sides) for sides in data["patch_shapes"])
        return cls(_shape(data["sample_shape"]), patches, int(data["batch_size"]))


def run(folder: Path) -> None:
    """Do the job of a candidate's folder."""
    job = Job.load(folder)
    device = pick_device(job.plan.device)
    reference = load_bundle(Path(job.reference), job.model)
    candidate = folder / "bundles" / job.model
    shapes = _Shapes.of(candidate)
    maker = _Samples(job, reference, shapes, folder / "samples")
    training = maker.make("training", job.training, REHEARSAL_SEED, job.plan.phantoms)
    validation = maker.make("validation", job.validation, HELD_OUT_SEED, job.plan.validation_phantoms)

    network = build_network(candidate)
    load_weights(network, reference.path / WEIGHTS)
    pixdim_mm = reference.grid_spec().pixdim_mm
    batches = SpineBatches(training, shapes.patches, pixdim_mm, shapes.batch_size, job.plan.seed)
    plan = Plan(
        steps=job.plan.steps,
        minutes=job.plan.minutes,
        seed=job.plan.seed,
        learning_rate=LEARNING_RATE,
        log_steps=5,
    )
    counted = _Counted(batches, folder / PROGRESS, job.plan.steps)
    done = fit(Task(network, counted, DiceCe(), {"candidate": folder.name}), plan, folder / "run", device)
    _export(done, candidate, folder.name, job)
    _evaluate(folder, job, validation, reference)


class _Samples:
    """Makes the samples: labelled cases first, phantoms after them."""

    def __init__(self, job: Job, reference: Bundle, shapes: _Shapes, folder: Path) -> None:
        self._shapes, self._folder = shapes, folder
        self._method = Method.load(Path(job.reference), job.plan.device)
        self._network = reference.network(pick_device(job.plan.device))
        self._spec = SampleSpec(reference.grid_spec(), shapes.sample)

    def make(self, name: str, files: Sequence[LabelledFile], first_seed: int, phantoms: int) -> SampleFolder:
        """Make one set."""
        folder = self._folder / name
        folder.mkdir(parents=True)
        for number, file in enumerate(files):
            log.info("%s sample %d of %d", name, number + 1, len(files) + phantoms)
            _save(self._of_case(file), sample_path(folder, number))
        for number in range(phantoms):
            log.info("%s sample %d of %d, a phantom", name, len(files) + number + 1, len(files) + phantoms)
            _save(render_sample(first_seed + number, self._spec), sample_path(folder, len(files) + number))
        return SampleFolder(folder, 0, len(files) + phantoms)

    def _of_case(self, file: LabelledFile) -> Sample:
        volume, mask = read_labelled(file)
        grids = self._method.model_grids(volume)
        return spine_sample(grids.segmentation, mask, self._shapes.sample, self._network)


@dataclass(frozen=True, eq=False)
class _Counted:
    """Batches that say how far the training is."""

    batches: SpineBatches
    file: Path
    steps: int

    def __call__(self, step: int, /) -> Batch:
        write_json(self.file, {"progress": min(1.0, step / self.steps), "step": step})
        return self.batches(step)


def _export(done: Checkpoint, candidate: Path, name: str, job: Job) -> None:
    about = {
        "steps": done.step,
        "seed": job.plan.seed,
        "cases": len(job.training),
        "phantoms": job.plan.phantoms,
    }
    export_weights(done.average, candidate, training=about)
    give_version(candidate, name)


def _evaluate(folder: Path, job: Job, validation: SampleFolder, reference: Bundle) -> None:
    """Measure both on the same samples, at the patch that the network sees in use."""
    trained = load_bundle(folder / "bundles", job.model)
    shape = reference.grid_spec().patch or _Shapes.of(trained.path).patches[0]
    device = pick_device(job.plan.device)
    found: dict[str, Any] = {
        name: _measured(bundle, dice_by_class(bundle.network(device), validation, shape))
        for name, bundle in (("reference", reference), ("candidate", trained))
    }
    sets = {"cases": [file.case_id for file in job.validation], "phantoms": job.plan.validation_phantoms}
    write_json(folder / EVALUATION, {"model": job.model, "validation": sets, **found})


def _measured(bundle: Bundle, dice: dict[str, float]) -> dict[str, Any]:
    levels = {name: value for name, value in dice.items() if name in LABELS}
    mean = float(np.mean(list(levels.values()))) if levels else 0.0
    return {"version": bundle.version, "sha256": bundle.sha256, "mean": mean, "dice": dice}


def _save(sample: Sample, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, sample)


def _shape(sides: Sequence[int]) -> Shape:
    slices, rows, columns = (int(n) for n in sides)
    return slices, rows, columns


if __name__ == "__main__":
    sys.exit(as_process(run, Path(sys.argv[1])))
