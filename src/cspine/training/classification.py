"""Training of the fracture classifier, from phantoms or any other crops to a calibrated bundle.

1. The encoder, on parts of vertebrae around fractures and the same parts of sound ones, of necks with many
   fractures: is there one, and where.
2. Where the recipe plans it: the encoder again, half of the sound parts being those that it took for
   fractures.
3. Where the recipe plans it: encoder and sequence head together, on whole vertebrae.
4. The sequence head, on whole vertebrae that the encoder has read.
5. Where the recipe plans it: the study head, on the vertebrae of each neck together, with and without the
   fractured ones. It learns how levels go together, so it needs necks as they come: on necks chosen for their
   fractures it made the levels' answers worse.
6. Calibration and operating points, on further necks drawn at their natural rate of fractures.

The encoder sees parts rather than vertebrae because most of a vertebra is far from its fracture: a batch of
parts teaches it several times more a second. The heads then learn from its features in minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from cspine.crops import CropSpec
from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_batches import Mistake, PatchBatches, VertebraBatches, Views
from cspine.datasets.crop_samples import CropFolder, CropStudies
from cspine.datasets.phantom_crops import CropRecipe, fill_folder, filling
from cspine.device import pick_device
from cspine.errors import UsageError
from cspine.models.bundle import build_network
from cspine.models.classifier_network import FractureNet, VertebraLogits
from cspine.models.inference import channels_last
from cspine.phantom import DEFAULT
from cspine.training.checkpoint import export_weights, load_weights
from cspine.training.classification_features import SequenceBatches, StudyBatches, embed, encode_studies
from cspine.training.classification_losses import (
    LossWeights,
    encoder_loss,
    sequence_loss,
    study_loss,
    vertebra_loss,
)
from cspine.training.classification_mistakes import mistakes_of
from cspine.training.classification_scores import (
    CALIBRATION_SEED,
    TRAINING_SEED,
    calibrate,
    read_crop_spec,
)
from cspine.training.loop import Batches, Loss, Plan, Task, fit
from cspine.training.spine import phantom_count

TRAINING: Final = "training"
CALIBRATION: Final = "calibration"
"""Folders of crops."""
MISTAKES: Final = "mistakes.json"


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run beside the bundle.

    Attributes:
        encoder, sequence: plans of the stages.
        study: plan of the study head's stage; None leaves the head as it begins, changing nothing.
        mistakes: plan of the encoder's stage on its own mistakes; None leaves it out.
        vertebrae: plan of the stage that trains encoder and sequence head together; None leaves it out.
        rich: what makes the necks of training differ from the default profile.
        calibration_necks: how many are made for stage 6.
        patch_pairs: pairs of parts of a fractured and of a sound vertebra in a batch of the encoder.
        patch_pixels: side of such a part, a multiple of 16.
        pairs: pairs of whole vertebrae in a batch of the stage "vertebrae".
        gpu_factor: on a GPU the batches hold so many times the pairs.
        batch: vertebrae or studies in a batch of the heads.
        views: augmented views of each vertebra that the heads see.
        augmentation, weights: of all stages.
        seed: first seed of the necks.
        anatomy: folder of surface meshes for every second neck of training; None for built-in shapes only.
        initial: file of weights to start from, None for random ones.
    """

    encoder: Plan = field(default_factory=Plan)
    sequence: Plan = field(default_factory=Plan)
    study: Plan | None = None
    mistakes: Plan | None = None
    vertebrae: Plan | None = None
    rich: Mapping[str, Any] = field(default_factory=dict)
    calibration_necks: int = 150
    patch_pairs: int = 16
    patch_pixels: int = 32
    pairs: int = 4
    gpu_factor: int = 4
    batch: int = 64
    views: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)
    weights: LossWeights = field(default_factory=LossWeights)
    seed: int = 10_000_000
    anatomy: str | None = None
    initial: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must share; each stage adds its own plan."""
        plans = ("encoder", "mistakes", "vertebrae", "sequence", "study")
        return {name: value for name, value in asdict(self).items() if name not in plans}

    def crops(self, spec: CropSpec, necks: int) -> dict[str, CropRecipe]:
        """Folders of crops by name; no two share a seed.

        Args:
            spec: of the crops.
            necks: for training.
        """
        rich, first = replace(DEFAULT, **self.rich), self.seed + TRAINING_SEED
        return {
            TRAINING: CropRecipe(spec, rich, first, necks, twins=True, anatomy=self.anatomy),
            CALIBRATION: CropRecipe(spec, DEFAULT, self.seed + CALIBRATION_SEED, self.calibration_necks),
        }


@dataclass(frozen=True)
class Run:
    """Where a run takes place.

    Attributes:
        bundle: folder of the bundle.
        output: folder for checkpoints; a run that was stopped goes on from there.
        crops: folder that holds the folders of crops.
        device: where to compute.
    """

    bundle: Path
    output: Path
    crops: Path
    device: torch.device


def train(bundle: str | Path, data: str, output: str | Path, recipe: Recipe, device: str = "auto") -> None:
    """Train the bundle's network, calibrate it and put both into the bundle.

    Args:
        bundle: its folder.
        data: "phantom:COUNT", at most so many necks, made while training goes on (on a GPU there);
            or "crops:FOLDER" with folders "training" and "calibration" of `cspine.datasets.crop_samples`.
        output: folder for made crops (several GB) and checkpoints; a run that was stopped goes on from there.
        recipe: what to do.
        device: "auto", "cpu" or "cuda".

    Raises:
        UsageError: other data, or an output folder of another run.
        OutputError: something cannot be written.
    """
    kind, _, folder = data.partition(":")
    made = Path(output) / "crops"
    run = Run(Path(bundle), Path(output), Path(folder) if kind == "crops" else made, pick_device(device))
    spec = read_crop_spec(run.bundle)
    needed = {} if kind == "crops" else recipe.crops(spec, phantom_count(data))
    if not needed:
        _require_crops(run.crops)
    with filling([(run.crops / TRAINING, needed[TRAINING])] if needed else [], run.device):
        network, steps = train_network(spec, recipe, run, CropFolder(run.crops / TRAINING))
    trained_on = {"data": data, "first_seed": recipe.seed + TRAINING_SEED, "steps": steps}
    export_weights(network.state_dict(), run.bundle, training=trained_on)
    if needed:
        fill_folder(run.crops / CALIBRATION, needed[CALIBRATION], run.device)
    calibrate(run.bundle, run.crops / CALIBRATION, run.device)


def _require_crops(folder: Path) -> None:
    for name in (TRAINING, CALIBRATION):
        if not CropFolder(folder / name).refresh():
            raise UsageError(f"'{folder}' has no crops in '{name}': make them first, or use phantom:COUNT.")


class _Vertebrae(nn.Module):
    """Encoder and sequence head as one network."""

    def __init__(self, network: FractureNet) -> None:
        super().__init__()
        self.whole = network

    def forward(self, crops: Tensor) -> VertebraLogits:
        return self.whole.encode(crops)


def train_network(spec: CropSpec, recipe: Recipe, run: Run, studies: CropStudies) -> tuple[FractureNet, int]:
    """Go through the stages; returns the network and the encoder's steps."""
    torch.manual_seed(recipe.encoder.seed)
    network = channels_last(build_network(run.bundle))
    assert isinstance(network, FractureNet)
    if recipe.initial is not None:
        load_weights(network, Path(recipe.initial))
    weights = recipe.weights

    def views(seed: int, count: int = 1) -> Views:
        return Views(spec, recipe.augmentation, seed, count, run.device)

    def stage(name: str, module: nn.Module, plan: Plan, batches: Batches, loss: Loss) -> int:
        done = fit(Task(module, batches, loss, recipe.identity), plan, run.output / name, run.device)
        module.load_state_dict(done.average)
        return done.step

    factor = recipe.gpu_factor if run.device.type == "cuda" else 1

    def parts(seed: int, mistakes: Sequence[Mistake] = ()) -> Batches:
        return PatchBatches(studies, factor * recipe.patch_pairs, recipe.patch_pixels, views(seed), mistakes)

    read = partial(encoder_loss, weights)
    steps = stage("encoder", network.encoder, recipe.encoder, parts(recipe.encoder.seed), read)
    if (again := recipe.mistakes) is not None:
        mistakes = mistakes_of(network, studies.wait_for(1), run.output / MISTAKES, run.device)
        steps += stage("mistakes", network.encoder, again, parts(again.seed, mistakes), read)
    if (whole := recipe.vertebrae) is not None:
        vertebrae = VertebraBatches(studies, factor * recipe.pairs, views(whole.seed))
        steps += stage("vertebrae", _Vertebrae(network), whole, vertebrae, partial(vertebra_loss, weights))

    encoded = encode_studies(network, studies.wait_for(1), views(recipe.seed, recipe.views))
    sequences = SequenceBatches(encoded, recipe.batch, recipe.sequence.seed)
    stage("sequence", network.sequence, recipe.sequence, sequences, partial(sequence_loss, weights))

    if (last := recipe.study) is not None:
        together = StudyBatches(embed(network, encoded), recipe.batch, last.seed)
        stage("study", network.study, last, together, partial(study_loss, weights))
    return network.eval(), steps
