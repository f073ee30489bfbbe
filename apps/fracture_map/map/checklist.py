"""``fracture-map map-check``: an image held against the MAP specification 1.0 and this project's rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cspine.errors import InputError
from fracture_map.map.archive import read_archive
from fracture_map.map.house import HOUSE
from fracture_map.map.image import Image, ImageConfig, read_root
from fracture_map.map.specification import SPECIFICATION


@dataclass(frozen=True)
class Verdict:
    """What became of one line.

    Attributes:
        title: of the line.
        faults: a sentence each; empty where all is well.
        checked: False where the image's configuration is needed and not known.
    """

    title: str
    faults: tuple[str, ...]
    checked: bool = True


def verdicts(image: Image) -> tuple[Verdict, ...]:
    """Hold an image against every line."""
    return tuple(
        Verdict(line.title, (), checked=False)
        if line.needs_config and image.config is None
        else Verdict(line.title, tuple(line.faults(image)))
        for line in (*SPECIFICATION, *HOUSE)
    )


def read_image(source: Path, config: Path | None) -> Image:
    """Read an image.

    Args:
        source: the root folder of an image, or an OCI archive.
        config: what ``docker image inspect`` prints of it; an archive holds that itself.

    Raises:
        InputError: it cannot be read.
    """
    if not source.is_dir():
        return read_archive(source)
    if config is None:
        return read_root(source)
    try:
        document = json.loads(config.read_bytes())
    except (OSError, ValueError):
        raise InputError(
            f"'{config}' cannot be read as JSON; write it with `docker image inspect`."
        ) from None
    return read_root(source, ImageConfig.of(document))


def check(source: Path, config: Path | None, to: TextIO) -> None:
    """Check an image and print a line for each line of the checklist.

    Raises:
        InputError: it cannot be read, or breaks a line.
    """
    found = verdicts(read_image(source, config))
    for verdict in found:
        state = "FAIL" if verdict.faults else "ok" if verdict.checked else "-"
        to.write(f"{state:<6}{verdict.title}\n")
        to.writelines(f"      {fault}\n" for fault in verdict.faults)
    if left := sum(not verdict.checked for verdict in found):
        to.write(f"{left} lines need the configuration of the image: give an OCI archive, or --config.\n")
    if broken := sum(bool(verdict.faults) for verdict in found):
        raise InputError(f"The image breaks {broken} of {len(found)} lines of the checklist.")
