"""Folds that keep every patient in one place and fractures, masks and boxes evenly spread."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cspine.anatomy import CERVICAL
from cspine.datasets.rsna.study import RsnaStudy
from cspine.datasets.rsna.tables import STUDY
from cspine.errors import InputError, UsageError
from cspine.whole_files import write_whole

FILE: Final = "folds.csv"
MIN_FOLDS: Final = 3
"""One to measure on, one to calibrate on, the rest to train on."""


@dataclass(frozen=True)
class Split:
    """Study UIDs of one fold's run."""

    training: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]


def deal(studies: Sequence[RsnaStudy], folds: int, seed: int) -> dict[str, int]:
    """Give every study a fold, those of one patient the same.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): patients with the rarest trait come
    first, and each goes to the fold that has least of it. Traits are a fracture of each level, no fracture, a
    mask and boxes.

    Args:
        studies: all of them.
        folds: how many, at least `MIN_FOLDS`.
        seed: decides between equals.

    Returns:
        The fold of each study, 0 to folds - 1, by UID.

    Raises:
        UsageError: too few folds, or fewer patients than folds.
    """
    patients: dict[str, list[RsnaStudy]] = {}
    for study in studies:
        patients.setdefault(study.patient(), []).append(study)
    if folds < MIN_FOLDS or len(patients) < folds:
        raise UsageError(f"{len(patients)} patients make no {folds} folds; choose {MIN_FOLDS} or more folds.")
    names = sorted(patients)
    traits = np.stack([sum((_traits(s) for s in patients[name]), np.zeros(10, int)) for name in names])
    fold_of = _spread(traits, folds, np.random.default_rng(seed))
    return {
        study.uid: int(fold) for name, fold in zip(names, fold_of, strict=True) for study in patients[name]
    }


def _traits(study: RsnaStudy) -> np.ndarray:
    levels = [study.fractured[vertebra] for vertebra in CERVICAL]
    return np.array([*levels, not study.any_fractured, study.mask is not None, bool(study.boxes)], int)


def _spread(traits: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each row of `traits` (patients, traits)."""
    fold_of, held = np.full(len(traits), -1), np.zeros((folds, traits.shape[1]), int)
    sizes = np.zeros(folds, int)
    order = rng.permutation(len(traits))
    while (left := order[fold_of[order] < 0]).size:
        counts = (traits[left] > 0).sum(0)
        rarest = int(np.where(counts > 0, counts, len(traits) + 1).argmin())
        for patient in left[traits[left, rarest] > 0]:
            fold = int(np.lexsort((rng.random(folds), sizes, held[:, rarest]))[0])
            fold_of[patient] = fold
            held[fold] += traits[patient]
            sizes[fold] += 1
    return fold_of


def split(fold_of: Mapping[str, int], fold: int) -> Split:
    """The studies of one fold's run: measured on `fold`, calibrated on the next one, trained on the rest.

    Raises:
        UsageError: there is no such fold.
    """
    folds = max(fold_of.values()) + 1
    if not 0 <= fold < folds:
        raise UsageError(f"There is no fold {fold}: the folds are numbered from 0 to {folds - 1}.")
    following = (fold + 1) % folds
    uids = sorted(fold_of)
    return Split(
        training=tuple(uid for uid in uids if fold_of[uid] not in (fold, following)),
        calibration=tuple(uid for uid in uids if fold_of[uid] == following),
        test=tuple(uid for uid in uids if fold_of[uid] == fold),
    )


def write_folds(fold_of: Mapping[str, int], path: Path) -> None:
    """Write the table of folds.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [f"{STUDY},fold", *(f"{uid},{fold}" for uid, fold in sorted(fold_of.items()))]
    write_whole(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def read_folds(path: Path) -> dict[str, int]:
    """Read the table of folds back.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row[STUDY]: int(row["fold"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{path}' is not a table of folds: remove it to have it made again.") from error
