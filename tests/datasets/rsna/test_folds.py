from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cspine.anatomy import CERVICAL
from cspine.datasets.rsna import folds
from cspine.datasets.rsna.study import RsnaStudy
from cspine.datasets.rsna.tables import SliceBox
from cspine.errors import InputError, UsageError


class Named(RsnaStudy):
    """A study of a patient whom its folder names."""

    def patient(self) -> str:
        return self.images.name


def many(count: int = 400) -> list[RsnaStudy]:
    rng = np.random.default_rng(3)
    rates = (0.07, 0.14, 0.04, 0.05, 0.08, 0.13, 0.19)
    found = []
    for n in range(count):
        levels = {v: bool(rng.random() < rate) for v, rate in zip(CERVICAL, rates, strict=True)}
        mask = Path("mask.nii") if n % 23 == 0 else None
        boxes = (SliceBox(1, 0, 0, 1, 1),) if n % 9 == 0 else ()
        found.append(Named(f"1.2.{n}", Path(f"patient-{n // 2}"), levels, boxes, mask))
    return found


def test_no_patient_is_in_two_folds():
    studies = many()
    fold_of = folds.deal(studies, 5, 0)
    assert len(fold_of) == 400
    by_patient: dict[str, set[int]] = {}
    for study in studies:
        by_patient.setdefault(study.patient(), set()).add(fold_of[study.uid])
    assert all(len(found) == 1 for found in by_patient.values())


def test_every_level_masks_and_boxes_are_spread_evenly():
    studies = many()
    fold_of = folds.deal(studies, 5, 0)
    for has in (*((lambda s, v=v: s.fractured[v]) for v in CERVICAL), lambda s: s.mask is not None):
        counts = [sum(has(s) for s in studies if fold_of[s.uid] == fold) for fold in range(5)]
        assert max(counts) - min(counts) <= 4
    sizes = [list(fold_of.values()).count(fold) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 12


def test_the_same_seed_deals_alike_and_another_one_otherwise():
    assert folds.deal(many(), 5, 1) == folds.deal(many(), 5, 1)
    assert folds.deal(many(), 5, 1) != folds.deal(many(), 5, 2)


def test_training_calibration_and_test_share_no_study():
    fold_of = folds.deal(many(), 5, 0)
    for number in range(5):
        found = folds.split(fold_of, number)
        parts = [set(found.training), set(found.calibration), set(found.test)]
        assert set.union(*parts) == set(fold_of)
        assert sum(map(len, parts)) == len(fold_of)
        assert {fold_of[uid] for uid in found.test} == {number}


def test_folds_are_read_back_as_they_were_written(tmp_path: Path):
    fold_of = folds.deal(many(), 3, 0)
    folds.write_folds(fold_of, tmp_path / "folds.csv")
    assert folds.read_folds(tmp_path / "folds.csv") == fold_of


def test_a_damaged_table_of_folds_is_named(tmp_path: Path):
    (tmp_path / "folds.csv").write_text("StudyInstanceUID,fold\n1.2,x\n")
    with pytest.raises(InputError, match="is not a table of folds"):
        folds.read_folds(tmp_path / "folds.csv")


def test_too_few_folds_or_patients_are_refused():
    with pytest.raises(UsageError, match="make no 2 folds"):
        folds.deal(many(), 2, 0)
    with pytest.raises(UsageError, match="1 patients make no 3 folds"):
        folds.deal(many(2), 3, 0)


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="numbered from 0 to 4"):
        folds.split(folds.deal(many(), 5, 0), 5)
