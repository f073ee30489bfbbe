"""Training and evaluating the localization and the segmentation bundle, as their own configs describe it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from cspine.crops import GridSpec
from cspine.datasets.phantom_spines import HELD_OUT_SEED, SampleFolder, SampleSpec, being_written
from cspine.device import pick_device
from cspine.errors import UsageError
from cspine.models.bundle import METADATA, build_network, grid_spec_of, load_bundle, read_json
from cspine.training.augment import Augmentation
from cspine.training.checkpoint import Checkpoint, export_weights, load_weights
from cspine.training.loop import Plan, Task, fit
from cspine.training.segmentation import DiceCe, SpineBatches, dice_by_class
from cspine.whole_files import write_json

log = logging.getLogger(__name__)

START_WITH: Final = 48
"""Samples that must be there before training starts; more join while it runs."""

SAMPLES: Final = "samples:"
"""Begins the name of data that are there already."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class SpineData:
    """Which phantoms a network of the spine sees.

    Attributes:
        sample_shape: voxels of a rendered sample.
        patch_shapes: voxels of the patches cut from it, one size drawn for each batch.
        batch_size: patches a batch; `gpu_batch_size` on a GPU.
        without_spine: share of samples without any cervical vertebra.
        augmentation: what is done to each patch.
        ease_steps: steps until it has its full strength.
    """

    sample_shape: Sequence[int]
    patch_shapes: Sequence[Sequence[int]]
    batch_size: int = 2
    gpu_batch_size: int = 8
    without_spine: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    ease_steps: int = 0

    def batch_on(self, device: torch.device) -> int:
        """Patches a batch on a device."""
        return self.batch_size if device.type == "cpu" else self.gpu_batch_size

    def spec(self, grid: GridSpec, anatomy: str | None, *, shifted: bool = False) -> SampleSpec:
        """What its samples show on a network's grid."""
        return SampleSpec(grid, _shape(self.sample_shape), self.without_spine, anatomy, shifted)


def train(
    bundle: str, data: str, output: str, recipe: Mapping[str, Any], *, device: str = "auto"
) -> Checkpoint:
    """Train the bundle's network and put its averaged weights into the bundle, at every checkpoint.

    Args:
        bundle: its folder.
        data: "phantom:COUNT"; or "samples:FOLDER" with samples 0000000.npy and so on.
        output: folder for samples (gigabytes) and checkpoints; a run that was stopped goes on from there.
        recipe: "plan" (`Plan`), "data" (`SpineData`), "loss" (`DiceCe`), "anatomy" (a folder of meshes, or
            None), "initial" (a file of weights to start from instead of random ones, or None).
        device: "auto", "cpu" or "cuda".

    Raises:
        UsageError: `data` is not understood, or `output` belongs to another config.
    """
    root, plan, choice, loss = Path(bundle), recipe["plan"], recipe["data"], recipe["loss"]
    assert isinstance(plan, Plan)
    assert isinstance(choice, SpineData)
    assert isinstance(loss, DiceCe)
    at = pick_device(device)
    grid = grid_spec_of(root.name, read_json(root, METADATA))
    samples = _samples(data, Path(output), plan.seed)
    spec = choice.spec(grid, recipe.get("anatomy"))
    batches = SpineBatches(
        samples,
        tuple(_shape(shape) for shape in choice.patch_shapes),
        grid.pixdim_mm,
        choice.batch_on(at),
        plan.seed,
        choice.augmentation,
        choice.ease_steps,
        at,
    )
    config: dict[str, Any] = {"data": asdict(choice) | {"batch_size": batches.size}, "grid": asdict(grid)}
    config |= {"loss": asdict(loss), "anatomy": bool(recipe.get("anatomy"))}
    network = build_network(root)
    if recipe.get("initial"):
        load_weights(network, Path(recipe["initial"]))
    task = Task(network, batches, loss, config)

    made = data.startswith(SAMPLES)

    def export(checkpoint: Checkpoint) -> None:
        done = {"seed": plan.seed, "samples" if made else "phantoms": samples.available()}
        _export(checkpoint, root, done)

    with nullcontext() if made else being_written(samples, spec, START_WITH, at):
        return fit(task, plan, Path(output), at, export)


def _export(checkpoint: Checkpoint, bundle: Path, done: Mapping[str, Any]) -> None:
    """Put the averaged weights into the bundle, and how they came about into its metadata."""
    minutes = round(checkpoint.elapsed_s / 60)
    export_weights(
        checkpoint.average, bundle, training={**done, "steps": checkpoint.step, "minutes": minutes}
    )


def evaluate(
    bundle: str, data: str, output: str, recipe: Mapping[str, Any], *, device: str = "auto"
) -> dict[str, float]:
    """Measure Dice by class on phantoms of held-out seeds; writes metrics.json into `output`.

    Args:
        bundle: its folder.
        data: "phantom:COUNT".
        output: folder for samples and metrics.json.
        recipe: "data" (`SpineData`), "anatomy", and "shifted": draw from the domain that training never saw.
        device: "auto", "cpu" or "cuda".

    Returns:
        Mean Dice by class name; synthetic, whatever the numbers.
    """
    root, choice = Path(bundle), recipe["data"]
    assert isinstance(choice, SpineData)
    opened = load_bundle(root.resolve().parent, root.resolve().name)
    grid = opened.grid_spec()
    shifted = bool(recipe.get("shifted", False))
    folder = Path(output) / ("samples-shifted" if shifted else "samples-held-out")
    samples = SampleFolder(folder, HELD_OUT_SEED, phantom_count(data))
    spec = choice.spec(grid, recipe.get("anatomy"), shifted=shifted)
    shape = grid.patch or _shape(choice.patch_shapes[0])
    at = pick_device(device)
    with being_written(samples, spec, samples.count, at):
        scores = dice_by_class(opened.network(at), samples, shape)
    report = {
        "data": data,
        "shifted": shifted,
        "bundle": opened.name,
        "sha256": opened.sha256,
        "dice": scores,
    }
    write_json(Path(output) / "metrics.json", report)
    log.info("mean Dice by class on %s: %s", data, scores)
    return scores


def _samples(data: str, output: Path, seed: int) -> SampleFolder:
    """The samples of a folder, or phantoms to be made under `output`."""
    if not data.startswith(SAMPLES):
        return SampleFolder(output / "samples", seed * HELD_OUT_SEED * 2, phantom_count(data))
    folder = Path(data.removeprefix(SAMPLES))
    count = len(list(folder.glob("*.npy")))
    if count == 0:
        raise UsageError(f"'{folder}' holds no samples: make them first, or use phantom:COUNT.")
    return SampleFolder(folder, 0, count)


def phantom_count(data: str) -> int:
    """The COUNT of "phantom:COUNT".

    Raises:
        UsageError: it is something else.
    """
    kind, _, count = data.partition(":")
    if kind != "phantom" or not count.isdecimal() or int(count) < 1:
        raise UsageError(f"The data '{data}' are not understood: write phantom:COUNT, as in phantom:400.")
    return int(count)


def _shape(sides: Sequence[int]) -> Shape:
    slices, rows, columns = (int(n) for n in sides)
    return slices, rows, columns
