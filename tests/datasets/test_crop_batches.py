from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.datasets import crop_batches
from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_batches import PatchBatches, VertebraBatches, Views, as_vertebra_crops
from cspine.datasets.crop_samples import CropFolder, save_crops
from cspine.models.classifier_network import FractureNet
from cspine.training.classification_losses import LossWeights, vertebra_loss


def test_a_batch_of_parts_pairs_fractured_with_sound_vertebrae(crop_folder, still, spec):
    batch = PatchBatches(CropFolder(crop_folder), 3, 32, Views(spec, still, 4))(0)
    assert batch["crops"].shape == (6, 2, spec.planes, 32, 32)
    assert batch["heat"].shape == (6, 4, 8, 8)
    assert torch.equal(batch["heat"].amax((2, 3)), batch["slices"])
    broken = batch["slices"].view(3, 2, 4)
    assert broken[:, 1].sum() == 0


def test_parts_lie_on_the_fracture_where_there_is_one(crop_folder, spec):
    how = Augmentation(rotation_deg=20, scale=0.1, shift=0, mixup=0)
    batch = PatchBatches(CropFolder(crop_folder), 3, 16, Views(spec, how, 4))(0)
    assert batch["crops"].shape == (6, 2, spec.planes, 16, 16)
    assert (batch["slices"].view(3, 2, 4)[:, 0].sum(1) >= 1).all()


def test_a_sound_vertebra_is_seen_where_its_partner_is_broken(tmp_path, monkeypatch, still, spec, crop):
    monkeypatch.setattr(crop_batches, "SHAKE", 0.0)
    rows = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 4, (spec.planes, 32, 32))
    for n in range(4):
        # The sound vertebra lies three pixels lower in its crop.
        source = replace(crop(Vertebra.C5, fractured=n % 2 == 0), image=rows)
        moved = replace(source, mask=np.roll(source.mask, 3, 1))
        save_crops([source if n % 2 == 0 else moved], tmp_path / f"neck-{n}.npz")
    batch = PatchBatches(CropFolder(tmp_path), 2, 16, Views(spec, still, 4))(0)
    middle = (batch["crops"][:, 0, 4, 7:9] * 255 / 4).mean((1, 2)).view(2, 2)
    assert torch.allclose(middle[:, 1] - middle[:, 0], torch.full((2,), 3.0), atol=1e-3)


def test_beyond_a_crop_its_edge_repeats_without_mask(tmp_path, still, spec, crop):
    source = crop(Vertebra.C5, fractured=True)
    source.mask[:], source.fracture[:] = False, False
    source.mask[:, :4, :4] = source.fracture[6, :2, :2] = True
    for n, fractured in enumerate((True, False) * 2):
        save_crops([replace(source, fractured=fractured)], tmp_path / f"neck-{n}.npz")
    batch = PatchBatches(CropFolder(tmp_path), 2, 16, Views(spec, still, 4))(0)
    # Repeated as well, the mask would fill the corner of the patch beyond the crop: 36 pixels and more.
    assert ((batch["crops"][:, 1].sum((2, 3)) - 16).abs() <= 9).all()
    assert (batch["crops"][:, 0, :, 0, 0] > 0).any()


def test_the_same_step_gives_the_same_batch(crop_folder, spec):
    first, second = (
        PatchBatches(CropFolder(crop_folder), 2, 16, Views(spec, Augmentation(), 4))(7) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fractures_of_unknown_place_teach_levels_but_no_planes(crop_folder, still, spec, crop):
    hidden = replace(crop(Vertebra.C4, fractured=True, seed=50), located=False)
    hidden = replace(hidden, fracture=np.zeros_like(hidden.fracture))
    save_crops([hidden], crop_folder / "other.npz")
    studies, views = CropFolder(crop_folder), Views(spec, still, 4)
    drawn = [VertebraBatches(studies, 6, views)(step) for step in range(12)]
    located = torch.cat([batch["located"] for batch in drawn])
    fractured = torch.cat([batch["fractured"] for batch in drawn])
    assert 0 < (located == 0).sum() < len(located) / 4
    assert (fractured[located == 0] == 1).all()
    parts = PatchBatches(studies, 6, 16, views)
    assert all((parts(step)["slices"].view(6, 2, 4)[:, 0].sum(1) >= 1).all() for step in range(12))
    network = FractureNet(steps=4, window_planes=5)
    loss = vertebra_loss(LossWeights(), network.encode, {**drawn[0], "located": torch.zeros(12)})
    assert loss["slices"] == 0


def test_crops_for_the_classifier_are_the_ones_on_disk_with_the_same_mask_errors_every_time(crop_folder):
    study = CropFolder(crop_folder).refresh()[0]
    crops = as_vertebra_crops(study)
    assert [found.level for found in crops] == list(CERVICAL)
    assert torch.equal((crops[3].image * 255).round().byte(), torch.from_numpy(study.load(Vertebra.C4).image))
    again = as_vertebra_crops(study)
    assert all(torch.equal(one.mask, other.mask) for one, other in zip(crops, again, strict=True))
