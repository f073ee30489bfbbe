"""What the routes share: the desk, who asks, JSON parameters, and uploads."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Request, UploadFile

from cspine.errors import UsageError
from cspine_label.desk import Desk
from cspine_label.errors import NotAllowedError
from cspine_label.images import NIFTI, NRRD, RAW, suffix_of
from cspine_label.users import User


def desk_of(request: Request) -> Desk:
    """The desk that the server was started with."""
    desk: Desk = request.app.state.desk
    return desk


def user_of(request: Request) -> User:
    """Who asks, as the gate found out."""
    user: User = request.state.user
    return user


def who_asks(request: Request, params: Mapping[str, Any]) -> str:
    """Whom a case is leased to: the user or, without users, what the client calls itself, or where it is."""
    name = user_of(request).name or str(params.get("client_id") or "")
    return name or (request.client.host if request.client else "unknown")


def require_admin(request: Request) -> None:
    """Refuse who may only annotate.

    Raises:
        NotAllowedError: they are no admin.
    """
    if not user_of(request).is_admin:
        raise NotAllowedError("Only an admin may train, stop a training, or promote.")


def json_object(text: str | None) -> dict[str, Any]:
    """The parameters of a form.

    Raises:
        UsageError: no JSON object.
    """
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        raise UsageError("The parameters are no valid JSON.") from None
    if not isinstance(found, dict):
        raise UsageError("The parameters are no JSON object.")
    return found


@contextmanager
def uploaded(upload: UploadFile) -> Iterator[Path]:
    """The file that a client sent, under a name of our own, while the body runs."""
    # Of the client's name only the ending counts: 3D Slicer sends whole paths.
    ending = suffix_of(upload.filename or "", (*NIFTI, *NRRD, *RAW, ".dcm")) or ".unknown"
    with tempfile.TemporaryDirectory(prefix="cspine-label-") as folder:
        path = Path(folder) / f"upload{ending}"
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file)
        yield path
