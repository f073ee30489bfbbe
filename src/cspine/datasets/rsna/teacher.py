"""Labels for the studies without a mask, from networks that are there already.

A teacher segments a study as the application does. What it finds is believed only where nothing speaks
against it: the order, the distances, the sizes and the margins of the levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL, OCCIPUT, THORACIC
from cspine.crops import GridSpec, ModelGrids, ModelImage
from cspine.datasets.rsna.resampling import covering_grid, linear, nearest
from cspine.device import pick_device
from cspine.findings import ModelVersion
from cspine.preprocess.geometry import model_grid, resampling
from cspine.settings import LOCALIZATION, SEGMENTATION
from cspine.volume import FloatArray, Grid, SpineMask, Visibility, Volume

if TYPE_CHECKING:
    import torch

MIN_MARGIN_NATS: Final = 1.0
"""The margin from which results trust a level's name."""
MIN_LEVELS: Final = 5
"""Of a chain of fewer levels the names are guesses."""
SPACING_MM: Final = (9.0, 27.0)
"""From one centre of mass to the next; 12 to 22 mm are normal, fractures and C1-C2 stray further."""
VOLUME_ML: Final = (2.5, 40.0)
"""Of a complete level; 6 to 16 ml are normal."""


class Teacher:
    """The localization and the segmentation network of a folder of bundles, without DALI.

    Args:
        root: folder of the bundles.
        device: "auto", "cpu" or "cuda".

    Raises:
        ModelError: a missing or damaged bundle, or a device that is not there.
    """

    def __init__(self, root: Path, device: str = "auto") -> None:
        from cspine.models.bundle import load_bundle
        from cspine.models.inference import channels_last
        from cspine.models.segmenter import SpineSegmenter

        self.root, self.device = root, device
        finder, namer = load_bundle(root, LOCALIZATION), load_bundle(root, SEGMENTATION)
        on = pick_device(device)
        self._segmenter = SpineSegmenter(finder, namer, device=on)
        self._network: torch.nn.Module = channels_last(namer.network(on))
        self._specs: tuple[GridSpec, GridSpec] = (finder.grid_spec(), namer.grid_spec())

    @property
    def models(self) -> tuple[ModelVersion, ...]:
        """The networks."""
        return self._segmenter.models

    def segment(self, volume: Volume) -> SpineMask:
        """Find and name the vertebrae (`cspine.pipeline.Segment`)."""
        images = [_model_image(volume, spec) for spec in self._specs]
        return self._segmenter(ModelGrids(*images), volume)

    def anchors(self, volume: Volume, grid: Grid) -> NDArray[np.uint8]:
        """Where the skull (9) and the thoracic vertebrae (8) are on a grid, 0 elsewhere.

        Masks of RSNA 2022 show no skull; a network taught that it is background would lose the anchor at the
        upper end.
        """
        import torch

        from cspine.models.inference import most_likely

        spec = self._specs[1]
        own = covering_grid(grid, spec)
        image = linear(volume.hu, resampling(volume.grid, own), spec.window_hu)
        found = most_likely(self._network, torch.from_numpy(image)).cpu().numpy().astype(np.uint8)
        found[found < THORACIC] = 0
        return nearest(found, resampling(own, grid))


def doubts(mask: SpineMask) -> str | None:
    """Why the levels that a network found are not believed; None where they are."""
    seen = [found for found in mask.levels if found.visibility is not Visibility.ABSENT]
    if len(seen) < MIN_LEVELS:
        return f"only {len(seen)} levels were found"
    numbers = [CERVICAL.index(found.level) for found in seen]
    if numbers[-1] - numbers[0] != len(numbers) - 1:
        return "a level between others is missing"
    margin = min((found.margin for found in seen if found.margin is not None), default=0.0)
    if margin < MIN_MARGIN_NATS:
        return f"a level's margin is only {margin:.2f} nats"
    for found in seen:
        volume_ml = np.count_nonzero(mask.labels == found.level) * mask.grid.voxel_mm3 / 1000
        complete = found.visibility is Visibility.COMPLETE
        if volume_ml > VOLUME_ML[1] or (complete and volume_ml < VOLUME_ML[0]):
            return f"{found.level} measures {volume_ml:.1f} ml"
    return _doubt_about_places([_center(mask, found.level) for found in seen])


def _doubt_about_places(centers_lps_mm: Sequence[FloatArray]) -> str | None:
    for above, below in pairwise(centers_lps_mm):
        step = above - below
        if step[2] <= 0:
            return "the levels do not go down in order"
        if not SPACING_MM[0] <= np.linalg.norm(step) <= SPACING_MM[1]:
            return f"two levels are {np.linalg.norm(step):.0f} mm apart"
    return None


def with_anchors(
    labels: NDArray[np.uint8], anchors: NDArray[np.uint8], *, thoracic: bool
) -> NDArray[np.uint8]:
    """Add to labels, where they are 0, the teacher's skull and, where asked for, thoracic vertebrae."""
    wanted = (anchors == OCCIPUT) | ((anchors == THORACIC) & thoracic)
    return np.where((labels == 0) & wanted, anchors, labels)


def _center(mask: SpineMask, level: int) -> FloatArray:
    center = mask.center_lps_mm(CERVICAL[level - 1])
    assert center is not None
    return center


def _model_image(volume: Volume, spec: GridSpec) -> ModelImage:
    import torch

    plan = model_grid(volume.grid, spec.pixdim_mm)
    return ModelImage(
        plan.grid, torch.from_numpy(linear(volume.hu, plan, spec.window_hu, repeat_border=True))
    )
