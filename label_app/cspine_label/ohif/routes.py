"""The routes under /ohif: the viewer, its settings, our panel, and the reading way to the PACS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cspine_label.ohif.proxy import DicomwebProxy
from cspine_label.ohif.site import (
    PANEL_FOLDER,
    WORKER_POLICY,
    OhifSite,
    app_config,
    content_security_policy,
    panel_settings,
)

_ALWAYS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_ASK_AGAIN: Final = {"Cache-Control": "no-cache"}
_MEDIA_TYPES: Final = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


def ohif_routes(site: OhifSite) -> list[BaseRoute]:
    """The routes of the viewer; they stand before MONAI Label's own.

    Args:
        site: what this server offers. Without a PACS every page says that OHIF needs one.
    """
    if site.dicomweb_url is None:
        return [Route("/ohif", _without_pacs), Route("/ohif/{path:path}", _without_pacs)]
    viewer = _Viewer(site)
    proxy = DicomwebProxy(site.dicomweb_url, site.dicomweb_login)
    return [
        Route("/ohif", lambda _: RedirectResponse("/ohif/")),
        Route("/ohif/app-config.js", viewer.config),
        Route("/ohif/cspine/site.js", viewer.settings),
        Route("/ohif/next", viewer.next_case),
        Route("/ohif/cspine/{path:path}", viewer.panel),
        Route("/ohif/{path:path}", viewer.build),
        Route("/proxy/dicom/{service}/{path:path}", proxy.__call__),
    ]


class _Viewer:
    """Files of the static build and of our panel, each with the headers that the browser needs."""

    def __init__(self, site: OhifSite) -> None:
        self._site = site
        self._headers = {**_ALWAYS, "Content-Security-Policy": content_security_policy(site.build)}

    def config(self, _: Request) -> Response:
        return self._script(app_config())

    def settings(self, _: Request) -> Response:
        return self._script(panel_settings(self._site))

    def next_case(self, _: Request) -> Response:
        return _file(PANEL_FOLDER / "next.html", {**self._headers, **_ASK_AGAIN})

    def panel(self, request: Request) -> Response:
        return _file(_inside(PANEL_FOLDER, request.path_params["path"]), {**self._headers, **_ASK_AGAIN})

    def build(self, request: Request) -> Response:
        """A file of the build; a path that names none and has no suffix is a page inside the viewer."""
        path: str = request.path_params["path"]
        asset = _inside(self._site.build, path)
        if asset is not None or Path(path).suffix:
            policy = {"Content-Security-Policy": WORKER_POLICY} if Path(path).suffix == ".js" else {}
            return _file(asset, {**self._headers, **policy})
        return _file(self._site.build / "index.html", {**self._headers, **_ASK_AGAIN})

    def _script(self, text: str) -> Response:
        return Response(text, media_type="text/javascript", headers={**self._headers, **_ASK_AGAIN})


def _inside(folder: Path, path: str) -> Path | None:
    """The file of that path if it lies inside the folder."""
    root = folder.resolve()
    asked = (root / path).resolve()
    return asked if asked.is_relative_to(root) and asked.is_file() else None


def _file(path: Path | None, headers: Mapping[str, str]) -> Response:
    if path is None:
        return JSONResponse({"detail": "The viewer has no such file."}, status_code=404)
    return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix), headers=headers)


def _without_pacs(_: Request) -> Response:
    text = (PANEL_FOLDER / "without-pacs.html").read_text(encoding="utf-8")
    return HTMLResponse(text, status_code=404, headers=_ALWAYS)
