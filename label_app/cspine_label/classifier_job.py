"""The process that trains a candidate of the classifier: ``python -m cspine_label.classifier_job FOLDER``.

It does what `training_job` does for the segmentation, see `job`: samples are made of the judged levels and of
phantoms, `cspine.training.classification.train_network` starts from the weights in use, and candidate and
reference are measured on the same validation set.

The calibration stays that of the weights in use: a few judged cases, and far more fractures among them than
anywhere else, are no ground for another one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_pairs import REFRESH_STEPS
from cspine.datasets.crop_samples import CropFile, CropFolder
from cspine.datasets.phantom_crops import CropRecipe, fill_folder
from cspine.device import pick_device
from cspine.method import Method
from cspine.models.bundle import WEIGHTS, Bundle, load_bundle, read_json
from cspine.models.calibration import roc_auc
from cspine.models.classifier import FractureClassifier
from cspine.phantom import DEFAULT
from cspine.training import Plan, export_weights
from cspine.training.classification import CALIBRATION, TRAINING, Recipe, Run, train_network
from cspine.training.classification_scores import FIRST_SEED, TEST_SEED, Scored, score
from cspine.whole_files import write_json
from cspine_label.export import save_case
from cspine_label.fractures import read_annotations
from cspine_label.job import EVALUATION, PROGRESS, Job, LabelledFile, as_process
from cspine_label.levels import LABELS
from cspine_label.samples import read_labelled
from cspine_label.shelf import give_version

if TYPE_CHECKING:
    import torch

    from cspine.crops import CropSpec

log = logging.getLogger(__name__)

REHEARSAL_SEED: Final = FIRST_SEED + 4_000_000
"""First seed of the phantoms among the training samples: apart from those of other trainings."""
LEARNING_RATES: Final = {"encoder": 3e-4, "sequence": 2e-4}
"""A fifth of those from random weights: the network knows most of it already."""
HEAD_STEPS: Final = 200
TRAIN_CONFIG: Final = Path("configs/train.json")
MEASURE: Final = "1 - mean squared error of the levels' probabilities"


def run(folder: Path) -> None:
    """Do the job of a candidate's folder."""
    job = Job.load(folder)
    device = pick_device(job.plan.device)
    reference = load_bundle(Path(job.reference), job.model)
    candidate, crops = folder / "bundles" / job.model, folder / "samples"
    _make_samples(job, reference, crops, device)
    studies = CountedFolder(crops / TRAINING, folder / PROGRESS, job.plan.steps)
    recipe = recipe_of(job, reference, len(studies.refresh()))
    network, steps = train_network(
        reference.crop_spec(), recipe, Run(candidate, folder / "run", crops, device), studies
    )
    about = {"steps": steps, "seed": job.plan.seed, "cases": len(job.training), "phantoms": job.plan.phantoms}
    export_weights(network.state_dict(), candidate, training=about)
    give_version(candidate, folder.name)
    _evaluate(folder, job, reference, device)


def _make_samples(job: Job, reference: Bundle, crops: Path, device: torch.device) -> None:
    """Judged levels and phantoms, for training and for validation."""
    method = Method.load(Path(job.reference), job.plan.device)
    spec = reference.crop_spec()
    sets = (
        (crops / TRAINING, job.training, REHEARSAL_SEED, job.plan.phantoms),
        (crops / CALIBRATION, job.validation, FIRST_SEED + TEST_SEED, job.plan.validation_phantoms),
    )
    for place, files, first_seed, phantoms in sets:
        log.info("%s: %d judged cases, %d phantoms", place.name, len(files), phantoms)
        fill_folder(place, phantom_recipe(reference.path, spec, first_seed, phantoms), device)
        for file in files:
            volume, mask = read_labelled(file)
            save_case(method.crops(volume, mask), read_annotations(file.fractures), place, file.case_id)


def phantom_recipe(bundle: Path, spec: CropSpec, first_seed: int, count: int) -> CropRecipe:
    """Necks with many fractures, as in the bundle's own training, and twins that are broken elsewhere."""
    rich: Mapping[str, Any] = read_json(bundle, TRAIN_CONFIG)["recipe"]["rich"]
    return CropRecipe(spec, replace(DEFAULT, **rich), first_seed, count, twins=True)


def own_augmentation(bundle: Path) -> Augmentation:
    """How crops look in the bundle's own training: a candidate that saw others would forget what it knows."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(read_json(bundle, TRAIN_CONFIG))
    found: Augmentation = parser.get_parsed_content("recipe::augmentation")
    return found


def recipe_of(job: Job, reference: Bundle, studies: int) -> Recipe:
    """A short training that starts from the weights in use; batches are no larger than the studies allow."""
    steps, minutes = job.plan.steps, job.plan.minutes
    limits = {"encoder": (steps, minutes), "sequence": (min(HEAD_STEPS, steps), minutes)}
    plans: dict[str, Any] = {
        name: Plan(
            steps=count, minutes=limit, learning_rate=LEARNING_RATES[name], seed=job.plan.seed, log_steps=5
        )
        for name, (count, limit) in limits.items()
    }
    usual = Recipe()
    return Recipe(
        **plans,
        patch_pairs=min(usual.patch_pairs, max(1, studies // 2)),
        augmentation=own_augmentation(reference.path),
        seed=REHEARSAL_SEED,
        initial=str(reference.path / WEIGHTS),
    )


class CountedFolder(CropFolder):
    """Samples that say how far the training is: it looks for new ones every so many steps."""

    def __init__(self, folder: Path, file: Path, steps: int) -> None:
        super().__init__(folder)
        self._file, self._steps, self._asked = file, steps, 0

    def wait_for(self, count: int) -> Sequence[CropFile]:
        """The samples, once there are so many."""
        done = min(self._steps, self._asked * REFRESH_STEPS)
        write_json(self._file, {"progress": done / self._steps, "step": done})
        self._asked += 1
        return super().wait_for(count)


def _evaluate(folder: Path, job: Job, reference: Bundle, device: torch.device) -> None:
    """Measure both on the same crops, with the errors that a segmentation makes."""
    trained = load_bundle(folder / "bundles", job.model)
    found = {
        name: _measured(bundle, folder / "samples" / CALIBRATION, device)
        for name, bundle in (("reference", reference), ("candidate", trained))
    }
    sets = {"cases": _ids(job.validation), "phantoms": job.plan.validation_phantoms}
    content = {"model": job.model, "measure": MEASURE, "validation": sets, **found}
    write_json(folder / EVALUATION, content)


def _ids(files: Sequence[LabelledFile]) -> list[str]:
    return [file.case_id for file in files]


def _measured(bundle: Bundle, crops: Path, device: torch.device) -> dict[str, Any]:
    classifier = FractureClassifier(bundle, device=device)
    return {
        "version": bundle.version,
        "sha256": bundle.sha256,
        **vars(accuracy(classifier, score(classifier, crops))),
    }


@dataclass(frozen=True)
class Accuracy:
    """How good the probabilities of levels are.

    Attributes:
        mean: 1 - mean squared error against 0 or 1, in [0, 1].
        levels, fractured: how many were judged, and how many of these are fractured.
        auc: of the levels; None where all or none are fractured.
        by_level: `mean` of each level that there is.
    """

    mean: float
    levels: int
    fractured: int
    auc: float | None
    by_level: Mapping[str, float]


def accuracy(classifier: FractureClassifier, scored: Scored) -> Accuracy:
    """Compare calibrated probabilities with what people, and phantoms, say."""
    probabilities, _ = classifier.calibrated(scored.levels.mean(1), scored.overall.mean(1))
    known, truth = scored.known, scored.fractured
    right = 1 - (probabilities - truth) ** 2
    fractured = int(truth[known].sum())
    return Accuracy(
        mean=float(right[known].mean()),
        levels=int(known.sum()),
        fractured=fractured,
        auc=float(roc_auc(probabilities[known], truth[known])) if 0 < fractured < known.sum() else None,
        by_level={
            name: float(right[known[:, i], i].mean()) for i, name in enumerate(LABELS) if known[:, i].any()
        },
    )


if __name__ == "__main__":
    sys.exit(as_process(run, Path(sys.argv[1])))
