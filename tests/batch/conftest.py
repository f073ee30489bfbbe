from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_study import write_study
from cspine.settings import models_dir
from cspine.volume import Grid, Volume
from fracture_map.batch.one import Plan
from fracture_map.study import StudyOptions

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def make_study() -> Callable[..., Path]:
    """A function that writes a tiny CT into a folder; further files are put beside it."""

    def make(folder: Path, seed: int, *markers: str) -> Path:
        affine = np.array([[0, 0, 0.75, -20], [0, 0.5, 0, -30], [1.25, 0, 0, 100], [0, 0, 0, 1]], float)
        hu = np.random.default_rng(seed).integers(-1000, 1500, (5, 24, 32)).astype(np.int16)
        options = PhantomOptions(patient_name="Doe^Jane", patient_id="SECRET", seed=seed)
        write_study(Volume(Grid(hu.shape, affine), hu), folder, options)
        for marker in markers:
            (folder / marker).touch()
        return folder

    return make


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """A function that makes a plan with the fake warm process."""

    def make(*, workers: int = 1, timeout_s: float = 600.0) -> Plan:
        study = StudyOptions(Path(), Path(), models_dir(), device="cpu", timeout_s=timeout_s)
        return Plan(study, workers, (sys.executable, "-W", "ignore", str(PROGRAMS / "fake_warm.py")))

    return make


@pytest.fixture
def batch_program() -> tuple[str, str]:
    """The batch command with the fake warm process; takes ROOT and OUT."""
    return sys.executable, str(PROGRAMS / "batch_with_fake.py")
