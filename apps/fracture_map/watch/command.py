"""``fracture-map watch``: its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fracture_map.arguments import add_analysis_options, add_workers, study_options
from fracture_map.extras import extra_needed


def add_watch(commands: Any) -> None:
    """Add the subcommand.

    Args:
        commands: the subparsers of the command.
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
    add_workers(parser, default=1)
    parser.add_argument(
        "--listen",
        type=_address,
        metavar="HOST:PORT",
        default=("127.0.0.1", 8080),
        help="where /healthz, /metrics and /worklist are (default: 127.0.0.1:8080)",
    )
    add_analysis_options(parser)
    parser.set_defaults(work=_watch)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no HOST:PORT")
    return host, int(port)


def _watch(options: argparse.Namespace) -> int:
    with extra_needed("serve"):
        from fracture_map.supervise import signals_noted
        from fracture_map.watch.service import WatchOptions, watch
        from fracture_map.watch.settings import read_settings

    wanted = WatchOptions(
        dicomweb=options.dicomweb,
        state=options.state,
        study=study_options(options),
        orthanc=options.orthanc,
        database=options.database,
        settings=read_settings(options.settings),
        workers=options.workers,
        listen=options.listen,
    )
    with signals_noted() as stop:
        watch(wanted, lambda: stop.signal is not None)
    return 0
