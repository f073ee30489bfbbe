"""One study to show to the programs outside Python: DICOM validators and a real PACS (Orthanc)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom import CtSeries, read_ct
from cspine.dicom.failure_report import build_failure_report
from cspine.dicom.provenance import from_bytes, to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation
from cspine.findings import FractureScores, LevelScore, ModelVersion, OperatingPoint, StudyFindings
from cspine.phantom.dicom_study import write_study
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Volume


@dataclass(frozen=True)
class Study:
    """A CT as files, the series read from them, and what was written, by kind."""

    ct_files: tuple[Path, ...]
    series: CtSeries
    objects: dict[str, bytes]


def _labels(grid: Grid, last: Vertebra) -> np.ndarray:
    """C1 on top: blocks of three slices."""
    labels = np.zeros(grid.shape, np.uint8)
    for vertebra in CERVICAL:
        if vertebra <= last:
            first = 1 + 3 * (7 - int(vertebra))
            labels[first : first + 3, 12:26, 9:24] = vertebra
    return labels


def _findings(series: CtSeries, mask: SpineMask, fractured: Vertebra | None) -> StudyFindings:
    scores = {}
    for vertebra in CERVICAL:
        center = mask.center_lps_mm(vertebra)
        if center is not None:
            scores[vertebra] = LevelScore(0.83 if vertebra is fractured else 0.04, tuple(map(float, center)))
    overall = max(score.probability for score in scores.values())
    found = assess(series.volume, mask, FractureScores(scores, overall), OperatingPoint())
    models = (
        ModelVersion("cspine_ct_segmentation", "0.1.0", "a" * 64),
        ModelVersion("cspine_ct_fracture_classification", "0.1.0", "b" * 64),
    )
    return replace(found, models=models, warnings=("Slices are thick, which can hide fine fractures.",))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One phantom study with its results: positive, negative, partial, failed and re-run."""
    folder = tmp_path_factory.mktemp("study")
    affine = np.array([[0, 0, 0.5, -9], [0, 0.75, 0, -14], [1.5, 0, 0, 30], [0, 0, 0, 1]], float)
    grid = Grid((24, 40, 36), affine)
    hu = np.random.default_rng(5).integers(-900, 1500, grid.shape).astype(np.int16)
    files = write_study(Volume(grid, hu), folder)
    series = read_ct(folder)
    objects = {}
    for kind, last, fractured in (
        ("positive", Vertebra.C7, Vertebra.C2),
        ("negative", Vertebra.C7, None),
        ("partial", Vertebra.C4, None),
    ):
        mask = SpineMask.from_labels(series.volume.grid, _labels(series.volume.grid, last))
        findings = _findings(series, mask, fractured)
        segmentation = build_segmentation(series, mask, findings)
        objects[f"{kind}.seg"] = to_bytes(segmentation)
        objects[f"{kind}.sr"] = to_bytes(build_report(series, findings, segmentation))
    previous = from_bytes(objects["partial.sr"])
    objects["re-run.sr"] = to_bytes(build_report(series, findings, segmentation, previous=previous))
    failure = build_failure_report(
        series.headers, "A slice is missing: the gap is 5.0 mm; send the series again."
    )
    objects["failed.sr"] = to_bytes(failure)
    return Study(files, series, objects)


@pytest.fixture(scope="session")
def study_folder(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every result as a file."""
    folder = tmp_path_factory.mktemp("objects")
    for name, data in study.objects.items():
        (folder / f"{name}.dcm").write_bytes(data)
    return folder
