from __future__ import annotations

from dataclasses import replace

import torch

from cspine.datasets.crop_mask_errors import MaskErrors, mistaken


def test_no_mask_of_training_shows_the_gap_of_a_fracture():
    whole = torch.zeros(16, 1, 64, 64)
    whole[:, :, 16:48, 16:48] = 1
    broken = whole.clone()
    broken[:, :, 31:33] = 0
    calm = MaskErrors(wobble=0.0, level=0.2, half=0.0, islands=0.0, none=0.0)
    drawn = [mistaken(mask, mask, calm, torch.Generator().manual_seed(3)) for mask in (whole, broken)]
    assert (drawn[1][:, 0, 28:36, 24:40] == 1).all()
    assert torch.equal(drawn[0][:, :, :24], drawn[1][:, :, :24])


def test_mistaken_masks_are_ragged_but_stay_on_bone():
    mask = torch.zeros(64, 5, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    image = torch.full_like(mask, 0.3)
    image[:, :, :, 10:60] = 0.6
    how = MaskErrors(none=0.0, shift=0)
    drawn = mistaken(mask, image, how, torch.Generator().manual_seed(3))
    overlap = 2 * (drawn * mask).sum((1, 2, 3)) / (drawn.sum((1, 2, 3)) + mask.sum((1, 2, 3)))
    assert 0.6 < overlap.mean() < 0.95
    assert drawn[:, :, :8, 10:60].any()
    assert not drawn[:, :, :, :8].any()


def test_now_and_then_one_side_of_a_vertebra_is_not_in_its_mask(still):
    mask = torch.zeros(64, 5, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    how = replace(still.mask, half=0.5)
    drawn = mistaken(mask, mask, how, torch.Generator().manual_seed(3))
    left = drawn.sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert 0.3 < (left == 1).float().mean() < 0.7
    assert 0.3 < left[left < 1].mean() < 0.7
