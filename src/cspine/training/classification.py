"""Training of the fracture classifier, from phantoms to a calibrated bundle.

1. The encoder, on patches of windows and then on whole windows of necks with many fractures: is there one,
   and where.
2. The sequence head, on whole vertebrae that the encoder has read.
3. The study head, on the vertebrae of each neck together, with and without the fractured ones.
4. Calibration and operating points, on further necks drawn at their natural rate of fractures.

The encoder sees windows rather than vertebrae because neighbouring windows hold nearly the same image: a
batch of windows from many vertebrae teaches it several times more a second. The heads then learn from its
features in minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cspine.crops import CropSpec
from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_batches import NeckFiles, PlaneBatches, WindowPlan
from cspine.datasets.phantom_crops import CropRecipe, filling
from cspine.device import pick_device
from cspine.models.bundle import build_network
from cspine.models.classifier_network import FractureNet
from cspine.training.checkpoint import Checkpoint, export_weights
from cspine.training.classification_features import SequenceBatches, StudyBatches, Views, embed, encode_necks
from cspine.training.classification_losses import LossWeights, plane_loss, sequence_loss, study_loss
from cspine.training.classification_scores import (
    CALIBRATION_SEED,
    TRAINING_SEED,
    calibrate,
    read_crop_spec,
)
from cspine.training.loop import Batches, Loss, Plan, Task, fit
from cspine.training.spine import phantom_count


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run beside the bundle.

    Attributes:
        patches, planes, sequence, study: plans of the stages.
        rich: what makes the necks of training differ from the default profile.
        calibration_necks: how many are made for stage 4.
        of_patches, of_planes: what the batches of the first two stages are made of.
        batch: vertebrae or studies in a batch of the heads.
        views: augmented views of each vertebra that the heads see.
        augmentation, weights: of all stages.
        seed: first seed of the necks.
    """

    patches: Plan = field(default_factory=Plan)
    planes: Plan = field(default_factory=Plan)
    sequence: Plan = field(default_factory=Plan)
    study: Plan = field(default_factory=Plan)
    rich: Mapping[str, Any] = field(default_factory=dict)
    calibration_necks: int = 150
    of_patches: WindowPlan = field(default_factory=lambda: WindowPlan(10, 8, 64))
    of_planes: WindowPlan = field(default_factory=lambda: WindowPlan(6))
    batch: int = 64
    views: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)
    weights: LossWeights = field(default_factory=LossWeights)
    seed: int = 10_000_000

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must share; each stage adds its own plan."""
        plans = ("patches", "planes", "sequence", "study")
        return {name: value for name, value in asdict(self).items() if name not in plans}

    def crops(self, spec: CropSpec, necks: int) -> dict[str, CropRecipe]:
        """Folders of crops by name, in the order in which they are filled; no two share a seed.

        Args:
            spec: of the crops.
            necks: for training.
        """
        from cspine.phantom import DEFAULT

        rich, first = replace(DEFAULT, **self.rich), self.seed + TRAINING_SEED
        return {
            "training": CropRecipe(spec, rich, first, necks, matched=True),
            "calibration": CropRecipe(spec, DEFAULT, self.seed + CALIBRATION_SEED, self.calibration_necks),
        }


@dataclass(frozen=True)
class Run:
    """Where a run takes place.

    Attributes:
        bundle: folder of the bundle.
        output: folder for crops (several GB) and checkpoints; a run that was stopped goes on from there.
        device: where to compute.
    """

    bundle: Path
    output: Path
    device: torch.device

    def crops(self, name: str) -> Path:
        """A folder of crops."""
        return self.output / "crops" / name


def train(bundle: str | Path, data: str, output: str | Path, recipe: Recipe, device: str = "auto") -> None:
    """Train the bundle's network from random weights, calibrate it and put both into the bundle.

    Args:
        bundle: its folder.
        data: "phantom:COUNT", the necks to train on; a worker process makes them while training goes on.
        output: folder for crops (several GB) and checkpoints; a run that was stopped goes on from there.
        recipe: what to do.
        device: "auto", "cpu" or "cuda".

    Raises:
        UsageError: other data, or an output folder of another run.
        OutputError: something cannot be written.
    """
    run = Run(Path(bundle), Path(output), pick_device(device))
    spec = read_crop_spec(run.bundle)
    jobs = recipe.crops(spec, phantom_count(data))
    with filling([(run.crops(name), crops) for name, crops in jobs.items()]):
        network, steps = train_network(spec, recipe, run)
        trained_on = {"data": data, "first_seed": recipe.seed + TRAINING_SEED, "steps": steps}
        export_weights(network.state_dict(), run.bundle, training=trained_on)
        NeckFiles(run.crops("calibration")).wait_for(recipe.calibration_necks)
    calibrate(run.bundle, run.crops("calibration"), run.device)


def train_network(spec: CropSpec, recipe: Recipe, run: Run) -> tuple[FractureNet, int]:
    """Go through the stages; returns the network and the encoder's steps."""
    torch.manual_seed(recipe.patches.seed)
    network = build_network(run.bundle)
    assert isinstance(network, FractureNet)
    how, weights, rich = recipe.augmentation, recipe.weights, run.crops("training")

    def stage(name: str, module: torch.nn.Module, plan: Plan, batches: Batches, loss: Loss) -> Checkpoint:
        done = fit(Task(module, batches, loss, recipe.identity), plan, run.output / name, run.device)
        module.load_state_dict(done.average)
        return done

    patches = PlaneBatches(rich, spec, recipe.of_patches, how, recipe.patches.seed)
    first = stage("patches", network.encoder, recipe.patches, patches, partial(plane_loss, weights))
    windows = PlaneBatches(rich, spec, recipe.of_planes, how, recipe.planes.seed)
    second = stage("planes", network.encoder, recipe.planes, windows, partial(plane_loss, weights))

    views = Views(spec, how, recipe.views, recipe.seed)
    vertebrae = encode_necks(network, NeckFiles(rich).wait_for(1), views, run.device)
    sequences = SequenceBatches(vertebrae, recipe.batch, recipe.sequence.seed)
    stage("sequence", network.sequence, recipe.sequence, sequences, partial(sequence_loss, weights))

    embedded = embed(network, vertebrae)
    studies = StudyBatches(embedded, recipe.batch, recipe.study.seed)
    stage("study", network.study, recipe.study, studies, partial(study_loss, weights))
    return network.eval(), first.step + second.step
