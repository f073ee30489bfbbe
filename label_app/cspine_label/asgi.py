"""The server: our routes, OHIF, and nothing else of MONAI Label's own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cspine import __version__
from cspine.errors import CspineError
from cspine_label.desk import Desk
from cspine_label.errors import status_of
from cspine_label.gate import Gate, Names
from cspine_label.ohif import OhifSite, ohif_routes
from cspine_label.routes import annotate, datastore, learn, login
from cspine_label.users import Users

log = logging.getLogger(__name__)


def monai_app(app_dir: Path, studies: str, conf: dict[str, Any]) -> Any:
    """The MONAI Label app of ``label_app/main.py``, found and started as MONAI Label does it."""
    from cspine_label.compat import install_shims

    install_shims()
    from monailabel.interfaces.utils.app import app_instance

    return app_instance(app_dir=str(app_dir), studies=studies, conf=conf)


def server(monai: Any, users: Users | None, names: Names) -> FastAPI:
    """The ASGI application around a MONAI Label app.

    Args:
        monai: from `monai_app`.
        users: who may log in; None asks nobody.
        names: by which it may be called.
    """
    desk: Desk = monai.desk

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        desk.open()
        yield
        desk.close()

    app = FastAPI(title="Fracture Map labels", version=__version__, lifespan=lifespan)
    app.state.monai, app.state.desk, app.state.users = monai, desk, users
    for routes in (annotate, datastore, learn, login):
        app.include_router(routes.router)
    login_of_pacs = (desk.setup.login.user, desk.setup.login.password) if desk.setup.login else None
    app.router.routes += ohif_routes(
        OhifSite(desk.setup.studies if desk.setup.is_pacs else None, login_of_pacs)
    )
    app.add_middleware(Gate, users=users, names=names)
    app.add_exception_handler(CspineError, _deliberate)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _other)
    app.add_exception_handler(Exception, _defect)
    return app


async def _deliberate(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CspineError)
    return JSONResponse({"detail": str(error)}, status_code=status_of(error))


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse(
        {"detail": f"The request's '{where}' is not usable: {first['msg']}."}, status_code=422
    )


async def _other(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    known = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    return JSONResponse(
        {"detail": known.get(error.status_code, str(error.detail))}, status_code=error.status_code
    )


async def _defect(_: Request, error: Exception) -> JSONResponse:
    # The text of an unknown error may quote a patient; where it happened does not.
    log.error("a defect: %s", type(error).__name__)
    return JSONResponse({"detail": "A defect of the label server; its log says where."}, status_code=500)
