"""One line of the checklist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fracture_map.map.image import Image, ImageConfig


@dataclass(frozen=True)
class Line:
    """One thing that an image must be.

    Attributes:
        title: what that is.
        faults: gives one sentence for each fault of an image.
        needs_config: whether that takes the image's configuration, which a root folder does not hold.
    """

    title: str
    faults: Callable[[Image], Iterator[str]]
    needs_config: bool = False


def config_of(image: Image) -> ImageConfig:
    """The configuration of an image, for lines that are only asked where there is one."""
    assert image.config is not None
    return image.config
