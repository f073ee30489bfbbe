"""Cells of voxels: nothing is lost on the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cspine.anatomy import OCCIPUT, RISE_CHANNEL, THORACIC
from cspine.cuda_runtime import preload
from cspine.models.folding import at_voxels, bone_logit, folded, unfolded
from cspine.models.inference import most_likely, spine_output, symmetric_output
from cspine.models.segmenter import name_vertebrae

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
    assert found.shape == (1, RISE_CHANNEL + 9, 16, 32, 48)
    assert torch.allclose(found[:, RISE_CHANNEL + 1 :], bone_logit(found).expand(-1, 8, -1, -1, -1))


def test_a_voxel_is_bone_as_its_own_channel_says_and_which_as_its_cell_says():
    cell = torch.full((1, RISE_CHANNEL + 9, 1, 1, 1), -2.0)
    cell[0, 4], cell[0, OCCIPUT] = 3.0, 1.0
    cell[0, RISE_CHANNEL + 1 :, 0, 0, 0] = torch.tensor([5.0, -5, 5, -5, 5, -5, 5, -5])
    found = at_voxels(cell, 2)
    assert torch.equal(found.argmax(1)[0, :, :, 0], torch.full((2, 2), 4))
    assert torch.equal(found.argmax(1)[0, :, :, 1], torch.full((2, 2), OCCIPUT))
    bone = found.softmax(1)[:, 1 : THORACIC + 1].sum(1, keepdim=True)
    assert torch.allclose(bone, torch.sigmoid(unfolded(cell[:, RISE_CHANNEL + 1 :], 2)), atol=1e-5)


def test_images_of_any_size_come_back_at_their_own_size(network: RefinedUNet):
    image = torch.rand((37, 21, 45))
    assert spine_output(network.eval(), image).shape == (RISE_CHANNEL + 9, 19, 11, 23)
    assert most_likely(network, image).shape == (37, 21, 45)


def test_the_mirror_image_gets_the_mirrored_answer_voxel_by_voxel(network: RefinedUNet):
    # Its last layer starts as none at all: only with weights do the voxels of a cell differ.
    torch.nn.init.normal_(network.refine[1].weight, std=0.1)
    image = torch.rand((32, 32, 64))
    found = symmetric_output(network.eval(), image)
    other = symmetric_output(network, image.flip(-1))
    assert torch.allclose(other[: RISE_CHANNEL + 1].flip(-1), found[: RISE_CHANNEL + 1], atol=1e-5)
    bone, mirrored = (unfolded(cells[None, RISE_CHANNEL + 1 :], 2)[0, 0] for cells in (found, other))
    assert torch.allclose(mirrored.flip(-1), bone, atol=1e-5)
    plain = spine_output(network, image)
    assert not torch.allclose(plain[RISE_CHANNEL + 1], plain[RISE_CHANNEL + 2], atol=1e-3)
    back = unfolded(spine_output(network, image.flip(-1))[None, RISE_CHANNEL + 1 :], 2)[0, 0].flip(-1)
    once = unfolded(plain[None, RISE_CHANNEL + 1 :], 2)[0, 0]
    assert torch.allclose(bone, (once + back) / 2, atol=1e-5)


def test_an_image_that_ends_within_a_cell_cannot_be_mirrored(network: RefinedUNet):
    with pytest.raises(ValueError, match="45 columns"):
        symmetric_output(network, torch.rand((16, 16, 45)))


def test_a_vertebra_is_named_by_cells_and_drawn_by_voxels(spine_output):
    cells = spine_output([OCCIPUT, 1, 2, 3, 4, 5, 6, 7, THORACIC])
    drawn = np.random.default_rng(0).random((8, *cells.shape[1:]), np.float32)
    plain, labels, margins = name_vertebrae(cells, (2.0, 2.0, 2.0))
    foreground, named, same = name_vertebrae(np.concatenate([cells, drawn]), (1.0, 1.0, 1.0))
    assert np.array_equal(named, labels)
    assert same == margins
    assert foreground.shape == tuple(2 * n for n in plain.shape)
    assert foreground[3, 8, 5] == drawn[4 * 1 + 2 * 0 + 1, 1, 4, 2]
