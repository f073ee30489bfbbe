"""``cspine``: training of the bundles, for those who develop them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cspine.errors import CspineError
from cspine.settings import DEVICES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, with one sentence on stderr where it failed."""
    options = vars(_parser().parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config, bundle = options.pop("command"), options.pop("bundle")
    try:
        from cspine.training.recipe import run_config

        run_config(bundle, config, options)
    except CspineError as error:
        print(f"cspine: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cspine: stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cspine", description="Train and evaluate the networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a bundle's network and put the weights into the bundle")
    train.add_argument("--minutes", type=float, help="stop after that long; the learning rate follows")
    train.add_argument("--steps", type=int, help="optimizer steps at most")
    train.add_argument("--initial", help="file of weights to start from")
    train.add_argument("--seed", type=int, help="of everything random")
    train.add_argument("--tensorboard", action="store_true", default=None, help="write TensorBoard events")
    evaluate = commands.add_parser("evaluate", help="measure a bundle's network on held-out phantoms")
    evaluate.add_argument(
        "--shifted", action="store_true", default=None, help="from a domain never trained on"
    )
    for command in (train, evaluate):
        command.add_argument("bundle", type=Path, help="folder of the bundle")
        command.add_argument("--data", help="phantom:COUNT, as in phantom:400")
        command.add_argument("--anatomy", help="folder of surface meshes for every second phantom")
        command.add_argument("--out", dest="output", help="folder for samples, checkpoints and metrics")
        command.add_argument("--device", choices=DEVICES, help="where to compute")
    return parser


if __name__ == "__main__":
    sys.exit(main())
