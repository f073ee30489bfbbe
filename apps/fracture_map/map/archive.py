"""Read an image from an OCI archive: what ``podman save --format oci-archive`` and ``docker save`` write."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from cspine.errors import InputError
from fracture_map.map.image import Entry, Image, ImageConfig, Kind, is_wanted

_INDEX: Final = "index.json"
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_NESTED: Final = 4


def read_archive(path: Path) -> Image:
    """Read the image of an OCI archive, for Linux on amd64 where it holds several.

    Raises:
        InputError: it is no OCI archive, or damaged.
    """
    try:
        with tarfile.open(path) as archive:
            manifest = _manifest(archive)
            config = ImageConfig.of(_blob_json(archive, manifest["config"]))
            entries: dict[str, Entry] = {}
            for layer in manifest["layers"]:
                with _blob(archive, layer) as stream, tarfile.open(fileobj=stream) as files:
                    _apply(files, entries)
    except tarfile.TarError:
        raise InputError(
            f"'{path.name}' is no tar archive with tar or gzip layers; write one with "
            "`podman save --format oci-archive` or `docker save`."
        ) from None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(
            f"'{path.name}' is no whole OCI archive ({type(error).__name__}); write it again with "
            "`podman save --format oci-archive` or `docker save` (25 or later)."
        ) from None
    return Image(entries, config)


def _manifest(archive: tarfile.TarFile) -> Any:
    with _member(archive, _INDEX) as stream:
        document = json.load(stream)
    for _ in range(_NESTED):
        if "layers" in document:
            return document
        document = _blob_json(archive, _preferred(document["manifests"]))
    raise ValueError("indexes in indexes")


def _preferred(descriptors: list[dict[str, Any]]) -> dict[str, Any]:
    """The image for this kind of machine; images that do not say for which they are count as such."""
    mine = ("linux", "amd64")
    for descriptor in descriptors:
        platform = descriptor.get("platform") or {"os": mine[0], "architecture": mine[1]}
        if (platform.get("os"), platform.get("architecture")) == mine:
            return descriptor
    raise ValueError("no image for linux/amd64")


def _blob_json(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> Any:
    with _blob(archive, descriptor) as stream:
        return json.load(stream)


@contextmanager
def _blob(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> Iterator[IO[bytes]]:
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    with _member(archive, f"blobs/{algorithm}/{digest}") as stream:
        yield stream


@contextmanager
def _member(archive: tarfile.TarFile, name: str) -> Iterator[IO[bytes]]:
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is no file")
    with stream:
        yield stream


def _apply(files: tarfile.TarFile, entries: dict[str, Entry]) -> None:
    """Lay one layer over those before it (OCI image specification, layer.md)."""
    for member in files:
        path = posixpath.normpath(member.name).lstrip("/")
        folder, name = posixpath.split(path)
        if name == _OPAQUE:
            _remove(entries, folder, itself=False)
        elif name.startswith(_WHITEOUT):
            _remove(entries, posixpath.join(folder, name.removeprefix(_WHITEOUT)), itself=True)
        elif is_wanted(path):
            if not member.isdir():
                _remove(entries, path, itself=True)
            entries[path] = _entry_of(files, member, entries)


def _entry_of(files: tarfile.TarFile, member: tarfile.TarInfo, entries: dict[str, Entry]) -> Entry:
    if member.isdir():
        return Entry(Kind.FOLDER, member.mode)
    if member.issym():
        return Entry(Kind.LINK, member.mode, member.linkname.encode())
    if member.islnk():
        return entries[posixpath.normpath(member.linkname).lstrip("/")]
    stream = files.extractfile(member)
    return Entry(Kind.FILE, member.mode, stream.read() if stream else b"")


def _remove(entries: dict[str, Entry], path: str, *, itself: bool) -> None:
    for key in [key for key in entries if key.startswith(f"{path}/") or (itself and key == path)]:
        del entries[key]
