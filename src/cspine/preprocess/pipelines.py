"""The one DALI pipeline: resample regions of a CT and window them to [0, 1], on the CPU or the GPU.

DALI trusts its caller. On the CPU a region that lies outside the image ends the process with a segmentation
fault, NaN hangs it, a size of 0 or less gives a wrong image; two threads in one pipeline get each other's
results; after an error a pipeline keeps what was queued. So every number is checked here before DALI sees it,
a lock keeps threads apart, and a pipeline that failed is dropped.

Interpolation is linear without anti-aliasing, because that is what MONAI's Spacing does, and the bundles must
see the same images here and in `monai.bundle run`.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from cspine.errors import CspineError, InputError, ModelError
from cspine.preprocess.geometry import Resampling

logger = logging.getLogger(__name__)

MAX_VOXELS: Final = 512 * 2**20
"""Largest output: 2 GiB of float32. A whole body (2 m by 0.7 m by 0.7 m) at 1.5 mm has 290 million voxels."""

REGION_VOXELS: Final = 2**20
"""Voxels that one region reads or writes, give or take a plane: bounds what DALI keeps in each thread."""

BATCH: Final = 32
"""Regions in one run of the pipeline."""

FACE: Final = 0.5 + 1e-6
"""Voxels from a border voxel's centre to its outer face, with room for rounding."""


@dataclass(frozen=True, eq=False)
class Job:
    """One image to make.

    Attributes:
        hu: int16, C-contiguous, the volume that `resampling` starts from.
        resampling: where the output's voxels lie.
        window_hu: Hounsfield units that become 0 and 1.
        repeat_border: whether output outside the volume repeats the border (MONAI's Spacing with
            padding_mode "border"), or is exactly 0.
    """

    hu: NDArray[np.int16]
    resampling: Resampling
    window_hu: tuple[float, float]
    repeat_border: bool


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a job that DALI makes in one piece; axes in input order.

    Attributes:
        hu: (slices, rows, columns, 1) int16, the whole planes that this part reads: a view, not a copy.
        roi_start, roi_end: (3,) float32, outer faces in voxels of `hu`; end below start where flipped.
        size: (3,) float32, output voxels.
        gain: (2,) float32, factor and offset from Hounsfield units to the window.
        where: the part of the output that it fills.
    """

    hu: NDArray[np.int16]
    roi_start: NDArray[np.float32]
    roi_end: NDArray[np.float32]
    size: NDArray[np.float32]
    gain: NDArray[np.float32]
    where: tuple[slice, slice, slice]


def regions(job: Job, at_least: int = 1) -> Iterator[Region]:
    """Cut a job along its first input axis, so that threads share the work and scratch memory stays small.

    DALI works on one region in one thread. Cutting changes values by rounding only (below 1e-6).

    Args:
        job: the job.
        at_least: the number of regions wanted, where there are as many planes.

    Raises:
        InputError: a number that DALI must not see.
    """
    low, high = _inside(job)
    if (high <= low).any():
        return
    plan, shape = job.resampling, job.hu.shape
    touched = np.maximum(high - low, np.minimum((high - low) * np.abs(plan.step), shape))
    count = max(at_least, math.ceil(float(np.prod(touched)) / REGION_VOXELS))
    cuts = np.linspace(low[0], high[0], min(count, int(high[0] - low[0])) + 1).round().astype(int)
    for first, last in itertools.pairwise(cuts):
        start, stop = low.copy(), high.copy()
        start[0], stop[0] = first, last
        yield _region(job, start, stop)


def _inside(job: Job) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one-past-last output voxel to make, along each input axis."""
    plan = job.resampling
    if job.repeat_border:
        return np.zeros(3, np.int64), plan.size.copy()
    bounds = []
    for axis, n in enumerate(job.hu.shape):
        index = plan.source_index(axis)
        inside = np.flatnonzero((index >= -FACE) & (index <= n - 1 + FACE))
        bounds.append((inside[0], inside[-1] + 1) if inside.size else (0, 0))
    low, high = np.array(bounds, np.int64).T
    return low, high


def _region(job: Job, start: NDArray[np.int64], stop: NDArray[np.int64]) -> Region:
    plan = job.resampling
    roi_start, roi_end = plan.roi_start + start * plan.step, plan.roi_start + stop * plan.step
    first, last = sorted((roi_start[0] + 0.5 * plan.step[0] - 0.5, roi_end[0] - 0.5 * plan.step[0] - 0.5))
    bottom, top = (int(v) for v in np.clip([math.floor(first), math.floor(last) + 1], 0, job.hu.shape[0] - 1))
    roi_start[0] -= bottom
    roi_end[0] -= bottom
    width = job.window_hu[1] - job.window_hu[0]
    region = Region(
        hu=job.hu[bottom : top + 1, :, :, np.newaxis],
        roi_start=roi_start.astype(np.float32),
        roi_end=roi_end.astype(np.float32),
        size=(stop - start).astype(np.float32),
        gain=np.array([1.0 / width, -job.window_hu[0] / width], np.float32),
        where=(slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])),
    )
    check_region(region)
    return region


def check_region(region: Region) -> None:
    """Refuse what would crash, hang or silently mislead DALI.

    Raises:
        InputError: a number that is not finite, a size below 1, or a region outside the image.
        ValueError: an array that is not native, C-contiguous int16 with four axes.
    """
    hu = region.hu
    if hu.ndim != 4 or hu.dtype != np.int16 or not hu.flags.c_contiguous:
        raise ValueError("DALI is fed C-contiguous int16 arrays of (slices, rows, columns, 1)")
    numbers = np.concatenate([region.roi_start, region.roi_end, region.size, region.gain])
    if numbers.shape != (11,) or not np.isfinite(numbers).all():
        raise InputError(
            "The geometry of the images gives sizes that are not finite numbers; check their positions."
        )
    if (region.size < 1).any() or min(hu.shape) < 1:
        raise InputError(
            "The geometry of the images gives an empty image; check their spacing and positions."
        )
    low, high = np.minimum(region.roi_start, region.roi_end), np.maximum(region.roi_start, region.roi_end)
    if (high <= 0).any() or (low >= hu.shape[:3]).any() or (high <= low).any():
        raise InputError("A region to resample lies outside the images; check their positions.")


class DaliResampler:
    """Runs jobs on one device with one pipeline, kept between studies; safe to share between threads.

    Outputs are tensors of their own: later runs never change them.

    Args:
        device: "cpu" or a CUDA device that is there.
        threads: CPU threads of the pipeline; each job is cut into at least as many regions.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device = device
        self.threads = threads
        self._lock = threading.Lock()
        self._closed = False
        self._pipeline: Any = _build(device, threads)

    def run(self, jobs: Sequence[Job]) -> tuple[torch.Tensor, ...]:
        """Make the images of `jobs`: float32 in [0, 1], C-contiguous, in the axis order of their grids.

        Raises:
            InputError: an image beyond `MAX_VOXELS`, or geometry that DALI must not see.
            ModelError: the device has not enough memory.
            CspineError: the resampler was closed, or DALI failed.
        """
        for job in jobs:
            check_size(job.resampling.grid.shape)
        outputs, todo = [], []
        for job in jobs:
            output = self._zeros(job.resampling.grid.shape)
            by_input_axis = output.permute(*np.argsort(job.resampling.axes).tolist())
            todo += [(region, by_input_axis[region.where]) for region in regions(job, self.threads)]
            outputs.append(output)
        with self._lock:
            for first in range(0, len(todo), BATCH):
                self._run_batch(todo[first : first + BATCH])
        return tuple(outputs)

    def close(self) -> None:
        """Release the pipeline; a closed resampler runs no more jobs."""
        with self._lock:
            self._closed = True
            self._pipeline = None

    def _zeros(self, shape: tuple[int, int, int]) -> torch.Tensor:
        try:
            return torch.zeros(shape, dtype=torch.float32, device=self.device)
        except RuntimeError as error:  # how torch says that memory is full, on the CPU too
            raise _explained(error, self.device) from error

    def _run_batch(self, batch: list[tuple[Region, torch.Tensor]]) -> None:
        if self._closed:
            raise CspineError("The preprocessor was used after it was closed.")
        if self._pipeline is None:
            self._pipeline = _build(self.device, self.threads)
        feed: dict[str, list[NDArray[Any]]] = {
            "ct": [region.hu for region, _ in batch],
            "roi_start": [region.roi_start for region, _ in batch],
            "roi_end": [region.roi_end for region, _ in batch],
            "size": [region.size for region, _ in batch],
            "gain": [region.gain for region, _ in batch],
        }
        try:
            self._copy_out(feed, [target for _, target in batch])
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            self._pipeline = None  # what was queued in it would come out with the next study
            raise _explained(error, self.device) from error

    def _copy_out(self, feed: dict[str, list[NDArray[Any]]], targets: list[torch.Tensor]) -> None:
        (made,) = self._pipeline.run(**feed)  # without a stream it returns when the results are there
        for number, target in enumerate(targets):
            source = from_dlpack(made[number])[..., 0]
            if self.device.type == "cpu":
                # By numpy: torch's threads would wait for each other over and over on a busy machine.
                np.copyto(target.numpy(), source.numpy())
            else:
                target.copy_(source)
        if self.device.type == "cuda":
            # DALI takes `made` back when this returns, so the copies must be done.
            torch.cuda.current_stream(self.device).synchronize()


def check_size(shape: Sequence[float]) -> None:
    """Refuse an image that memory should not be asked for.

    Raises:
        InputError: more than `MAX_VOXELS` voxels, or a number that is not finite.
    """
    voxels = math.prod(float(n) for n in shape)
    if not voxels <= MAX_VOXELS:
        raise InputError(
            f"The images cover so much that a network's grid would have {voxels / 1e6:.0f} million voxels, "
            f"more than {MAX_VOXELS / 1e6:.0f} million; give a series of the neck alone."
        )


def _explained(error: Exception, device: torch.device) -> CspineError:
    if any(words in str(error).lower() for words in ("out of memory", "allocate memory", "enough memory")):
        return ModelError(f"The device {device} has not enough memory to resample the images; give it more.")
    return CspineError(f"DALI could not resample the images ({type(error).__name__}); this is a defect.")


def _build(device: torch.device, threads: int) -> Any:
    """Build the pipeline, without a CUDA driver where the device is the CPU (about 2 ms after the import)."""
    from nvidia.dali import Pipeline, fn, math, types  # half a second: only where images are resampled

    cpu = device.type == "cpu"
    pipeline = Pipeline(
        batch_size=BATCH,
        num_threads=threads,
        device_id=None if cpu else device.index,
        prefetch_queue_depth=1,  # a deeper queue answers a request with the result of an earlier one
        exec_dynamic=True,  # the older executor keeps its outputs in one buffer
    )
    with pipeline:
        hu = fn.external_source(name="ct", layout="DHWC", dtype=types.INT16, no_copy=cpu)
        start, end, size, gain = (
            fn.external_source(name=name, dtype=types.FLOAT)
            for name in ("roi_start", "roi_end", "size", "gain")
        )
        resized = fn.resize(
            hu if cpu else hu.gpu(),
            roi_start=start,
            roi_end=end,
            size=size,
            interp_type=types.INTERP_LINEAR,
            antialias=False,
            dtype=types.FLOAT,
        )
        pipeline.set_outputs(math.clamp(resized * gain[0] + gain[1], 0.0, 1.0))
    pipeline.build()
    logger.debug("built the DALI pipeline for %s with %d threads", device, threads)
    return pipeline
