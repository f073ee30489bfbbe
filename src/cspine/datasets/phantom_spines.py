"""Synthetic necks on a model's grid, with their labels, kept on disk as bytes.

Rendering takes longer than a training step, so samples are rendered once while training already runs, and
read many times: on a GPU by a thread of the training process, on the CPU by a process of their own. Each
file is one sample: uint8 (2, slices, rows, columns), image and labels; 0 and 255 of the image are the
ends of the bundle's window.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cspine.crops import GridSpec
from cspine.datasets.spine_samples import Sample, without_cervical
from cspine.errors import InputError
from cspine.volume import FloatArray, Grid
from cspine.whole_files import write_whole

if TYPE_CHECKING:
    import torch

    from cspine.phantom import Anatomy

log = logging.getLogger(__name__)

HELD_OUT_SEED: Final = 1_000_000
"""First seed of what networks are measured on. Training with seed S starts from phantom 2 * S * this, so that
the two never meet before a million phantoms."""
CENTER_JITTER_MM: Final = (20.0, 12.0, 12.0)
"""Towards head, back and left: what the centre of a sample errs by at most."""
DETAIL_MM: Final = (0.6, 2.4)
"""Edges are smeared over this much in a CT; taking the model's grid out of it by linear interpolation, as
`cspine.preprocess` does, smears them no further."""
WAIT_S: Final = 0.5
NICENESS: Final = 5
"""Of the process that renders: training goes first."""


@dataclass(frozen=True)
class SampleSpec:
    """What the samples of one folder show.

    Attributes:
        grid: spacing and window of the network; its patch is not used.
        shape: voxels of a sample, more than the network's patch, so that it can be cut in many ways.
        without_spine: share of samples that show no cervical vertebra at all.
        anatomy: folder of surface meshes for every second neck; None for built-in anatomy only.
        shifted: draw necks and scanners from the shifted domain (for evaluation).
    """

    grid: GridSpec
    shape: tuple[int, int, int]
    without_spine: float = 0.0
    anatomy: str | None = None
    shifted: bool = False


def spl_grid(
    shape: tuple[int, int, int], pixdim_mm: tuple[float, float, float], center_lps_mm: FloatArray
) -> Grid:
    """A grid around a point whose axes run to the head, the back and the left."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.0, 0, pixdim_mm[2]], [0, pixdim_mm[1], 0], [pixdim_mm[0], 0, 0]])
    affine[:3, 3] = center_lps_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def render_sample(seed: int, spec: SampleSpec, device: str | torch.device = "cpu") -> Sample:
    """Render the sample of one seed on a device: uint8 (2, slices, rows, columns), image and labels."""
    from cspine.phantom import DEFAULT, SHIFTED, render, sample_neck, sample_scanner

    rng = np.random.default_rng([seed, 0x5A3])
    profile = SHIFTED if spec.shifted else DEFAULT
    neck = sample_neck(seed, profile, anatomy=_anatomy(seed, spec))
    empty = rng.random() < spec.without_spine
    center = neck.spine_box_lps_mm.mean(0) + rng.uniform(-1, 1, 3) * CENTER_JITTER_MM[::-1]
    low_end = bool(rng.random() < 0.6)
    if empty:
        # Only the chest or only the head is left in view.
        center[2] += (-1 if low_end else 1) * rng.uniform(0.25, 0.5) * spec.shape[0] * spec.grid.pixdim_mm[0]
    grid = spl_grid(spec.shape, spec.grid.pixdim_mm, center)
    detail_mm = float(np.exp(rng.uniform(*np.log(DETAIL_MM))))
    image = render(neck, grid, sample_scanner(seed, profile), device=device, detail_mm=detail_mm)
    sample = np.stack([windowed(image.hu.cpu().numpy(), spec.grid.window_hu), image.labels.cpu().numpy()])
    return without_cervical(sample, rng, low_end=low_end) if empty else sample


def windowed(hu: NDArray[np.int16], window_hu: tuple[float, float]) -> Sample:
    """Hounsfield units as bytes: 0 and 255 are the ends of the window."""
    low, high = window_hu
    scaled = (hu.astype(np.float32) - low) * (255.0 / (high - low))
    result: Sample = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return result


_ANATOMIES: dict[str, Anatomy] = {}


def _anatomy(seed: int, spec: SampleSpec) -> Anatomy | None:
    """Every second neck comes from the meshes, where there are any; they are read once a process."""
    if spec.anatomy is None or seed % 2:
        return None
    if spec.anatomy not in _ANATOMIES:
        from cspine.phantom import MeshAnatomy

        _ANATOMIES[spec.anatomy] = MeshAnatomy(Path(spec.anatomy))
    return _ANATOMIES[spec.anatomy]


def sample_path(folder: Path, seed: int) -> Path:
    """Where the sample of a seed is kept."""
    return folder / f"{seed:07d}.npy"


def write_samples(
    folder: Path, seeds: Sequence[int], spec: SampleSpec, device: str | torch.device = "cpu"
) -> None:
    """Render every seed whose file is not there yet; a file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = sample_path(folder, seed)
        if path.exists():
            continue
        sample = render_sample(seed, spec, device)
        write_whole(path, partial(np.save, arr=sample))


def _write_quietly(folder: Path, seeds: Sequence[int], spec: SampleSpec) -> None:
    import torch

    os.nice(NICENESS)
    torch.set_num_threads(1)
    parent = os.getppid()
    for seed in seeds:
        if os.getppid() != parent:  # training was killed
            return
        write_samples(folder, [seed], spec)


@dataclass(frozen=True)
class SampleFolder:
    """Samples of consecutive seeds on disk; the last ones may still be on their way."""

    folder: Path
    first_seed: int
    count: int

    @property
    def seeds(self) -> range:
        """All of them, there or not yet."""
        return range(self.first_seed, self.first_seed + self.count)

    def available(self) -> int:
        """How many are there, counted from the first seed without a gap."""
        names = {entry.name for entry in os.scandir(self.folder)} if self.folder.is_dir() else set()
        there = (sample_path(self.folder, seed).name in names for seed in self.seeds)
        return next((count for count, found in enumerate(there) if not found), self.count)

    def read(self, index: int) -> Sample:
        """Sample number `index`.

        Raises:
            InputError: the file cannot be read.
        """
        path = sample_path(self.folder, self.first_seed + index)
        try:
            sample: Sample = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"The sample '{path}' cannot be read: remove it to have it made again."
            ) from error
        return sample


@contextmanager
def being_written(
    samples: SampleFolder, spec: SampleSpec, at_least: int, device: str | torch.device = "cpu"
) -> Iterator[None]:
    """Have the samples rendered while the body runs; enter once `at_least` of them are there.

    Args:
        samples: which, and where they are kept.
        spec: what they show.
        at_least: how many the body needs to begin with.
        device: where to render: "cpu" in a process of its own, a GPU in a thread of this one.

    Raises:
        InputError: rendering ended before they were there.
    """
    import time

    if samples.available() == samples.count:
        yield
        return
    needed = min(at_least, samples.count)
    with _writer(samples, spec, device) as is_alive:
        while samples.available() < needed:
            if not is_alive() and samples.available() < needed:
                raise InputError("The phantoms could not be made: see the messages above.")
            time.sleep(WAIT_S)
        yield


def _writer(
    samples: SampleFolder, spec: SampleSpec, device: str | torch.device
) -> AbstractContextManager[Callable[[], bool]]:
    import torch

    on_cpu = torch.device(device).type == "cpu"
    return written_by_process(samples, spec) if on_cpu else written_by_thread(samples, spec, device)


@contextmanager
def written_by_process(samples: SampleFolder, spec: SampleSpec) -> Iterator[Callable[[], bool]]:
    """Have the samples rendered on the CPU by a process of its own; gives whether it still runs."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(
        target=_write_quietly, args=(samples.folder, samples.seeds, spec), daemon=True
    )
    process.start()
    try:
        yield process.is_alive
    finally:
        process.terminate()
        process.join()


@contextmanager
def written_by_thread(
    samples: SampleFolder, spec: SampleSpec, device: str | torch.device
) -> Iterator[Callable[[], bool]]:
    """Have the samples rendered on a device by a thread of this process; gives whether it still runs.

    Another process would need a CUDA context and memory of its own, and the kernels of two take turns.
    """
    from threading import Event, Thread

    enough = Event()

    def write() -> None:
        for seed in samples.seeds:
            if enough.is_set():
                return
            write_samples(samples.folder, [seed], spec, device)

    thread = Thread(target=write, name="phantoms", daemon=True)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        enough.set()
        thread.join()
