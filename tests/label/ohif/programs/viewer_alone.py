"""Serves OHIF's routes and nothing else: ``viewer_alone.py PORT [DICOMWEB_URL]``."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette

from cspine_label.ohif import OhifSite, ohif_routes

port, *dicomweb = sys.argv[1:]
uvicorn.run(
    Starlette(routes=ohif_routes(OhifSite(dicomweb[0] if dicomweb else None))),
    port=int(port),
    log_level="warning",
)
