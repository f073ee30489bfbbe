"""The command `fracture-map`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import cspine
from cspine.errors import CspineError, TerminatedError, UsageError, exit_code_of
from cspine.settings import models_dir
from fracture_map.arguments import DEBUG, add_analysis_options, study_options
from fracture_map.batch.command import add_batch
from fracture_map.watch.command import add_watch


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error does."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. Errors are one line on standard error."""
    debug = os.environ.get(DEBUG) == "1"
    if not debug:
        # Libraries put values of DICOM attributes into what they log and warn of.
        warnings.simplefilter("ignore")
        logging.getLogger().addHandler(logging.NullHandler())
    try:
        options = _parser().parse_args(arguments)
        code: int = options.work(options)
    except KeyboardInterrupt:
        _complain(TerminatedError("Stopped by SIGINT; no result was left."))
        return TerminatedError.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        _complain(error)
        return exit_code_of(error)
    return code


def _complain(error: BaseException) -> None:
    sentence = (
        str(error)
        if isinstance(error, CspineError)
        else f"A defect of the software stopped the command ({type(error).__name__}); "
        f"run again with {DEBUG}=1 and report what it prints."
    )
    print(f"fracture-map: {' '.join(sentence.split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fracture-map",
        description="Finds fractures of the cervical spine (C1-C7) on CT. Research use only.",
    )
    parser.add_argument("--version", action="version", version=f"fracture-map {cspine.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="analyse one study")
    run.add_argument("input", type=Path, metavar="INPUT", help="folder, zip or DICOMDIR of one study")
    run.add_argument("output", type=Path, metavar="OUTPUT", help="folder for the results")
    _add_run_options(run)
    run.set_defaults(work=_run)

    demo = commands.add_parser("demo", help="a synthetic study through the whole application")
    demo.add_argument(
        "output",
        type=Path,
        metavar="OUTPUT",
        nargs="?",
        default=Path("demo-output"),
        help="folder for the study and its results (default: %(default)s)",
    )
    _add_run_options(demo)
    demo.set_defaults(work=_demo)

    add_batch(commands)
    add_watch(commands)

    info = commands.add_parser("info", help="versions, bundles, devices, codecs")
    info.add_argument("--json", action="store_true", help="for programs")
    info.add_argument("--models", type=Path, metavar="DIR", help="folder of the bundles")
    info.set_defaults(work=_info)

    map_check = commands.add_parser("map-check", help="hold the image of a MAP against the specification")
    map_check.add_argument("image", type=Path, metavar="IMAGE", help="its root folder, or an OCI archive")
    map_check.add_argument(
        "--config", type=Path, metavar="FILE", help="of a root folder: what `docker image inspect` prints"
    )
    map_check.set_defaults(work=_map_check)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add_analysis_options(parser)
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="what standard output gets (default: %(default)s)",
    )


def _run(options: argparse.Namespace) -> int:
    return run_and_show(options, options.input, options.output)


def run_and_show(options: argparse.Namespace, source: Path, target: Path) -> int:
    """Analyse one study and show its result; returns the exit code."""
    from fracture_map.progress import progress_shown
    from fracture_map.study import run_study
    from fracture_map.supervise import signals_noted
    from fracture_map.table import print_result

    study = replace(study_options(options), input=source, output=target)
    with signals_noted() as stop, progress_shown(not study.debug) as tell:
        result = run_study(study, stop, tell)
    if options.format == "json" and result.findings is not None:
        print(json.dumps(result.findings, indent=2, ensure_ascii=False))
    elif result.findings is not None and result.error is None:
        print_result(result.findings, result.files, sys.stdout)
    if result.error is not None:
        _complain(result.error)
    return result.exit_code


def _demo(options: argparse.Namespace) -> int:
    from fracture_map.demo import made_study, print_truth

    study = made_study(options.output, debug=os.environ.get(DEBUG) == "1")
    code = run_and_show(options, study.folder, options.output / "results")
    if code == 0 and options.format == "table":
        print_truth(study, sys.stdout)
    return code


def _info(options: argparse.Namespace) -> int:
    from fracture_map.info import gather, print_info

    found = gather(options.models or models_dir())
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_info(found, sys.stdout)
    return 0


def _map_check(options: argparse.Namespace) -> int:
    from fracture_map.map.checklist import check

    check(options.image, options.config, sys.stdout)
    return 0
