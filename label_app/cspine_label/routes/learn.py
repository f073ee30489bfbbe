"""Training, candidates, scores."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response

from cspine_label.errors import NotAllowedError, UnknownNameError
from cspine_label.routes.common import desk_of, require_admin, who_asks

router = APIRouter(tags=["Learning"])


@router.get("/train/")
def status(request: Request, all: bool = False, check_if_running: bool = False) -> Any:  # noqa: A002
    """The last training, or all since the server was started."""
    training = desk_of(request).training
    runs = training.status()
    if not runs or (check_if_running and not training.is_running):
        raise UnknownNameError("No training runs." if runs else "No training was started yet.")
    return runs if all else runs[-1]


@router.post("/train/{model}")
def start(
    request: Request, model: str, params: Annotated[dict[str, Any] | None, Body()] = None
) -> dict[str, Any]:
    """Train a candidate on all final labels."""
    require_admin(request)
    desk = desk_of(request)
    desk.training.start(model, params or {})
    return desk.training.status()[-1]


@router.delete("/train/")
def stop(request: Request) -> dict[str, Any]:
    """Stop the training; its candidate is dropped."""
    require_admin(request)
    training = desk_of(request).training
    if not training.is_running:
        raise UnknownNameError("No training runs.")
    training.stop()
    return training.status()[-1]


@router.get("/model/")
def candidates(request: Request) -> dict[str, Any]:
    """The weights in use, and the candidates with their evaluations."""
    shelf = desk_of(request).shelf
    found = [
        {"name": c.name, "model": c.model, "better": c.better, **c.evaluation} for c in shelf.candidates()
    ]
    return {"active": shelf.active, "candidates": found}


@router.post("/model/promote")
def promote(request: Request, candidate: str, even_if_worse: bool = False) -> dict[str, str]:
    """Put a candidate, or "released", into use."""
    require_admin(request)
    desk = desk_of(request)
    desk.shelf.promote(candidate, even_if_worse=even_if_worse)
    desk.history.note("promoted", candidate=candidate, who=who_asks(request, {}))
    return {"active": desk.shelf.active}


@router.get("/scoring/")
def scoring_status(request: Request) -> dict[str, bool]:
    """Whether cases are being scored."""
    return {"running": desk_of(request).ranking.is_running}


@router.post("/scoring/{method}")
def score(request: Request, method: str) -> dict[str, Any]:
    """Score all cases."""
    return desk_of(request).rate(method)


@router.api_route("/session/{rest:path}", methods=["GET", "PUT", "POST", "DELETE"])
def no_sessions(rest: str) -> Response:
    """MONAI Label's sessions hold images outside the datastore, which is refused here."""
    return JSONResponse({"detail": str(_SESSIONS)}, status_code=_SESSIONS.status)


_SESSIONS = NotAllowedError("There are no sessions: add the image to the datastore with PUT /datastore/.")
