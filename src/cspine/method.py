"""The method with its networks: everything that is loaded once and serves many studies.

The graph, the label app, the evaluation and the bench all hold one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cspine.crops import ModelGrids, VertebraCrop
from cspine.findings import FractureScores, ModelVersion, OperatingPoint, StudyFindings
from cspine.pipeline import assess
from cspine.settings import CLASSIFICATION, LOCALIZATION, SEGMENTATION
from cspine.volume import SpineMask, Volume

if TYPE_CHECKING:
    from cspine.dicom.series import CtSeries
    from cspine.models.classifier import FractureClassifier
    from cspine.models.segmenter import SpineSegmenter
    from cspine.preprocess.preprocessor import Preprocessor


@dataclass(frozen=True, eq=False)
class Method:
    """Networks and DALI pipelines of one process, ready.

    Attributes:
        preprocessor, segmenter, classifier: the parts.
        models: what results name as their networks.
        operating_point: where probabilities become decisions.
        device: "cpu" or "cuda", the one that is used.
    """

    preprocessor: Preprocessor
    segmenter: SpineSegmenter
    classifier: FractureClassifier
    models: tuple[ModelVersion, ...]
    operating_point: OperatingPoint
    device: str

    @classmethod
    def load(cls, root: Path, device: str = "auto") -> Method:
        """Load the three bundles of the folder `root` onto a device.

        Args:
            root: folder of the bundles.
            device: "auto", "cpu" or "cuda".

        Raises:
            ModelError: a missing or damaged bundle, or a device that is not there.
        """
        from cspine.device import pick_device
        from cspine.models.bundle import load_bundle
        from cspine.models.classifier import FractureClassifier
        from cspine.models.segmenter import SpineSegmenter
        from cspine.preprocess.preprocessor import Preprocessor

        on = pick_device(device)
        finder, namer, judge = (load_bundle(root, n) for n in (LOCALIZATION, SEGMENTATION, CLASSIFICATION))
        classifier = FractureClassifier(judge, device=on)
        return cls(
            preprocessor=Preprocessor(finder.grid_spec(), namer.grid_spec(), judge.crop_spec(), device=on),
            segmenter=SpineSegmenter(localization=finder, segmentation=namer, device=on),
            classifier=classifier,
            models=tuple(bundle.model_version() for bundle in (finder, namer, judge)),
            operating_point=classifier.operating_point(),
            device=on.type,
        )

    def model_grids(self, volume: Volume) -> ModelGrids:
        """Put a volume on the grids of the two networks that look for the spine."""
        return self.preprocessor.model_grids(volume)

    def name_vertebrae(self, grids: ModelGrids, volume: Volume) -> SpineMask:
        """Find and name the vertebrae of a volume, given it on the networks' grids, on its own grid."""
        return self.segmenter(grids, volume)

    def crops(self, volume: Volume, mask: SpineMask) -> Sequence[VertebraCrop]:
        """Cut out the vertebrae that the mask shows."""
        return self.preprocessor.crops(volume, mask)

    def judge(self, series: CtSeries, mask: SpineMask, crops: Sequence[VertebraCrop]) -> StudyFindings:
        """Score the crops and decide; without a crop there is nothing to score."""
        scores = self.classifier(crops) if crops else None
        return replace(
            assess(series.volume, mask, scores, self.operating_point),
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            models=self.models,
            warnings=series.warnings,
        )

    def segment(self, volume: Volume) -> SpineMask:
        """From a volume to its mask (`cspine.pipeline.Segment`)."""
        return self.name_vertebrae(self.model_grids(volume), volume)

    def classify(self, volume: Volume, mask: SpineMask) -> FractureScores:
        """From a volume and its mask to scores (`cspine.pipeline.Classify`).

        Raises:
            ValueError: the mask shows no vertebra.
        """
        return self.classifier(self.crops(volume, mask))

    def find(self, series: CtSeries) -> StudyFindings:
        """From a series to its findings, without a graph and without writing anything."""
        mask = self.segment(series.volume)
        return self.judge(series, mask, self.crops(series.volume, mask))
