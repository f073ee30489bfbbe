from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cspine.anatomy import CERVICAL, Vertebra
from cspine.errors import UsageError
from cspine.evaluation.cases import Case, LevelTruth
from cspine.findings import ModelVersion
from cspine.training.classification_scores import write_calibration
from cspine.training.method_calibration import score_studies
from cspine.volume import Grid, SpineMask, Visibility, Volume

SHAPE = (16, 12, 12)


def case(identifier: str, broken: Sequence[Vertebra]) -> Case:
    """C3 and C4 whole, C5 cut by the scan's end; what is broken is said, not drawn."""
    grid = Grid(SHAPE, np.array([[0, 0, 4.0, 0], [0, 4.0, 0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]]))
    labels = np.zeros(SHAPE, np.uint8)
    labels[11:14, 4:8, 4:8], labels[6:9, 4:8, 4:8], labels[0:3, 4:8, 4:8] = 3, 4, 5
    mask = SpineMask.from_labels(grid, labels if identifier != "empty" else np.zeros_like(labels))
    levels = {
        found.level: LevelTruth(found.level in broken, found.visibility)
        for found in mask.levels
        if found.visibility is not Visibility.ABSENT
    }
    return Case(identifier, Volume(grid, np.zeros(SHAPE, np.int16)), levels, mask)


@dataclass
class Cases:
    """Studies by name, with what is broken in each."""

    broken: Mapping[str, Sequence[Vertebra]]
    name: str = "made"
    description: str = "Made."
    synthetic: bool = True
    loaded: list[str] = field(default_factory=list)

    @property
    def identity(self) -> Mapping[str, str]:
        return {"source": self.name}

    def identifiers(self) -> Sequence[str]:
        return list(self.broken)

    def load(self, identifier: str) -> Case:
        self.loaded.append(identifier)
        return case(identifier, self.broken[identifier])


def method(cases: Cases, sha256: str = "0" * 64) -> SimpleNamespace:
    """Draws the true mask; its logits are 2 for what is broken, -2 for what is not."""

    def scores(_: object) -> SimpleNamespace:
        broken = cases.broken[cases.loaded[-1]]
        levels = np.array([[2.0 if v in broken else -2.0 for v in CERVICAL]] * 2)
        return SimpleNamespace(levels=levels, overall=np.full(2, 2.0 if broken else -2.0))

    return SimpleNamespace(
        models=(ModelVersion("made", "1", sha256),),
        segment=lambda volume: case(cases.loaded[-1], ()).mask,
        crops=lambda volume, mask: [],
        classifier=SimpleNamespace(scores=scores),
    )


@pytest.fixture
def cases() -> Cases:
    broken: dict[str, Sequence[Vertebra]] = {f"study-{n}": () for n in range(6)}
    return Cases(
        broken | {f"broken-{n}": (Vertebra.C3,) for n in range(3)} | {"cut": (Vertebra.C5,), "empty": ()}
    )


def test_levels_count_where_they_are_seen_as_a_whole_and_studies_where_any_vertebra_is(
    cases: Cases, tmp_path: Path
):
    scored = score_studies(method(cases), cases, tmp_path)  # type: ignore[arg-type]
    assert scored.levels.shape == (10, 2, 7)
    assert scored.known.tolist() == [[False, False, True, True, False, False, False]] * 10
    assert scored.any_fractured.tolist() == [False] * 6 + [True] * 3 + [False]


def test_a_stopped_run_goes_on_with_the_studies_that_are_missing(cases: Cases, tmp_path: Path):
    first = score_studies(method(cases), cases, tmp_path)  # type: ignore[arg-type]
    (tmp_path / "broken-1.npz").unlink()
    cases.loaded.clear()
    again = score_studies(method(cases), cases, tmp_path)  # type: ignore[arg-type]
    assert cases.loaded == ["broken-1"]
    assert np.array_equal(again.levels, first.levels)


def test_scores_of_other_networks_are_refused(cases: Cases, tmp_path: Path):
    score_studies(method(cases), cases, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="scores of others"):
        score_studies(method(cases, "1" * 64), cases, tmp_path)  # type: ignore[arg-type]


def test_studies_without_any_vertebra_calibrate_nothing(tmp_path: Path):
    empty = Cases({"empty": ()})
    with pytest.raises(UsageError, match="No vertebra was found"):
        score_studies(method(empty), empty, tmp_path)  # type: ignore[arg-type]


def test_the_calibration_is_written_into_the_bundle(cases: Cases, tmp_path: Path):
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs/metadata.json").write_text(json.dumps({"cspine": {"min_margin": 0.5}}))
    write_calibration(bundle, score_studies(method(cases), cases, tmp_path / "scores"))  # type: ignore[arg-type]
    section = json.loads((bundle / "configs/metadata.json").read_text())["cspine"]
    assert section["calibrated_on"] == {"necks": 10, "fractured": 3}
    assert section["temperature"]["level"] < 1  # all scores were right, so they may be surer
    assert section["operating_points"]["balanced"]["min_margin"] == 0.5
