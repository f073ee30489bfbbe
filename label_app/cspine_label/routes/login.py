"""Logging in, as MONAI Label's clients do it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, Response

from cspine_label.routes.common import user_of
from cspine_label.users import Users

router = APIRouter(prefix="/auth", tags=["Login"])


@router.get("/")
def enabled(request: Request) -> dict[str, Any]:
    """Whether a login is needed."""
    return {"enabled": request.app.state.users is not None, "client_id": "", "realm": ""}


@router.post("/token")
def token(request: Request, username: str = Form(""), password: str = Form("")) -> Response:
    """A token for name and password."""
    users: Users | None = request.app.state.users
    if users is None:
        return JSONResponse({"access_token": None, "token_type": None})
    user = users.verify(username, password)
    if user is None:
        return JSONResponse({"detail": "The name or the password is wrong."}, status_code=401)
    return JSONResponse({"access_token": users.token_for(user), "token_type": "bearer"})


@router.get("/token/valid")
def valid(request: Request) -> dict[str, Any]:
    """Who the token belongs to."""
    user = user_of(request)
    return {"username": user.name, "roles": [user.role]}
