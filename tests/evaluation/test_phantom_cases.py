from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import InputError, OutputError, UsageError
from cspine.evaluation import phantom_cases
from cspine.evaluation.case_files import load_case, save_case
from cspine.evaluation.phantom_cases import PhantomCases, case_grid, make_case, phantom_sets
from cspine.phantom import DEFAULT, Neck, Scanner, sample_neck, sample_scanner
from cspine.volume import Visibility

FRACTURED = replace(DEFAULT, fractured=1.0, thick_slices=0.0)


@pytest.fixture(scope="module")
def neck() -> Neck:
    return sample_neck(4, FRACTURED)


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return replace(sample_scanner(4, FRACTURED), slice_thickness_mm=3.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cases, "PIXEL_MM", 1.4)
    monkeypatch.setattr(phantom_cases, "PIXELS", 112)


@pytest.fixture
def case(small, neck, scanner):
    seed = next(s for s in range(99) if not is_cut(neck, scanner, s))
    return make_case("phantom-4", neck, scanner, case_grid(neck, scanner, seed))


def is_cut(neck: Neck, scanner: Scanner, seed: int) -> bool:
    grid = case_grid(neck, scanner, seed)
    low, high = grid.to_lps_mm((0, 0, 0))[2], grid.to_lps_mm((grid.shape[0] - 1, 0, 0))[2]
    return bool(low > neck.spine_box_lps_mm[0, 2] or high < neck.spine_box_lps_mm[1, 2])


def test_a_case_shows_seven_vertebrae_and_says_which_are_fractured(case, neck):
    assert [level.visibility for level in case.mask.levels] == [Visibility.COMPLETE] * 7
    assert {v for v, truth in case.levels.items() if truth.fractured} == neck.fractured
    for fracture in neck.fractures:
        truth = case.levels[fracture.level]
        assert str(fracture.kind) in truth.kinds
        assert truth.gap_mm == pytest.approx(fracture.width_mm)
        assert truth.detectability is not None
        assert truth.detectability > 0
    assert case.attributes["view"] == "full"
    assert case.attributes["slice thickness"] == "1.5 to 3 mm"


def test_every_fracture_has_a_box_in_its_vertebra(case, neck):
    assert {box.level for box in case.boxes} == neck.fractured
    for box in case.boxes:
        low, high = case.mask.level(box.level).box_lps_mm(case.volume.grid)
        assert (box.box_lps_mm.mean(0) > low - 6).all()
        assert (box.box_lps_mm.mean(0) < high + 6).all()


def test_confounders_are_named_where_they_are(case, neck):
    named = {(v, kind) for v, truth in case.levels.items() for kind in truth.confounders}
    assert named == {(c.level, str(c.kind)) for c in neck.confounders}


def test_one_case_in_seven_is_cut(neck, scanner):
    assert sum(is_cut(neck, scanner, seed) for seed in range(70)) == 10


def test_of_a_level_out_of_view_nothing_is_claimed(small, neck, scanner):
    grid = case_grid(neck, scanner, next(s for s in range(99) if not is_cut(neck, scanner, s)))
    middle = neck.vertebra_box_lps_mm(Vertebra.C4).mean(0)
    first = round(float(grid.to_index(middle)[0]))
    cut = make_case(
        "cut", neck, scanner, grid.cropped((first, 0, 0), (grid.shape[0] - first, *grid.shape[1:]))
    )
    assert Vertebra.C7 not in cut.levels
    assert cut.levels[Vertebra.C4].visibility is Visibility.PARTIAL
    assert not cut.levels[Vertebra.C4].counts
    assert cut.attributes["view"] == "cut at the feet"


def test_a_case_survives_its_file(case, tmp_path):
    save_case(case, tmp_path / "folder" / "case.npz")
    found = load_case(tmp_path / "folder" / "case.npz", case.identifier)
    np.testing.assert_array_equal(found.volume.hu, case.volume.hu)
    np.testing.assert_array_equal(found.mask.labels, case.mask.labels)
    assert found.volume.grid.same_as(case.volume.grid, 1e-9)
    assert (found.levels, found.attributes) == (case.levels, case.attributes)
    for a, b in zip(found.boxes, case.boxes, strict=True):
        assert a.level is b.level
        np.testing.assert_allclose(a.box_lps_mm, b.box_lps_mm)


def test_a_damaged_case_is_named(tmp_path):
    (tmp_path / "case.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"case\.npz' cannot be read: remove the file"):
        load_case(tmp_path / "case.npz", "x")


def test_a_case_that_cannot_be_kept_says_so(case, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="disk full or the folder read-only"):
        save_case(case, tmp_path / "file" / "case.npz")


def test_a_case_is_made_once(small, tmp_path, monkeypatch):
    source = PhantomCases(1, tmp_path, seed=3)
    (identifier,) = source.identifiers()
    first = source.load(identifier)
    monkeypatch.setattr(phantom_cases, "make_case", lambda *_: pytest.fail("it was made again"))
    np.testing.assert_array_equal(source.load(identifier).volume.hu, first.volume.hu)


def test_another_generator_makes_other_cases(tmp_path, monkeypatch):
    source = PhantomCases(1, tmp_path)
    before = source.identity
    monkeypatch.setattr(phantom_cases, "generator_sha256", lambda: "0" * 64)
    assert source.identity != before


def test_the_two_domains_share_no_seed_and_no_training_starts_near_theirs():
    default, shifted = phantom_sets(500, Path("x"), shifted_only=False, anatomy=None)
    assert not set(default.identifiers()) & set(shifted.identifiers())
    assert {source.first_seed // 1_000_000 % 2 for source in (default, shifted)} == {1}
    assert [source.name for source in (default, shifted)] == ["phantom-default", "phantom-shifted"]
    assert "shifted" in shifted.description


def test_only_the_shifted_domain_may_be_asked_for():
    (only,) = phantom_sets(2, Path("x"), shifted_only=True, anatomy=None)
    assert only.shifted


def test_a_folder_of_meshes_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"There is no folder .* of surface meshes"):
        phantom_sets(2, tmp_path, shifted_only=False, anatomy=tmp_path / "nothing")


def test_the_order_of_levels_is_that_of_the_spine(case):
    assert list(case.levels) == list(CERVICAL)
