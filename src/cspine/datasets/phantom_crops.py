"""Crops of synthetic necks for the fracture classifier: made once, kept on disk, read back one by one.

A worker process renders necks straight onto the classifier's crop grids (a whole CT of 100 million voxels
would be thrown away) while training already reads what is there. A neck is one file of about 5 MB; they go to
the folder that the user names, never into the repository.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec
from cspine.errors import CspineError, InputError, OutputError, UsageError
from cspine.preprocess.geometry import HEAD_BACK_LEFT_LPS, OrientedBox, crop_grid
from cspine.volume import FloatArray, Grid

if TYPE_CHECKING:
    import torch

    from cspine.phantom import Neck, PhantomProfile, Scanner

CENTER_JITTER_MM: Final = 4.0
SIZE_JITTER: Final = 0.10
"""Errors of the segmentation that the crop is cut from; winners of RSNA 2022 found them worth imitating."""
RECIPE: Final = "recipe.json"
NICENESS: Final = 10
"""Of the worker: training goes first."""


@dataclass(frozen=True, eq=False)
class LabelledCrop:
    """The crop of one vertebra of a neck with known truth; axes to head, back, left as in `VertebraCrop`.

    Attributes:
        level: which vertebra.
        image: uint8 (planes, rows, columns); 0..255 is the crop's window.
        mask: bool, same shape: this vertebra.
        fracture: bool, same shape: its fractures.
        fractured: whether it has any.
    """

    level: Vertebra
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    fracture: NDArray[np.bool_]
    fractured: bool


@dataclass(frozen=True)
class CropRecipe:
    """What a folder of crops was made with; another recipe needs another folder.

    Attributes:
        spec: of the crops.
        profile: ranges that necks and scanners are drawn from.
        first_seed, count: the necks.
        matched: keep the fractured levels and as many sound ones, not all seven.
    """

    spec: CropSpec
    profile: PhantomProfile
    first_seed: int
    count: int
    matched: bool = False

    def path(self, folder: Path, seed: int) -> Path:
        """The file of one neck."""
        return folder / f"neck-{seed:08d}.npz"


def make_crops(seed: int, recipe: CropRecipe) -> tuple[LabelledCrop, ...]:
    """Sample a neck and a scanner and render vertebrae on jittered crop grids, from head to feet."""
    from cspine.phantom import sample_neck, sample_scanner

    neck, scanner = sample_neck(seed, recipe.profile), sample_scanner(seed, recipe.profile)
    rng = np.random.default_rng([seed, 1])
    levels: list[Vertebra] = list(CERVICAL)
    if recipe.matched:
        sound = [v for v in CERVICAL if v not in neck.fractured]
        count = min(len(sound), max(1, len(neck.fractured)))
        levels = sorted([*neck.fractured, *rng.choice(np.array(sound), count, replace=False)])
    return tuple(
        render_crop(
            neck,
            Vertebra(v),
            crop_grid(jittered_box(neck, Vertebra(v), rng), recipe.spec),
            scanner,
            recipe.spec,
        )
        for v in levels
    )


def vertebra_box(neck: Neck, vertebra: Vertebra) -> OrientedBox:
    """The true box of a vertebra along the patient's axes."""
    low, high = np.asarray(neck.vertebra_box_lps_mm(vertebra), np.float64)
    return OrientedBox(HEAD_BACK_LEFT_LPS, (low + high) / 2, np.asarray((high - low)[::-1]))


def jittered_box(neck: Neck, vertebra: Vertebra, rng: np.random.Generator) -> OrientedBox:
    """The box as a segmentation with errors would give it."""
    box = vertebra_box(neck, vertebra)
    moved: FloatArray = box.center_lps_mm + rng.uniform(-CENTER_JITTER_MM, CENTER_JITTER_MM, 3)
    sized: FloatArray = box.size_mm * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER, 3)
    return OrientedBox(box.directions_lps, moved, sized)


def render_crop(neck: Neck, vertebra: Vertebra, grid: Grid, scanner: Scanner, spec: CropSpec) -> LabelledCrop:
    """Render one vertebra on a crop grid."""
    from cspine.phantom import render

    found = render(neck, grid, scanner)
    low, high = spec.window_hu
    scaled = (found.hu.numpy().astype(np.float32) - low) * (255 / (high - low))
    mask = found.labels == int(vertebra)
    fractured = vertebra in neck.fractured
    # Without the check a broken neighbour would leave a few voxels at the border.
    fracture = found.fracture.bool() & _own(found.labels, mask) & fractured
    return LabelledCrop(
        level=vertebra,
        image=np.clip(np.round(scaled), 0, 255).astype(np.uint8),
        mask=mask.numpy(),
        fracture=fracture.numpy(),
        fractured=fractured,
    )


def _own(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The vertebra and the gaps in it and close to it, without its neighbours."""
    import torch.nn.functional as F

    near = F.max_pool3d(mask[None, None].float(), 5, stride=1, padding=2)[0, 0] > 0
    return near & (mask | (labels == 0))


def save_crops(crops: Sequence[LabelledCrop], path: Path) -> None:
    """Write the crops of a neck, at once or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    members: dict[str, Any] = {
        "levels": np.array([int(crop.level) for crop in crops]),
        "fractured": np.array([crop.fractured for crop in crops]),
    }
    for crop in crops:
        members[f"image_{crop.level}"] = crop.image
        members[f"mask_{crop.level}"] = np.packbits(crop.mask, axis=-1)
        members[f"fracture_{crop.level}"] = np.packbits(crop.fracture, axis=-1)
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.savez(file, **members)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"'{path}' cannot be written: is the disk full or the folder read-only?") from error


def load_crop(path: Path, vertebra: Vertebra) -> LabelledCrop:
    """Read one vertebra of a neck back.

    Raises:
        InputError: the file cannot be read or does not hold that level.
    """
    with _opened(path) as file:
        image = file[f"image_{vertebra}"]
        mask, fracture = (
            np.unpackbits(file[f"{name}_{vertebra}"], axis=-1, count=image.shape[-1]).astype(bool)
            for name in ("mask", "fracture")
        )
        fractured = bool(file["fractured"][list(file["levels"]).index(int(vertebra))])
        return LabelledCrop(vertebra, image, mask, fracture, fractured)


def load_fractured(path: Path) -> dict[Vertebra, bool]:
    """The levels in a file and whether they are fractured.

    Raises:
        InputError: the file cannot be read.
    """
    with _opened(path) as file:
        return {Vertebra(v): bool(f) for v, f in zip(file["levels"], file["fractured"], strict=True)}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path) as file:
            yield file
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"The crops '{path}' cannot be read: remove the file to make it again.") from error


def claim_folder(folder: Path, recipe: CropRecipe) -> None:
    """Make the folder and note the recipe in it, or check that it was made with the same one.

    Raises:
        UsageError: the folder holds crops of another recipe.
        OutputError: it cannot be written.
    """
    wanted = json.loads(
        json.dumps(
            {name: value for name, value in asdict(recipe).items() if name not in ("first_seed", "count")}
        )
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RECIPE).exists():
            (folder / RECIPE).write_text(json.dumps(wanted, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be written: name another data folder.") from error
    if json.loads((folder / RECIPE).read_text("utf-8")) != wanted:
        raise UsageError(
            f"'{folder}' holds crops of another recipe: name another data folder or remove this one."
        )


def fill_folder(folder: Path, recipe: CropRecipe) -> None:
    """Make the necks of the recipe that are not there yet."""
    claim_folder(folder, recipe)
    for seed in range(recipe.first_seed, recipe.first_seed + recipe.count):
        path = recipe.path(folder, seed)
        if not path.exists():
            save_crops(make_crops(seed, recipe), path)


@contextmanager
def filling(jobs: Sequence[tuple[Path, CropRecipe]]) -> Iterator[None]:
    """Fill folders one after the other in a worker process while the body runs; it stops with the body.

    Raises:
        CspineError: the worker failed.
    """
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=(tuple(jobs),), daemon=True)
    worker.start()
    try:
        yield
        if worker.exitcode:
            raise CspineError(f"The worker that makes phantoms ended with exit code {worker.exitcode}.")
    finally:
        worker.terminate()
        worker.join()


def _work(jobs: Sequence[tuple[Path, CropRecipe]]) -> None:
    import torch

    os.nice(NICENESS)
    torch.set_num_threads(1)
    for folder, recipe in jobs:
        fill_folder(folder, recipe)
