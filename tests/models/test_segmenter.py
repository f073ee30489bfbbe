from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, OCCIPUT, THORACIC, Vertebra
from cspine.crops import GridSpec, ModelGrids, ModelImage, PendingImage
from cspine.errors import ModelError
from cspine.findings import ModelVersion
from cspine.models.folding import folded
from cspine.models.inference import spine_output
from cspine.models.localizer import spine_center_lps_mm
from cspine.models.segmenter import SpineSegmenter, cut_patch, reach_edges
from cspine.volume import Grid, Visibility, Volume

CPU = torch.device("cpu")
COARSE, FINE = (4.0, 4.0, 4.0), (2.0, 2.0, 2.0)
RISE_IN_CELLS = torch.tensor([*[1.0] * 10, 2.0])[:, None, None, None]


class Reader(torch.nn.Module):
    """Reads a voxel's class from its grey value: class c is c / 10; points at the middle of its class."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        classes = torch.arange(10.0)[None, :, None, None, None]
        logits = -self.sharpness * (10 * image.float() - classes).abs()
        slices = torch.arange(image.shape[2]).float()[:, None, None]
        middles = [slices.expand_as(image[0, 0])[logits[0].argmax(0) == c].mean() for c in range(10)]
        rise = torch.stack(middles)[logits.argmax(1)] - slices
        return torch.cat([logits, 0.2 * rise[:, None]], 1)


@dataclass(frozen=True)
class FakeBundle:
    spec: GridSpec
    name: str = "fake"

    def grid_spec(self) -> GridSpec:
        return self.spec

    def model_version(self) -> ModelVersion:
        return ModelVersion(self.name, "1", "0" * 64)

    def network(self, device: torch.device) -> torch.nn.Module:
        return Reader().to(device)


class FoldingReader(Reader):
    """Reads cells by the largest of their voxels, and each voxel as bone where it is brighter than air.

    Voxels point where their cell does.
    """

    fold = 2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        voxels = folded(image, 2)
        bone = 20 * ((10 * voxels > 0.5) & (10 * voxels < THORACIC + 0.5)).float() - 10
        cells = super().forward(voxels.amax(1, keepdim=True)) * RISE_IN_CELLS
        return torch.cat([cells, bone, cells[:, 10:].expand_as(bone)], 1)


class FoldingBundle(FakeBundle):
    def network(self, device: torch.device) -> torch.nn.Module:
        return FoldingReader().to(device)


def spl(shape: tuple[int, int, int], pixdim: tuple[float, float, float]) -> Grid:
    corner = np.array([-60.0, 20.0, -300.0])
    return Grid(shape, np.array([[0, 0, pixdim[2], corner[0]], [0, pixdim[1], 0, corner[1]],
                                 [pixdim[0], 0, 0, corner[2]], [0, 0, 0, 1.0]]))  # fmt: skip


def neck(first_mm: float = 0.0) -> np.ndarray:
    """Classes on a 2 mm grid of 300 x 130 x 140 mm: skull on top, a column of blocks of 16 mm each below."""
    classes = np.zeros((150, 65, 70), np.uint8)
    top = 130 - round(first_mm / 2)
    for place, label in enumerate([OCCIPUT, *range(1, 8), THORACIC, THORACIC]):
        low = top - 8 * place
        classes[max(low, 0) : max(low + 6, 0), 12:48, 25:50] = label
    return classes


def model_grids(classes: np.ndarray) -> ModelGrids:
    fine = ModelImage(spl(classes.shape, FINE), torch.from_numpy(classes / 10).float())
    half = classes[::2, ::2, ::2]
    coarse = ModelImage(spl(half.shape, COARSE), torch.from_numpy(half / 10).float())
    return ModelGrids(coarse, fine)


def dark(grid: Grid) -> Volume:
    """A CT in which nothing is brighter than anything else, so that the networks alone decide."""
    return Volume(grid, np.zeros(grid.shape, np.int16))


@pytest.fixture
def segmenter() -> SpineSegmenter:
    return SpineSegmenter(
        FakeBundle(GridSpec(COARSE, None, (0, 1)), "locator"),  # type: ignore[arg-type]
        FakeBundle(GridSpec(FINE, (112, 64, 48), (0, 1)), "segmenter"),  # type: ignore[arg-type]
        device=CPU,
    )


def test_a_column_of_blocks_comes_back_on_the_volumes_own_grid(segmenter: SpineSegmenter):
    classes = neck()
    onto = Grid(
        (140, 260, 60), np.array([[2.0, 0, 0, -58], [0, 0, 2.1, 22], [0, -1.1, 0, -6], [0, 0, 0, 1.0]])
    )
    mask = segmenter(model_grids(classes), dark(onto))
    assert [found.visibility for found in mask.levels] == [Visibility.COMPLETE] * 7
    fine = spl(classes.shape, FINE)
    for vertebra in CERVICAL:
        wanted = fine.to_lps_mm(np.argwhere(classes == vertebra).mean(0))
        center = mask.center_lps_mm(vertebra)
        assert center is not None
        assert np.abs(center - wanted).max() < 1.1


def test_the_networks_that_took_part_are_named(segmenter: SpineSegmenter):
    assert [model.name for model in segmenter.models] == ["locator", "segmenter"]


def test_every_level_found_has_a_margin(segmenter: SpineSegmenter):
    classes = neck()
    mask = segmenter(model_grids(classes), dark(spl(classes.shape, FINE)))
    assert all(found.margin is not None and found.margin > 0.5 for found in mask.levels)


def test_a_level_cut_by_the_lower_edge_is_partial_and_those_below_are_absent(segmenter: SpineSegmenter):
    classes = neck(first_mm=216.0)
    lowest = int(classes[0].max())
    assert 1 <= lowest <= 7
    mask = segmenter(model_grids(classes), dark(spl(classes.shape, FINE)))
    assert mask.level(Vertebra(lowest)).visibility is Visibility.PARTIAL
    assert mask.level(Vertebra(lowest - 1)).visibility is Visibility.COMPLETE
    assert all(mask.level(v).visibility is Visibility.ABSENT for v in CERVICAL if v > lowest)


def test_bone_that_ends_one_model_voxel_before_the_edge_counts_as_cut(segmenter: SpineSegmenter):
    classes = neck(first_mm=216.0)
    lowest = int(classes[0].max())
    classes[0] = 0
    mask = segmenter(model_grids(classes), dark(spl(classes.shape, FINE)))
    assert mask.level(Vertebra(lowest)).visibility is Visibility.PARTIAL


@pytest.mark.parametrize("keep", [(0,), (0, OCCIPUT), (0, THORACIC), (0, THORACIC, OCCIPUT)])
def test_without_cervical_bone_there_is_no_mask(segmenter: SpineSegmenter, keep: tuple[int, ...]):
    classes = neck()
    classes[~np.isin(classes, keep)] = 0
    mask = segmenter(model_grids(classes), dark(spl(classes.shape, FINE)))
    assert not mask.labels.any()
    assert all(found.visibility is Visibility.ABSENT for found in mask.levels)


def test_the_center_is_the_middle_of_the_cervical_box_whatever_lies_far_away():
    classes = neck()[::2, ::2, ::2]
    classes[-3:, :3, :3] = 4
    grid = spl(classes.shape, COARSE)
    column = (classes > 0) & (classes < THORACIC)
    column[:, :5] = False
    spine = np.argwhere(column)
    wanted = grid.to_lps_mm((spine.min(0) + spine.max(0)) / 2)
    center = spine_center_lps_mm(classes.astype(np.int64), grid)
    assert center is not None
    assert np.abs(center - wanted).max() <= 4


def test_a_patch_over_the_edge_is_filled_with_air_and_keeps_its_place():
    image = ModelImage(spl((10, 12, 14), FINE), torch.arange(10 * 12 * 14).reshape(10, 12, 14).float() + 1)
    patch = cut_patch(image, image.grid.to_lps_mm((1, 6, 7)), (16, 8, 6))
    assert patch.image.shape == (16, 8, 6)
    assert not patch.image[:7].any()
    assert float(patch.image[8, 4, 3]) == float(image.image[1, 6, 7])
    assert np.allclose(patch.grid.to_lps_mm((8, 4, 3)), image.grid.to_lps_mm((1, 6, 7)))


def test_a_patch_is_not_an_edge_of_the_volume():
    whole = spl((20, 20, 20), FINE)
    part = whole.cropped((0, 5, 5), (10, 10, 10))
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1, 1:9, 1:9], labels[8, 1:9, 1:9] = 3, 4
    foreground = (labels > 0).astype(np.float32)
    reach_edges(foreground, labels, part, whole)
    assert (labels[0, 1:9, 1:9] == 3).all()
    assert foreground[0, 1:9, 1:9].all()
    assert not labels[9].any()


def test_a_network_that_folds_draws_a_column_that_ends_inside_a_cell():
    classes, spec = neck(first_mm=216.0)[1:, 1:, :69], GridSpec(FINE, (128, 64, 64), (0, 1))
    segmenter = SpineSegmenter(
        FakeBundle(GridSpec(COARSE, None, (0, 1)), "locator"),  # type: ignore[arg-type]
        FoldingBundle(spec, "segmenter"),  # type: ignore[arg-type]
        device=CPU,
    )
    grid = spl(classes.shape, FINE)
    mask = segmenter(model_grids(classes), dark(grid))
    wanted = np.where(classes < THORACIC, classes, 0)
    assert (mask.labels != wanted).mean() < 0.2 * (wanted > 0).mean()
    lowest = int(classes[0].max())
    assert mask.level(Vertebra(lowest)).visibility is Visibility.PARTIAL


def test_only_the_part_that_is_asked_for_is_resampled():
    asked: list[Grid] = []

    def resample(grid: Grid) -> torch.Tensor:
        asked.append(grid)
        return torch.ones(grid.shape)

    image = PendingImage(spl((40, 50, 60), FINE), resample)
    patch = cut_patch(image, image.grid.to_lps_mm((2, 20, 30)), (16, 8, 6))
    assert [grid.shape for grid in asked] == [(10, 8, 6)]
    assert np.allclose(asked[0].to_lps_mm((0, 4, 3)), image.grid.to_lps_mm((0, 20, 30)))
    assert not patch.image[:6].any()
    assert patch.image[6:].all()


def test_images_of_any_size_are_padded_for_the_network_and_cut_back():
    image = torch.from_numpy(neck()[:37, :21, :45] / 10).float()
    found = spine_output(Reader(), image)[:10]
    assert found.shape == (10, 37, 21, 45)
    assert torch.allclose(found.sum(0), torch.ones(()), atol=1e-4)


def test_an_output_that_is_no_number_is_an_error():
    broken = Reader()
    broken.sharpness.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a number"):
        spine_output(broken, torch.zeros((16, 16, 16)))


def test_a_segmentation_network_without_the_rise_is_of_another_version():
    network = torch.nn.Conv3d(1, 10, 1)
    with pytest.raises(ModelError, match="10 channels instead of 11"):
        spine_output(network, torch.zeros((16, 16, 16)))


@pytest.mark.parametrize("patch", [None, (100, 64, 48), (0, 16, 16)])
def test_a_segmentation_bundle_without_a_usable_patch_is_refused(patch: tuple[int, int, int] | None):
    with pytest.raises(ModelError, match=r"Bundle fake: .* patch"):
        SpineSegmenter(
            FakeBundle(GridSpec(COARSE, None, (0, 1))),  # type: ignore[arg-type]
            FakeBundle(GridSpec(FINE, patch, (0, 1))),  # type: ignore[arg-type]
            device=CPU,
        )
