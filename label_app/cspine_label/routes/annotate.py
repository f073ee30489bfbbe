"""Asking for a case, running a model on it, and what is said of its fractures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from requests_toolbelt import MultipartEncoder
from starlette.background import BackgroundTask

from cspine.errors import UsageError
from cspine_label.answers import Answer, Wish, answer, check_model
from cspine_label.fractures import read_annotations
from cspine_label.routes.common import desk_of, json_object, who_asks

router = APIRouter(tags=["Annotating"])

OUTPUTS = ("all", "image", "json", "dicom_seg")


@dataclass
class Asked:
    """The query of an inference."""

    image: str = ""
    output: str = "all"


@router.get("/health")
async def health() -> dict[str, str]:
    """That the server lives."""
    return {"status": "up"}


@router.get("/info/")
def info(request: Request) -> dict[str, Any]:
    """Models, labels, strategies, scores and counts."""
    found: dict[str, Any] = request.app.state.monai.info()
    desk = desk_of(request)
    return {
        **found,
        "active": desk.shelf.active,
        "outbox": desk.saving.outbox.waiting() if desk.saving.outbox else [],
    }


@router.post("/activelearning/{strategy}")
def next_case(
    request: Request, strategy: str, params: Annotated[dict[str, Any] | None, Body()] = None
) -> dict[str, Any]:
    """The next case for who asks; without an id where there is none."""
    return desk_of(request).next_case(strategy, who_asks(request, params or {}))


@router.post("/infer/{model}")
def infer(
    request: Request,
    model: str,
    asked: Annotated[Asked, Depends()],
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Run a model on a case of the datastore."""
    check_model(model)
    if asked.output not in OUTPUTS:
        raise UsageError(f"There is no output '{asked.output}'; choose {', '.join(OUTPUTS)}.")
    if file is not None or not asked.image:
        raise UsageError("Name a case of the datastore; an image is added with PUT /datastore/.")
    wanted, desk = json_object(params), desk_of(request)
    who = who_asks(request, wanted)
    if asked.output == "dicom_seg":
        return _dicom(desk, model, asked.image, who)
    return _sent(answer(desk, model, asked.image, Wish.of(wanted), who), asked.output)


def _sent(found: Answer, output: str) -> Response:
    if output == "json":
        _forget(found)
        return JSONResponse(found.params)
    if output == "image":
        return FileResponse(found.file, background=BackgroundTask(_forget, found))
    with found.file.open("rb") as file:
        parts = MultipartEncoder(
            {
                "params": (None, json.dumps(found.params), "application/json"),
                "image": (found.file.name, file.read(), "application/octet-stream"),
            }
        )
    _forget(found)
    return Response(parts.to_string(), media_type=parts.content_type)


def _forget(found: Answer) -> None:
    shutil.rmtree(found.file.parent, ignore_errors=True)


def _dicom(desk: Any, model: str, case_id: str, who: str) -> Response:
    """The network's label as a DICOM Segmentation, as the hospital's application writes it."""
    from dataclasses import replace

    from cspine.dicom import build_segmentation, to_bytes
    from cspine.settings import SEGMENTATION

    if model != SEGMENTATION:
        raise UsageError(f"Only {SEGMENTATION} gives a DICOM Segmentation.")
    image, mask = desk.segment(case_id, who)
    if image.series is None:
        raise UsageError("A DICOM Segmentation needs images in DICOM; this case is a NIfTI file.")
    findings, _ = desk.inference.find_fractures(image, mask)
    written = build_segmentation(image.series, mask, replace(findings, study_uid=image.series.study_uid))
    if written is None:
        raise UsageError("No cervical vertebra was found in the images.")
    return Response(to_bytes(written), media_type="application/dicom")


@router.get("/fractures")
def fractures(request: Request, image: str) -> dict[str, Any]:
    """What was said of the fractures of a case."""
    return desk_of(request).fractures(image)


@router.put("/fractures")
def annotate(request: Request, image: str, said: Annotated[Any, Body()]) -> dict[str, Any]:
    """Say it, by level."""
    return desk_of(request).annotate(image, read_annotations(said), who_asks(request, {}))


@router.get("/history")
def history(request: Request, last: int = 200) -> list[dict[str, Any]]:
    """What was asked and answered, oldest first."""
    return desk_of(request).history.events(max(1, min(last, 10_000)))
