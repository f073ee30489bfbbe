from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_attributes import study_uid
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid, Volume
from fracture_map.messages import Message
from fracture_map.study import StudyOptions, StudyResult, run_study
from fracture_map.supervise import StopFlag

FAKE = Path(__file__).parent / "programs" / "fake_analysis.py"
PATIENT = PhantomOptions(patient_name="Doe^Jane", patient_id="SECRET-4711")

os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")


def tiny_volume() -> Volume:
    rng = np.random.default_rng(1)
    affine = np.array([[0, 0, 0.75, -20], [0, 0.5, 0, -30], [1.25, 0, 0, 100], [0, 0, 0, 1]], float)
    return Volume(Grid((5, 24, 32), affine), rng.integers(-1000, 1500, (5, 24, 32)).astype(np.int16))


@dataclass(frozen=True)
class Planted:
    """A study whose identity must not show up anywhere."""

    folder: Path
    study_uid: str
    secrets: tuple[str, ...] = ("Doe", "Jane", "SECRET-4711")


@pytest.fixture
def study(tmp_path: Path) -> Planted:
    write_study(tiny_volume(), tmp_path / "in", PATIENT)
    return Planted(tmp_path / "in", str(study_uid(PATIENT)))


@pytest.fixture
def fake() -> Callable[..., tuple[str, ...]]:
    """The command of an analysing process that behaves in the given way."""

    def command(behaviour: str, uid: str) -> tuple[str, ...]:
        return (sys.executable, "-W", "ignore", str(FAKE), behaviour, uid)

    return command


@pytest.fixture
def run(study: Planted, tmp_path: Path, fake: Callable[..., tuple[str, ...]]) -> Callable[..., StudyResult]:
    """Run the planted study with a fake analysing process."""

    def go(
        behaviour: str,
        *,
        uid: str | None = None,
        stop: StopFlag | None = None,
        tell: Callable[[Message], None] = lambda _: None,
        **options: Any,
    ) -> StudyResult:
        asked = StudyOptions(study.folder, tmp_path / "out", tmp_path, timeout_s=60)
        asked = replace(asked, command=fake(behaviour, uid or study.study_uid), **options)
        return run_study(asked, stop or StopFlag(), tell)

    return go
