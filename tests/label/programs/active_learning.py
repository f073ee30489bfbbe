"""Simulated active learning on phantoms: which cases to label, by uncertainty or at random.

    .venv/bin/python tests/label/programs/active_learning.py OUT [--repeats 2]

A small U-Net on a 6 mm grid starts from random weights with a few labelled necks; in each round a strategy
of the label server chooses the necks that are labelled next, a new network is trained on all of them, and its
mean Dice of C1..C7 is measured on necks that no strategy can choose. Writes results.json and curve.png into
OUT.
"""

from __future__ import annotations

import argparse
import json
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from cspine.crops import GridSpec
from cspine.cuda_runtime import preload
from cspine.datasets.phantom_spines import SampleFolder, SampleSpec, sample_path, write_samples
from cspine.training import Plan, Task, fit
from cspine.training.augment import Augmentation
from cspine.training.segmentation import DiceCe, SpineBatches, dice_by_class
from cspine_label.levels import LABELS
from cspine_label.strategies import choose
from cspine_label.uncertainty import doubt_of_patch

log = logging.getLogger("active_learning")

STRATEGIES = ("uncertainty", "random")

SPEC = SampleSpec(GridSpec((6.0, 6.0, 6.0), None, (-500.0, 1300.0)), (32, 16, 16))
PATCH = (32, 16, 16)
POOL, TEST, SEED_OF_TEST = 24, 8, 5_000
FIRST, EACH_ROUND, ROUNDS, STEPS = 3, 3, 3, 300
EASY = Augmentation().eased(0.25)
"""As at the beginning of the real training: with so few steps the place must be allowed to tell the level."""


@dataclass
class Simulation:
    """Phantoms on disk, and where networks are trained."""

    folder: Path

    def prepare(self) -> None:
        """Render the necks; half of the pool and of the test set look unlike the other half."""
        for name, first, count in (("pool", 0, POOL), ("test", SEED_OF_TEST, TEST)):
            for seed in range(first, first + count):
                write_samples(
                    self.folder / name, [seed], SampleSpec(SPEC.grid, SPEC.shape, shifted=seed % 2 > 0)
                )

    def train(self, labelled: list[int], seed: int, run: str) -> torch.nn.Module:
        """A new network, taught by these necks of the pool."""
        from monai.networks.nets import UNet

        chosen = self.folder / "runs" / run / "samples"
        chosen.mkdir(parents=True)
        for place, neck in enumerate(labelled):
            sample_path(chosen, place).symlink_to(sample_path(self.folder / "pool", neck).resolve())
        torch.manual_seed(seed)
        network = UNet(3, 1, 10, (16, 32, 64), (2, 2), num_res_units=1, norm="INSTANCE", dropout=0.0)
        batches = SpineBatches(
            SampleFolder(chosen, 0, len(labelled)), (PATCH,), SPEC.grid.pixdim_mm, 4, seed, EASY
        )
        plan = Plan(steps=STEPS, learning_rate=3e-3, seed=seed, checkpoint_s=1e9, ema_decay=0.98)
        done = fit(Task(network, batches, DiceCe()), plan, self.folder / "runs" / run, torch.device("cpu"))
        network.load_state_dict(done.average)
        return network.eval()

    def dice(self, network: torch.nn.Module) -> float:
        """Mean Dice of C1..C7 on the test set."""
        found = dice_by_class(network, SampleFolder(self.folder / "test", SEED_OF_TEST, TEST), PATCH)
        return float(np.mean([found.get(name, 0.0) for name in LABELS]))

    def doubts(self, network: torch.nn.Module, necks: list[int]) -> dict[str, float]:
        """Uncertainty of each neck of the pool, by its name."""
        pool, found = SampleFolder(self.folder / "pool", 0, POOL), {}
        for neck in necks:
            image = torch.from_numpy(pool.read(neck)[0]).float() / 255
            found[str(neck)] = doubt_of_patch(network, image, SPEC.grid.pixdim_mm).uncertainty
        return found

    def curve(self, strategy: str, repeat: int) -> list[float]:
        """Dice after each round; both strategies of a repeat start from the same necks and weights."""
        order = np.random.default_rng([repeat, 1]).permutation(POOL).tolist()
        labelled, scores = order[:FIRST], []
        rng = np.random.default_rng([repeat, 2])
        for round_number in range(ROUNDS + 1):
            network = self.train(labelled, 100 * repeat + round_number, f"{strategy}-{repeat}-{round_number}")
            scores.append(self.dice(network))
            log.warning("%s %d: %d labels, Dice %.4f", strategy, repeat, len(labelled), scores[-1])
            rest = [neck for neck in range(POOL) if neck not in labelled]
            if strategy == "random":
                labelled = labelled + rng.choice(rest, EACH_ROUND, replace=False).tolist()
                continue
            doubts = self.doubts(network, rest)
            for _ in range(EACH_ROUND):
                choice = choose(strategy, [str(neck) for neck in rest], doubts)
                assert choice is not None
                labelled = [*labelled, int(choice.case_id)]
                rest.remove(int(choice.case_id))
        return scores


def draw(results: dict[str, list[list[float]]], path: Path) -> None:
    """Mean and range over the repeats."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = [FIRST + EACH_ROUND * number for number in range(len(results["random"][0]))]
    figure, axes = pyplot.subplots(figsize=(6, 3.8), layout="constrained")
    for (name, curves), color in zip(results.items(), ("#0072b2", "#d55e00"), strict=True):
        values = np.array(curves)
        axes.plot(labels, values.mean(0), "o-", color=color, label=name)
        axes.fill_between(labels, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="labelled necks", ylabel="mean Dice of C1-C7 on 8 others", xticks=labels)
    axes.set_title(
        f"Synthetic necks, a small U-Net at 6 mm; line: mean of {len(values)}, band: range", fontsize=9
    )
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def one_curve(out: Path, strategy: str, repeat: int) -> list[float]:
    """A curve in a process of its own."""
    preload()
    torch.set_num_threads(1)
    return Simulation(out).curve(strategy, repeat)


def main() -> None:
    """Simulate, write, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    preload()
    Simulation(options.out).prepare()
    jobs = [(options.out, name, repeat) for name in STRATEGIES for repeat in range(options.repeats)]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        curves = list(pool.map(one_curve, *zip(*jobs, strict=True)))
    results: dict[str, list[list[float]]] = {name: [] for name in STRATEGIES}
    for (_, name, _), curve in zip(jobs, curves, strict=True):
        results[name].append(curve)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "curve.png")


if __name__ == "__main__":
    main()
