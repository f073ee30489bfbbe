"""From a volume to what the networks see: the two model grids, and the crop around each vertebra."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Final, Self

import numpy as np
import torch

from cspine.anatomy import Vertebra
from cspine.crops import CropSpec, GridSpec, ModelGrids, ModelImage, PendingImage, VertebraCrop
from cspine.device import pick_device
from cspine.errors import InputError, ModelError
from cspine.preprocess.geometry import Resampling, crop_grid, level_box, model_grid, resampling
from cspine.preprocess.pipelines import DaliResampler, Job
from cspine.settings import THREADS
from cspine.volume import Grid, SpineMask, Visibility, Volume

MAX_SHEAR_DEGREES: Final = 1.0
"""Axes further from right angles are a gantry tilt that was not taken out."""


class Preprocessor:
    """Resamples volumes for the networks, the only place where images are resampled for them.

    One preprocessor serves many studies and threads. It holds a DALI pipeline until `close`, or until the end
    of its `with` block. Beside its outputs, of at most `cspine.preprocess.pipelines.MAX_VOXELS` voxels each,
    it needs about 200 MB, whatever the size of the study: DALI works through it in small regions.

    Args:
        localization: grid and window of the localization network.
        segmentation: grid and window of the segmentation network.
        crop: of the fracture classifier.
        device: "auto" takes a GPU where there is one.
        threads: CPU threads for DALI.

    Raises:
        ModelError: a spec that makes no sense, or a device that is not there. It never falls back silently.
    """

    def __init__(
        self,
        localization: GridSpec,
        segmentation: GridSpec,
        crop: CropSpec,
        *,
        device: str | torch.device = "auto",
        threads: int = THREADS,
    ) -> None:
        for spec in (localization, segmentation):
            _check_grid_spec(spec)
        _check_crop_spec(crop)
        if threads < 1:
            raise ValueError(f"a preprocessor needs at least one thread, not {threads}")
        self.localization, self.segmentation, self.crop = localization, segmentation, crop
        self._resampler = DaliResampler(pick_device(device), threads)

    @property
    def device(self) -> torch.device:
        """Where the images are made and stay."""
        return self._resampler.device

    def model_grids(self, volume: Volume) -> ModelGrids:
        """Put the whole volume on the grids of the localization and the segmentation network.

        The latter's image is resampled where it is asked for, so before `close`.

        Raises:
            InputError: the volume is sheared or too large, or its geometry is not usable.
        """
        _check_right_angles(volume.grid)
        whole = model_grid(volume.grid, self.localization.pixdim_mm)
        fine = model_grid(volume.grid, self.segmentation.pixdim_mm)

        def part(grid: Grid) -> torch.Tensor:
            plan = resampling(volume.grid, grid)
            return self._resampler.run([Job(volume.hu, plan, self.segmentation.window_hu, True)])[0]

        (image,) = self._resampler.run([Job(volume.hu, whole, self.localization.window_hu, True)])
        return ModelGrids(ModelImage(whole.grid, image), PendingImage(fine.grid, part))

    def crops(self, volume: Volume, mask: SpineMask) -> tuple[VertebraCrop, ...]:
        """Cut out every vertebra that is not absent, from C1 downwards.

        What of a crop lies outside the volume is exactly 0 in image and mask.

        Args:
            volume: the CT.
            mask: its vertebrae, on the same grid.

        Raises:
            InputError: the mask lies on another grid, or as for `model_grids`.
        """
        _check_right_angles(volume.grid)
        if not volume.grid.same_as(mask.grid):
            raise InputError("The mask does not lie on the grid of the images; resample it onto them first.")
        levels = [found.level for found in mask.levels if found.visibility is not Visibility.ABSENT]
        plans = [resampling(volume.grid, crop_grid(level_box(mask, level), self.crop)) for level in levels]
        images = self._resampler.run([Job(volume.hu, plan, self.crop.window_hu, False) for plan in plans])
        return tuple(
            VertebraCrop(level, plan.grid, image, self._mask_crop(mask, level, plan))
            for level, plan, image in zip(levels, plans, images, strict=True)
        )

    def _mask_crop(self, mask: SpineMask, level: Vertebra, plan: Resampling) -> torch.Tensor:
        """Nearest neighbour, by numpy: a label is not an image and costs next to nothing."""
        return torch.from_numpy(nearest_mask(mask, level, plan)).to(self.device)

    def close(self) -> None:
        """Release the pipeline."""
        self._resampler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def nearest_mask(mask: SpineMask, level: Vertebra, plan: Resampling) -> np.ndarray:
    """Which voxels of `plan.grid` lie in one vertebra: float32, 1 inside, 0 elsewhere.

    Raises:
        ValueError: the level is absent.
    """
    found = mask.level(level)
    if found.start is None or found.stop is None:
        raise ValueError(f"{level} is absent, so it has no mask")
    nearest, within = [], []
    for axis, (start, stop) in enumerate(zip(found.start, found.stop, strict=True)):
        index = np.floor(plan.source_index(axis) + 0.5).astype(np.int64)
        inside = np.flatnonzero((index >= start) & (index < stop))  # nothing of the level lies beyond its box
        nearest.append(index[inside])
        within.append(slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0))
    made = np.zeros(plan.size, np.float32)
    made[tuple(within)] = mask.labels[np.ix_(*nearest)] == level
    return np.ascontiguousarray(made.transpose(plan.axes))


def _check_right_angles(grid: Grid) -> None:
    units = grid.affine_lps[:3, :3] / grid.spacing_mm
    cosines = np.abs(units.T @ units - np.eye(3))
    shear = math.degrees(math.asin(min(float(cosines.max()), 1.0)))
    if shear > MAX_SHEAR_DEGREES:
        raise InputError(
            f"The axes of the images are {shear:.1f} degrees from right angles, as a tilted gantry leaves "
            "them; take the tilt out first."
        )


def _check_window(window_hu: tuple[float, float]) -> None:
    low, high = window_hu
    if not (math.isfinite(low) and math.isfinite(high) and high - low >= 1):
        raise ModelError(f"A bundle asks for the window {low} to {high} HU; it must rise by at least 1 HU.")


def _check_grid_spec(spec: GridSpec) -> None:
    _check_window(spec.window_hu)
    if len(spec.pixdim_mm) != 3 or not all(math.isfinite(p) and p > 0 for p in spec.pixdim_mm):
        raise ModelError(
            f"A bundle asks for voxels of {spec.pixdim_mm} mm; three positive numbers are needed."
        )


def _check_crop_spec(spec: CropSpec) -> None:
    _check_window(spec.window_hu)
    sizes = (spec.steps, spec.window_planes, spec.pixels, spec.field_mm)
    margin_ok = math.isfinite(spec.margin_mm) and spec.margin_mm >= 0
    if not margin_ok or not all(math.isfinite(n) and n > 0 for n in sizes):
        raise ModelError(
            f"A bundle asks for crops of {spec.planes} planes, {spec.pixels} pixels, {spec.field_mm} mm and "
            f"a margin of {spec.margin_mm} mm; they must be positive, the margin at least 0."
        )
