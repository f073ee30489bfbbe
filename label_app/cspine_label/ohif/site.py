"""What the viewer is told about this server, and what the browser is allowed to do in it."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cspine.anatomy import CERVICAL
from cspine.dicom.segmentation import LEVEL_RGB
from cspine.errors import UsageError

PANEL_FOLDER: Final = Path(__file__).parent / "static"
WORKER_POLICY: Final = "default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'"
"""For the build's scripts, where a policy counts only in workers: its JPEG decoders make functions from text
there, away from the page."""
_INLINE_SCRIPT: Final = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


def stock_build() -> Path:
    """The folder of OHIF's static build inside MONAI Label's package, which is not imported for it.

    Raises:
        UsageError: MONAI Label is not installed, or was installed without OHIF.
    """
    found = importlib.util.find_spec("monailabel")
    if found is None or found.origin is None:
        raise UsageError("MONAI Label, which brings OHIF, is not installed; run `make label`.")
    build = Path(found.origin).parent / "endpoints" / "static" / "ohif"
    if not (build / "index.html").is_file():
        raise UsageError("This MONAI Label came without OHIF; install the released wheel with `make label`.")
    return build


@dataclass(frozen=True)
class OhifSite:
    """What one server offers to OHIF.

    Attributes:
        dicomweb_url: root of the PACS's DICOMweb services; None where the studies lie in a local folder,
            which OHIF cannot read.
        dicomweb_login: user and password for the PACS; they never reach the browser.
        model: the segmentation model that Run calls.
        strategy: the active learning strategy that Next case asks.
        build: OHIF's static build.
    """

    dicomweb_url: str | None
    dicomweb_login: tuple[str, str] | None = field(default=None, repr=False)
    model: str = "cspine_ct_segmentation"
    strategy: str = "uncertainty"
    build: Path = field(default_factory=stock_build)


def app_config() -> str:
    """The script by which OHIF is configured and our panel is loaded beside it."""
    return f"window.config = {json.dumps(_viewer_config())};\nimport('/ohif/cspine/main.js');\n"


def panel_settings(site: OhifSite) -> str:
    """The module that tells our panel model, strategy, and the levels with their numbers and colours."""
    levels = [{"name": str(level), "value": int(level), "rgb": list(LEVEL_RGB[level])} for level in CERVICAL]
    settings = {"model": site.model, "strategy": site.strategy, "levels": levels}
    return f"export const site = {json.dumps(settings)};\n"


def _viewer_config() -> dict[str, object]:
    """OHIF's own settings: one DICOMweb source, reached through this server."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "dicomweb",
        "configuration": {
            "friendlyName": "PACS",
            "name": "pacs",
            "qidoRoot": "/proxy/dicom/qido",
            "wadoRoot": "/proxy/dicom/wado",
            "wadoUriRoot": "/proxy/dicom/wado",
            "qidoSupportsIncludeField": True,
            "supportsReject": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "dicomUploadEnabled": False,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": False},
        },
    }
    return {
        "routerBasename": "/ohif/",
        "showStudyList": True,
        "extensions": [],
        "modes": [],
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": True,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        # The first stroke in another plane paints; by default it would only activate that plane.
        "activateViewportBeforeInteraction": False,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "dicomweb",
        "dataSources": [source],
    }


def content_security_policy(build: Path) -> str:
    """The policy for every page of the viewer: this server only; OHIF's own inline scripts by their hash."""
    page = (build / "index.html").read_text(encoding="utf-8")
    digests = [hashlib.sha256(text.encode()).digest() for text in _INLINE_SCRIPT.findall(page)]
    inline = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'wasm-unsafe-eval' {inline}".strip(),
            "worker-src 'self' blob:",
            "connect-src 'self' data: blob:",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "style-src 'self' 'unsafe-inline'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )
