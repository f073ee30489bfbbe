"""A root folder and an OCI archive of the MAP, assembled by what assembles the image."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cspine
from cspine.settings import models_dir
from fracture_map.map import layout
from fracture_map.map.assemble import assemble, inside

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker" / "map"


@dataclass(frozen=True)
class MapRoot:
    """A root folder with the configuration that its image would have."""

    folder: Path
    config: dict[str, Any]

    def path(self, path: str) -> Path:
        return inside(self.folder, path)

    def edit_json(self, path: str, change: Callable[[dict[str, Any]], None]) -> None:
        document = json.loads(self.path(path).read_text())
        change(document)
        self.path(path).write_text(json.dumps(document))

    def write_config(self, file: Path) -> Path:
        file.write_text(json.dumps([self.config]))
        return file


def dockerfile_config() -> dict[str, Any]:
    """What the last stage of the Dockerfile sets, as `docker image inspect` prints it."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").replace("${VERSION}", cspine.__version__)
    last = text[text.rindex("FROM base") :]
    found = {key: shlex.split(" ".join(re.findall(rf"^{key} (.*)$", last, re.M))) for key in ("LABEL", "ENV")}
    (user,) = re.findall(r"^USER (\S+)$", last, re.M)
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", last, re.M)
    return {
        "Os": "linux",
        "Architecture": "amd64",
        "Config": {
            "User": user,
            "Entrypoint": json.loads(entrypoint),
            "Env": found["ENV"],
            "Labels": dict(item.split("=", 1) for item in found["LABEL"]),
        },
    }


def bill(*names: str) -> str:
    return json.dumps({"bomFormat": "CycloneDX", "components": [{"name": name} for name in names]})


@pytest.fixture
def map_root(tmp_path) -> MapRoot:
    """What `assemble` lays, beside what the Dockerfile lays by other means."""
    root = MapRoot(tmp_path / "root", dockerfile_config())
    assemble(root.folder, models_dir(), DOCKER / "tools")
    others = {
        "/usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
        f"{layout.VENV}/pyvenv.cfg": "home = /usr/bin\nversion = 3.11.2\n",
        f"{layout.APP_ROOT}fracture_map/__main__.py": "code\n",
        f"{layout.DOCS}README.md": "text\n",
        f"{layout.DOCS}LICENSE": "text\n",
        layout.SBOM: bill("torch", "monai", "holoscan-cu13", "pydicom", "highdicom"),
        layout.DEBIAN_SBOM: bill("libc6"),
        layout.THIRD_PARTY: "text\n",
    }
    for path, text in others.items():
        root.path(path).parent.mkdir(parents=True, exist_ok=True)
        root.path(path).write_text(text)
    root.path("/etc/os-release").symlink_to("../usr/lib/os-release")
    return root


@dataclass(frozen=True)
class Archives:
    """Writes OCI archives."""

    folder: Path

    def write(self, config: dict[str, Any], *layers: bytes, name: str = "image.tar") -> Path:
        blobs: dict[str, bytes] = {}

        def blob(data: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(data).hexdigest()
            blobs[f"blobs/sha256/{digest}"] = data
            return {"digest": f"sha256:{digest}", "size": len(data)}

        oci = {"os": "linux", "architecture": "amd64", "config": config["Config"]}
        manifest = {"config": blob(json.dumps(oci).encode()), "layers": [blob(layer) for layer in layers]}
        other = blob(b"{}") | {"platform": {"os": "unknown", "architecture": "unknown"}}
        nested = {"manifests": [other, blob(json.dumps(manifest).encode())]}
        blobs["index.json"] = json.dumps({"manifests": [blob(json.dumps(nested).encode())]}).encode()
        with tarfile.open(self.folder / name, "w") as archive:
            for path, data in blobs.items():
                archive.addfile(member(path, len(data)), io.BytesIO(data))
        return self.folder / name


def member(path: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size = size
    return info


@pytest.fixture
def archives(tmp_path) -> Archives:
    """A function from configuration and layers to an OCI archive."""
    return Archives(tmp_path)


@pytest.fixture
def layer_of() -> Callable[..., bytes]:
    """A function from a folder, or from empty files by name, to a layer (gzip)."""

    def make(folder: Path | None = None, *empty: str) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as layer:
            if folder is not None:
                layer.add(folder, ".")
            for path in empty:
                layer.addfile(member(path, 0))
        return gzip.compress(stream.getvalue(), 1)

    return make
