"""How unsure a network is, and what it is taught with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cspine.anatomy import NETWORK_CHANNELS, Vertebra
from cspine.crops import ModelImage
from cspine.datasets.phantom_spines import spl_grid
from cspine.volume import Grid, SpineMask
from cspine_label.errors import RefusedLabelError
from cspine_label.job import TrainingPlan, is_validation
from cspine_label.samples import merged, spine_sample
from cspine_label.uncertainty import NO_SPINE, doubt_of_patch, dropout, entropy, variance

CHANNELS = len(NETWORK_CHANNELS)
EVERYWHERE = np.ones((2, 2, 2), bool)


def _certain(channel: int, shape=(2, 2, 2)) -> np.ndarray:
    probabilities = np.zeros((CHANNELS, *shape), np.float32)
    probabilities[channel] = 1
    return probabilities


def test_entropy_runs_from_0_when_sure_to_1_when_all_is_equally_likely():
    assert entropy(_certain(3), EVERYWHERE) == pytest.approx(0, abs=1e-6)
    assert entropy(np.full((CHANNELS, 2, 2, 2), 1 / CHANNELS, np.float32), EVERYWHERE) == pytest.approx(1)


def test_variance_runs_from_0_for_equal_passes_to_1_for_opposite_ones():
    assert variance([_certain(3), _certain(3)], EVERYWHERE) == 0
    assert variance([_certain(3), _certain(4)], EVERYWHERE) == pytest.approx(1)


class Bone(torch.nn.Module):
    """Calls what is bright C4, with a certainty that dropout disturbs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.drop = torch.nn.Dropout(0.0)
        self.norm = torch.nn.BatchNorm3d(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        bright = self.drop(torch.ones_like(image)) * image * self.weight
        logits = torch.zeros((1, CHANNELS, *image.shape[2:]))
        logits[:, 4:5] = 6 * bright
        logits[:, :1] = 3 * (1 - image)
        # To the middle of `_patch`.
        rise_cm = 0.2 * (15.5 - torch.arange(image.shape[2], dtype=torch.float32))
        return torch.cat([logits, rise_cm[:, None, None].expand_as(image)], 1)


def _patch() -> torch.Tensor:
    patch = torch.zeros(32, 32, 32)
    patch[10:22, 10:22, 10:22] = 1
    return patch


def test_doubts_lie_between_0_and_1_and_leave_the_network_as_it_was():
    network = Bone().eval()
    doubt = doubt_of_patch(network, _patch(), (2.0, 2.0, 2.0))
    assert 0 < doubt.uncertainty < 1
    assert 0 <= doubt.tta < 1
    assert 0 <= doubt.disagreement <= 1
    assert not network.drop.training
    assert network.drop.p == 0.0


def test_where_no_bone_is_seen_the_network_is_as_unsure_as_can_be():
    assert doubt_of_patch(Bone().eval(), torch.zeros(32, 32, 32), (2.0, 2.0, 2.0)) == NO_SPINE


def test_only_dropout_layers_work_as_in_training():
    network = Bone().eval()
    with dropout(network, 0.3):
        assert network.drop.training
        assert network.drop.p == 0.3
        assert not network.norm.training


def _mask(grid: Grid, level: Vertebra) -> SpineMask:
    labels = np.zeros(grid.shape, np.uint8)
    labels[8:20, 8:20, 8:20] = level
    return SpineMask.from_labels(grid, labels)


def test_what_nobody_drew_keeps_the_network_s_label_and_what_was_drawn_replaces_it():
    grid = spl_grid((32, 32, 32), (2.0, 2.0, 2.0), np.zeros(3))
    mask = _mask(grid, Vertebra.C5)
    known = np.zeros(grid.shape, np.uint8)
    known[0, 0, 0], known[1, 1, 1], known[9, 9, 9], known[2, 2, 2] = 8, 5, 4, 9
    labels = merged(known, mask.labels, mask)
    assert (labels[0, 0, 0], labels[1, 1, 1], labels[9, 9, 9], labels[2, 2, 2]) == (8, 0, 5, 9)


def test_a_sample_holds_the_image_and_the_label_of_the_case_around_the_label():
    grid = spl_grid((32, 32, 32), (2.0, 2.0, 2.0), np.zeros(3))
    sample = spine_sample(ModelImage(grid, _patch()), _mask(grid, Vertebra.C5), (48, 32, 32), Bone().eval())
    assert sample.shape == (2, 48, 32, 32)
    assert sample.dtype == np.uint8
    assert np.count_nonzero(sample[1] == 5) == 12**3
    assert sample[0].max() == 255


def test_an_empty_label_is_no_sample():
    grid = spl_grid((32, 32, 32), (2.0, 2.0, 2.0), np.zeros(3))
    empty = SpineMask.from_labels(grid, np.zeros(grid.shape, np.uint8))
    with pytest.raises(RefusedLabelError, match="teaches nothing"):
        spine_sample(ModelImage(grid, _patch()), empty, (32, 32, 32), Bone().eval())


def test_one_case_in_five_is_validation_and_stays_so():
    chosen = [is_validation(f"case{number}") for number in range(1000)]
    assert 150 < sum(chosen) < 250
    assert chosen == [is_validation(f"case{number}") for number in range(1000)]


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"steps": "many"}, "'steps' is a number"),
        ({"minutes": -1}, "'minutes' lies from"),
        ({"seed": 2**40}, "'seed'"),
    ],
)
def test_a_plan_out_of_bounds_is_refused(params, why):
    with pytest.raises(RefusedLabelError, match=why):
        TrainingPlan.read(params)


def test_a_plan_takes_what_it_knows_and_leaves_the_rest_alone():
    plan = TrainingPlan.read({"steps": "20", "max_epochs": 3, "pretrained": False, "device": "cpu"})
    assert (plan.steps, plan.device) == (20, "cpu")
