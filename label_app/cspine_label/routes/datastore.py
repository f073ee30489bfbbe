"""Images and labels in and out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import FileResponse

from cspine.errors import UsageError
from cspine_label.cases import FINAL
from cspine_label.errors import ConflictError, NotAllowedError, UnknownNameError
from cspine_label.outbox import Upload
from cspine_label.routes.common import desk_of, json_object, require_admin, uploaded, who_asks

router = APIRouter(prefix="/datastore", tags=["Datastore"])


@router.get("/")
def overview(request: Request, output: str = "stats") -> Any:
    """Counts, or everything ("all"), or what would be trained on ("train")."""
    store = request.app.state.monai.datastore()
    outputs = {"stats": store.status, "all": store.json, "train": store.datalist}
    if output not in outputs:
        raise UsageError(f"There is no output '{output}'; choose {', '.join(outputs)}.")
    return outputs[output]()


@router.put("/")
def add_image(
    request: Request, file: Annotated[UploadFile, File()], image: str | None = None
) -> dict[str, str]:
    """Add a NIfTI file to a local folder."""
    with uploaded(file) as path:
        name = image or (file.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
        return {"image": desk_of(request).images.add(name, path)}


@router.delete("/")
def remove(request: Request, id: str, type: str = "label", tag: str = FINAL) -> dict[str, str]:  # noqa: A002
    """Remove a label of a local folder; images, and what is in a PACS, stay."""
    require_admin(request)
    desk = desk_of(request)
    if type != "label":
        raise NotAllowedError("Only labels can be removed here; images stay.")
    if desk.setup.is_pacs and tag == FINAL:
        raise NotAllowedError("What is in the PACS is removed there.")
    desk.labels.remove(id, tag)
    desk.history.note("removed", case=id, who=who_asks(request, {}), tag=tag)
    return {}


@router.put("/label")
def save_label(
    request: Request,
    image: str,
    label: Annotated[UploadFile, File()],
    tag: str = FINAL,
    params: Annotated[str, Form()] = "{}",
) -> dict[str, Any]:
    """Save a label."""
    said = json_object(params)
    with uploaded(label) as path:
        upload = Upload(image, tag or FINAL, path, who_asks(request, said), said)
        return {"image": image, "label": image, **desk_of(request).save(upload)}


@router.get("/image")
def image_file(request: Request, image: str) -> FileResponse:
    """The image of a case as NIfTI."""
    path = desk_of(request).image_file(image)
    return FileResponse(path, media_type="application/octet-stream", filename=f"image{_ending(path.name)}")


@router.get("/image/info")
def image_info(request: Request, image: str) -> dict[str, Any]:
    """What is known of a case."""
    return desk_of(request).case_info(image)


@router.get("/label")
def label_file(request: Request, label: str, tag: str = FINAL) -> FileResponse:
    """A label as NIfTI, on the grid of the image."""
    desk = desk_of(request)
    _known(request, label)
    path = desk.label_file(label, tag)
    return FileResponse(path, media_type="application/octet-stream", filename="label.nii.gz")


@router.get("/label/info")
def label_info(request: Request, label: str, tag: str = FINAL) -> dict[str, Any]:
    """What is known of a label."""
    _known(request, label)
    record = desk_of(request).labels.record(label, tag)
    if record is None:
        raise UnknownNameError(f"The case '{label}' has no {tag} label.")
    return dict(vars(record))


@router.get("/outbox")
def outbox(request: Request) -> list[dict[str, Any]]:
    """Labels that the PACS has not got yet, and those that it never will."""
    box = desk_of(request).saving.outbox
    return box.waiting() if box else []


@router.post("/outbox")
def send(request: Request) -> dict[str, int]:
    """Send them now."""
    box = desk_of(request).saving.outbox
    if box is None:
        raise ConflictError("There is no PACS; labels are in the local folder already.")
    return {"sent": box.send_all(), "waiting": len(box.entries())}


def _known(request: Request, case_id: str) -> None:
    desk_of(request).images.info(case_id)


def _ending(name: str) -> str:
    return ".nii" if name.endswith(".nii") else ".nii.gz"
