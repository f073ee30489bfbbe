"""How plainly a fracture shows in an image, and so what may be asked of a reader, man or network."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch

from cspine.anatomy import Vertebra
from cspine.phantom.neck import Neck
from cspine.phantom.render import render
from cspine.phantom.scanner import Scanner, noise_blur, noise_strength
from cspine.volume import Grid

MARGIN_MM: Final = 4.0


def detectability(neck: Neck, level: Vertebra, scanner: Scanner, grid: Grid) -> float:
    """The index of detectability d' of what broke a vertebra, for an observer who knows it exactly.

    The image of the broken vertebra less that of the same one unbroken, both without noise, is the template
    of a non-prewhitening observer (Wagner and Brown 1985, doi:10.1088/0031-9155/30/6/001; ICRU report 54):
    d' is the mean difference of its output over the standard deviation that the scanner's noise gives it.
    Place and shape known, d' of 1 is hardly seen (AUC .76) and 3 nearly always (AUC .98); who must search a
    whole vertebra, and tell a crack from a vessel, needs several times that. Streaks count as more noise,
    drift and metal not at all.

    Args:
        neck: with the fracture.
        level: the broken vertebra.
        scanner: what took the image.
        grid: of the image.

    Returns:
        d'; 0 where nothing of the fracture is in view.
    """
    low, high = neck.vertebra_box_lps_mm(level)
    around = grid.to_index(np.stack([low - MARGIN_MM, high + MARGIN_MM]))
    first = np.floor(around.min(0)).clip(0).astype(int)
    last = np.minimum(np.ceil(around.max(0)).astype(int) + 1, grid.shape)
    if (last <= first).any():
        return 0.0
    shape = (int(last[0] - first[0]), int(last[1] - first[1]), int(last[2] - first[2]))
    part = grid.cropped((int(first[0]), int(first[1]), int(first[2])), shape)
    clean = replace(scanner, noise_hu=0.0, streak_hu=0.0, bias_hu=0.0, metal_lps_mm=())
    bone = neck.bones[level.name]
    whole = replace(neck, bones={**neck.bones, level.name: replace(bone, cracks=(), compression=None)})
    broken, sound = (render(one, part, clean).hu.float() for one in (neck, whole))
    signal = broken - sound
    if not bool(signal.any()):
        return 0.0
    # The output's variance: the template through the noise's own blur, which is scaled to unit variance.
    impulse = torch.zeros([2 * n + 1 for n in (8, 16, 16)])
    impulse[8, 16, 16] = 1.0
    scale = float(noise_blur(impulse, part, scanner).norm())
    spread = noise_blur(signal * _by_slice(part, scanner), part, scanner).norm() / scale
    return float(signal.pow(2).sum() / spread)


def _by_slice(grid: Grid, scanner: Scanner) -> torch.Tensor:
    """Standard deviation of the noise (slices, 1, 1), HU; streaks add theirs."""
    noise, streaks = noise_strength(grid, scanner)
    return torch.as_tensor(np.hypot(noise, streaks), dtype=torch.float32)[:, None, None]
