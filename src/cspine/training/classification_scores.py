"""Calibration and measurement of the fracture classifier on necks that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cspine.anatomy import CERVICAL
from cspine.crops import CropSpec
from cspine.datasets.crop_batches import as_vertebra_crops
from cspine.datasets.crop_samples import CropFolder
from cspine.datasets.phantom_crops import CropRecipe, fill_folder
from cspine.device import pick_device
from cspine.findings import OperatingPoint
from cspine.models.bundle import METADATA, Bundle, load_bundle, read_json
from cspine.models.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    fit_study_thresholds,
    roc_auc,
)
from cspine.models.classifier import FractureClassifier
from cspine.training.spine import phantom_count
from cspine.volume import FloatArray
from cspine.whole_files import write_json, write_text

FIRST_SEED: Final = 10_000_000
TRAINING_SEED: Final = 0
CALIBRATION_SEED: Final = 2_000_000
TEST_SEED: Final = 3_000_000
"""First seeds of the necks, from FIRST_SEED or the recipe's seed on."""
STEADY: Final = 0.99
"""Part of the right decisions on held-out necks whose spread is within the operating points' max_spread."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Logits of S necks.

    Attributes:
        levels: (S, passes, 7); of levels that are not known they mean nothing.
        overall: (S, passes).
        fractured: bool (S, 7).
        known: bool (S, 7): levels that were there to be scored.
    """

    levels: FloatArray
    overall: FloatArray
    fractured: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @property
    def any_fractured(self) -> NDArray[np.bool_]:
        """(S,)."""
        return np.asarray((self.fractured & self.known).any(1))


def score(classifier: FractureClassifier, folder: Path) -> Scored:
    """Score all necks of a folder the way studies are scored."""
    necks = CropFolder(folder).wait_for(1)
    found = [classifier.scores(as_vertebra_crops(neck)) for neck in necks]
    return Scored(
        np.stack([scores.levels for scores in found]),
        np.stack([scores.overall for scores in found]),
        np.array([[neck.fractured.get(v, False) for v in CERVICAL] for neck in necks]),
        np.array([[v in neck.fractured for v in CERVICAL] for neck in necks]),
    )


def read_crop_spec(bundle: Path) -> CropSpec:
    """The crop in the metadata of a bundle that need not have weights yet."""
    return Bundle(bundle, bundle.name, "", "", read_json(bundle, METADATA)).crop_spec()


def calibrate(bundle: Path, folder: Path, device: torch.device) -> None:
    """Fit temperatures, biases and operating points on the necks of `folder`, into the metadata.

    Raises:
        ModelError: the bundle does not load.
        OutputError: the metadata cannot be written.
    """
    write_calibration(bundle, score(_load(bundle, device), folder))


def write_calibration(bundle: Path, scored: Scored) -> None:
    """Fit temperatures, biases and operating points on scored necks, into the metadata of the bundle.

    Raises:
        OutputError: the metadata cannot be written.
    """
    level = fit_calibration(scored.levels.mean(1)[scored.known], scored.fractured[scored.known])
    overall = fit_calibration(scored.overall.mean(1), scored.any_fractured)
    metadata = read_json(bundle, METADATA)
    section = metadata["cspine"]
    section["temperature"] = {"level": round(level.temperature, 4), "overall": round(overall.temperature, 4)}
    section["bias"] = {"level": round(level.bias, 4), "overall": round(overall.bias, 4)}
    points = operating_points(scored, level, overall, float(section.get("min_margin", 0.0)))
    section["operating_points"] = {name: asdict(point) for name, point in points.items()}
    section.setdefault("default_operating_point", "balanced")
    section["calibrated_on"] = {"necks": len(scored.fractured), "fractured": int(scored.any_fractured.sum())}
    write_text(json.dumps(metadata, indent=4), bundle / METADATA)


def operating_points(
    scored: Scored, level: Calibration, overall: Calibration, min_margin: float
) -> dict[str, OperatingPoint]:
    """Rule-out, balanced and rule-in, on calibrated scores."""
    levels, whole = level(scored.levels.mean(1)) * scored.known, overall(scored.overall.mean(1))
    fitted = fit_study_thresholds(levels.max(1), whole, scored.any_fractured)
    right = ((levels >= fitted.balanced.level) == scored.fractured) & scored.known
    max_spread = round(float(np.quantile(level(scored.levels).std(1)[right], STEADY)), 4)
    return {
        name: OperatingPoint(round(at.level, 4), round(at.overall, 4), min_margin, max_spread)
        for name, at in vars(fitted).items()
    }


def evaluate(
    bundle: str | Path, data: str, output: str | Path, *, shifted: bool = False, device: str = "auto"
) -> None:
    """Make necks that no training saw, measure the bundle on them and write metrics.json.

    Args:
        bundle: its folder.
        data: "phantom:COUNT".
        output: folder for the crops (5 MB a neck) and metrics.json.
        shifted: draw them from the domain that training never saw.
        device: "auto", "cpu" or "cuda".

    Raises:
        UsageError: other data.
        OutputError: something cannot be written.
    """
    from cspine.phantom import DEFAULT, SHIFTED

    folder = Path(output) / ("shifted" if shifted else "test")
    spec, profile = read_crop_spec(Path(bundle)), SHIFTED if shifted else DEFAULT
    fill_folder(folder, CropRecipe(spec, profile, FIRST_SEED + TEST_SEED, phantom_count(data)))
    write_metrics(bundle, folder, Path(output) / "metrics.json", device)


def measure(classifier: FractureClassifier, scored: Scored) -> dict[str, Any]:
    """Measure a calibrated classifier on scored necks.

    Returns:
        Counts, AUC, calibration error, and sensitivity and specificity of levels and studies at each
        operating point.
    """
    probabilities, overall = classifier.calibrated(scored.levels.mean(1), scored.overall.mean(1))
    truth, known, any_truth = scored.fractured, scored.known, scored.any_fractured
    points = {
        name: _at_point(classifier.operating_point(name), probabilities, overall, scored)
        for name in ("rule_out", "balanced", "rule_in")
    }
    by_level = {
        str(v): _auc_or_none(probabilities[known[:, i], i], truth[known[:, i], i])
        for i, v in enumerate(CERVICAL)
    }
    return {
        "necks": len(truth),
        "fractured_necks": int(any_truth.sum()),
        "fractured_levels": int(truth[known].sum()),
        "level_auc": roc_auc(probabilities[known], truth[known]),
        "level_auc_by_level": by_level,
        "study_auc": roc_auc(overall, any_truth),
        "level_ece": expected_calibration_error(probabilities[known], truth[known]),
        "study_ece": expected_calibration_error(overall, any_truth),
        "operating_points": points,
    }


def write_metrics(bundle: str | Path, folder: str | Path, output: str | Path, device: str = "auto") -> None:
    """Score the necks of a folder and write what `measure` finds to a JSON file."""
    classifier = _load(Path(bundle), pick_device(device))
    write_json(Path(output), measure(classifier, score(classifier, Path(folder))))


def write_scores(bundle: str | Path, folder: str | Path, output: str | Path, device: str = "auto") -> None:
    """Write the probabilities of every neck of a folder to a JSON file."""
    classifier = _load(Path(bundle), pick_device(device))
    found = {}
    for neck in CropFolder(Path(folder)).wait_for(1):
        scores = classifier(as_vertebra_crops(neck))
        levels = {str(vertebra): level.probability for vertebra, level in scores.levels.items()}
        found[neck.name] = {"overall": scores.overall, "levels": levels}
    write_json(Path(output), found)


def _at_point(
    at: OperatingPoint, levels: FloatArray, overall: FloatArray, scored: Scored
) -> Mapping[str, float]:
    """Rates of right decisions; a study is present when one level or the spine as a whole is."""
    called = (levels >= at.level) & scored.known
    study = called.any(1) | (overall >= at.overall)
    truth, any_truth = scored.fractured & scored.known, scored.any_fractured
    return {
        "level_sensitivity": float(called[truth].mean()),
        "level_specificity": float((~called[~truth & scored.known]).mean()),
        "study_sensitivity": float(study[any_truth].mean()),
        "study_specificity": float((~study[~any_truth]).mean()),
    }


def _auc_or_none(scores: FloatArray, truth: NDArray[np.bool_]) -> float | None:
    return roc_auc(scores, truth) if 0 < truth.sum() < len(truth) else None


def _load(bundle: Path, device: torch.device) -> FractureClassifier:
    path = bundle.resolve()
    return FractureClassifier(load_bundle(path.parent, path.name), device=device)
