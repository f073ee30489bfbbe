"""The real graph, reader and writers, with a method that knows the truth instead of networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from cspine.anatomy import CERVICAL, Vertebra
from cspine.crops import ModelGrids, ModelImage, VertebraCrop
from cspine.dicom import CtSeries, read_ct
from cspine.findings import FractureScores, LevelScore, ModelVersion, OperatingPoint, StudyFindings
from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_study import write_study
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Volume
from cspine_operators.clock import StageClock
from cspine_operators.outbox import Outbox
from fracture_map import names
from fracture_map.app import run_graph
from fracture_map.steps import steps_of

AFFINE = np.array([[0, 0, 0.75, -15], [0, 1.25, 0, -30], [4, 0, 0, 100], [0, 0, 0, 1]], float)
SHAPE = (34, 40, 48)


def labels(seen: Sequence[Vertebra]) -> np.ndarray:
    """Boxes of 12 mm from C1, near the top, downwards."""
    made = np.zeros(SHAPE, np.uint8)
    for place, vertebra in enumerate(CERVICAL):
        if vertebra in seen:
            made[28 - 4 * place : 31 - 4 * place, 10:30, 12:36] = vertebra
    return made


@dataclass(frozen=True)
class KnowingMethod:
    """What `Method` offers to the graph."""

    seen: Sequence[Vertebra]
    operating_point: OperatingPoint = field(default_factory=OperatingPoint)
    device: str = "cpu"

    def model_grids(self, volume: Volume) -> ModelGrids:
        image = ModelImage(volume.grid, torch.zeros(1))
        return ModelGrids(image, image)

    def name_vertebrae(self, grids: ModelGrids, volume: Volume) -> SpineMask:
        return SpineMask.from_labels(volume.grid, labels(self.seen))

    def crops(self, volume: Volume, mask: SpineMask) -> list[VertebraCrop]:
        empty = torch.zeros(1)
        return [VertebraCrop(v, volume.grid, empty, empty) for v in self.seen]

    def judge(self, series: CtSeries, mask: SpineMask, crops: Sequence[VertebraCrop]) -> StudyFindings:
        levels = {c.level: LevelScore(0.9 if c.level is Vertebra.C5 else 0.1, (0, 0, 140)) for c in crops}
        scores = FractureScores(levels, 0.8) if crops else None
        return replace(
            assess(series.volume, mask, scores, self.operating_point),
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            models=tuple(
                ModelVersion(name, "0.1.0", "0" * 64)
                for name in ("cspine_ct_segmentation", "cspine_ct_fracture_classification")
            ),
            warnings=series.warnings,
        )


@pytest.fixture
def analyse(tmp_path):
    rng = np.random.default_rng(3)
    volume = Volume(Grid(SHAPE, AFFINE), rng.integers(-200, 1200, SHAPE).astype(np.int16))
    write_study(volume, tmp_path / "in", PhantomOptions(patient_name="Doe^Jane"))

    def go(where: str, seen: Sequence[Vertebra] = CERVICAL, previous: Path | None = None) -> Path:
        (tmp_path / where).mkdir()
        steps = steps_of(KnowingMethod(seen), lambda: read_ct(tmp_path / "in"), previous)
        run_graph(steps, Outbox(tmp_path / where), StageClock())
        return tmp_path / where

    return go


def test_all_results_are_there_and_speak_of_one_study(analyse):
    out = analyse("out")
    assert {path.name for path in out.iterdir()} == set(names.RESULTS) - {names.RUN}
    findings = json.loads((out / names.FINDINGS).read_bytes())
    report, segmentation = (pydicom.dcmread(out / name) for name in (names.REPORT, names.SEGMENTATION))
    assert {report.StudyInstanceUID, segmentation.StudyInstanceUID} == {findings["study_instance_uid"]}
    assert [part["decision"] for part in findings["levels"]] == ["absent"] * 4 + ["present"] + ["absent"] * 2
    assert len(segmentation.SegmentSequence) == 7


def test_the_report_refers_to_the_segmentation_beside_it(analyse):
    out = analyse("out")
    segmentation = pydicom.dcmread(out / names.SEGMENTATION)
    assert segmentation.SOPInstanceUID in str(pydicom.dcmread(out / names.REPORT))


def test_levels_out_of_view_are_undetermined_and_have_no_segment(analyse):
    out = analyse("out", seen=CERVICAL[:5])
    assert len(pydicom.dcmread(out / names.SEGMENTATION).SegmentSequence) == 5
    findings = json.loads((out / names.FINDINGS).read_bytes())
    assert [part["decision"] for part in findings["levels"][5:]] == ["undetermined"] * 2
    assert findings["outcome"] == "partial_findings"


def test_without_a_vertebra_there_is_a_report_with_outcome_111245_and_no_segmentation(analyse):
    out = analyse("out", seen=())
    assert not (out / names.SEGMENTATION).exists()
    assert "111245" in str(pydicom.dcmread(out / names.REPORT))
    assert b"No cervical vertebra was found" in (out / names.REPORT).read_bytes()


def test_a_second_report_names_the_first_as_its_predecessor(analyse):
    first = analyse("first")
    second = analyse("second", previous=first / names.REPORT)
    before, after = (pydicom.dcmread(folder / names.REPORT) for folder in (first, second))
    (study,) = after.PredecessorDocumentsSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    seg = [pydicom.dcmread(folder / names.SEGMENTATION).SOPInstanceUID for folder in (first, second)]
    assert seg[0] != seg[1]
