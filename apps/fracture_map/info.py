"""``fracture-map info``: what this installation is made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TextIO

import cspine
from cspine.errors import ModelError
from cspine.settings import BUNDLES, PRODUCT

_PACKAGES: Final = (
    "monai-deploy-app-sdk",
    "holoscan-cu13",
    "monai",
    "torch",
    "nvidia-dali-cuda130",
    "numpy",
    "pydicom",
    "highdicom",
)
_SYNTAXES: Final = {
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
}


def gather(models: Path) -> dict[str, Any]:
    """Everything about this installation that support would ask for.

    Args:
        models: folder of the bundles.
    """
    return {
        "software": {"name": PRODUCT, "version": cspine.__version__},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "models_folder": str(models),
        "bundles": [_bundle(models, name) for name in BUNDLES],
        "devices": _devices(),
        "codecs": {name: _decoders(uid) for uid, name in _SYNTAXES.items()},
    }


def print_info(found: Mapping[str, Any], to: TextIO) -> None:
    """The same for people."""
    lines = [f"{found['software']['name']} {found['software']['version']}, Python {found['python']}", ""]
    lines += [f"{name:<24}{number or 'not installed'}" for name, number in found["packages"].items()]
    lines += ["", f"Bundles in {found['models_folder']}"]
    for bundle in found["bundles"]:
        state = bundle["problem"] or f"{bundle['version']}  sha256 {bundle['sha256']}"
        lines.append(f"{bundle['name']:<36}{state}")
    lines += ["", f"Devices: {', '.join(found['devices'])}"]
    lines += [f"{name:<24}{', '.join(names) or 'no decoder'}" for name, names in found["codecs"].items()]
    to.write("\n".join(lines) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _bundle(models: Path, name: str) -> dict[str, str | None]:
    from cspine.models.bundle import load_bundle

    try:
        bundle = load_bundle(models, name)
    except ModelError as error:
        return {"name": name, "version": None, "sha256": None, "problem": str(error)}
    return {"name": name, "version": bundle.version, "sha256": bundle.sha256, "problem": None}


def _devices() -> list[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(f"cuda:{k} {torch.cuda.get_device_name(k)}" for k in range(count))]


def _decoders(uid: str) -> list[str]:
    from pydicom.pixels.decoders.base import get_decoder

    return [*get_decoder(uid).available_plugins]
