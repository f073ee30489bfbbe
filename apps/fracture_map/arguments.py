"""What several subcommands take on the command line."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cspine.settings import DEVICES, TIMEOUT_S, models_dir
from fracture_map.names import ALSO

if TYPE_CHECKING:
    from fracture_map.study import StudyOptions

DEBUG: Final = "FRACTURE_MAP_DEBUG"


def add_analysis_options(parser: argparse.ArgumentParser) -> None:
    """Add what every way of analysing takes."""
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of the bundles")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="where the networks run (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        default=TIMEOUT_S,
        help="time limit in seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--also",
        choices=tuple(ALSO),
        action="append",
        default=[],
        help="write this beside the SR, for viewers that show none; may be repeated",
    )


def study_options(options: argparse.Namespace) -> StudyOptions:
    """What `add_analysis_options` asked for; input and output are filled in later."""
    from fracture_map.study import StudyOptions

    return StudyOptions(
        input=Path(),
        output=Path(),
        models=options.models or models_dir(),
        device=options.device,
        timeout_s=options.timeout,
        debug=os.environ.get(DEBUG) == "1",
        also=tuple(dict.fromkeys(options.also)),
    )


def add_workers(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--workers``."""
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        default=default,
        help="studies at the same time (default: %(default)s)",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number of seconds")
    return seconds
