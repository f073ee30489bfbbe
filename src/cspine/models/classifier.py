"""The fracture classifier: crops of vertebrae in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cspine.anatomy import CERVICAL
from cspine.crops import CropSpec, VertebraCrop
from cspine.errors import ModelError
from cspine.findings import FractureScores, LevelScore, OperatingPoint, PointMm
from cspine.models.bundle import METADATA, Bundle
from cspine.models.calibration import Calibration
from cspine.models.device import autocast
from cspine.models.inference import channels_last
from cspine.volume import FloatArray

if TYPE_CHECKING:
    import torch

COLUMN_AXIS: Final = -1
"""Columns run to the patient's left, so turning them around mirrors left and right."""
DENSE_HU: Final = 700.0
"""In the second pass denser bone looks alike: an answer that hangs on contrast in it is unsteady."""


@dataclass(frozen=True, eq=False)
class StudyScores:
    """Raw logits of one study under test-time augmentation, before calibration.

    Attributes:
        levels: (passes, 7), C1..C7; meaningless for absent levels.
        overall: (passes,).
        slices: (7, steps), mean over the passes.
        heat: (7, steps, rows, columns) of the heat map, mean over the passes.
    """

    levels: FloatArray
    overall: FloatArray
    slices: FloatArray
    heat: FloatArray


def second_look(study: torch.Tensor, spec: CropSpec) -> torch.Tensor:
    """What the second pass sees of studies (S, 7, 2, planes, rows, columns): mirrored, bone not so dense."""
    low, high = spec.window_hu
    other = study.flip(COLUMN_AXIS)
    other[:, :, 0].clamp_(max=(DENSE_HU - low) / (high - low))
    return other


class FractureClassifier:
    """The classifier of one bundle on one device.

    Two passes are made, the second one mirrored left to right and without contrast in dense bone; their mean
    is the score and their spread says how steady it is.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        """Load the network.

        Args:
            bundle: cspine_ct_fracture_classification or one like it.
            device: where to compute.

        Raises:
            ModelError: weights of another architecture, or metadata without crop, temperatures or points.
        """
        self.crop_spec = bundle.crop_spec()
        self.model = bundle.model_version()
        self._device = device
        self._section: dict[str, Any] = dict(bundle.metadata["cspine"])
        self._level, self._overall = self._calibration("level"), self._calibration("overall")
        self.operating_point()
        self._network = channels_last(bundle.network(device))

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """One of the bundle's operating points (rule_out, balanced, rule_in); None for its default.

        Raises:
            ModelError: the bundle has none of that name.
        """
        points = self._section.get("operating_points", {})
        wanted = name or self._section.get("default_operating_point")
        try:
            return OperatingPoint(**{key: float(value) for key, value in points[wanted].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"Bundle {self.model.name}: there is no operating point '{wanted}'; it has "
                f"{', '.join(sorted(points)) or 'none'}."
            ) from error

    def __call__(self, crops: Sequence[VertebraCrop]) -> FractureScores:
        """Score the vertebrae that were seen.

        Args:
            crops: one a level, in any order; absent levels are left out. Made with `crop_spec`.

        Raises:
            ValueError: no crop, or two of one level.
        """
        places = [CERVICAL.index(crop.level) for crop in crops]
        if not places or len(set(places)) != len(places):
            raise ValueError(f"one crop a level is needed, not {[str(crop.level) for crop in crops]}")
        scores = self.scores(crops)
        levels = {
            crop.level: self._level_score(crop, scores, place)
            for crop, place in sorted(zip(crops, places, strict=True), key=lambda pair: pair[1])
        }
        return FractureScores(levels, float(self._overall(scores.overall.mean())))

    def scores(self, crops: Sequence[VertebraCrop]) -> StudyScores:
        """Raw logits of one study: what calibration is fitted on."""
        import torch

        study, present = self._study(crops)
        with torch.inference_mode(), autocast(self._device):
            out = self._network(
                torch.cat([study, second_look(study, self.crop_spec)]), torch.cat([present, present])
            )
        straight, mirrored = out["heat"]
        out["heat"] = torch.stack([straight, mirrored.flip(COLUMN_AXIS)])
        found = {name: value.double().cpu().numpy() for name, value in out.items()}
        return StudyScores(found["levels"], found["overall"], found["slices"].mean(0), found["heat"].mean(0))

    def calibrated(self, levels: FloatArray, overall: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Probabilities of level logits and of overall logits, same shapes."""
        return self._level(levels), self._overall(overall)

    def _study(self, crops: Sequence[VertebraCrop]) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops in their places: (1, 7, 2, planes, rows, columns) and which are there, (1, 7)."""
        import torch

        spec = self.crop_spec
        study = torch.zeros((1, len(CERVICAL), 2, spec.planes, spec.pixels, spec.pixels), device=self._device)
        present = torch.zeros((1, len(CERVICAL)), dtype=torch.bool, device=self._device)
        for crop in crops:
            place = CERVICAL.index(crop.level)
            study[0, place, 0], study[0, place, 1] = crop.image, crop.mask
            present[0, place] = True
        return study, present

    def _level_score(self, crop: VertebraCrop, scores: StudyScores, place: int) -> LevelScore:
        passes = scores.levels[:, place]
        return LevelScore(
            probability=float(self._level(passes.mean())),
            key_lps_mm=self._key_point(crop, scores.slices[place], scores.heat[place]),
            spread=float(self._level(passes).std()),
        )

    def _key_point(self, crop: VertebraCrop, slices: FloatArray, heat: FloatArray) -> PointMm:
        """The middle of the hottest cell of the plane that looks most like a fracture."""
        step = int(slices.argmax())
        plane = 2 * step + self.crop_spec.window_planes // 2
        cell = np.array(np.unravel_index(int(heat[step].argmax()), heat[step].shape))
        pixels = np.array(crop.grid.shape[1:]) / heat[step].shape
        x, y, z = crop.grid.to_lps_mm(np.array([plane, *((cell + 0.5) * pixels - 0.5)]))
        return float(x), float(y), float(z)

    def _calibration(self, head: str) -> Calibration:
        try:
            bias = self._section.get("bias", {}).get(head, 0.0)
            return Calibration(float(self._section["temperature"][head]), float(bias))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"Bundle {self.model.name}: {METADATA} has no valid cspine.temperature for '{head}'."
            ) from error
