from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL
from cspine.crops import CropSpec
from cspine.datasets import phantom_crops
from cspine.datasets.crop_samples import CropFile, CropFolder
from cspine.datasets.phantom_crops import CropRecipe, claim_folder, fill_folder, filling, make_crops
from cspine.errors import InputError, UsageError
from cspine.phantom import DEFAULT
from cspine.training.classification import Recipe

CPU = torch.device("cpu")


def test_a_folder_of_another_recipe_is_refused(tmp_path, spec):
    claim_folder(tmp_path, CropRecipe(spec, DEFAULT, 0, 2))
    claim_folder(tmp_path, CropRecipe(spec, DEFAULT, 5, 9))
    with pytest.raises(UsageError, match="another recipe"):
        claim_folder(tmp_path, CropRecipe(spec, DEFAULT, 0, 2, twins=True))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, spec: CropSpec) -> list[CropFile]:
    """Both studies of a neck with three fractures."""
    folder = tmp_path_factory.mktemp("twins")
    job = Recipe(rich={"fractured": 1.0, "levels_fractured": [0.0, 0.0, 1.0]}).crops(spec, 1)["training"]
    fill_folder(folder, job)
    return [CropFile(path) for path in job.paths(folder, job.first_seed)]


def test_twins_show_every_vertebra_once_broken_and_once_not(twins):
    first, second = (study.fractured for study in twins)
    assert len(first) == len(second) == 6
    assert sum(first.values()) == 3
    stays = {v for v in first if first[v] and second[v]}
    assert all(first[v] != second[v] for v in first if v not in stays)
    assert len(stays) < 3


def test_a_phantom_s_crop_shows_bone_in_its_mask_and_a_fracture_where_there_is_one(twins, spec):
    for study in twins:
        for level, broken in study.fractured.items():
            found = study.load(level)
            assert found.image.shape == found.mask.shape == (spec.planes, spec.pixels, spec.pixels)
            assert found.mask.any()
            assert found.fracture.any() == broken
            assert found.image[found.mask].mean() > found.image[~found.mask].mean()


def test_the_same_seed_makes_the_same_crops(spec):
    job = CropRecipe(spec, DEFAULT, 3, 1)
    for first, second in zip(make_crops(3, job)[0], make_crops(3, job)[0], strict=True):
        assert first.level == second.level
        assert np.array_equal(first.image, second.image)


def test_a_worker_process_makes_phantoms_while_training_waits_for_them(tmp_path, spec):
    with filling([(tmp_path, CropRecipe(spec, DEFAULT, 5, 1))], CPU):
        (study,) = CropFolder(tmp_path).wait_for(1)
    assert set(study.fractured) == set(CERVICAL)


def test_a_thread_that_makes_phantoms_on_the_device_tells_what_went_wrong(tmp_path, monkeypatch, spec):
    tried = threading.Event()

    def broken(*_: object) -> None:
        tried.set()
        raise InputError("no anatomy")

    monkeypatch.setattr(phantom_crops, "make_crops", broken)
    with (
        pytest.raises(InputError, match="no anatomy"),
        phantom_crops.rendering_thread([(tmp_path, CropRecipe(spec, DEFAULT, 0, 2))], CPU),
    ):
        assert tried.wait(60)
