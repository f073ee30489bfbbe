"""The whole method on every case of a set: one result file a case, so that a killed run goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

import numpy as np

from cspine.anatomy import CERVICAL
from cspine.errors import CspineError, OutputError, UsageError
from cspine.evaluation.boxes import marks_of, slice_boxes
from cspine.evaluation.cases import Case, CaseSource, FractureBox
from cspine.evaluation.masks import MaskScore, score_masks
from cspine.evaluation.result import (
    Boxes,
    CaseResult,
    LevelResult,
    Marks,
    load_result,
    save_result,
)
from cspine.findings import (
    Decision,
    FractureScores,
    ModelVersion,
    OperatingPoint,
    StudyFindings,
    VertebraFinding,
)
from cspine.pipeline import assess
from cspine.volume import Grid, SpineMask, Visibility, Volume
from cspine.whole_files import write_text

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the result files; others are not gone on with."""
CONFIG: Final = "evaluation.json"


class Analyst(Protocol):
    """What is measured; `cspine.method.Method` and a fake in tests."""

    def segment(self, volume: Volume, /) -> SpineMask:
        """Name the vertebrae of a volume."""
        ...

    def classify(self, volume: Volume, mask: SpineMask, /) -> FractureScores:
        """Score the vertebrae that the mask shows; never asked where it shows none."""
        ...


def measure_case(method: Analyst, points: Mapping[str, OperatingPoint], case: Case) -> CaseResult:
    """Analyse one case as the product does, and compare it with the truth.

    Args:
        method: the method.
        points: its operating points by name.
        case: a study with truth.
    """
    begin = perf_counter()
    mask = method.segment(case.volume)
    named = perf_counter()
    seen = any(level.visibility is not Visibility.ABSENT for level in mask.levels)
    scores = method.classify(case.volume, mask) if seen else None
    done = perf_counter()
    findings = {name: assess(case.volume, mask, scores, point) for name, point in points.items()}
    seconds = {"segment": named - begin, "classify": done - named, "whole": done - begin}
    return compare(case, mask, findings, seconds)


def compare(
    case: Case, mask: SpineMask, findings: Mapping[str, StudyFindings], seconds: Mapping[str, float]
) -> CaseResult:
    """What the method says of a case against its truth."""
    scores = score_masks(mask, case.mask) if case.mask is not None else {}
    any_findings = next(iter(findings.values()))
    levels = tuple(
        _level_result(case, {name: found.level(v) for name, found in findings.items()}, scores.get(v))
        for v in CERVICAL
    )
    boxes = None
    if case.mask is not None:
        boxes = Boxes(slice_boxes(mask, scored=True), slice_boxes(case.mask, scored=False))
    marks = None
    if case.boxes is not None:
        marks = Marks(marks_of(any_findings, case.boxes), len(case.boxes))
    return CaseResult(
        identifier=case.identifier,
        failure=None,
        levels=levels,
        overall=any_findings.overall.probability,
        decisions={name: found.overall.decision for name, found in findings.items()},
        attributes=dict(case.attributes),
        boxes=boxes,
        marks=marks,
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


def _level_result(case: Case, findings: Mapping[str, VertebraFinding], mask: MaskScore | None) -> LevelResult:
    finding = next(iter(findings.values()))
    return LevelResult(
        level=finding.level,
        truth=case.levels.get(finding.level),
        visibility=finding.visibility,
        probability=finding.probability,
        decisions={name: found.decision for name, found in findings.items()},
        mask=mask,
        key_slice_shows=_key_slice_shows(case, finding),
    )


def _key_slice_shows(case: Case, finding: VertebraFinding) -> bool | None:
    boxes = [box for box in case.boxes or () if box.level is finding.level]
    if not boxes or finding.key_slice is None:
        return None
    return any(_passes(case.volume.grid, finding.key_slice, box) for box in boxes)


def _passes(grid: Grid, index: int, box: FractureBox) -> bool:
    corners = np.stack(np.meshgrid(*box.box_lps_mm.T, indexing="ij"), -1).reshape(-1, 3)
    planes = grid.to_index(corners)[:, 0]
    return bool(planes.min() - 0.5 <= index <= planes.max() + 0.5)


def failed(case: Case | None, identifier: str, points: Sequence[str], sentence: str) -> CaseResult:
    """The result of a case that could not be analysed: it stays in every count, with nothing found."""
    if case is None:
        return CaseResult(identifier, sentence)
    empty = SpineMask.from_labels(case.volume.grid, np.zeros(case.volume.grid.shape, np.uint8))
    nothing = compare(case, empty, {name: StudyFindings.failed(sentence) for name in points}, {})
    return replace(nothing, failure=sentence)


def claim(folder: Path, models: Sequence[ModelVersion], points: Mapping[str, OperatingPoint]) -> None:
    """Note in a new folder what is measured there, or check that it is the same.

    Raises:
        UsageError: the folder holds an evaluation of other networks or by another version.
        OutputError: it cannot be written.
    """
    wanted = {
        "version": VERSION,
        "models": [asdict(model) for model in models],
        "operating_points": {name: asdict(point) for name, point in points.items()},
    }
    keep_to(folder / CONFIG, wanted, "an evaluation of other networks or operating points")


def keep_to(path: Path, wanted: Mapping[str, Any], what: str) -> None:
    """Note in a new folder what its files come from, or check that it is the same.

    Args:
        path: the file that says so.
        wanted: everything, as JSON, that makes the files what they are.
        what: names the files of another origin in the refusal.

    Raises:
        UsageError: the folder's files come from something else.
        OutputError: it cannot be written.
    """
    if not path.exists():
        write_text(json.dumps(wanted, indent=1), path)
        return
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if found != json.loads(json.dumps(wanted)):
        raise UsageError(f"'{path.parent}' holds {what}: name another output folder or remove this one.")


def run_set(
    method: Analyst,
    points: Mapping[str, OperatingPoint],
    source: CaseSource,
    folder: Path,
    tell: Callable[[str], None] = log.info,
) -> tuple[CaseResult, ...]:
    """Measure every case of a set that has no result yet; give the results of all.

    Args:
        method: what is measured.
        points: its operating points.
        source: the set.
        folder: where the results of this set are kept.
        tell: hears one line a case.

    Raises:
        UsageError: the folder holds results of other cases.
        OutputError: a result cannot be written.
        InputError: a result that is there cannot be read.
    """
    keep_to(folder / "set.json", source.identity, "results of other cases")
    wanted = source.identifiers()
    results = []
    for place, identifier in enumerate(wanted, start=1):
        path = folder / f"{identifier}.json"
        if path.exists():
            results.append(load_result(path))
            continue
        result = _measured(method, points, source, identifier)
        save_result(result, path)
        tell(f"{source.name} {place}/{len(wanted)}: {_one_line(result)}")
        results.append(result)
    return tuple(results)


def _measured(
    method: Analyst, points: Mapping[str, OperatingPoint], source: CaseSource, identifier: str
) -> CaseResult:
    """One case; whatever it raises is its result, but for a disk that cannot be written."""
    case: Case | None = None
    try:
        begin = perf_counter()
        case = source.load(identifier)
        loaded = perf_counter() - begin
        result = measure_case(method, points, case)
        return replace(result, seconds={**result.seconds, "load": round(loaded, 3)})
    except OutputError:
        raise
    except Exception as error:  # a defect that one case shows must not hide the other cases
        if not isinstance(error, CspineError):
            log.exception("case %s", identifier)
        return failed(case, identifier, list(points), _sentence(error))


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, CspineError) else f"{type(error).__name__}: {error}"


def _one_line(result: CaseResult) -> str:
    if result.failure is not None:
        return f"{result.identifier} failed: {result.failure}"
    called = [
        level.level.name for level in result.levels if Decision.PRESENT in set(level.decisions.values())
    ]
    truth = [level.level.name for level in result.levels if level.truth and level.truth.fractured]
    dice = [level.mask.dice for level in result.levels if level.mask]
    parts = [f"{result.identifier}: {result.seconds.get('whole', 0):.1f} s"]
    parts += [f"Dice {np.mean(dice):.2f}"] if dice else []
    parts += [f"fractured {' '.join(truth) or 'none'}", f"called at any point {' '.join(called) or 'none'}"]
    return ", ".join(parts)
