"""Crops of synthetic necks for the fracture classifier: made once, kept on disk, read back one by one.

Around each vertebra a neck is rendered as a scanner delivers it, in its own slices and pixels, and resampled
onto the classifier's crop grid as an application does. A whole CT would be thrown away; a vertebra rendered
straight onto its crop's planes looks smoother than one between two thick slices, and a network that never saw
the latter takes them for fractures. Training already reads what is there. A study is one file of about 5 MB;
they go to the folder that the user names, never into the repository.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec
from cspine.datasets.crop_samples import LabelledCrop, save_crops
from cspine.datasets.phantom_spines import spl_grid
from cspine.datasets.planes import window_maxima
from cspine.errors import CspineError, UsageError
from cspine.phantom import (
    Anatomy,
    MeshAnatomy,
    Neck,
    PhantomImage,
    PhantomProfile,
    Scanner,
    render,
    sample_neck,
    sample_scanner,
)
from cspine.phantom.breaking import broken_elsewhere
from cspine.preprocess.geometry import HEAD_BACK_LEFT_LPS, OrientedBox, crop_grid
from cspine.volume import FloatArray, Grid
from cspine.whole_files import write_json

CPU: Final = torch.device("cpu")
CENTER_JITTER_MM: Final = 4.0
SIZE_JITTER: Final = 0.10
"""Errors of the segmentation that the crop is cut from; winners of RSNA 2022 found them worth imitating."""
TWIN_SEED: Final = 500_000_000
"""From a neck's seed to the one of its twin's scanner."""
STEP: Final = (0.5, 1.0)
"""Distance of slices, in parts of their thickness; every second scanner has its slices side by side."""
STEP_MM: Final = (0.5, 5.0)
PIXEL_MM: Final = (0.35, 1.1)
RECIPE: Final = "recipe.json"
NICENESS: Final = 10
"""Of the worker: training goes first."""


@dataclass(frozen=True)
class CropRecipe:
    """What a folder of crops was made with; another recipe needs another folder.

    Attributes:
        spec: of the crops.
        profile: ranges that necks and scanners are drawn from.
        first_seed, count: the necks.
        twins: of each neck two studies, each with the fractured levels and as many sound ones: as it was
            drawn, and with the sound ones broken and the others healed. Half of the vertebrae are fractured,
            and the sound ones look as the fractured ones did before.
        anatomy: folder of surface meshes for every second neck; None for built-in shapes only.
    """

    spec: CropSpec
    profile: PhantomProfile
    first_seed: int
    count: int
    twins: bool = False
    anatomy: str | None = None

    def paths(self, folder: Path, seed: int) -> tuple[Path, ...]:
        """The files of one neck."""
        parts = ("", "-twin") if self.twins else ("",)
        return tuple(folder / f"neck-{seed:08d}{part}.npz" for part in parts)


def make_crops(
    seed: int, recipe: CropRecipe, device: torch.device = CPU
) -> tuple[tuple[LabelledCrop, ...], ...]:
    """Sample a neck and scanners and render vertebrae on jittered crop grids, from head to feet.

    Returns:
        The crops of each of the neck's studies, in the order of `CropRecipe.paths`.
    """
    neck = sample_neck(seed, recipe.profile, anatomy=_anatomy(recipe, seed))
    rng = np.random.default_rng([seed, 1])
    if not recipe.twins:
        return (_render_study(Study(neck, seed, CERVICAL), recipe, rng, device),)
    sound = [v for v in CERVICAL if v not in neck.fractured]
    count = min(len(sound), max(1, len(neck.fractured)))
    others = tuple(Vertebra(int(v)) for v in rng.choice(np.array(sound), count, replace=False))
    levels = tuple(sorted({*neck.fractured, *others}))
    twin = broken_elsewhere(rng, neck, recipe.profile, others)
    studies = (Study(neck, seed, levels), Study(twin, seed + TWIN_SEED, levels))
    return tuple(_render_study(study, recipe, rng, device) for study in studies)


@dataclass(frozen=True)
class Study:
    """A neck to be rendered: with which scanner's seed, and which levels of it."""

    neck: Neck
    scanner_seed: int
    levels: Sequence[Vertebra]


def _anatomy(recipe: CropRecipe, seed: int) -> Anatomy | None:
    return MeshAnatomy(Path(recipe.anatomy)) if recipe.anatomy and seed % 2 else None


def _render_study(
    study: Study, recipe: CropRecipe, rng: np.random.Generator, device: torch.device
) -> tuple[LabelledCrop, ...]:
    scanner = sample_scanner(study.scanner_seed, recipe.profile)
    found = []
    for level in study.levels:
        grid = crop_grid(jittered_box(study.neck, level, rng), recipe.spec)
        image = delivered(study.neck, grid, scanner, rng, device)
        found.append(labelled(image, level, fractured=level in study.neck.fractured, spec=recipe.spec))
    return tuple(found)


def delivered(
    neck: Neck, grid: Grid, scanner: Scanner, rng: np.random.Generator, device: torch.device = CPU
) -> PhantomImage:
    """A neck on a grid as it comes from a scanner's own slices and pixels by linear interpolation.

    Args:
        neck: what is scanned.
        grid: to be filled; axes to the head, the back and the left.
        scanner: its slices are as thick as it says and as far apart or overlapping.
        rng: of the slices' distance and place and the pixels' size.
        device: where to compute.

    Returns:
        Image, labels and fracture on `grid`; the latter two are those of the nearest voxel of the scanner.
    """
    part = 1.0 if rng.random() < 0.5 else float(rng.uniform(*STEP))
    step, pixel = float(np.clip(part * scanner.slice_thickness_mm, *STEP_MM)), float(rng.uniform(*PIXEL_MM))
    pixdim = (step, pixel, pixel)
    sides = (np.array(grid.shape) - 1) * grid.spacing_mm
    shape = [int(np.ceil(side / mm)) + 3 for side, mm in zip(sides, pixdim, strict=True)]
    center = grid.to_lps_mm((np.array(grid.shape) - 1) / 2) + rng.uniform(-0.5, 0.5, 3) * pixdim[::-1]
    native = spl_grid((shape[0], shape[1], shape[2]), pixdim, center)
    image = render(neck, native, scanner, device=device)
    ends = native.to_index(grid.to_lps_mm(np.stack([np.zeros(3), np.array(grid.shape) - 1])))
    unit = 2 * ends / (np.array(shape) - 1) - 1
    # From the crop's corners, -1 and 1, to the scanner's; affine_grid counts axes from the last one.
    theta = np.concatenate([np.diag((unit[1] - unit[0])[::-1]) / 2, (unit.sum(0) / 2)[::-1, None]], 1)
    where = F.affine_grid(
        torch.as_tensor(theta, dtype=torch.float32, device=device)[None],
        [1, 1, *grid.shape],
        align_corners=True,
    )

    def onto(part: torch.Tensor, mode: str) -> torch.Tensor:
        return F.grid_sample(part.float()[None, None], where, mode=mode, align_corners=True)[0, 0]

    return PhantomImage(
        onto(image.hu, "bilinear").round().to(torch.int16),
        onto(image.labels, "nearest").to(torch.uint8),
        onto(image.fracture, "nearest").to(torch.uint8),
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


def labelled(found: PhantomImage, level: Vertebra, *, fractured: bool, spec: CropSpec) -> LabelledCrop:
    """A rendered vertebra as a sample."""
    low, high = spec.window_hu
    image = ((found.hu.float() - low) * (255 / (high - low))).round().clamp(0, 255).byte()
    mask = found.labels == int(level)
    # Without the check a broken neighbour would leave a few voxels at the border.
    fracture = found.fracture.bool() & _own(found.labels, mask) & fractured
    pixels, inside, broken = (part.cpu().numpy() for part in (image, mask, fracture))
    return LabelledCrop(level, pixels, inside, broken, fractured)


def _own(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The vertebra and the gaps in it and close to it, without its neighbours."""
    beside = window_maxima(mask[None].float(), 5)
    near = F.max_pool3d(beside, (5, 1, 1), stride=1, padding=(2, 0, 0))[0]
    return (near > 0) & (mask | (labels == 0))


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
    if not (folder / RECIPE).exists():
        write_json(folder / RECIPE, wanted)
    if json.loads((folder / RECIPE).read_text("utf-8")) != wanted:
        raise UsageError(
            f"'{folder}' holds crops of another recipe: name another data folder or remove this one."
        )


def fill_folder(folder: Path, recipe: CropRecipe, device: torch.device = CPU) -> None:
    """Make the necks of the recipe that are not there yet."""
    claim_folder(folder, recipe)
    for seed in range(recipe.first_seed, recipe.first_seed + recipe.count):
        _fill(folder, recipe, seed, device)


def _fill(folder: Path, recipe: CropRecipe, seed: int, device: torch.device) -> None:
    paths = recipe.paths(folder, seed)
    if not all(path.exists() for path in paths):
        for path, crops in zip(paths, make_crops(seed, recipe, device), strict=True):
            save_crops(crops, path)


@contextmanager
def filling(jobs: Sequence[tuple[Path, CropRecipe]], device: torch.device) -> Iterator[None]:
    """Fill folders one after the other while the body runs; it stops with the body.

    On a GPU a thread of this process does it there, else a worker process that gives way to training.

    Raises:
        CspineError: the worker failed.
    """
    with rendering_thread(jobs, device) if device.type == "cuda" else _process(jobs):
        yield


@contextmanager
def _process(jobs: Sequence[tuple[Path, CropRecipe]]) -> Iterator[None]:
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
    os.nice(NICENESS)
    torch.set_num_threads(1)
    for folder, recipe in jobs:
        fill_folder(folder, recipe)


@contextmanager
def rendering_thread(jobs: Sequence[tuple[Path, CropRecipe]], device: torch.device) -> Iterator[None]:
    """Fill folders in a thread of this process, on a device.

    Raises:
        CspineError: whatever stopped the thread, when the body is done.
    """
    stop = threading.Event()

    def work() -> None:
        for folder, recipe in jobs:
            claim_folder(folder, recipe)
            for seed in range(recipe.first_seed, recipe.first_seed + recipe.count):
                if stop.is_set():
                    return
                _fill(folder, recipe, seed, device)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            yield
        finally:
            stop.set()
        done.result()
