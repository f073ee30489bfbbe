"""``fracture-map watch``: its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracture_map.extras import extra_needed

if TYPE_CHECKING:
    from fracture_map.study import StudyOptions


def add_watch(
    commands: Any,
    add_analysis_options: Callable[[argparse.ArgumentParser], None],
    study_options: Callable[[argparse.Namespace], StudyOptions],
) -> None:
    """Add the subcommand.

    Args:
        commands: the subparsers of the command.
        add_analysis_options: adds what every way of analysing takes.
        study_options: reads that back; input and output are filled in later.
    """
    parser = commands.add_parser("watch", help="follow a PACS and store results beside the images")
    parser.add_argument("--dicomweb", required=True, metavar="URL", help="DICOMweb, the part before /studies")
    parser.add_argument("--orthanc", metavar="URL", help="Orthanc's REST API, to follow its changes as well")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="rules and times (TOML)")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        default=Path("fracture-map-watch"),
        help="folder for the queue, the spool and the audit log (default: %(default)s)",
    )
    parser.add_argument("--database", metavar="URL", help="the queue in PostgreSQL instead of SQLite in DIR")
    parser.add_argument("--workers", type=positive, metavar="N", default=1, help="studies at the same time")
    parser.add_argument(
        "--listen",
        type=_address,
        metavar="HOST:PORT",
        default=("127.0.0.1", 8080),
        help="where /healthz, /metrics and /worklist are (default: 127.0.0.1:8080)",
    )
    add_analysis_options(parser)
    parser.set_defaults(work=lambda options: _watch(options, study_options(options)))


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no HOST:PORT")
    return host, int(port)


def _watch(options: argparse.Namespace, study: StudyOptions) -> int:
    with extra_needed("serve"):
        from fracture_map.supervise import signals_noted
        from fracture_map.watch.service import WatchOptions, watch
        from fracture_map.watch.settings import read_settings

    wanted = WatchOptions(
        dicomweb=options.dicomweb,
        state=options.state,
        study=study,
        orthanc=options.orthanc,
        database=options.database,
        settings=read_settings(options.settings),
        workers=options.workers,
        listen=options.listen,
    )
    with signals_noted() as stop:
        watch(wanted, lambda: stop.signal is not None)
    return 0
