"""Synthetic necks: what is promised about their truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import InputError
from cspine.phantom import DEFAULT, SHIFTED, ConfounderKind, render, sample_neck, sample_scanner
from cspine.phantom.fractures import FractureKind, draw_kind, kinds_of
from cspine.phantom.profile import PhantomProfile
from cspine.volume import Grid

ALWAYS = replace(DEFAULT, fractured=1.0, displaced=1.0)
NEVER = replace(DEFAULT, fractured=0.0)


def whole(neck, upright) -> Grid:
    low, high = neck.spine_box_lps_mm
    spacing = (2.0, 1.8, 1.9)
    size = (high - low)[::-1] + 16
    return upright(
        tuple(int(n / s) + 1 for n, s in zip(size, spacing, strict=True)), spacing, (low + high) / 2
    )


def voxels_lps_mm(grid: Grid, mask: torch.Tensor) -> np.ndarray:
    return grid.to_lps_mm(torch.nonzero(mask).numpy())


def test_the_same_seed_gives_the_same_neck_and_image(upright):
    grid = upright((20, 24, 28), (3.0, 2.5, 2.0), (0, 0, 0))
    first = render(sample_neck(5), grid, sample_scanner(5))
    again = render(sample_neck(5), grid, sample_scanner(5))
    other = render(sample_neck(6), grid, sample_scanner(6))
    assert torch.equal(first.hu, again.hu)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)


@pytest.mark.parametrize("profile", [DEFAULT, SHIFTED], ids=["default", "shifted"])
def test_levels_follow_each_other_twelve_to_twentytwo_millimetres_apart(profile):
    for seed in range(20):
        neck = sample_neck(seed, profile)
        centers = np.stack([neck.bones[v.name].center_lps_mm for v in CERVICAL])
        assert (np.diff(centers[:, 2]) < 0).all()
        steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
        assert steps.min() >= 12.0
        assert steps.max() <= 22.0


def test_taller_bodies_have_thinner_discs_and_leave_the_levels_where_they_are():
    heights, centers = [], []
    for share in (0.93, 1.14):
        neck = sample_neck(4, replace(NEVER, body_share=(share, share)))
        c4, c5 = neck.bones["C4"], neck.bones["C5"]
        assert c4.landmarks is not None
        heights.append(2 * c4.landmarks.body[2])
        centers.append(np.linalg.norm(c4.center_lps_mm - c5.center_lps_mm))
    assert heights[1] == pytest.approx(heights[0] * 1.14 / 0.93)
    assert centers[1] == pytest.approx(centers[0])


def test_pillars_can_be_denser_than_bodies_and_their_shapes_stay_where_they_were(upright):
    plain = replace(NEVER, arch_hu=(0, 0), patch_hu=(0, 0), marrow_texture_hu=(0, 0), osteopenia=0.0)
    even, dense = (sample_neck(3, replace(plain, arch_hu=(hu, hu))) for hu in (0.0, 250.0))
    bone = even.bones["C4"]
    assert bone.landmarks is not None
    x, y, z = bone.landmarks.pillar
    for point, more in (((x, y, z), 250), ((0.0, 0.0, 0.0), 0)):
        at = upright((1, 1, 1), (0.5, 0.4, 0.6), tuple(bone.to_lps_mm(np.array(point))))
        assert render(dense, at).hu.item() - render(even, at).hu.item() == more
    grid = whole(even, upright)
    assert torch.equal(render(even, grid).labels, render(dense, grid).labels)


def test_marrow_can_be_denser_under_the_cortex_and_fade_to_its_own_in_the_middle(upright):
    plain = replace(NEVER, arch_hu=(0, 0), patch_hu=(0, 0), marrow_texture_hu=(0, 0), osteopenia=0.0)
    plain = replace(plain, cortex_mm=(1.0, 1.0), rim_mm=(1.5, 1.5))
    plain = replace(plain, degeneration=(0, 0), vessel_channels=(0, 0))
    even, faded = (sample_neck(3, replace(plain, rim=(part, part))) for part in (0.0, 0.5))
    bone = even.bones["C4"]
    assert bone.landmarks is not None
    above = bone.landmarks.body[2]
    hu = []
    for neck in (even, faded):
        line = [bone.to_lps_mm(np.array((0.0, 0.0, up))) for up in np.linspace(0.0, above - 2.5, 4)]
        hu.append([render(neck, upright((1, 1, 1), (0.5, 0.4, 0.6), tuple(at))).hu.item() for at in line])
    assert max(hu[0]) - min(hu[0]) <= 1
    more = np.subtract(hu[1], hu[0])
    assert (np.diff(more) > 0).all()
    assert more[0] < 0.1 * (bone.look.cortex_hu - bone.look.marrow_hu)
    grid = whole(even, upright)
    assert torch.equal(render(even, grid).labels, render(faded, grid).labels)


def test_islands_of_looser_bone_lie_deep_in_pillars_and_leave_bodies_and_shapes_as_they_are(upright):
    plain = replace(NEVER, arch_hu=(0, 0), patch_hu=(0, 0), marrow_texture_hu=(0, 0), osteopenia=0.0)
    plain = replace(plain, cortex_hu=(1200, 1200), marrow_hu=(200, 200), cortex_mm=(2.5, 2.5), shell=(1, 1))
    plain = replace(plain, degeneration=(0, 0), vessel_channels=(0, 0))
    even, mottled = (sample_neck(3, replace(plain, mottle=(part, part))) for part in (0.0, 1.0))
    grid = whole(even, upright)
    before, after = (render(neck, grid) for neck in (even, mottled))
    looser = before.hu.int() - after.hu.int()
    share = float((looser[before.labels == 4] > 100).float().mean())
    assert 0.02 < share < 0.4
    assert looser.min() >= -1
    assert torch.equal(before.labels, after.labels)
    center = tuple(even.bones["C4"].to_lps_mm(np.zeros(3)))
    body = upright((3, 3, 3), (0.5, 0.4, 0.6), center)
    assert torch.equal(render(even, body).hu, render(mottled, body).hu)
    fine = upright((70, 120, 140), (0.3, 0.4, 0.4), center)
    before, after = (render(neck, fine) for neck in (even, mottled))
    looser = (before.hu.int() - after.hu.int()).numpy()
    depth_mm = distance_transform_edt(before.labels == 4, sampling=fine.spacing_mm)
    assert looser[depth_mm > 2].max() > 500
    assert np.abs(looser[(before.labels.numpy() == 4) & (depth_mm < 0.5)]).max() <= 1


def test_an_island_that_fills_a_part_of_a_voxel_does_not_make_it_brighter(upright):
    plain = replace(NEVER, arch_hu=(0, 0), patch_hu=(0, 0), marrow_texture_hu=(0, 0), osteopenia=0.0)
    plain = replace(
        plain, cortex_hu=(700, 700), marrow_hu=(500, 500), degeneration=(0, 0), vessel_channels=(0, 0)
    )
    even, mottled = (sample_neck(3, replace(plain, mottle=(part, part))) for part in (0.0, 1.0))
    low, high = even.spine_box_lps_mm
    coarse = upright(tuple(int(n / 3) + 1 for n in (high - low)[::-1]), (3.0, 3.0, 3.0), (low + high) / 2)
    assert (render(mottled, coarse).hu.int() - render(even, coarse).hu.int()).max() <= 1


def test_marrow_is_never_denser_than_its_cortex(upright):
    profile = replace(NEVER, arch_hu=(3000, 3000), osteopenia=0.0, vessel_channels=(0, 0), old_lines=0.0)
    profile = replace(profile, rim=(1.0, 1.0))
    profile = replace(profile, degeneration=(0.0, 0.0))
    neck = sample_neck(3, replace(profile, schmorl=0.0, contrast=0.0, calcifications=0.0))
    hardest = max(bone.look.cortex_hu for bone in neck.bones.values())
    assert hardest - 1 <= render(neck, whole(neck, upright)).hu.max() <= hardest + 1


def test_a_calcification_is_recorded_beside_its_level():
    for seed in range(6):
        neck = sample_neck(seed, replace(NEVER, calcifications=1.0))
        found = [c for c in neck.confounders if c.kind is ConfounderKind.CALCIFICATION]
        assert 1 <= len({c.level for c in found}) == len(found)
        none = sample_neck(seed, replace(NEVER, calcifications=0.0))
        assert ConfounderKind.CALCIFICATION not in {c.kind for c in none.confounders}


def test_a_full_view_shows_every_level_inside_its_box(upright):
    for seed in range(4):
        neck = sample_neck(seed, NEVER)
        grid = whole(neck, upright)
        labels = render(neck, grid).labels
        for vertebra in CERVICAL:
            points = voxels_lps_mm(grid, labels == int(vertebra))
            assert len(points) * grid.voxel_mm3 > 2000
            low, high = neck.vertebra_box_lps_mm(vertebra)
            inside = ((points > low - 3) & (points < high + 3)).all(1)
            assert inside.mean() > 0.97
        assert {8, 9} <= set(labels.unique().tolist())


def test_the_vertebral_canal_is_not_bone(upright):
    for seed in range(6):
        neck = sample_neck(seed, NEVER)
        for vertebra in CERVICAL[2:]:
            bone = neck.bones[vertebra.name]
            assert bone.landmarks is not None
            front, back = bone.landmarks.canal_y
            assert 10.0 < back - front < 26.0
            middle = bone.to_lps_mm(np.array([0.0, (front + back) / 2, 0.0]))
            labels = render(neck, upright((1, 1, 1), (0.5, 0.4, 0.6), tuple(middle))).labels
            assert labels.item() == 0


def test_a_fracture_lies_in_its_vertebra_and_in_its_box(upright):
    for seed in range(8):
        neck = sample_neck(seed, ALWAYS)
        assert neck.fractures
        assert neck.fractured == {fracture.level for fracture in neck.fractures}
        for fracture in neck.fractures:
            low, high = fracture.box_lps_mm
            size = tuple(int(n / 0.7) + 14 for n in (high - low)[::-1])
            grid = upright(size, (0.7, 0.7, 0.7), tuple((low + high) / 2))
            image = render(neck, grid)
            points = voxels_lps_mm(grid, image.fracture == 1)
            assert len(points)
            inside = ((points > low - 1.5) & (points < high + 1.5)).all(1)
            if len(neck.fractures) == 1:
                assert inside.mean() > 0.98
            level_box = neck.vertebra_box_lps_mm(fracture.level)
            assert (low > level_box[0] - 7).all()
            assert (high < level_box[1] + 7).all()
            of_level = (image.fracture == 1) & (image.labels == int(fracture.level))
            assert of_level.sum() > 0.3 * inside.sum()


def test_necks_without_fracture_have_an_empty_fracture_mask(upright):
    for seed in range(4):
        neck = sample_neck(seed, NEVER)
        assert not neck.fractures
        assert render(neck, whole(neck, upright)).fracture.sum() == 0


def test_fractured_bone_is_darker_along_a_wide_crack(upright):
    seen = 0
    for seed in range(40, 60):
        neck = sample_neck(seed, replace(ALWAYS, gap_mm=(2.0, 3.0), old_lines=0.0))
        for fracture in neck.fractures:
            if fracture.kind is not FractureKind.DENS_II:
                continue
            broken = neck.bones["C2"]
            grid = upright((40, 44, 48), (0.6, 0.6, 0.6), tuple(fracture.box_lps_mm.mean(0)))
            intact = replace(neck, bones={**neck.bones, "C2": replace(broken, cracks=())})
            before, after = render(intact, grid), render(neck, grid)
            zone = (after.fracture == 1) & (before.labels == 2)
            assert after.hu[zone].float().mean() < before.hu[zone].float().mean() - 60
            seen += 1
    assert seen


def test_confounders_change_the_image_but_never_the_fracture_mask(upright):
    every = replace(
        NEVER, vessel_channels=(1.0, 1.0), old_lines=1.0, ossicles=1.0, schmorl=1.0, calcifications=1.0
    )
    none = replace(every, degeneration=(0.0, 0.0))
    neck = sample_neck(3, replace(every, degeneration=(1.0, 1.0)))
    kinds = {confounder.kind for confounder in neck.confounders}
    assert kinds == set(ConfounderKind)
    assert ConfounderKind.OSTEOPHYTE not in {c.kind for c in sample_neck(3, none).confounders}
    bones = {
        name: replace(bone, additions=(), dents=(), channels=(), lines=())
        for name, bone in neck.bones.items()
    }
    grid = whole(neck, upright)
    dressed, plain = render(neck, grid), render(replace(neck, bones=bones), grid)
    assert (dressed.hu.int() - plain.hu.int()).abs().max() > 100
    assert dressed.fracture.sum() == 0


def test_worn_facet_joints_are_dense_and_young_ones_are_not(upright):
    worn = sample_neck(3, replace(NEVER, degeneration=(1.0, 1.0), old_lines=0.0, osteopenia=0.0))
    levels = [c.level for c in worn.confounders if c.kind is ConfounderKind.ARTHROSIS]
    assert Vertebra.C1 not in levels
    most = []
    for level in levels:
        bone = worn.bones[level.name]
        spared = replace(worn, bones={**worn.bones, level.name: replace(bone, lines=())})
        beside = bone.landmarks.pillar[0]
        for side in (-1.0, 1.0):
            middle = bone.to_lps_mm(np.array([side * beside, *bone.landmarks.pillar[1:]]))
            grid = upright((24, 16, 16), (0.8, 0.8, 0.8), tuple(middle))
            denser = render(worn, grid).hu.int() - render(spared, grid).hu.int()
            assert denser.min() >= 0
            most.append(int(denser.max()))
    assert max(most) > 100
    young = sample_neck(3, replace(NEVER, degeneration=(0.0, 0.0)))
    assert ConfounderKind.ARTHROSIS not in {c.kind for c in young.confounders}


def test_a_point_has_the_same_label_on_two_grids(upright):
    neck = sample_neck(11, NEVER)
    center = tuple(neck.vertebra_box_lps_mm(Vertebra.C5).mean(0))
    fine = upright((31, 43, 61), (0.8, 0.7, 0.9), center)
    coarse = upright((11, 15, 21), (2.4, 2.1, 2.7), center)
    a, b = render(neck, fine).labels[::3, ::3, ::3], render(neck, coarse).labels
    assert a.shape == b.shape
    assert (a == b).float().mean() > 0.999


def test_a_turned_grid_shows_the_same_labels_and_densities(upright):
    neck = sample_neck(12, NEVER)
    grid = upright((12, 18, 22), (2.0, 2.2, 1.8), (0, 5, 0))
    sagittal = Grid((22, 12, 18), grid.affine_lps[:, [2, 0, 1, 3]])
    a, b = render(neck, grid), render(neck, sagittal)
    assert torch.equal(a.labels, b.labels.permute(1, 2, 0))
    assert (a.hu.int() - b.hu.permute(1, 2, 0).int()).abs().max() <= 1


def test_a_scan_in_many_parts_is_blurred_as_one_in_few(upright, monkeypatch):
    neck, scanner = sample_neck(12, NEVER), replace(sample_scanner(12), kernel_mm=0.8, streak_hu=0.0)
    grid = upright((12, 18, 22), (1.0, 1.1, 0.9), (0, 5, 0))
    whole = render(neck, grid, scanner)
    monkeypatch.setattr("cspine.phantom.scanner.PART_VOXELS", 100)
    assert (render(neck, grid, scanner).hu.int() - whole.hu.int()).abs().max() <= 1


def test_the_device_is_an_argument(upright):
    grid = upright((8, 10, 12), (3.0, 3.5, 4.0), (0, 0, 0))
    image = render(sample_neck(1), grid, sample_scanner(1), device="cpu")
    assert image.hu.device.type == "cpu"
    assert (image.hu.dtype, image.labels.dtype, image.fracture.dtype) == (
        torch.int16,
        torch.uint8,
        torch.uint8,
    )


def test_noise_falls_on_coarser_grids_when_it_is_averaged(upright):
    neck = sample_neck(2, NEVER)
    noisy = replace(sample_scanner(2), noise_hu=50.0, averaging=1.0, streak_hu=0.0, bias_hu=0.0)
    quiet = replace(noisy, noise_hu=0.0)
    spread = []
    for spacing in (0.6, 3.0):
        grid = upright((14, 18, 22), (spacing,) * 3, (0, 5, 0))
        difference = render(neck, grid, noisy).hu.float() - render(neck, grid, quiet).hu.float()
        spread.append(float(difference.std()))
    assert 35 < spread[0] < 60
    assert spread[1] < 0.6 * spread[0]


def test_a_coarse_grid_can_show_the_detail_of_a_fine_image_and_the_same_truth(upright):
    neck = sample_neck(2, NEVER)
    grid = upright((30, 24, 28), (3.0, 3.0, 3.0), tuple(neck.vertebra_box_lps_mm(Vertebra.C4).mean(0)))
    averaged, sharp = render(neck, grid), render(neck, grid, detail_mm=0.5)
    assert torch.equal(averaged.labels, sharp.labels)
    steps = [
        image.hu.float().diff(dim=2)[averaged.labels[..., 1:] > 0].abs().mean() for image in (sharp, averaged)
    ]
    assert steps[0] > 1.5 * steps[1]


def test_every_level_can_break_in_its_own_ways():
    assert FractureKind.JEFFERSON in kinds_of(Vertebra.C1)
    assert FractureKind.DENS_II in kinds_of(Vertebra.C2)
    assert set(kinds_of(Vertebra.C6)) >= {FractureKind.BURST, FractureKind.FACET, FractureKind.SPINOUS}
    drawn = {draw_kind(np.random.default_rng(seed), Vertebra.C5, DEFAULT) for seed in range(200)}
    assert drawn == set(kinds_of(Vertebra.C5))


def test_a_profile_can_ask_for_more_of_a_kind_of_fracture():
    def teardrops(profile: PhantomProfile) -> int:
        drawn = [draw_kind(np.random.default_rng(seed), Vertebra.C5, profile) for seed in range(400)]
        return drawn.count(FractureKind.TEARDROP)

    # A tenth of the fractures, or 5 x .1 / (.9 + 5 x .1) of them.
    often = replace(DEFAULT, fracture_kind_factors={"teardrop": 5.0})
    assert teardrops(DEFAULT) == pytest.approx(40, abs=20)
    assert teardrops(often) == pytest.approx(143, abs=30)


@pytest.mark.parametrize("factors", [{"crack": 2.0}, {"teardrop": 0.0}])
def test_a_kind_of_fracture_that_there_is_not_or_that_never_comes_is_refused(factors):
    profile = replace(DEFAULT, fracture_kind_factors=factors)
    with pytest.raises(InputError, match="fracture_kind_factors"):
        draw_kind(np.random.default_rng(0), Vertebra.C5, profile)


def test_about_as_many_necks_break_as_the_profile_says():
    broken = [bool(sample_neck(seed).fractures) for seed in range(120)]
    assert 0.3 < np.mean(broken) < 0.6
