"""Bundles small enough to be made in a test, and hand-made class probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cspine.models.bundle import build_network
from cspine.training.checkpoint import export_weights

GRID = {"pixdim_mm": [3.0, 2.5, 2.0], "patch": [32, 16, 48], "window_hu": [-500.0, 1300.0]}


def network_def(channels: list[int]) -> dict[str, object]:
    return {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 10,
        "channels": channels,
        "strides": [2] * (len(channels) - 1),
    }


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a bundle with random weights and returns its folder."""

    def make(name: str = "tiny_bundle", **section: object) -> Path:
        path = tmp_path / "bundles" / name
        (path / "configs").mkdir(parents=True)
        metadata = {"version": "1.2.3", "cspine": {"grid": GRID, **section}}
        (path / "configs/metadata.json").write_text(json.dumps(metadata))
        (path / "configs/inference.json").write_text(json.dumps({"network_def": network_def([4, 4, 4])}))
        torch.manual_seed(0)
        export_weights(build_network(path).state_dict(), path)
        return path

    return make


@pytest.fixture
def spine_output() -> Callable[..., np.ndarray]:
    """A function that stacks blocks of bone, 12 mm high, from head to feet, 16 mm apart, one for each class.

    `sure` is the probability of the named class; the rest goes to the class that `rival` names for a block,
    or evenly to all. The rise points at the middle of each block. Voxels are 2 x 2 x 2 mm.
    """

    def make(classes: list[int], *, sure: float = 0.9, rival: dict[int, int] | None = None, gap: int = 2):
        slices = len(classes) * 8 + gap
        found = np.zeros((10, slices, 24, 20), np.float32)
        found[0] = 1
        rise_cm = np.zeros((1, slices, 24, 20), np.float32)
        for place, label in enumerate(classes):
            if label < 0:
                continue
            top = slices - 1 - gap - place * 8
            block = (slice(top - 5, top + 1), slice(6, 16), slice(4, 16))
            found[(slice(None), *block)] = (1 - sure) / 9
            if rival and place in rival:
                found[(slice(None), *block)] = 0.001
                found[(rival[place], *block)] = 1 - sure
            found[(label, *block)] = sure
            rise_cm[0, top - 5 : top + 1] = (2.5 - np.arange(6))[:, None, None] * 0.2
        return np.concatenate([found / found.sum(0), rise_cm])

    return make
