from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import CropSpec, VertebraCrop
from cspine.errors import ModelError
from cspine.models.bundle import Bundle, load_bundle
from cspine.models.classifier import FractureClassifier
from cspine.models.classifier_network import FAR, FractureNet, Widths, folded, nearness
from cspine.settings import CLASSIFICATION, models_dir
from cspine.volume import Grid

SMALL = Widths(channels=(4, 6, 8, 8), blocks=(1, 1, 1), merged=8, recurrent=8, study=8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small_net() -> FractureNet:
    torch.manual_seed(5)
    net = FractureNet(steps=4, window_planes=5, widths=SMALL)
    # At the start the study head passes level logits through; a trained one does not.
    torch.nn.init.normal_(net.study.level.weight)
    return net.eval()


def noise_crops(levels: Sequence[Vertebra], spec: CropSpec, seed: int = 0) -> list[VertebraCrop]:
    """Crops of noise, each on a grid of its own with three different spacings."""
    crops = []
    for level in levels:
        generator = torch.Generator().manual_seed(seed + int(level))
        shape = (spec.planes, spec.pixels, spec.pixels)
        image = torch.rand(shape, generator=generator)
        mask = (torch.rand(shape, generator=generator) > 0.5).float()
        affine = np.array([[0, 0, 0.7, 3], [0, 0.6, 0, -5], [1.1, 0, 0, 20.0 * int(level)], [0, 0, 0, 1.0]])
        crops.append(VertebraCrop(level, Grid(shape, affine), image, mask))
    return crops


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(models_dir(), CLASSIFICATION)


@pytest.fixture(scope="module")
def classifier(bundle: Bundle) -> FractureClassifier:
    return FractureClassifier(bundle, device=CPU)


def study(net: FractureNet, present: list[bool], seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    planes = 2 * (net.steps - 1) + net.window_planes
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 7, 2, planes, 32, 32), generator=generator), torch.tensor([present])


def test_the_network_answers_for_levels_slices_cells_and_the_spine(small_net):
    crops, present = study(small_net, [True] * 7)
    out = small_net(crops, present)
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "levels": (1, 7),
        "overall": (1,),
        "slices": (1, 7, 4),
        "heat": (1, 7, 4, 8, 8),
    }
    assert all(torch.isfinite(value).all() for value in out.values())


def test_folding_keeps_every_pixel():
    crops = torch.arange(2 * 3 * 4 * 6.0).view(1, 2, 3, 4, 6)
    cells = folded(crops)
    assert cells.shape == (1, 8, 3, 2, 3)
    assert torch.equal(cells[0, :4, 1, 1, 2], crops[0, 0, 1, 2:4, 4:6].flatten())


def test_a_cell_counts_in_full_on_the_vertebra_less_beside_it_and_not_elsewhere():
    mask = torch.zeros(1, 9, 48, 48)
    mask[:, 2:7, 16:32, 16:32] = 1
    near = nearness(mask)
    assert near.shape == (1, 5, 12, 12)
    assert (near[0, 1:4, 4:8, 4:8] == 1).all()
    assert (near[0, 1:4, 3, 3:9] > 0.5).all()
    assert not near[0, :, [0, 1, 2, 9, 10, 11]].any()


@torch.no_grad()
def test_holes_and_ragged_edges_of_the_mask_are_not_read(small_net):
    generator = torch.Generator().manual_seed(3)
    whole = torch.rand((1, 2, 11, 32, 32), generator=generator)
    whole[:, 1] = 1
    ragged = whole.clone()
    ragged[:, 1] = (torch.rand((11, 32, 32), generator=generator) > 0.5).float()
    for one, other in zip(small_net.encoder(whole), small_net.encoder(ragged), strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_no_fracture_is_seen_far_from_the_mask(small_net):
    crops = torch.rand((1, 2, 11, 32, 32), generator=torch.Generator().manual_seed(3))
    everywhere, corner = crops.clone(), crops.clone()
    everywhere[:, 1] = 1
    corner[:, 1] = 0
    corner[:, 1, :, :8, :8] = 1
    heat, part = small_net.encoder(everywhere)[1], small_net.encoder(corner)[1]
    assert torch.equal(heat[..., :2, :2], part[..., :2, :2])
    assert torch.allclose(heat[..., 4:, 4:] + FAR, part[..., 4:, 4:])


@torch.no_grad()
def test_a_plane_is_answered_for_at_its_place_in_the_crop(small_net):
    encoder = copy.deepcopy(small_net.encoder)
    for part in encoder.modules():
        if isinstance(part, torch.nn.Conv3d):
            part.weight.fill_(1 / part.weight[0].numel())  # what is seen spreads evenly to all sides
            if part.bias is not None:
                part.bias.zero_()
    for coarser in list(encoder.lateral)[1:]:
        coarser.weight.zero_()  # its cells lie between those of the heat map
    dark = torch.zeros(1, 2, 11, 32, 32)
    dark[:, 1] = 1
    before = encoder(dark)[1]
    for step in range(4):
        lit = dark.clone()
        lit[0, 0, 2 * step + 2, 12, 20] = 1
        difference = (encoder(lit)[1] - before).abs()[0]
        assert np.unravel_index(int(difference.argmax()), difference.shape) == (step, 3, 5)


def test_windows_without_a_middle_on_the_answered_planes_are_refused():
    with pytest.raises(ValueError, match="not 3"):
        FractureNet(steps=4, window_planes=3, widths=SMALL)


def test_a_crop_with_another_number_of_planes_is_refused(small_net):
    with pytest.raises(ValueError, match="11, rows"):
        small_net.encode(torch.zeros(1, 2, 9, 32, 32))


@torch.no_grad()
def test_what_lies_in_the_place_of_an_absent_level_has_no_influence(small_net):
    crops, present = study(small_net, [False, True, True, False, True, True, False])
    other = crops.clone()
    other[~present] = float("nan")
    for name, value in small_net(crops, present).items():
        assert torch.equal(value, small_net(other, present)[name]), name


@torch.no_grad()
def test_an_absent_level_changes_the_study_head_through_its_absence_only(small_net):
    crops, present = study(small_net, [True] * 7)
    without = present.clone()
    without[0, 3] = False
    all_seen, one_less = small_net(crops, present), small_net(crops, without)
    assert not torch.allclose(all_seen["overall"], one_less["overall"])
    assert torch.allclose(all_seen["slices"][without], one_less["slices"][without], atol=1e-5)


@torch.no_grad()
def test_studies_in_one_batch_do_not_touch_each_other(small_net):
    first, second = study(small_net, [True] * 7, 1), study(small_net, [True] * 3 + [False] * 4, 2)
    both = small_net(torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]))
    for place, alone in enumerate((small_net(*first), small_net(*second))):
        for name, value in alone.items():
            assert torch.allclose(both[name][place], value[0], atol=1e-5), name


def test_scores_are_calibrated_probabilities_of_the_levels_shown(classifier):
    scores = classifier(noise_crops(CERVICAL, classifier.crop_spec))
    assert tuple(scores.levels) == CERVICAL
    assert 0 < scores.overall < 1
    for score in scores.levels.values():
        assert 0 < score.probability < 1
        assert 0 <= score.spread <= 0.5


@pytest.mark.parametrize("level", [Vertebra.C1, Vertebra.C7])
def test_a_single_level_can_be_scored(classifier, level):
    scores = classifier(noise_crops([level], classifier.crop_spec))
    assert list(scores.levels) == [level]


def test_the_order_of_the_crops_does_not_matter(classifier):
    crops = noise_crops(CERVICAL[1:5], classifier.crop_spec)
    forward, backward = classifier(crops), classifier(crops[::-1])
    assert forward == backward


def test_mirrored_crops_without_dense_bone_get_the_same_scores(classifier):
    crops = [
        replace(crop, image=crop.image.clamp(max=0.6))
        for crop in noise_crops(CERVICAL[2:5], classifier.crop_spec)
    ]
    mirrored = [replace(crop, image=crop.image.flip(-1), mask=crop.mask.flip(-1)) for crop in crops]
    plain, turned = classifier(crops), classifier(mirrored)
    assert turned.overall == pytest.approx(plain.overall, abs=0.01)
    for level in plain.levels:
        assert turned.levels[level].probability == pytest.approx(plain.levels[level].probability, abs=0.01)
        assert turned.levels[level].spread == pytest.approx(plain.levels[level].spread, abs=0.01)


def test_the_second_pass_is_mirrored_and_sees_no_contrast_in_bone_denser_than_700_hu(bundle):
    classifier = FractureClassifier(bundle, device=CPU)
    shown: list[torch.Tensor] = []
    classifier._network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    (crop,) = noise_crops([Vertebra.C4], classifier.crop_spec)
    assert classifier.crop_spec.window_hu == (-500.0, 1500.0)
    assert crop.image.max() > 0.6
    classifier([crop])
    first, second = shown[0][:, 3]
    assert torch.equal(first, torch.stack([crop.image, crop.mask]))
    assert torch.equal(second[0], crop.image.flip(-1).clamp(max=0.6))
    assert torch.equal(second[1], crop.mask.flip(-1))


class Pointing(torch.nn.Module):
    """Sees a fracture in one step, row and column, and in the mirror image at the mirrored column."""

    def forward(self, crops: torch.Tensor, present: torch.Tensor) -> dict[str, torch.Tensor]:
        slices, heat = torch.zeros(2, 7, 15), torch.zeros(2, 7, 15, 32, 32)
        slices[:, 3, 6] = heat[0, 3, 6, 2, 5] = heat[1, 3, 6, 2, 26] = 9.0
        # A cell that only one of the two passes sees.
        heat[0, 3, 6, 8, 8] = 10.0
        return {"levels": torch.zeros(2, 7), "overall": torch.zeros(2), "slices": slices, "heat": heat}


def test_the_key_point_lies_in_the_cell_that_both_passes_see(bundle):
    classifier = FractureClassifier(bundle, device=CPU)
    classifier._network = Pointing()
    (crop,) = noise_crops([Vertebra.C4], classifier.crop_spec)
    key = classifier([crop]).levels[Vertebra.C4].key_lps_mm
    window = classifier.crop_spec.window_planes
    # Cells are 4 x 4 pixels; the first one's middle lies at 1.5.
    assert crop.grid.to_index(key) == pytest.approx([2 * 6 + window // 2, 9.5, 21.5])


def test_no_crop_or_two_of_one_level_are_refused(classifier):
    with pytest.raises(ValueError, match="one crop a level"):
        classifier([])
    with pytest.raises(ValueError, match="C3"):
        classifier(noise_crops([Vertebra.C3, Vertebra.C3], classifier.crop_spec))


def test_operating_points_go_from_cautious_to_strict(classifier):
    points = [classifier.operating_point(name) for name in ("rule_out", "balanced", "rule_in")]
    for field in ("level", "overall"):
        values = [getattr(point, field) for point in points]
        assert values == sorted(values)
    assert classifier.operating_point() == classifier.operating_point("balanced")


def test_an_unknown_operating_point_is_refused_by_name(classifier):
    with pytest.raises(ModelError, match="'strict'; it has balanced, rule_in, rule_out"):
        classifier.operating_point("strict")


@pytest.fixture
def changed(bundle: Bundle) -> Callable[..., Bundle]:
    """The bundle with other values in the cspine section of its metadata."""

    def change(**section: object) -> Bundle:
        metadata = {**bundle.metadata, "cspine": {**bundle.metadata["cspine"], **section}}
        return replace(bundle, metadata=metadata)

    return change


@pytest.mark.parametrize("temperature", [{}, {"level": 0.0, "overall": 1.0}, {"level": 1.0}, None])
def test_a_bundle_without_temperatures_is_refused(changed, temperature):
    with pytest.raises(ModelError, match=r"no valid cspine\.temperature"):
        FractureClassifier(changed(temperature=temperature), device=CPU)


def test_a_bundle_without_operating_points_is_refused(changed):
    with pytest.raises(ModelError, match="no operating point 'balanced'; it has none"):
        FractureClassifier(changed(operating_points={}), device=CPU)


def test_a_higher_bias_lowers_every_probability(changed, classifier):
    crops = noise_crops(CERVICAL[:2], classifier.crop_spec)
    bias = {head: value + 2.0 for head, value in _bias(changed()).items()}
    lower = FractureClassifier(changed(bias=bias), device=CPU)(crops)
    before = classifier(crops)
    assert all(lower.levels[v].probability < before.levels[v].probability for v in before.levels)
    assert lower.overall < before.overall


def _bias(bundle: Bundle) -> dict[str, float]:
    return dict(bundle.metadata["cspine"]["bias"])
