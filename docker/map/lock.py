"""Write the locks of the image: every wheel by version and hash, found by pip's own resolver.

``make map-lock`` runs it with Python 3.11 on x86-64, which is what the image has.

- ``requirements.lock``: what a site installs, torch with CUDA, from the Python Package Index alone.
- ``requirements-cpu.lock``: the same versions with the CPU build of torch, which the index does not have; pip
  must be told where it is (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL).
- ``tools.lock``: what the build uses to write bills of materials and licences.

A lock names files by hash and no place to get them from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parents[1]
OWN: Final = "fracture-map"
TOOLS: Final = ("cyclonedx-bom==7.2.1", "pip-licenses==5.0.0")
CPU: Final = "+cpu"
_INDEX_ONLY: Final = {"PIP_CONFIG_FILE": os.devnull}
_ELSEWHERE: Final = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")


def resolved(wanted: Sequence[str], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """What pip would install for `wanted` into an empty environment, without installing it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", "--report", str(report), *wanted]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        installed: list[dict[str, Any]] = json.loads(report.read_bytes())["install"]
    return sorted(installed, key=lambda item: str(item["metadata"]["name"]).lower())


def pins(installed: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Name to version and SHA-256, but for this project itself."""
    found = {}
    for item in installed:
        name = str(item["metadata"]["name"]).lower().replace("_", "-")
        if name != OWN:
            sha256 = str(item["download_info"]["archive_info"]["hashes"]["sha256"])
            found[name] = (str(item["metadata"]["version"]), sha256)
    return found


def write(name: str, what: str, found: Mapping[str, tuple[str, str]]) -> None:
    """Write one lock."""
    lines = [f"# {what} Written by `make map-lock`; do not edit."]
    lines += [f"{package}=={version} --hash=sha256:{sha}" for package, (version, sha) in found.items()]
    (FOLDER / name).write_text("\n".join(lines) + "\n", "utf-8")


def main() -> int:
    """Write the three locks."""
    index_only = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE} | _INDEX_ONLY
    cuda = pins(resolved(["."], index_only))
    write("requirements.lock", "Everything in the image, torch with CUDA.", cuda)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        same = [f"{name}=={version}" for name, (version, _) in cuda.items() if name != "torch"]
        constraints.write("\n".join([*same, f"torch=={cuda['torch'][0]}{CPU}"]) + "\n")
        constraints.flush()
        cpu = pins(resolved([".", "--constraint", constraints.name], os.environ))
    write("requirements-cpu.lock", "The same with the CPU build of torch.", cpu)
    write(
        "tools.lock",
        "What the build uses to write bills of materials and licences.",
        pins(resolved(TOOLS, index_only)),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
