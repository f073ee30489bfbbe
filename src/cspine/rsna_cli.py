"""``cspine rsna``: from the downloaded RSNA 2022 to trained and measured bundles."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cspine.settings import DEVICES, models_dir

PROFILES = ("compact", "full")


def add_parser(commands: Any) -> None:
    """Add the command to those of ``cspine``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rsna", help="train and measure all three bundles on RSNA 2022; goes on where it was stopped"
    )
    parser.add_argument("data", type=Path, help="the downloaded folder: train.csv, train_images, ...")
    parser.add_argument("--out", dest="output", type=Path, required=True, help="folder of this run")
    parser.add_argument("--models", type=Path, default=models_dir(), help="bundles to start from")
    parser.add_argument("--profile", choices=PROFILES, default="compact", help="size of the networks")
    parser.add_argument("--folds", type=int, default=5, help="how many (default 5)")
    parser.add_argument("--fold", type=int, action="append", help="train only this one; may be repeated")
    parser.add_argument("--prepare-only", action="store_true", help="make the samples and stop")
    parser.add_argument("--workers", type=int, default=1, help="processes that make the samples (2 GB each)")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of everything random")
    parser.add_argument("--steps", type=int, help="optimizer steps of each network at most")
    parser.add_argument("--minutes", type=float, help="minutes of each network at most")
    parser.add_argument("--tensorboard", action="store_true", default=None, help="write TensorBoard events")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute")


def run(options: argparse.Namespace) -> list[str]:
    """Do what the options say; gives what came of it, for the terminal.

    Raises:
        CspineError: why it could not be done.
    """
    from cspine.training.rsna_run import RsnaRun, Settings

    settings = Settings(options.models, options.profile, options.folds, options.seed, options.device)
    made = RsnaRun.prepare(options.data, options.output, settings, options.workers)
    lines = made.summary()
    if options.prepare_only:
        return lines
    training = {
        name: getattr(options, name) for name in ("steps", "minutes", "tensorboard", "device", "seed")
    }
    for number in options.fold or range(options.folds):
        lines += made.fold(number, training)
    return [*lines, *made.pool()]
