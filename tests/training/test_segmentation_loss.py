from __future__ import annotations

import pytest
import torch

from cspine.anatomy import OCCIPUT
from cspine.models.folding import folded
from cspine.training.segmentation import DiceCe, at_borders, label_of_cells, rise_error_cm


def perfect(label: torch.Tensor, sure: float):
    return lambda _: torch.nn.functional.one_hot(label, 10).permute(0, 4, 1, 2, 3) * sure


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much():
    label = torch.arange(10).repeat_interleave(50).reshape(1, 10, 5, 10)
    batch = {"image": torch.zeros((1, 1, 10, 5, 10)), "label": label}
    right = DiceCe()(perfect(label, 50.0), batch)
    wrong = DiceCe()(perfect((label + 1) % 10, 50.0), batch)
    assert float(right["loss"]) == pytest.approx(0, abs=1e-3)
    assert float(wrong["loss"]) > 10


def test_a_cell_is_bone_where_half_of_its_voxels_are():
    label = torch.zeros((1, 2, 2, 6), dtype=torch.long)
    label[0, 0, :, :2] = 5
    label[0, 0, 0, 2:4] = 5
    label[0, :, :, 4:], label[0, 0, 0, 4] = 5, 6
    assert label_of_cells(label, 2).tolist() == [[[[5, 0, 6]]]]
    assert torch.equal(label_of_cells(label, 1), label)


def folding(label: torch.Tensor, drawn: torch.Tensor, rise_cm: float = 0.0):
    """A network that is sure of the cells of `label`, draws its voxels as `drawn` and gives them a rise."""
    cells = perfect(label_of_cells(label, 2), 50.0)(None)
    rise = torch.zeros_like(cells[:, :1])
    voxels = folded(100.0 * drawn[:, None].float() - 50, 2)
    return lambda _: torch.cat([cells, rise, voxels, torch.full_like(voxels, rise_cm)], 1)


def test_a_network_that_folds_also_pays_for_bone_drawn_beside_its_voxels():
    label = torch.zeros((1, 8, 8, 8), dtype=torch.long)
    label[0, 2:6, 2:6, 1:6], label[0, :, :, 7] = 4, OCCIPUT
    batch = {"image": torch.zeros((1, 1, 8, 8, 8)), "label": label}
    batch |= {"center_cm": torch.zeros((1, 10)), "height_cm": torch.zeros((1, 8))}
    bone = label == 4
    right = DiceCe()(folding(label, bone), batch)
    wrong = DiceCe()(folding(label, bone.roll(1, 3)), batch)
    assert float(right["loss"]) == pytest.approx(0, abs=1e-3)
    assert float(wrong["bone_dice"]) == pytest.approx(0.8, abs=0.02)
    assert float(wrong["loss"]) == pytest.approx(float(wrong["bone_loss"]), abs=1e-3)


def test_a_network_that_folds_also_pays_for_voxels_that_point_beside_their_centre():
    label = torch.zeros((1, 8, 8, 8), dtype=torch.long)
    label[0, 2:6, 2:6, 2:6] = 4
    batch = {"image": torch.zeros((1, 1, 8, 8, 8)), "label": label}
    batch |= {"center_cm": torch.zeros((1, 10)), "height_cm": torch.zeros((1, 8))}
    wrong = DiceCe()(folding(label, label == 4, rise_cm=-0.3), batch)
    assert float(wrong["rise_error_cm"]) == pytest.approx(0)
    assert float(wrong["voxel_rise_error_cm"]) == pytest.approx(0.3)
    assert float(wrong["loss"]) == pytest.approx(0.3, abs=1e-3)


def test_cells_that_see_two_vertebrae_are_at_a_border_and_those_beside_other_things_are_not():
    cells = torch.zeros((1, 3, 3, 9), dtype=torch.long)
    cells[0, :, :, :3], cells[0, :, :, 4:6], cells[0, :, :, 6] = 4, 5, OCCIPUT
    assert at_borders(cells)[0, 1, 1].tolist() == [False, False, False, True] + [False] * 5


def test_a_voxel_at_a_border_that_points_beside_its_centre_costs_more_than_one_far_from_it():
    label = torch.zeros((1, 8, 8, 16), dtype=torch.long)
    label[0, :, :, :8], label[0, :, :, 8:] = 4, 5
    batch = {"image": torch.zeros((1, 1, 8, 8, 16)), "label": label}
    batch |= {"center_cm": torch.zeros((1, 10)), "height_cm": torch.zeros((1, 8))}

    def error_of(columns: slice) -> float:
        wrong = torch.zeros(label.shape)
        wrong[..., columns] = 1.0
        right = folding(label, label > 0)(None)
        right[:, -8:] = folded(wrong[:, None], 2)
        return float(DiceCe()(lambda _: right, batch)["voxel_rise_error_cm"])

    # Four of sixteen columns count five times.
    assert error_of(slice(6, 10)) == pytest.approx(20 / 32)
    assert error_of(slice(0, 4)) == pytest.approx(4 / 32)


def test_classes_that_are_not_in_view_do_not_count_as_lost_dice():
    label = torch.zeros((1, 4, 4, 4), dtype=torch.long)
    label[0, :2] = 3
    values = DiceCe()(perfect(label, 50.0), {"image": torch.zeros((1, 1, 4, 4, 4)), "label": label})
    assert float(values["dice"]) == pytest.approx(1, abs=1e-3)


def batch_with_rise() -> dict[str, torch.Tensor]:
    """C6, C7 and a thoracic vertebra in slices of 1 cm, one voxel each; C7's center is 3 cm high."""
    center_cm = torch.full((1, 10), torch.nan)
    center_cm[0, 6], center_cm[0, 7], center_cm[0, 8] = 5.0, 3.0, 1.5
    label = torch.tensor([8, 8, 7, 7, 6, 0])[None, :, None, None]
    return {"label": label, "center_cm": center_cm, "height_cm": torch.arange(6.0)[None]}


def test_the_rise_is_measured_against_the_center_of_the_voxels_own_vertebra():
    batch = batch_with_rise()
    right = torch.tensor([1.5, 0.5, 1.0, 0.0, 1.0, 99.0])[None, :, None, None]
    assert float(rise_error_cm(right, batch)) == 0
    assert float(rise_error_cm(right + 0.5, batch)) == pytest.approx(0.5)


def test_of_a_thoracic_vertebra_only_a_center_that_is_too_high_is_wrong():
    batch = batch_with_rise()
    low = torch.tensor([-9.0, -9.0, 1.0, 0.0, 1.0, 0.0])[None, :, None, None]
    assert float(rise_error_cm(low, batch)) == 0


def test_without_a_known_center_the_rise_costs_nothing():
    batch = batch_with_rise()
    batch["center_cm"] = torch.full((1, 10), torch.nan)
    rise = torch.ones((1, 6, 1, 1), requires_grad=True)
    error = rise_error_cm(rise, batch)
    error.backward()
    assert float(error.detach()) == 0
    assert rise.grad is not None


def test_a_patch_without_any_bone_has_a_loss_with_a_gradient():
    net = torch.nn.Conv3d(1, 10, 1)
    batch = {"image": torch.rand((1, 1, 4, 4, 4)), "label": torch.zeros((1, 4, 4, 4), dtype=torch.long)}
    DiceCe()(net, batch)["loss"].backward()
    assert torch.isfinite(net.weight.grad).all()
    assert net.weight.grad.abs().sum() > 0
