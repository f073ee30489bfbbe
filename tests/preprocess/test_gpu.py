"""The same definition on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cspine.anatomy import Vertebra
from cspine.preprocess.preprocessor import Preprocessor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture
def on_gpu(localization, segmentation, crop_spec):
    with Preprocessor(localization, segmentation, crop_spec, device="cuda") as made:
        yield made


def test_images_are_made_and_stay_on_the_gpu_and_equal_those_of_the_cpu(
    grids, noise, blocks, preprocessor, on_gpu
):
    rng = np.random.default_rng(0)
    for _ in range(30):
        volume = noise(grids.random(rng), rng)
        mask = blocks(volume.grid, {Vertebra.C3: ((0, 1, 2), (8, 8, 8))})
        cpu, gpu = preprocessor.model_grids(volume), on_gpu.model_grids(volume)
        pairs = [
            (cpu.localization.image, gpu.localization.image),
            (cpu.segmentation.image, gpu.segmentation.image),
        ]
        for ours, theirs in zip(preprocessor.crops(volume, mask), on_gpu.crops(volume, mask), strict=True):
            pairs += [(ours.image, theirs.image), (ours.mask, theirs.mask)]
        for ours, theirs in pairs:
            assert theirs.is_cuda
            assert (ours - theirs.cpu()).abs().max() < 1e-4


def test_the_gpu_that_was_used_is_told(on_gpu):
    assert on_gpu.device == torch.device("cuda", 0)


def test_images_on_the_gpu_stay_what_they_were_while_later_studies_run(grids, noise, on_gpu):
    rng = np.random.default_rng(1)
    kept = []
    for _ in range(20):
        image = on_gpu.model_grids(noise(grids.make((48, 50, 60), (0.9, 0.7, 0.6)), rng)).segmentation.image
        kept.append((image, image.clone()))
    assert all(torch.equal(image, as_made) for image, as_made in kept)
