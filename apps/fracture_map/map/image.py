"""What of an image the checklist looks at, wherever it was read from."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from cspine.errors import InputError

WANTED: Final = (
    "etc/holoscan",
    "opt/holoscan",
    "var/holoscan",
    "etc/os-release",
    "usr/lib/os-release",
    "opt/venv/pyvenv.cfg",
)
"""Of an image's two gigabytes only these files and folders are read."""
_LINKS: Final = 8


class Kind(Enum):
    """What a path of the image is."""

    FILE = auto()
    FOLDER = auto()
    LINK = auto()


@dataclass(frozen=True)
class Entry:
    """One path of the image.

    Attributes:
        kind: what it is.
        mode: permission bits.
        data: content of a file, target of a link.
    """

    kind: Kind
    mode: int
    data: bytes = b""


@dataclass(frozen=True)
class ImageConfig:
    """The configuration of an image (OCI image specification, config.md)."""

    os: str
    architecture: str
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    ports: tuple[str, ...]

    @classmethod
    def of(cls, document: Any) -> ImageConfig:
        """The configuration in an OCI config, or in what ``docker`` or ``podman image inspect`` print.

        Raises:
            InputError: there is none in it.
        """
        if isinstance(document, list) and document:
            document = document[0]
        lower = {key.lower(): value for key, value in document.items()} if isinstance(document, dict) else {}
        config = lower.get("config")
        if not isinstance(config, dict):
            raise InputError("The file holds no image configuration; write it with `docker image inspect`.")
        return cls(
            os=str(lower.get("os", "")),
            architecture=str(lower.get("architecture", "")),
            user=str(config.get("User") or ""),
            entrypoint=_strings(config.get("Entrypoint")),
            command=_strings(config.get("Cmd")),
            environment=dict(item.partition("=")[::2] for item in _strings(config.get("Env"))),
            labels={str(key): str(value) for key, value in (config.get("Labels") or {}).items()},
            ports=tuple(config.get("ExposedPorts") or ()),
        )


def _strings(value: Sequence[object] | None) -> tuple[str, ...]:
    return tuple(map(str, value or ()))


@dataclass(frozen=True)
class Image:
    """An image, as far as `WANTED` reaches.

    Attributes:
        entries: by path, without the leading slash.
        config: its configuration; None where only the root folder is known.
    """

    entries: Mapping[str, Entry]
    config: ImageConfig | None

    def entry(self, path: str) -> Entry | None:
        """What is at a path, links followed; None where nothing is."""
        key = path.strip("/")
        for _ in range(_LINKS):
            found = self.entries.get(key)
            if found is None or found.kind is not Kind.LINK:
                return found
            # An absolute target replaces all before it.
            target = posixpath.join("/", posixpath.dirname(key), found.data.decode("utf-8", "replace"))
            key = posixpath.normpath(target).strip("/")
        return None

    def text(self, path: str) -> str | None:
        """The text of a file; None where there is no such file, or no text in it."""
        found = self.entry(path)
        if found is None or found.kind is not Kind.FILE:
            return None
        try:
            return found.data.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def json(self, path: str) -> Any:
        """The content of a JSON file; None where there is none, or no JSON in it."""
        try:
            return json.loads(self.text(path) or "")
        except ValueError:
            return None

    def is_folder(self, path: str) -> bool:
        """Whether a path is a folder."""
        found = self.entry(path)
        return found is not None and found.kind is Kind.FOLDER

    def under(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Everything below a folder, with its path."""
        prefix = path.strip("/") + "/"
        yield from ((f"/{key}", entry) for key, entry in self.entries.items() if key.startswith(prefix))


def is_wanted(path: str) -> bool:
    """Whether a path (without leading slash) is looked at."""
    return any(path == wanted or path.startswith(f"{wanted}/") for wanted in WANTED)


def read_root(root: Path, config: ImageConfig | None = None) -> Image:
    """Read the root folder of an image, mounted or unpacked.

    Raises:
        InputError: a file cannot be read.
    """
    entries: dict[str, Entry] = {}
    try:
        for wanted in WANTED:
            start = root / wanted
            if start.is_symlink() or start.exists():
                below = sorted(start.rglob("*")) if start.is_dir() and not start.is_symlink() else ()
                for path in (start, *below):
                    entries[path.relative_to(root).as_posix()] = _entry_of(path)
    except OSError as error:
        raise InputError(f"The root folder cannot be read ({error.strerror}); read it as root.") from None
    return Image(entries, config)


def _entry_of(path: Path) -> Entry:
    mode = path.lstat().st_mode & 0o7777
    if path.is_symlink():
        return Entry(Kind.LINK, mode, str(path.readlink()).encode())
    if path.is_dir():
        return Entry(Kind.FOLDER, mode)
    return Entry(Kind.FILE, mode, path.read_bytes())
