"""``cspine-label``: the label server, its users, and samples for the fracture classifier's training."""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cspine.errors import CspineError, UsageError
from cspine.settings import DEVICES

APP_DIR: Final = Path(__file__).parents[1]
PORT: Final = 8000
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
PASSWORD_VARIABLE: Final = "CSPINE_LABEL_PASSWORD"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, with one sentence on stderr where it failed."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        commands = {"serve": serve, "add-user": add_user, "export-crops": export_crops}
        commands[options.command](options)
    except CspineError as error:
        print(f"cspine-label: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"cspine-label: '{error.name}' is not installed here; run `make label`.", file=sys.stderr)
        return UsageError.exit_code
    return 0


def serve(options: argparse.Namespace) -> None:
    """Start the server; returns when it is stopped."""
    users = _users(options)
    if options.host not in LOOPBACK and users is None and not options.open_to_all:
        raise UsageError(
            f"At {options.host} anybody in the network could read and change images and labels; add users "
            "with `cspine-label add-user` and name their file with --users, or say --open-to-all."
        )
    import uvicorn

    from cspine_label.asgi import monai_app, server
    from cspine_label.gate import Names

    # They log addresses, which hold UIDs, and what clients send.
    for name in ("monailabel", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    monai = monai_app(options.app_dir, options.studies, _conf(options))
    app = server(monai, users, Names.of(options.host, options.public_url))
    _announce(options, is_pacs=monai.desk.setup.is_pacs, with_users=users is not None)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", access_log=False)


def _users(options: argparse.Namespace) -> Any:
    from cspine_label.users import Users

    if options.users is None:
        return None
    users = Users(options.users)
    if users.is_empty:
        raise UsageError(f"'{options.users}' holds no user; add one with `cspine-label add-user`.")
    return users


def _conf(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "workspace": options.workspace,
        "bundles": options.bundles,
        "device": options.device,
        "user": options.pacs_user,
        "password": os.environ.get(PASSWORD_VARIABLE, ""),
    }
    return {name: str(value) for name, value in given.items() if value}


def _announce(options: argparse.Namespace, *, is_pacs: bool, with_users: bool) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = (options.public_url or f"http://{host}:{options.port}").rstrip("/")
    print(f"Studies:   {options.studies}")
    print(f"3D Slicer: {address}   (module MONAI Label, 'MONAI Label server')")
    ohif = f"{address}/ohif/next   (all studies: {address}/ohif/)"
    print(f"OHIF:      {ohif if is_pacs else 'needs a PACS: STUDIES=http://.../dicom-web'}")
    print(f"Login:     {'name and password' if with_users else 'none'}", flush=True)


def add_user(options: argparse.Namespace) -> None:
    """Add a user; the password comes from the terminal, or from a pipe."""
    from cspine_label.users import Users

    asked = sys.stdin.isatty()
    password = getpass.getpass() if asked else sys.stdin.readline().rstrip("\n")
    Users(options.users).add(options.name, password, options.role)
    print(f"{options.name} may log in as {options.role}.")


def export_crops(options: argparse.Namespace) -> None:
    """Write what people said of fractures as samples of the classifier's training."""
    from cspine_label.desk import Desk
    from cspine_label.export import export
    from cspine_label.setup import Setup

    desk = Desk(Setup.of(options.studies, _conf(options)))
    print(f"{export(desk, options.output)} cases were written to '{options.output}'.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cspine-label", description="Teach the networks from OHIF and 3D Slicer."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("serve", help="start the label server")
    start.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: this machine only)"
    )
    start.add_argument("--port", type=int, default=PORT)
    start.add_argument("--users", type=Path, help="file of users; without it nobody is asked to log in")
    start.add_argument("--public-url", help="address that users know, where a proxy stands in front")
    start.add_argument("--open-to-all", action="store_true", help="listen beyond this machine without users")
    start.add_argument("--app-dir", type=Path, default=APP_DIR, help=argparse.SUPPRESS)
    crops = commands.add_parser(
        "export-crops", help="write fracture annotations as samples of the classifier"
    )
    crops.add_argument("output", type=Path, help="folder for the samples")
    for command in (start, crops):
        command.add_argument(
            "--studies", required=True, help="folder of NIfTI or DICOM, or http://.../dicom-web"
        )
        command.add_argument("--workspace", type=Path, help="folder for what the server keeps itself")
        command.add_argument("--bundles", type=Path, help="folder of the released bundles")
        command.add_argument("--device", choices=DEVICES, default="auto")
        command.add_argument("--pacs-user", help=f"of the PACS; the password comes from ${PASSWORD_VARIABLE}")
    user = commands.add_parser("add-user", help="add a user, or give one another password")
    user.add_argument("name")
    user.add_argument("--users", type=Path, required=True, help="file of users")
    user.add_argument("--role", default="annotator", help="annotator, or admin, who may train and promote")
    return parser


if __name__ == "__main__":
    sys.exit(main())
