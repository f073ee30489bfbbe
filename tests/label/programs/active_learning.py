"""Simulated active learning on phantoms: which cases to label, by uncertainty or at random.

    .venv/bin/python tests/label/programs/active_learning.py OUT [--repeats 4] [--curves N]

As on a label server, a network is there already. It was taught by necks of the usual domain; of the cases
that wait to be labelled three in four look like those, one in four comes from the shifted domain. In each
round a strategy chooses the cases that are labelled next, and the network is taught again from the same
start, on all labelled cases and on some of the necks that it knew before. It is measured by the mean Dice
of C1..C7 on necks of both domains that nobody can choose.

told.json says how well the doubts of the first network tell where it errs. A curve that is in OUT already is
not computed again; --curves N stops after N new ones. With all of them there, results.json and curve.png are
written.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from cspine.anatomy import RISE_CHANNEL
from cspine.crops import GridSpec
from cspine.cuda_runtime import preload
from cspine.datasets.phantom_spines import SampleFolder, SampleSpec, sample_path, write_samples
from cspine.training import Plan, Task, fit
from cspine.training.augment import Augmentation
from cspine.training.segmentation import DiceCe, SpineBatches, dice_by_class
from cspine_label.labels import write_json
from cspine_label.levels import LABELS
from cspine_label.strategies import choose
from cspine_label.uncertainty import doubt_of_patch

log = logging.getLogger("active_learning")

STRATEGIES: Final = ("uncertainty", "random")
GRID: Final = GridSpec((6.0, 6.0, 6.0), None, (-500.0, 1300.0))
SHAPE: Final = (32, 16, 16)
USUAL, SHIFTED = "usual", "shifted"
SEEDS: Final = {("base", USUAL): 3000, ("pool", USUAL): 0, ("pool", SHIFTED): 1000}
SEEDS |= {("test", USUAL): 5000, ("test", SHIFTED): 6000}
COUNTS: Final = {("base", USUAL): 16, ("pool", USUAL): 20, ("pool", SHIFTED): 8}
COUNTS |= {("test", USUAL): 6, ("test", SHIFTED): 6}
"""Necks of each set; a repeat draws its own pool from those of "pool"."""
POOL: Final = {USUAL: 15, SHIFTED: 5}
EACH_ROUND, ROUNDS, KNOWN = 2, 4, 6
BASE_STEPS, STEPS = 1500, 100
EASY: Final = Augmentation().eased(0.25)
"""As at the beginning of the real training: with so few steps the place must be allowed to tell the level."""


@dataclass(frozen=True)
class Point:
    """What a strategy reached.

    Attributes:
        labels: cases that were labelled.
        shifted: how many of them are from the shifted domain.
        dice: mean Dice of C1..C7 on the test necks, by domain.
    """

    labels: int
    shifted: int
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Of both domains."""
        return float(np.mean(list(self.dice.values())))


@dataclass(frozen=True)
class Simulation:
    """Phantoms on disk, and where networks are trained."""

    folder: Path

    def prepare(self) -> None:
        """Render the necks and teach the network that is there at first, unless that was done before."""
        for (name, domain), count in COUNTS.items():
            first = SEEDS[name, domain]
            spec = SampleSpec(GRID, SHAPE, shifted=domain == SHIFTED)
            write_samples(self.folder / name / domain, range(first, first + count), spec)
        if not self.start.exists():
            network = self.taught(self.network(), self.set_of("base", USUAL), BASE_STEPS, seed=0)
            torch.save(network.state_dict(), self.start)

    @property
    def start(self) -> Path:
        """Weights of the network that is there at first."""
        return self.folder / "base.pt"

    def set_of(self, name: str, domain: str) -> list[Path]:
        """The necks of a set."""
        first = SEEDS[name, domain]
        return [
            sample_path(self.folder / name / domain, first + n).resolve() for n in range(COUNTS[name, domain])
        ]

    def network(self) -> torch.nn.Module:
        """With the weights that are there at first, where they are."""
        from monai.networks.nets import UNet

        torch.manual_seed(0)
        made: torch.nn.Module = UNet(
            3, 1, RISE_CHANNEL + 1, (16, 32, 64), (2, 2), num_res_units=1, norm="INSTANCE", dropout=0.0
        )
        if self.start.exists():
            made.load_state_dict(torch.load(self.start, weights_only=True))
        return made

    def taught(self, network: torch.nn.Module, necks: list[Path], steps: int, seed: int) -> torch.nn.Module:
        """Teach a network by these necks."""
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            for place, neck in enumerate(necks):
                sample_path(Path(folder), place).symlink_to(neck)
            samples = SampleFolder(Path(folder), 0, len(necks))
            batches = SpineBatches(samples, (SHAPE,), GRID.pixdim_mm, 4, seed, EASY)
            rate = 3e-3 if steps == BASE_STEPS else 1e-3
            plan = Plan(steps, None, rate, warmup_steps=10, ema_decay=0.95, seed=seed, checkpoint_s=1e9)
            done = fit(Task(network, batches, DiceCe()), plan, Path(folder) / "run", torch.device("cpu"))
        network.load_state_dict(done.average)
        return network.eval()

    def measured(self, network: torch.nn.Module) -> dict[str, float]:
        """Mean Dice of C1..C7 on the test necks of each domain."""
        found = {}
        for domain in (USUAL, SHIFTED):
            samples = SampleFolder(
                self.folder / "test" / domain, SEEDS["test", domain], COUNTS["test", domain]
            )
            dice = dice_by_class(network.eval(), samples, SHAPE)
            found[domain] = float(np.mean([dice.get(name, 0.0) for name in LABELS]))
        return found

    def curve(self, strategy: str, repeat: int) -> list[Point]:
        """What is reached after each round; both strategies of a repeat share pool, start and chance."""
        rng = np.random.default_rng([repeat, 1])
        waiting = [
            path
            for domain, count in POOL.items()
            for path in rng.choice(np.array(self.set_of("pool", domain), object), count, replace=False)
        ]
        chance = np.random.default_rng([repeat, 2])
        known = self.set_of("base", USUAL)[:KNOWN]
        network, labelled = self.network().eval(), list[Path]()
        points = [Point(0, 0, self.measured(network))]
        for number in range(1, ROUNDS + 1):
            for chosen in self.asked(strategy, network, waiting, chance):
                waiting.remove(chosen)
                labelled.append(chosen)
            network = self.taught(self.network(), known + labelled, STEPS, seed=100 * repeat + number)
            shifted = sum(path.parent.name == SHIFTED for path in labelled)
            points.append(Point(len(labelled), shifted, self.measured(network)))
            log.warning("%s %d: %s", strategy, repeat, points[-1])
        return points

    def asked(
        self, strategy: str, network: torch.nn.Module, waiting: list[Path], chance: np.random.Generator
    ) -> list[Path]:
        """The cases of one round, as the server chooses them."""
        if strategy == "random":  # as the server's own, but the same in every run
            return [waiting[int(i)] for i in chance.choice(len(waiting), EACH_ROUND, replace=False)]
        by_name = {str(path): path for path in waiting}
        doubts = {name: self.doubt(network, path) for name, path in by_name.items()}
        found: list[Path] = []
        for _ in range(EACH_ROUND):
            choice = choose(strategy, [name for name in by_name if by_name[name] not in found], doubts)
            assert choice is not None
            found.append(by_name[choice.case_id])
        return found

    def doubt(self, network: torch.nn.Module, neck: Path) -> float:
        """The server's uncertainty of a neck."""
        image = torch.from_numpy(np.load(neck)[0]).float() / 255
        return doubt_of_patch(network, image, GRID.pixdim_mm).uncertainty

    def told(self) -> dict[str, float]:
        """How well each doubt of the first network tells where it errs: Spearman's rho with 1 - Dice."""
        from scipy.stats import spearmanr

        network, errors, doubts = self.network().eval(), list[float](), list[dict[str, float]]()
        for domain in POOL:
            first = SEEDS["pool", domain]
            for place, neck in enumerate(self.set_of("pool", domain)):
                dice = dice_by_class(
                    network, SampleFolder(self.folder / "pool" / domain, first + place, 1), SHAPE
                )
                errors.append(1 - float(np.mean([dice.get(name, 0.0) for name in LABELS])))
                image = torch.from_numpy(np.load(neck)[0]).float() / 255
                doubts.append(asdict(doubt_of_patch(network, image, GRID.pixdim_mm)))
        return {
            name: float(spearmanr([doubt[name] for doubt in doubts], errors).statistic) for name in doubts[0]
        }


def draw(results: dict[str, list[list[Point]]], path: Path) -> None:
    """Mean and range over the repeats: on both domains, and on the shifted one alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
    shown = (
        ("both domains", lambda point: point.mean),
        ("the shifted domain alone", lambda point: point.dice[SHIFTED]),
    )
    for axes, (title, value) in zip(panels, shown, strict=True):
        for (name, curves), color in zip(results.items(), ("#0072b2", "#d55e00"), strict=True):
            labels = [point.labels for point in curves[0]]
            values = np.array([[value(point) for point in curve] for curve in curves])
            axes.plot(labels, values.mean(0), "o-", color=color, label=name)
            axes.fill_between(labels, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        axes.set(xlabel="labelled cases", ylabel="mean Dice of C1-C7", xticks=labels)
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, loc="lower right")
    repeats = len(results["random"])
    figure.suptitle(
        f"Synthetic necks, a small U-Net at 6 mm; mean and range of {repeats} repeats", fontsize=9
    )
    figure.savefig(path, dpi=120)


def kept(file: Path) -> list[Point]:
    """A curve from its file."""
    return [Point(**point) for point in json.loads(file.read_text("utf-8"))]


def main() -> None:
    """Simulate, write, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--curves", type=int, default=1000, help="new curves at most")
    options = parser.parse_args()
    preload()
    torch.set_num_threads(1)
    simulation, left = Simulation(options.out), options.curves
    simulation.prepare()
    if not (options.out / "told.json").exists():
        write_json(simulation.told(), options.out / "told.json")
    files = {
        name: [options.out / f"{name}-{repeat}.json" for repeat in range(options.repeats)]
        for name in STRATEGIES
    }
    for repeat in range(options.repeats):
        for name in STRATEGIES:
            file = files[name][repeat]
            if not file.exists() and left > 0:
                write_json([asdict(point) for point in simulation.curve(name, repeat)], file)
                left -= 1
    if all(file.exists() for found in files.values() for file in found):
        results = {name: [kept(file) for file in found] for name, found in files.items()}
        content = {n: [[asdict(p) for p in c] for c in curves] for n, curves in results.items()}
        write_json(content, options.out / "results.json")
        draw(results, options.out / "curve.png")


if __name__ == "__main__":
    main()
