"""The samples of the fracture classifier, whoever makes them: phantoms, RSNA 2022 or another data set.

Training asks a `CropStudies` for the `CropStudy`s that are there and each of them for a `LabelledCrop` of one
vertebra. Two ways lead in:

- On disk, the usual one: write each study with `save_crops` as one ``NAME.npz`` into a folder and hand the
  folder over (``cspine train BUNDLE --data crops:FOLDER``, which holds ``training`` and ``calibration``).
  Files may be added while training runs: `CropFolder` sees them.
- In memory: give `PatchBatches` and `encode_studies` any other object that keeps to `CropStudies`.

What is known of a level may be less than a phantom tells. Where only "C5 is fractured" is known, but not
where, set `LabelledCrop.located` to False and leave `fracture` empty: such a vertebra teaches the level and
the study, but no plane and no heat map. A level without any label is left out of the study.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import Vertebra
from cspine.errors import InputError
from cspine.whole_files import write_whole

PATIENCE_S: Final = 900.0
"""How long to wait for the first studies."""


@dataclass(frozen=True, eq=False)
class LabelledCrop:
    """The crop of one vertebra with known truth; axes to head, back, left as in `VertebraCrop`.

    The grid is the one that `cspine.preprocess.geometry.crop_grid` makes of the vertebra's box and the
    classifier's `CropSpec`, on the grid's jittered or true box.

    Attributes:
        level: which vertebra.
        image: uint8 (planes, rows, columns); 0..255 is the crop's window.
        mask: bool, same shape: this vertebra.
        fracture: bool, same shape: its fractures; of boxes, whatever lies in them and on the vertebra.
        fractured: whether it has any.
        located: whether `fracture` shows all of them; False where only the level's label is known.
    """

    level: Vertebra
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    fracture: NDArray[np.bool_]
    fractured: bool
    located: bool = True


class CropStudy(Protocol):
    """One neck: the vertebrae that can be loaded."""

    @property
    def name(self) -> str:
        """Its own among all studies, the same in every run: chance is seeded with it."""
        ...

    @property
    def fractured(self) -> Mapping[Vertebra, bool]:
        """The levels that can be loaded, and whether each of them is fractured."""
        ...

    @property
    def located(self) -> Mapping[Vertebra, bool]:
        """The same levels, and whether their crops show where the fractures are."""
        ...

    def load(self, level: Vertebra, /) -> LabelledCrop:
        """Read one vertebra.

        Raises:
            InputError: it cannot be read.
        """
        ...


class CropStudies(Protocol):
    """The studies of a training, possibly still growing."""

    def refresh(self) -> Sequence[CropStudy]:
        """All studies that are there now, always in the same order."""
        ...

    def wait_for(self, count: int, /) -> Sequence[CropStudy]:
        """The same as soon as there are `count`.

        Raises:
            InputError: they did not come.
        """
        ...


@dataclass(frozen=True)
class CropFile:
    """A study on disk (`CropStudy`)."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @cached_property
    def fractured(self) -> Mapping[Vertebra, bool]:
        """The levels in the file and whether they are fractured."""
        return self._by_level("fractured")

    @cached_property
    def located(self) -> Mapping[Vertebra, bool]:
        """The same levels, and whether their crops show where the fractures are."""
        return self._by_level("located")

    def load(self, level: Vertebra) -> LabelledCrop:
        """Read one vertebra back.

        Raises:
            InputError: the file cannot be read or does not hold that level.
        """
        with _opened(self.path) as file:
            image = file[f"image_{level}"]
            mask, fracture = (
                np.unpackbits(file[f"{name}_{level}"], axis=-1, count=image.shape[-1]).astype(bool)
                for name in ("mask", "fracture")
            )
        return LabelledCrop(level, image, mask, fracture, self.fractured[level], self.located[level])

    def _by_level(self, name: str) -> dict[Vertebra, bool]:
        with _opened(self.path) as file:
            return {Vertebra(v): bool(f) for v, f in zip(file["levels"], file[name], strict=True)}


class CropFolder:
    """The studies in a folder, growing while somebody fills it (`CropStudies`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, CropFile] = {}

    def refresh(self) -> Sequence[CropFile]:
        """All studies that are there now, by name."""
        paths = sorted(self._folder.glob("*.npz"))
        for path in paths:
            self._known.setdefault(path, CropFile(path))
        return tuple(self._known[path] for path in paths)

    def wait_for(self, count: int) -> Sequence[CropFile]:
        """Wait until there are `count` studies.

        Raises:
            InputError: none came for a long time.
        """
        until = time.monotonic() + PATIENCE_S
        while len(found := self.refresh()) < count:
            if time.monotonic() > until:
                raise InputError(f"'{self._folder}' holds {len(found)} studies, {count} are needed to start.")
            time.sleep(1.0)
        return found


def save_crops(crops: Sequence[LabelledCrop], path: Path) -> None:
    """Write the crops of a study, at once or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    members: dict[str, Any] = {
        "levels": np.array([int(crop.level) for crop in crops]),
        "fractured": np.array([crop.fractured for crop in crops]),
        "located": np.array([crop.located for crop in crops]),
    }
    for crop in crops:
        members[f"image_{crop.level}"] = crop.image
        members[f"mask_{crop.level}"] = np.packbits(crop.mask, axis=-1)
        members[f"fracture_{crop.level}"] = np.packbits(crop.fracture, axis=-1)
    write_whole(path, lambda file: np.savez(file, **members))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path) as file:
            yield file
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"The crops '{path}' cannot be read: remove the file to make it again.") from error
