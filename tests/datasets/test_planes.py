from __future__ import annotations

import pytest
import torch

from cspine.datasets.planes import window_maxima, window_means


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))


def window(volume: torch.Tensor, plane: tuple[int, int], row: int, column: int, width: int) -> torch.Tensor:
    half = width // 2
    rows, columns = slice(max(0, row - half), row + half + 1), slice(max(0, column - half), column + half + 1)
    return volume[plane][rows, columns]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 4), (6, 1), (2, 8)])
def test_a_window_is_of_one_plane_and_ends_at_its_edge(volume, row, column):
    for plane in ((0, 0), (1, 2)):
        seen = window(volume, plane, row, column, 5)
        place = (*plane, row, column)
        assert float(window_maxima(volume, 5)[place]) == float(seen.max())
        assert float(window_means(volume, 5, beyond=False)[place]) == pytest.approx(float(seen.mean()))
        assert float(window_means(volume, 5)[place]) == pytest.approx(float(seen.sum()) / 25)


def test_windows_keep_shape_and_order_in_memory(volume):
    for found in (window_maxima(volume, 3), window_means(volume, 3)):
        assert found.shape == volume.shape
        assert found.is_contiguous()
