"""Calibrating the fracture classifier on whole studies, with the masks that the segmentation really draws.

Crops that are cut with true masks, or with errors that were made up, flatter it. So whenever the segmentation
changes, this is done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cspine.anatomy import CERVICAL
from cspine.errors import InputError, UsageError
from cspine.evaluation.cases import Case, CaseSource
from cspine.evaluation.phantom_cases import PhantomCases
from cspine.evaluation.runner import keep_to
from cspine.settings import CLASSIFICATION
from cspine.training.classification_scores import Scored, write_calibration
from cspine.training.spine import phantom_count
from cspine.volume import Visibility
from cspine.whole_files import write_whole

if TYPE_CHECKING:
    from cspine.method import Method

log = logging.getLogger(__name__)

CALIBRATION_SEED: Final = 775_000_000
"""First seed of the necks: neither training nor evaluation draws them."""


@dataclass(frozen=True)
class MethodCalibration:
    """What is calibrated, on what.

    Attributes:
        models: folder of the bundles; the calibration goes into the classifier's metadata there.
        data: "phantom:COUNT", drawn at the phantoms' natural rate of fractures.
        output: folder for cases and scores; a run that was stopped goes on from there.
        anatomy: folder of surface meshes for every second phantom.
        device: "auto", "cpu" or "cuda".
    """

    models: Path
    data: str
    output: Path
    anatomy: Path | None = None
    device: str = "auto"


def calibrate_method(wanted: MethodCalibration) -> Mapping[str, int]:
    """Fit temperature, bias and operating points of both heads, and write them into the classifier's bundle.

    Returns:
        How many studies were scored, and how many of them show a fracture.

    Raises:
        UsageError: data that are not understood or too few, or an output folder of other networks or cases.
        ModelError: the models cannot be loaded.
        OutputError: something cannot be written.
    """
    from cspine.method import Method

    cases = PhantomCases(
        phantom_count(wanted.data),
        wanted.output / "cases",
        anatomy=wanted.anatomy,
        seed=CALIBRATION_SEED,
    )
    method = Method.load(wanted.models, wanted.device)
    scored = score_studies(method, cases, wanted.output / "scores")
    fractured = int(scored.any_fractured.sum())
    if not 0 < fractured < len(scored.fractured):
        raise UsageError(
            f"Of {len(scored.fractured)} studies {fractured} show a fracture: studies of both kinds are "
            "needed to calibrate; give more of them."
        )
    write_calibration(wanted.models / CLASSIFICATION, scored)
    return {"studies": len(scored.fractured), "fractured": fractured}


def score_studies(
    method: Method, cases: CaseSource, folder: Path, tell: Callable[[str], None] = log.info
) -> Scored:
    """Score every study the way the product does; one in which no vertebra is found has no scores.

    Args:
        method: the whole method.
        cases: studies with truth.
        folder: where the scores of each are kept.
        tell: hears one line a study.

    Raises:
        UsageError: the folder holds scores of other networks or cases, or no study shows a vertebra.
    """
    models = [asdict(model) for model in method.models]
    keep_to(folder / "scores.json", {"models": models, "cases": dict(cases.identity)}, "scores of others")
    found: list[Mapping[str, np.ndarray]] = []
    wanted = cases.identifiers()
    for place, identifier in enumerate(wanted, start=1):
        path = folder / f"{identifier}.npz"
        if not path.exists():
            _save(_logits(method, cases.load(identifier)), path)
            tell(f"{place}/{len(wanted)}: {identifier}")
        scores = _load(path)
        if scores:
            found.append(scores)
    if not found:
        raise UsageError("No vertebra was found in any of the studies: there is nothing to calibrate on.")
    return Scored(*(np.stack([scores[name] for scores in found]) for name in Scored.__dataclass_fields__))


def _logits(method: Method, case: Case) -> Mapping[str, np.ndarray]:
    """One study's part of `Scored`; empty where no vertebra was found."""
    mask = method.segment(case.volume)
    seen = {level.level for level in mask.levels if level.visibility is not Visibility.ABSENT}
    if not seen:
        return {}
    scores = method.classifier.scores(method.crops(case.volume, mask))
    known = [v in seen and v in case.levels and case.levels[v].counts for v in CERVICAL]
    fractured = [v in case.levels and case.levels[v].fractured for v in CERVICAL]
    return {
        "levels": scores.levels,
        "overall": scores.overall,
        "fractured": np.array(fractured),
        "known": np.array(known),
    }


def _save(scores: Mapping[str, np.ndarray], path: Path) -> None:
    write_whole(path, lambda file: np.savez(file, **scores))  # type: ignore[arg-type]


def _load(path: Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"The scores '{path}' cannot be read: remove the file to make them again."
        ) from error
