from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec
from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_batches import Mistake, PatchBatches, Views
from cspine.datasets.crop_samples import CropFolder, LabelledCrop, save_crops
from cspine.training.classification_mistakes import mistakes_of

HOW = Augmentation(
    rotation_deg=0, scale=0, noise=0, streaks=0, blotchy=0, porous=0, dense=0, thick=0, coarse=0, mixup=0
)
CPU = torch.device("cpu")


@pytest.fixture
def dark(tmp_path: Path, crop: Callable[..., LabelledCrop]) -> CropFolder:
    """Two fractured and two sound C5 without any light."""
    for n in range(4):
        save_crops([crop(Vertebra.C5, fractured=n < 2, brightness=0)], tmp_path / "dark" / f"neck-{n}.npz")
    return CropFolder(tmp_path / "dark")


@pytest.fixture
def bright(tmp_path: Path, crop: Callable[..., LabelledCrop]) -> CropFolder:
    """Two sound C5, the second one brighter."""
    for n in range(2):
        save_crops(
            [crop(Vertebra.C5, fractured=False, brightness=100 + 100 * n)],
            tmp_path / "bright" / f"neck-{n}.npz",
        )
    return CropFolder(tmp_path / "bright")


@pytest.fixture
def views(spec: CropSpec) -> Views:
    """Views of small crops as they are, for the most part."""
    return Views(spec, HOW, 4)


@pytest.fixture
def sound_parts(dark: CropFolder, bright: CropFolder, views: Views) -> Callable[..., torch.Tensor]:
    """A function from the logits of two bright mistakes to the brightness of 120 sound parts."""

    def make(*logits: float) -> torch.Tensor:
        mistakes = [
            Mistake(study, Vertebra.C5, 16, 16, logit)
            for study, logit in zip(bright.refresh(), logits, strict=True)
        ]
        parts = PatchBatches(dark, 2, 16, views, mistakes)
        return torch.cat([parts(step)["crops"][1::2, 0].amax((1, 2, 3)) for step in range(60)])

    return make


def test_half_of_the_sound_parts_are_what_the_network_took_for_fractures(sound_parts):
    light = sound_parts(0, 0)
    assert 0.35 < (light > 0.2).float().mean() < 0.65


def test_the_surer_mistake_is_seen_more_often(sound_parts):
    light = sound_parts(-3, 3)
    assert (light > 0.6).sum() > 5 * ((light > 0.2) & (light < 0.6)).sum()


def test_levels_without_a_known_mistake_are_drawn_as_before(dark, bright, views):
    elsewhere = [Mistake(bright.refresh()[0], Vertebra.C2, 16, 16, 3.0)]
    with_them, without = PatchBatches(dark, 2, 16, views, elsewhere), PatchBatches(dark, 2, 16, views)
    assert torch.equal(with_them(3)["crops"], without(3)["crops"])


class SeesLight(torch.nn.Module):
    """Takes light for fractures."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = sign
        self.encoder = self._heat

    def _heat(self, crops: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, self.sign * torch.nn.functional.max_pool3d(crops[:, :1], (1, 4, 4))[:, 0]


def test_mistakes_are_the_hottest_places_of_sound_vertebrae(tmp_path, crop):
    crops = []
    for level in CERVICAL:
        lit = crop(level, fractured=level == Vertebra.C3, brightness=0)
        lit.image[4, 18, 4 + 2 * int(level)] = 200
        crops.append(lit)
    save_crops(crops, tmp_path / "necks" / "neck-1.npz")
    studies = CropFolder(tmp_path / "necks").refresh()
    found = mistakes_of(SeesLight(), studies, tmp_path / "mistakes.json", CPU)
    hottest = {mistake.level: mistake for mistake in reversed(found)}
    assert sorted(hottest) == [v for v in CERVICAL if v != Vertebra.C3]
    for level, mistake in hottest.items():
        assert abs(mistake.row - 18) <= 2
        assert abs(mistake.column - (4 + 2 * int(level))) <= 2
        assert mistake.logit == pytest.approx(200 / 255, abs=0.01)


def test_the_mistakes_of_one_vertebra_are_up_to_three_places_apart_from_each_other(tmp_path, crop):
    lit = crop(Vertebra.C5, fractured=False, brightness=0)
    lit.image[4, 2, 2], lit.image[4, 2, 10], lit.image[4, 2, 26], lit.image[4, 26, 2] = 200, 180, 160, 140
    save_crops([lit], tmp_path / "necks" / "neck-1.npz")
    found = mistakes_of(
        SeesLight(), CropFolder(tmp_path / "necks").refresh(), tmp_path / "mistakes.json", CPU
    )
    assert [(mistake.row, mistake.column) for mistake in found] == [(2, 2), (2, 26), (26, 2)]


def test_a_resumed_run_learns_from_the_same_mistakes(tmp_path, bright):
    file, studies = tmp_path / "mistakes.json", bright.refresh()
    first = mistakes_of(SeesLight(), studies, file, CPU)
    assert mistakes_of(SeesLight(-1.0), studies, file, CPU) == first
