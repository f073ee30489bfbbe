"""Reading from the PACS through this server: the browser needs no second address and sees no password."""

from __future__ import annotations

import logging
from typing import Final

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

_LOG: Final = logging.getLogger(__name__)
_RESOURCES: Final = frozenset({"studies", "series", "instances"})
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_KEPT_HEADERS: Final = ("content-type", "content-encoding", "content-length", "etag", "last-modified")


class DicomwebProxy:
    """Passes QIDO-RS and WADO-RS requests on to one PACS.

    Only GET, only below /studies, /series and /instances; the query and the accepted types go along, and what
    comes back is streamed as it is.
    """

    def __init__(self, url: str, login: tuple[str, str] | None) -> None:
        auth = httpx.BasicAuth(*login) if login else None
        self._root = url.rstrip("/")
        self._http = httpx.AsyncClient(auth=auth, timeout=_TIMEOUT)

    async def __call__(self, request: Request) -> Response:
        """Answer one request of the viewer."""
        path: str = request.path_params["path"].strip("/")
        parts = path.split("/")
        if parts[0] not in _RESOURCES or any(part in ("", ".", "..") for part in parts):
            return _refusal(404, "Only studies, series and instances of the PACS can be read here.")
        headers = {"Accept": request.headers.get("accept", "*/*"), "Accept-Encoding": "identity"}
        asked = self._http.build_request(
            "GET", f"{self._root}/{path}", params=request.query_params.multi_items(), headers=headers
        )
        try:
            answer = await self._send(asked)
        except httpx.TransportError as error:
            _LOG.warning("the PACS does not answer: %s", type(error).__name__)
            return _refusal(502, "The PACS does not answer; check that it runs, then try again.")
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers={name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers},
            background=BackgroundTask(answer.aclose),
        )

    async def _send(self, asked: httpx.Request) -> httpx.Response:
        """Ask; once more where the PACS closed, just then, the connection that it had kept open."""
        try:
            return await self._http.send(asked, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return await self._http.send(asked, stream=True)


def _refusal(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status_code=status)
