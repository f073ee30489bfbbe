"""What this project asks of its image beyond the specification."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

from cspine.settings import BUNDLES
from fracture_map.map import layout
from fracture_map.map.image import Image, Kind
from fracture_map.map.line import Line, config_of

_READ_ONLY_TREES: Final = ("/etc/holoscan", "/opt/holoscan", "/var/holoscan")
_IN_SBOM: Final = ("torch", "monai", "holoscan-cu13", "pydicom", "highdicom")


def _debian_and_python(image: Image) -> Iterator[str]:
    system = image.text("/etc/os-release") or ""
    if not (re.search(r"^ID=debian$", system, re.M) and re.search(r'^VERSION_ID="12"$', system, re.M)):
        yield "The image is not Debian 12."
    if not re.search(r"^version = 3\.11\.", image.text(f"{layout.VENV}/pyvenv.cfg") or "", re.M):
        yield f"The Python of {layout.VENV} is not 3.11."


def _not_root(image: Image) -> Iterator[str]:
    user = config_of(image).user
    if not re.fullmatch(r"[1-9]\d*(:\d+)?", user):
        yield f"The image runs as user {user!r}; give a number other than 0, which Kubernetes can verify."


def _any_user(image: Image) -> Iterator[str]:
    """All can read and only root can change it: then it runs as any user, and is what was built."""
    for tree in _READ_ONLY_TREES:
        for path, entry in image.under(tree):
            readable = 0o005 if entry.kind is Kind.FOLDER else 0o004
            if entry.kind is not Kind.LINK and entry.mode & readable != readable:
                yield f"Not every user can read {path}."
            if entry.kind is not Kind.LINK and entry.mode & 0o022:
                yield f"Others than its owner can change {path}."


def _writes_nowhere(image: Image) -> Iterator[str]:
    environment = config_of(image).environment
    for name in ("HOME", "CUPY_CACHE_DIR", "MPLCONFIGDIR"):
        if not environment.get(name, "").startswith("/tmp"):
            yield f"{name} does not lie in /tmp, all that can be written when the root is read-only."
    if config_of(image).ports:
        yield "The image exposes network ports; it needs none."


def _weights(image: Image) -> Iterator[str]:
    for name in BUNDLES:
        folder = f"{layout.MODEL_ROOT}{name}"
        metadata = image.json(f"{folder}/configs/metadata.json")
        weights = image.entry(f"{folder}/models/model.pt")
        section = metadata.get("cspine") if isinstance(metadata, dict) else None
        expected = section.get("weights_sha256") if isinstance(section, dict) else None
        if weights is None or hashlib.sha256(weights.data).hexdigest() != expected:
            yield f"The weights of {name} are not those that its metadata name."


def _bills_of_materials(image: Image) -> Iterator[str]:
    python = _components(image, layout.SBOM)
    for name in _IN_SBOM:
        if name not in python:
            yield f"{layout.SBOM} does not list {name}."
    if "libc6" not in _components(image, layout.DEBIAN_SBOM):
        yield f"{layout.DEBIAN_SBOM} does not list the Debian packages."


def _components(image: Image, path: str) -> frozenset[str]:
    document: Any = image.json(path)
    if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
        return frozenset()
    return frozenset(str(component.get("name")) for component in document.get("components") or ())


def _licences(image: Image) -> Iterator[str]:
    if not image.text(layout.THIRD_PARTY):
        yield f"There is no {layout.THIRD_PARTY} with the licences of the libraries."
    for name in BUNDLES:
        for file in ("LICENSE", "docs/data_license.txt"):
            if not image.text(f"{layout.MODEL_ROOT}{name}/{file}"):
                yield f"{name} comes without {file}."


HOUSE: Final = (
    Line("Debian 12 and Python 3.11", _debian_and_python),
    Line("not root", _not_root, needs_config=True),
    Line("any user, nothing but root's to change", _any_user),
    Line("read-only root file system, no network", _writes_nowhere, needs_config=True),
    Line("the weights that the metadata name", _weights),
    Line("bills of materials", _bills_of_materials),
    Line("licences of libraries and weights", _licences),
)
