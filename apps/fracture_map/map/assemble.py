"""Lay the tree of a MAP's image: manifests, models, configuration, entry script.

``python -m fracture_map.map.assemble ROOT MODELS ENTRY_SCRIPT`` does it while the image is built, with ``/``
as ROOT; the tests do the same into a folder.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cspine.settings import BUNDLES
from fracture_map.map import layout
from fracture_map.map.manifests import app_manifest, config_text, encode, package_manifest

_EMPTY_FOLDERS: Final = (layout.INPUT, layout.OUTPUT, layout.LOGS)


def assemble(root: Path, models: Path, entry_script: Path) -> None:
    """Write everything under `root` that makes an image a MAP, but for code and documents.

    All of it can be read by every user and written by none: the container may run as any of them.

    Args:
        root: of the image's file system.
        models: the folder of the bundles.
        entry_script: the file that becomes the entry point.

    Raises:
        ModelError: a bundle is missing or damaged.
    """
    texts = {
        layout.APP_JSON: encode(app_manifest()),
        layout.PKG_JSON: encode(package_manifest(models)),
        layout.CONFIG: config_text(),
        layout.ENTRY: entry_script.read_text("utf-8"),
    }
    for path, text in texts.items():
        inside(root, path).parent.mkdir(parents=True, exist_ok=True)
        inside(root, path).write_text(text, "utf-8")
        inside(root, path).chmod(0o755 if path == layout.ENTRY else 0o644)
    for folder in _EMPTY_FOLDERS:
        inside(root, folder).mkdir(parents=True, exist_ok=True)
    target = inside(root, layout.MODEL_ROOT)
    for name in BUNDLES:
        shutil.copytree(models / name, target / name, copy_function=shutil.copyfile)
    _let_everybody_read(target)


def inside(root: Path, path: str) -> Path:
    """The place under `root` of an absolute path of the image."""
    return root / path.lstrip("/")


def _let_everybody_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main(arguments: Sequence[str]) -> int:
    """Lay the tree that the arguments name."""
    root, models, entry_script = map(Path, arguments)
    assemble(root, models, entry_script)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
