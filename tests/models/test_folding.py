"""Cells of voxels: nothing is lost on the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cspine.anatomy import OCCIPUT, RISE_CHANNEL, THORACIC
from cspine.cuda_runtime import preload
from cspine.models.folding import at_voxels, bone_logit, folded, numbers_around, unfolded
from cspine.models.inference import mirrored, most_likely, spine_output, twofold_output
from cspine.models.naming import name_bone, name_vertebrae

preload()

from cspine.models.spine_network import RefinedUNet  # noqa: E402


@pytest.fixture
def network() -> RefinedUNet:
    torch.manual_seed(0)
    return RefinedUNet(RISE_CHANNEL + 1, (4, 4, 8), detail_channels=4, fold=2)


def test_unfolding_gives_every_voxel_back_at_its_place():
    image = torch.rand((2, 1, 6, 4, 8))
    cells = folded(image, 2)
    assert cells.shape == (2, 8, 3, 2, 4)
    assert torch.equal(cells[0, :, 1, 0, 3], image[0, 0, 2:4, 0:2, 6:8].flatten())
    assert torch.equal(unfolded(cells, 2), image)


def test_a_cell_of_one_voxel_is_that_voxel():
    image = torch.rand((1, 1, 6, 4, 8))
    assert torch.equal(folded(image, 1), image)


def test_the_logit_of_bone_is_that_of_all_vertebrae_against_background_and_skull():
    p = torch.softmax(torch.randn((1, 10, 3, 3, 3)), 1)
    bone = p[:, 1 : THORACIC + 1].sum(1, keepdim=True)
    assert torch.allclose(torch.sigmoid(bone_logit(p.log())), bone, atol=1e-5)


def test_a_network_that_folds_starts_with_the_same_bone_in_every_voxel_of_a_cell(network: RefinedUNet):
    with torch.no_grad():
        found = network(torch.rand((1, 1, 32, 64, 96)))
    assert found.shape == (1, RISE_CHANNEL + 17, 16, 32, 48)
    bone, rise = found[:, RISE_CHANNEL + 1 :].chunk(2, 1)
    assert torch.allclose(bone, bone_logit(found).expand(-1, 8, -1, -1, -1))
    assert torch.allclose(rise, found[:, RISE_CHANNEL, None].expand(-1, 8, -1, -1, -1))


def test_a_residual_block_of_the_refinement_adds_nothing_at_first():
    image, networks = torch.rand((1, 1, 32, 32, 32)), []
    for blocks in (0, 2):
        torch.manual_seed(0)
        networks.append(RefinedUNet(RISE_CHANNEL + 1, (4, 4, 8), 4, fold=2, detail_blocks=blocks).eval())
    plain, deeper = networks
    torch.nn.init.ones_(plain.refine[-1].weight)
    torch.nn.init.ones_(deeper.refine[-1].weight)
    with torch.no_grad():
        assert torch.allclose(plain(image), deeper(image), atol=1e-5)


def test_a_voxel_is_bone_as_its_own_channel_says_and_which_as_its_cell_says():
    cell = torch.full((1, RISE_CHANNEL + 17, 1, 1, 1), -2.0)
    cell[0, 4], cell[0, OCCIPUT] = 3.0, 1.0
    cell[0, RISE_CHANNEL + 1 : RISE_CHANNEL + 9, 0, 0, 0] = torch.tensor([5.0, -5, 5, -5, 5, -5, 5, -5])
    found = at_voxels(cell, 2)
    assert torch.equal(found.argmax(1)[0, :, :, 0], torch.full((2, 2), 4))
    assert torch.equal(found.argmax(1)[0, :, :, 1], torch.full((2, 2), OCCIPUT))
    bone = found.softmax(1)[:, 1 : THORACIC + 1].sum(1, keepdim=True)
    assert torch.allclose(
        bone, torch.sigmoid(unfolded(cell[:, RISE_CHANNEL + 1 : RISE_CHANNEL + 9], 2)), atol=1e-5
    )


def test_images_of_any_size_come_back_at_their_own_size(network: RefinedUNet):
    image = torch.rand((37, 21, 45))
    assert spine_output(network.eval(), image).shape == (RISE_CHANNEL + 17, 19, 11, 23)
    assert most_likely(network, image).shape == (37, 21, 45)


class Grey(torch.nn.Module):
    """Says of each voxel how bright it is, and of a cell the mean of its voxels; fold is 2."""

    fold = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        voxels = folded(image, 2) * self.scale
        cell = voxels.mean(1, keepdim=True)
        return torch.cat([cell.expand(-1, RISE_CHANNEL + 1, -1, -1, -1), voxels, voxels], 1)


def test_a_second_look_with_other_cells_leaves_every_voxel_at_its_place():
    image = torch.rand((32, 64, 32))
    bone, rise = twofold_output(Grey(), image)[RISE_CHANNEL + 1 :].chunk(2)
    assert torch.allclose(unfolded(rise[None], 2)[0, 0], image, atol=1e-2)
    assert torch.allclose(unfolded(bone[None], 2)[0, 0], torch.sigmoid(image), atol=1e-2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_second_look_with_other_cells_leaves_what_rises_steadily_where_it_is(axis: int):
    ramp = torch.arange(64.0).div(64).view([64 if n == axis else 1 for n in range(3)])
    image = ramp.expand([64 if n == axis else 32 for n in range(3)])
    once, twice = (look(Grey(), image)[RISE_CHANNEL] for look in (spine_output, twofold_output))
    inside = (slice(1, -1),) * 3
    assert torch.allclose(twice[inside], once[inside], atol=1e-2)


def test_a_second_look_sees_with_cells_that_straddle_those_of_the_first(network: RefinedUNet):
    torch.nn.init.normal_(network.refine[-1].weight, std=0.1)
    image = torch.rand((32, 32, 32))
    plain, turned = (spine_output(network.eval(), seen) for seen in (image, image.flip(-1)))
    aligned = (plain + mirrored(turned, 2)) / 2
    assert not torch.allclose(twofold_output(network, image), aligned, atol=1e-3)


def test_an_answer_of_the_mirror_image_is_turned_back_voxel_by_voxel():
    image = torch.rand((32, 32, 64))
    turned = mirrored(spine_output(Grey(), image.flip(-1)), 2)
    assert torch.allclose(turned, spine_output(Grey(), image))


def test_an_image_that_ends_within_a_cell_is_refused(network: RefinedUNet):
    with pytest.raises(ValueError, match=r"\(16, 16, 45\) voxels do not fill cells"):
        twofold_output(network, torch.rand((16, 16, 45)))


def test_a_vertebra_is_found_by_cells_and_drawn_by_voxels(spine_output):
    cells = spine_output([OCCIPUT, 1, 2, 3, 4, 5, 6, 7, THORACIC])
    drawn = np.random.default_rng(0).random((16, *cells.shape[1:]), np.float32)
    plain, labels, margins = name_vertebrae(cells, (2.0, 2.0, 2.0))
    foreground, named, same = name_vertebrae(np.concatenate([cells, drawn]), (1.0, 1.0, 1.0))
    assert np.array_equal(named, labels)
    assert same == margins
    assert foreground.shape == tuple(2 * n for n in plain.shape)
    assert foreground[3, 8, 5] == drawn[4 * 1 + 2 * 0 + 1, 1, 4, 2]


@pytest.fixture
def touching(spine_output) -> tuple[np.ndarray, np.ndarray]:
    """Two vertebrae that touch, as cells, and the rise of the voxels, each pointing where its cell does."""
    cells = spine_output([3, 4])
    cells[:, 8] = cells[:, 7]  # the two slices between them are C4's too
    cells[:, 9] = cells[:, 7]
    cells[RISE_CHANNEL, 8:10] = cells[RISE_CHANNEL, 7] - 0.2 * np.array([1, 2])[:, None, None]
    slices = np.arange(2 * cells.shape[1])
    height_mm = 2 * np.arange(cells.shape[1])[:, None, None] + 10 * cells[RISE_CHANNEL]
    rise_mm = height_mm.repeat(2, 0).repeat(2, 1).repeat(2, 2) - (slices - 0.5)[:, None, None]
    return cells, (rise_mm / 10).astype(np.float32)


def around(cells: np.ndarray, rise_cm: np.ndarray) -> np.ndarray:
    bone = np.ones((8, *cells.shape[1:]), np.float32)
    rise = folded(torch.from_numpy(rise_cm)[None, None], 2)[0].numpy()
    return name_bone(np.concatenate([cells, bone, rise]), (1.0, 1.0, 1.0)).around


def test_where_voxels_point_as_their_cells_do_the_border_stays_with_the_cells(touching):
    found = around(*touching)
    assert (found[20:32, 12:32, 8:32] == 3).all()
    assert (found[4:20, 12:32, 8:32] == 4).all()


def test_a_cell_sees_the_numbers_of_its_26_neighbours_and_no_others():
    numbers = torch.zeros((1, 5, 5, 5), dtype=torch.int32)
    numbers[0, 0, 0, 0], numbers[0, 2, 2, 2] = 3, 7
    lowest, highest = numbers_around(numbers)
    assert (lowest[0, 1, 1, 1], highest[0, 1, 1, 1]) == (3, 7)
    assert (lowest[0, 0, 0, 1], highest[0, 0, 0, 1]) == (3, 3)
    assert (lowest[0, 3, 3, 3], highest[0, 3, 3, 3]) == (7, 7)
    assert lowest[0, 4, 4, 4] > 7
    assert highest[0, 4, 4, 4] == 0


def test_a_border_lies_where_the_pointers_of_the_voxels_part(touching):
    cells, rise_cm = touching
    rise_cm[19, :, 20:] += 1.6  # one slice of voxels at the back points at the vertebra above
    found = around(cells, rise_cm)
    assert (found[19, 12:32, 20:32] == 3).all()
    assert (found[19, 12:32, 8:20] == 4).all()
    assert (found[18, 12:32, 8:32] == 4).all()


def test_a_voxel_far_from_the_border_keeps_the_name_of_its_cell(touching):
    cells, rise_cm = touching
    rise_cm[10, 20, 20] += 1.6
    assert around(cells, rise_cm)[10, 20, 20] == 4
