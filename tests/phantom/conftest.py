"""Grids on which the phantoms are looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cspine.volume import Grid


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def upright():
    """A function from shape, spacing and centre to a grid with axes to the head, the back and the left."""

    def make(
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        center_lps_mm: tuple[float, float, float],
    ) -> Grid:
        affine = np.eye(4)
        affine[:3, :3] = np.fliplr(np.diag(spacing_mm[::-1]))
        affine[:3, 3] = np.array(center_lps_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Grid(shape, affine)

    return make
