"""What is kept away from DALI, and why."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from cspine.errors import CspineError, InputError, ModelError
from cspine.preprocess.geometry import model_grid
from cspine.preprocess.pipelines import REGION_VOXELS, DaliResampler, Job, check_region, regions

WINDOW = (-1000.0, 1000.0)


@pytest.fixture
def region(grids):
    grid = grids.make((9, 10, 11), (1.0, 1.2, 1.4))
    job = Job(np.zeros(grid.shape, np.int16), model_grid(grid, (2.0, 2.0, 2.0)), WINDOW, repeat_border=True)
    (whole,) = regions(job)
    return whole


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("roi_start", (np.nan, 0, 0), "not finite"),
        ("roi_end", (5, np.inf, 5), "not finite"),
        ("size", (5, 5, np.nan), "not finite"),
        ("gain", (np.nan, 0), "not finite"),
        ("size", (5, 0, 5), "empty image"),
        ("size", (5, -3, 5), "empty image"),
        ("size", (0.4, 5, 5), "empty image"),
        ("roi_start", (9.5, 0, 0), "outside the images"),
        ("roi_end", (9, -1, 11), "outside the images"),
        ("roi_end", (0, 0, 0), "outside the images"),
    ],
)
def test_numbers_that_crash_hang_or_mislead_dali_are_refused(region, field, value, message):
    good = {"roi_start": np.zeros(3, np.float32), "roi_end": np.array([9, 10, 11], np.float32)}
    bad = dataclasses.replace(region, **{**good, field: np.array(value, np.float32)})
    with pytest.raises(InputError, match=message):
        check_region(bad)


@pytest.mark.parametrize(
    "hu",
    [
        np.zeros((9, 10, 11), np.int16),
        np.zeros((9, 10, 11, 1), ">i2"),
        np.zeros((9, 10, 11, 1), np.float32),
        np.zeros((9, 11, 10, 1), np.int16).transpose(0, 2, 1, 3),
    ],
)
def test_arrays_that_dali_would_misread_are_refused(region, hu):
    with pytest.raises(ValueError, match="C-contiguous int16"):
        check_region(dataclasses.replace(region, hu=hu))


def test_the_regions_of_a_whole_body_are_small_and_cover_every_plane_once(grids):
    grid = grids.make((2000, 512, 512), (1.0, 0.97, 0.97), (-1, 2, 3))
    hu = np.zeros(grid.shape, np.int16)  # untouched pages take no memory
    plan = model_grid(grid, (1.5, 1.5, 1.5))
    parts = list(regions(Job(hu, plan, WINDOW, repeat_border=True), at_least=2))
    planes = [n for part in parts for n in range(part.where[0].start, part.where[0].stop)]
    assert planes == list(range(plan.grid.shape[0]))
    assert max(part.hu.size for part in parts) <= REGION_VOXELS + 3 * 512 * 512
    assert all(np.shares_memory(part.hu, hu) for part in parts)


def test_a_pipeline_that_failed_is_dropped_and_the_next_study_is_right(grids, monkeypatch):
    grid = grids.make((9, 10, 11), (1.0, 1.2, 1.4))
    job = Job(
        np.full(grid.shape, 500, np.int16), model_grid(grid, (2.0, 2.0, 2.0)), WINDOW, repeat_border=True
    )
    resampler = DaliResampler(torch.device("cpu"), 2)
    broken = Job(job.hu, job.resampling, WINDOW, repeat_border=True)
    with monkeypatch.context() as patch:
        patch.setattr(
            "cspine.preprocess.pipelines.regions",
            lambda *_: [dataclasses.replace(next(regions(broken)), size=np.ones((2, 2), np.float32))],
        )
        with pytest.raises(CspineError, match="DALI could not resample"):
            resampler.run([job])
    (image,) = resampler.run([job])
    assert torch.allclose(image, torch.full_like(image, 0.75))


def test_a_gpu_without_memory_left_is_told_as_such(grids):
    grid = grids.make((9, 10, 11), (1.0, 1.2, 1.4))
    job = Job(np.zeros(grid.shape, np.int16), model_grid(grid, (2.0, 2.0, 2.0)), WINDOW, repeat_border=True)
    resampler = DaliResampler(torch.device("cpu"), 2)

    class Full:
        def run(self, **_: object) -> None:
            raise RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory")

    resampler._pipeline = Full()
    with pytest.raises(ModelError, match="has not enough memory"):
        resampler.run([job])


CANARY = """
import numpy as np, torch
from cspine.preprocess.pipelines import _build
pipeline = _build(torch.device("cpu"), 2)
f = lambda *v: [np.array(v, np.float32)]
hu = [np.zeros((9, 10, 11, 1), np.int16)]
pipeline.run(ct=hu, roi_start=f({start}, 0, 0), roi_end=f({end}, 10, 11), size=f(5, 5, 5), gain=f(1, 0))
"""


def child(start: float, end: float) -> int:
    code = CANARY.format(start=start, end=end)
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, timeout=60
    ).returncode


def test_canary_dali_itself_still_dies_of_a_region_outside_the_image():
    """When this fails, DALI has learnt to refuse it: `check_region` may then be less strict."""
    assert child(0, 9) == 0
    assert child(5000, 5009) < 0
