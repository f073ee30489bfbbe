from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import ModelGrids, ModelImage, VertebraCrop
from cspine.dicom.series import CtSeries
from cspine.findings import Decision, FractureScores, LevelScore, OperatingPoint, StudyFindings
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Volume
from cspine_operators.values import EncodedDicom, SummaryFiles
from fracture_map.app import Steps

GRID = Grid((30, 20, 16), np.array([[0, 0, 0.9, -20], [0, 1.1, 0, -30], [4, 0, 0, 100], [0, 0, 0, 1.0]]))

os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")


def labels() -> np.ndarray:
    made = np.zeros(GRID.shape, np.uint8)
    for place, vertebra in enumerate(CERVICAL):
        made[26 - 4 * place - 3 : 26 - 4 * place, 5:15, 4:12] = vertebra
    return made


def series() -> CtSeries:
    uids = tuple(f"1.2.{k}" for k in range(GRID.shape[0]))
    volume = Volume(GRID, np.zeros(GRID.shape, np.int16), uids)
    header: Any = SimpleNamespace(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1")
    return CtSeries(volume, (header,) * GRID.shape[0], (1,) * GRID.shape[0], GRID.shape[1:])


def model_grids(volume: Volume) -> ModelGrids:
    image = ModelImage(volume.grid, torch.zeros(volume.grid.shape))
    return ModelGrids(image, image)


def segment(grids: ModelGrids, volume: Volume) -> SpineMask:
    return SpineMask.from_labels(volume.grid, labels())


def crop(volume: Volume, mask: SpineMask) -> tuple[VertebraCrop, ...]:
    empty = torch.zeros(volume.grid.shape)
    return tuple(VertebraCrop(v, volume.grid, empty, empty) for v in CERVICAL)


def judge(series: CtSeries, mask: SpineMask, crops: Any) -> StudyFindings:
    levels = {c.level: LevelScore(0.9 if c.level is Vertebra.C5 else 0.1, (0, 0, 110)) for c in crops}
    findings = assess(series.volume, mask, FractureScores(levels, 0.9), OperatingPoint())
    return replace(findings, study_uid=series.study_uid, series_uid=series.series_uid)


def encoded(*_: Any) -> EncodedDicom:
    dataset: Any = SimpleNamespace(SOPInstanceUID="1.2.3.4")
    return EncodedDicom(dataset, b"DICM")


def summarise(series: CtSeries, mask: SpineMask, findings: StudyFindings) -> SummaryFiles:
    present = [f.level.name for f in findings.levels if f.decision is Decision.PRESENT]
    return SummaryFiles({"findings.json": ",".join(present).encode(), "report.pdf": b"%PDF"})


@pytest.fixture
def steps() -> Callable[..., Steps]:
    """Steps without networks; any of them can be replaced by name."""
    ordinary = Steps(series, model_grids, segment, crop, judge, encoded, encoded, summarise)

    def made(**others: Any) -> Steps:
        return replace(ordinary, **others)

    return made
