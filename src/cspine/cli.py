"""``cspine``: training and evaluation, for those who develop the networks."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cspine import rsna_cli
from cspine.errors import CspineError, UsageError
from cspine.settings import DEVICES, models_dir

WHOLE_METHOD = ("models", "cases")
"""Options of `evaluate` that mean nothing for one bundle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, with one sentence on stderr where it failed."""
    given = _parser().parse_args(arguments)
    options = vars(given)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config, bundle = options.pop("command"), options.pop("bundle", None)
    try:
        if config == "rsna":
            print("\n".join(rsna_cli.run(given)))
        elif config == "calibrate":
            _calibrate(options)
        elif bundle is None:
            _evaluate_method(options, shlex.join(sys.argv[1:] if arguments is None else arguments))
        else:
            _run_bundle(bundle, config, options)
    except CspineError as error:
        print(f"cspine: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cspine: stopped; the same command goes on from where it was.", file=sys.stderr)
        return 130
    return 0


def _run_bundle(bundle: Path, config: str, options: Mapping[str, Any]) -> None:
    from cspine.training.recipe import run_config

    options = dict(options)
    for name in WHOLE_METHOD:
        if options.pop(name, None) is not None:
            raise UsageError(f"--{name} belongs to the evaluation of the whole method: leave the bundle out.")
    run_config(bundle, config, options)


def _evaluate_method(options: Mapping[str, Any], command: str) -> None:
    from cspine.evaluation.command import METRICS, REPORT, Evaluation, evaluate, summary_lines

    if options["data"] is None or options["output"] is None:
        raise UsageError("Name the cases and the output folder, as in --data phantom:40 --out OUT.")
    output, given = Path(options["output"]), {n: options[n] for n in ("cases", "anatomy") if options[n]}
    metrics = evaluate(
        Evaluation(
            models=Path(options["models"] or models_dir()),
            data=options["data"],
            output=output,
            shifted_only=bool(options["shifted"]),
            device=options["device"] or "auto",
            command=f"cspine {command}",
            **{name: Path(value) for name, value in given.items()},
        )
    )
    for line in (*summary_lines(metrics), f"{output / METRICS}", f"{output / REPORT}"):
        print(line)


def _calibrate(options: Mapping[str, Any]) -> None:
    from cspine.training.method_calibration import MethodCalibration, calibrate_method

    models = Path(options["models"] or models_dir())
    found = calibrate_method(
        MethodCalibration(
            models=models,
            data=options["data"],
            output=Path(options["output"]),
            anatomy=Path(options["anatomy"]) if options["anatomy"] else None,
            device=options["device"] or "auto",
        )
    )
    print(f"{models}: calibrated on {found['studies']} studies, {found['fractured']} of them with a fracture")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cspine", description="Train and evaluate the networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a bundle's network and put the weights into the bundle")
    train.add_argument("--minutes", type=float, help="stop after that long; the learning rate follows")
    train.add_argument("--steps", type=int, help="optimizer steps at most")
    train.add_argument("--initial", help="file of weights to start from")
    train.add_argument("--seed", type=int, help="of everything random")
    train.add_argument("--tensorboard", action="store_true", default=None, help="write TensorBoard events")
    train.add_argument(
        "--compiled", action="store_true", default=None, help="compile the network first: faster steps later"
    )
    train.add_argument("bundle", type=Path, help="folder of the bundle")
    evaluate = commands.add_parser(
        "evaluate", help="measure the whole method, or one bundle's network, on cases that no training saw"
    )
    evaluate.add_argument(
        "bundle", type=Path, nargs="?", help="one bundle alone; without it, the whole method"
    )
    evaluate.add_argument("--models", help="folder of the bundles of the whole method")
    evaluate.add_argument("--cases", help="folder where cases are kept (whole method; default OUT/cases)")
    evaluate.add_argument(
        "--shifted", action="store_true", default=None, help="only the domain that training never saw"
    )
    calibrate = commands.add_parser(
        "calibrate", help="fit the classifier's probabilities to studies, as the whole method sees them"
    )
    calibrate.add_argument("--models", help="folder of the bundles")
    rsna_cli.add_parser(commands)
    for command in (train, evaluate, calibrate):
        needed = command is calibrate
        command.add_argument("--data", required=needed, help="phantom:COUNT, as in phantom:400")
        command.add_argument("--anatomy", help="folder of surface meshes for every second phantom")
        command.add_argument(
            "--out", dest="output", required=needed, help="folder for samples, checkpoints and metrics"
        )
        command.add_argument("--device", choices=DEVICES, help="where to compute")
    return parser


if __name__ == "__main__":
    sys.exit(main())
