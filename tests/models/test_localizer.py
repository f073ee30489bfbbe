"""Where the cervical spine is, with the network that comes along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cspine.crops import ModelImage
from cspine.models.bundle import load_bundle
from cspine.models.localizer import find_cervical_spine
from cspine.settings import LOCALIZATION, models_dir
from cspine.volume import Grid


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 6, 8), (16, 16, 16)])
def test_a_body_too_small_to_hold_a_neck_shows_none(shape):
    bundle = load_bundle(models_dir(), LOCALIZATION)
    affine = np.diag([*bundle.grid_spec().pixdim_mm, 1.0])[:, [2, 1, 0, 3]]
    image = ModelImage(Grid(shape, affine), torch.full(shape, 0.5))
    assert find_cervical_spine(bundle.network(torch.device("cpu")), image) is None
