"""The measurement groups of the report (PS3.16 TID 1411): one a segmented vertebra, one for the spine."""

from __future__ import annotations

from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset

from cspine import settings
from cspine.anatomy import Vertebra
from cspine.dicom import codes
from cspine.dicom.provenance import Provenance, tracking_identifier, tracking_uid
from cspine.dicom.segmentation import segment_numbers
from cspine.dicom.series import CtSeries
from cspine.dicom.source_frames import reference
from cspine.findings import Decision, OperatingPoint, Overall, StudyFindings, VertebraFinding

PROBABILITY_DIGITS: Final = 4


def image_item(name: sr.CodedConcept, series: CtSeries, index: int) -> sr.ImageContentItem:
    """A reference to the source frame behind slice `index`."""
    header, frame_number = reference(series, index)
    return sr.ImageContentItem(
        name,
        header.SOPClassUID,
        header.SOPInstanceUID,
        referenced_frame_numbers=frame_number,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )


class GroupWriter:
    """Writes the measurement groups (PS3.16 TID 1411) of one study."""

    def __init__(
        self,
        series: CtSeries,
        findings: StudyFindings,
        segmentation: Dataset,
        operating_point: OperatingPoint | None,
    ) -> None:
        self._series = series
        self._overall: Overall = findings.overall
        self._segmentation = segmentation
        self._numbers = segment_numbers(segmentation)
        self._network = Provenance(findings.models).algorithm(settings.CLASSIFICATION)
        self._point = operating_point

    def of_level(self, finding: VertebraFinding) -> sr.Template:
        """The group of one vertebra, with its key slice."""
        threshold = self._point.level if self._point else None
        probability = self._probability(finding.probability, threshold)
        group = self._group(finding.level, [self._numbers[finding.level]], probability, finding.decision)
        if finding.key_slice is not None:
            group[0].ContentSequence.append(image_item(codes.KEY_SLICE, self._series, finding.key_slice))
        return group

    def of_spine(self) -> sr.Template:
        """The group of the cervical spine: its region is all segments together."""
        threshold = self._point.overall if self._point else None
        probability = self._probability(self._overall.probability, threshold)
        return self._group(None, list(self._numbers.values()), probability, self._overall.decision)

    def _group(
        self,
        level: Vertebra | None,
        numbers: list[int],
        probability: list[sr.Measurement],
        decision: Decision,
    ) -> sr.Template:
        # The finding is the vertebra, never "fracture": a negative level must not read as a fracture found.
        site = codes.VERTEBRA[level] if level else codes.CERVICAL_SPINE
        region = sr.ReferencedSegment(
            self._segmentation.SOPClassUID,
            self._segmentation.SOPInstanceUID,
            numbers[0],
            source_series=sr.SourceSeriesForSegmentation(self._series.series_uid),
        )
        # highdicom takes one segment; the attribute holds many (PS3.3 Table 10-3, VM 1-n).
        region[0].ReferencedSOPSequence[0].ReferencedSegmentNumber = (
            numbers if len(numbers) > 1 else numbers[0]
        )
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=tracking_uid(self._series.study_uid, self._series.series_uid, level),
                identifier=tracking_identifier(level),
            ),
            referenced_segment=region,
            finding_category=codes.ANATOMICAL_STRUCTURE,
            finding_type=site,
            finding_sites=[sr.FindingSite(site)],
            measurements=probability,
            qualitative_evaluations=[sr.QualitativeEvaluation(codes.FRACTURE, codes.DECISION[decision])],
        )

    def _probability(self, probability: float | None, threshold: float | None) -> list[sr.Measurement]:
        if probability is None:
            return []
        parameters = [f"operating_point={threshold:g}"] if threshold is not None else []
        if self._network.sha256:
            parameters.append(f"sha256={self._network.sha256}")
        algorithm = sr.AlgorithmIdentification(
            name=self._network.name,
            version=self._network.version,
            manufacturer=settings.MANUFACTURER,
            parameters=parameters or None,
            family=codes.ARTIFICIAL_INTELLIGENCE,
        )
        measurement = sr.Measurement(
            codes.PROBABILITY, round(probability, PROBABILITY_DIGITS), codes.RATIO, algorithm_id=algorithm
        )
        # What the probability is of (PS3.16 TID 300, HAS CONCEPT MOD).
        of_fracture = sr.CodeContentItem(
            codes.FINDING, codes.FRACTURE, sr.RelationshipTypeValues.HAS_CONCEPT_MOD
        )
        measurement[0].ContentSequence.insert(0, of_fracture)
        return [measurement]
