from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cspine.anatomy import Vertebra
from cspine.datasets.chance import stripes
from cspine.datasets.crop_augmentation import Augmentation, augment, slice_and_heat_targets
from cspine.datasets.crop_batches import Views, vertebra_batch
from cspine.datasets.crop_poses import Voxels


def test_targets_mark_the_planes_and_cells_around_the_break(spec):
    fracture = torch.zeros(1, spec.planes, 32, 32)
    fracture[0, 6, 10, 19] = 1
    slices, heat = slice_and_heat_targets(fracture, spec, 8)
    # Planes 2, 4, 6 and 8 are answered for; each counts itself and the two beside it.
    assert slices.tolist() == [[0, 0, 1, 0]]
    assert torch.nonzero(heat[0]).tolist() == [[2, 1, 2]]


def test_augmentation_without_strength_changes_nothing_but_the_side(still, spec, crop):
    source = crop(Vertebra.C3, fractured=True)
    batch = vertebra_batch([source] * 8, Views(spec, still, 0), torch.Generator().manual_seed(0))
    image = torch.from_numpy(source.image.astype(np.float32) / 255)
    sides = [
        any(torch.allclose(seen[0], wanted, atol=1e-4) for wanted in (image, image.flip(-1)))
        for seen in batch["crops"]
    ]
    assert all(sides)
    assert batch["slices"].tolist() == [[0, 0, 1, 0]] * 8


def test_noise_is_as_strong_as_drawn_whatever_the_size_of_its_grain(still, spec, crop):
    gray = [crop(Vertebra.C3, fractured=False, brightness=128)] * 48
    views = Views(spec, replace(still, noise=0.04, noisy=1.0), 0)
    strengths, grains = [], []
    for seed in range(12):
        seen = vertebra_batch(gray, views, torch.Generator().manual_seed(seed))["crops"][:, 0] - 128 / 255
        strengths.append(float((seen**2).mean() ** 0.5))
        grains.append(float((seen[:, :, 1:] * seen[:, :, :-1]).mean() / (seen**2).mean()))
    # The root mean square of what is drawn evenly up to .04 is .023; five pixels share four of their values.
    assert all(0.015 < strength < 0.03 for strength in strengths)
    assert min(grains) < 0.05
    assert max(grains) > 0.7


def test_streaks_run_nearly_from_side_to_side(still, spec, crop):
    gray = [crop(Vertebra.C3, fractured=False, brightness=128)] * 32
    views = Views(spec, replace(still, streaks=0.04, streaky=1.0), 0)
    seen = vertebra_batch(gray, views, torch.Generator().manual_seed(1))["crops"][:, 0]
    along, across = seen.diff(dim=-1).abs().mean(), seen.diff(dim=-2).abs().mean()
    assert 0 < 3 * along < across


def test_stripes_have_the_strength_that_is_asked_for():
    drawn = [stripes(torch.Size((16, 11, 32, 32)), torch.Generator().manual_seed(n)) for n in range(8)]
    assert all(0.85 < found.std() < 1.15 for found in drawn)


def test_noise_grows_where_streaks_are(still, spec, crop):
    gray = [crop(Vertebra.C3, fractured=False, brightness=128)] * 48

    def rough(how: Augmentation) -> torch.Tensor:
        """How much neighbours in a row differ."""
        seen = vertebra_batch(gray, Views(spec, how, 0), torch.Generator().manual_seed(7))["crops"][:, 0]
        return seen.diff(dim=-1).std((1, 2, 3)).mean()

    calm = replace(still, noise=0.03, noisy=1.0)
    stripes_alone = replace(still, streaks=0.06, streaky=1.0)
    both = replace(calm, streaks=0.06, streaky=1.0)
    assert rough(both) > 1.3 * (rough(calm) ** 2 + rough(stripes_alone) ** 2) ** 0.5


def test_porous_bone_is_less_bright_and_soft_tissue_stays(still, spec, crop):
    def looks(brightness: int) -> torch.Tensor:
        crops = [crop(Vertebra.C3, fractured=False, brightness=brightness)] * 64
        views = Views(spec, replace(still, porous=1.0, loss=0.6), 0)
        return vertebra_batch(crops, views, torch.Generator().manual_seed(1))["crops"][:, 0].mean((1, 2, 3))

    soft, bone = 60 / 255, 200 / 255
    assert torch.allclose(looks(60), torch.tensor(soft), atol=1e-3)
    left = (looks(200) - 0.28) / (bone - 0.28)
    assert 0.39 < left.min() < 0.5 < 0.9 < left.max() <= 1.001


def test_bone_can_be_flat_above_a_density_and_stays_as_it_is_below(still, spec, crop):
    views = Views(spec, replace(still, flat=1.0, ceiling=(0.5, 0.6)), 0)
    for brightness, low, high in ((100, 100 / 255, 100 / 255), (230, 0.5, 0.6)):
        crops = [crop(Vertebra.C3, fractured=False, brightness=brightness)] * 32
        seen = vertebra_batch(crops, views, torch.Generator().manual_seed(1))["crops"][:, 0]
        tops = seen.amax((1, 2, 3))
        assert low - 1e-3 <= tops.min() <= tops.max() <= high + 1e-3
        assert (tops.max() - tops.min() > 0.05) == (high > low)


def test_a_neck_that_moved_is_seen_twice_a_few_rows_apart(still):
    image = torch.zeros(16, 3, 32, 32)
    image[:, :, 16] = 1
    how = replace(still, ghost=1.0, ghost_pixels=4)
    voxels = Voxels(image, torch.ones_like(image), torch.zeros_like(image))
    apart = set()
    for seed in range(12):
        seen, _ = augment(voxels, how, torch.Generator().manual_seed(seed))
        rows = seen.image[0, 0, :, 5]
        bright = torch.nonzero(rows > 0.1).flatten().tolist()
        assert sorted(round(float(rows[row]), 2) for row in bright) == [0.35, 0.65]
        apart.add(bright[1] - bright[0])
    assert apart <= {1, 2, 3, 4}
    assert len(apart) > 1


def test_planes_of_thick_slices_lie_between_their_slices_and_keep_the_mean(still):
    how = replace(still, thick=1.0, slices=(2.0, 4.0))

    def resliced(image: torch.Tensor) -> torch.Tensor:
        voxels = Voxels(image, torch.ones_like(image), torch.zeros_like(image))
        return augment(voxels, how, torch.Generator().manual_seed(2))[0].image

    # A ramp stays a ramp between the first and the last slice; a single bright plane spreads and fades.
    ramp = resliced(torch.arange(9.0)[None, :, None, None].repeat(64, 1, 4, 4) / 8)
    assert (ramp.diff(dim=1) >= -1e-5).all()
    assert (ramp[:, 4] - 0.5).abs().max() < 0.13
    plane = torch.zeros(64, 9, 4, 4)
    plane[:, 4] = 1
    spread = resliced(plane)[:, :, 0, 0]
    assert (spread.amax(1) < 1).float().mean() > 0.9
    assert ((spread > 0.05).sum(1) >= 2).all()


def test_a_fracture_that_is_cut_away_is_not_counted(spec):
    mask = torch.ones(64, spec.planes, 32, 32)
    fracture = torch.zeros_like(mask)
    fracture[:, :2] = 1
    how = Augmentation(cut=1.0)
    cut, visible = augment(
        Voxels(torch.rand_like(mask), mask, fracture), how, torch.Generator().manual_seed(1)
    )
    assert set(visible.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert 0 < (visible < 0.3).float().mean() < 1
    gone = cut.fracture.sum((1, 2, 3)) == 0
    assert torch.equal(gone, visible == 0)
