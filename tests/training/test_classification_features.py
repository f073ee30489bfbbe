from __future__ import annotations

import numpy as np
import torch

from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_batches import PatchBatches, Views
from cspine.datasets.crop_samples import CropFolder
from cspine.models.classifier_network import FractureNet
from cspine.training.classification_features import (
    Embedded,
    SequenceBatches,
    StudyBatches,
    embed,
    encode_studies,
)
from cspine.training.classification_losses import LossWeights, encoder_loss, sequence_loss, study_loss


def test_every_stage_teaches_its_part_of_the_network(crop_folder, spec, widths):
    torch.manual_seed(0)
    net = FractureNet(steps=4, window_planes=5, widths=widths)
    weights, views, studies = LossWeights(), Views(spec, Augmentation(), 5, 2), CropFolder(crop_folder)
    parts = PatchBatches(studies, 2, 16, views)(0)
    encoder_loss(weights, net.encoder, parts)["loss"].backward()
    data = encode_studies(net, studies.refresh(), views)
    assert data.features.shape == (84, 2, 4, net.encoder.features)
    net.train()
    sequence_loss(weights, net.sequence, SequenceBatches(data, 16, 2)(0))["loss"].backward()
    embedded = embed(net, data)
    assert embedded.level.shape == (12, 2, 7)
    assert torch.equal(embedded.fractured.sum(1), torch.full((12,), 2.0))
    net.train()
    study_loss(weights, net.study, StudyBatches(embedded, 8, 3)(0))["loss"].backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert idle == set()


def test_half_of_the_studies_have_sound_levels_of_other_necks_in_place_of_their_fractured_ones():
    known = np.array([[0, 1, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 1], [1, 0, 1, 1, 1, 0, 0]], bool)
    fractured = torch.tensor([[0.0, 1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]])
    number = torch.arange(3.0)[:, None, None].expand(3, 1, 7)
    data = Embedded(number[..., None].expand(3, 1, 7, 16), number, fractured, known)
    batch = StudyBatches(data, 400, 0, partial_view=0.0)(0)
    assert (batch["present"] == 1).all()
    assert 0.4 < batch["fractured"].amax(1).mean() < 0.6
    healed = batch["level"][batch["fractured"].amax(1) == 0]
    # C2 of neck 0 is fractured and only neck 1 has a sound one; C7 comes from where it is known.
    assert set(healed[:, 1].tolist()) == {1.0}
    assert set(healed[:, 6].tolist()) == {0.0, 1.0}
    broken = batch["level"][batch["fractured"][:, 1] == 1]
    assert set(broken[:, 1].tolist()) == {0.0}


def test_studies_in_part_keep_neighbouring_levels_and_are_never_empty():
    known = np.ones((3, 7), bool)
    data = Embedded(torch.zeros(3, 1, 7, 16), torch.zeros(3, 1, 7), torch.zeros(3, 7), known)
    present = StudyBatches(data, 200, 0)(0)["present"]
    assert 0.1 < (present.sum(1) < 7).float().mean() < 0.5
    assert ((present.diff(dim=1) != 0).sum(1) <= 2).all()
    assert (present.sum(1) >= 1).all()
