"""app.json and pkg.json, made from what the software already says of itself.

The version is `cspine.__version__`, the resources stand in app.yaml, the models are the bundles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import cspine
from cspine.settings import BUNDLES, TIMEOUT_S
from fracture_map.map import layout

API_VERSION: Final = "1.0.0"
"""Of the manifests: the MAP specification 1.0."""


def app_manifest() -> dict[str, Any]:
    """app.json: how the application is run, and what it takes and gives."""
    return {
        "apiVersion": API_VERSION,
        "type": "application",
        "version": cspine.__version__,
        "command": layout.COMMAND,
        "workingDirectory": layout.WORK_DIR,
        "environment": dict(layout.ENVIRONMENT),
        "input": {"path": layout.INPUT, "formats": ["file"]},
        "output": {"path": layout.OUTPUT, "format": "file"},
        "timeout": round(TIMEOUT_S),
        "readiness": _probe(),
        "liveness": _probe(),
        "sdk": "monai-deploy",
        "sdkVersion": version("monai-deploy-app-sdk"),
    }


def package_manifest(models: Path) -> dict[str, Any]:
    """pkg.json: what the package holds, and what it needs to run.

    Args:
        models: the folder of the bundles.

    Raises:
        ModelError: a bundle is missing or damaged.
    """
    from cspine.models.bundle import load_bundle

    bundles = [load_bundle(models, name) for name in BUNDLES]  # verifies the hashes of their weights
    return {
        "apiVersion": API_VERSION,
        "version": cspine.__version__,
        "applicationRoot": layout.APP_ROOT,
        "modelRoot": layout.MODEL_ROOT,
        "models": [{"name": bundle.name, "path": bundle.name} for bundle in bundles],
        "resources": _resources(),
    }


def encode(manifest: Mapping[str, Any]) -> str:
    """A manifest as it stands in the image."""
    return json.dumps(manifest, indent=2) + "\n"


def config_text() -> str:
    """app.yaml."""
    return files("fracture_map").joinpath("app.yaml").read_text("utf-8")


def _resources() -> dict[str, Any]:
    import yaml

    resources: dict[str, Any] = yaml.safe_load(config_text())["resources"]
    return resources


def _probe() -> dict[str, Any]:
    """The light parent process answers as soon as the container can run anything at all."""
    return {
        "type": "command",
        "command": [layout.ENTRY, "--version"],
        "initialDelaySeconds": 1,
        "periodSeconds": 60,
        "timeoutSeconds": 10,
        "failureThreshold": 3,
    }
