"""The result of a study: the only result type. SR, SEG, JSON, report and page are views of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cspine.anatomy import CERVICAL, Vertebra
from cspine.volume import Visibility

PointMm = tuple[float, float, float]


class Decision(StrEnum):
    """What is said about a fracture."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


class Outcome(StrEnum):
    """How the analysis went (DICOM CID 6047, concepts 111241 to 111245)."""

    COMPLETE_NO_FINDINGS = "complete_no_findings"
    COMPLETE_FINDINGS = "complete_findings"
    PARTIAL_NO_FINDINGS = "partial_no_findings"
    PARTIAL_FINDINGS = "partial_findings"
    FAILED = "failed"


@dataclass(frozen=True)
class LevelScore:
    """What the fracture classifier says of one vertebra.

    Attributes:
        probability: calibrated probability of a fracture.
        key_lps_mm: the point on the crop's axis, in the plane with the highest slice score.
        spread: standard deviation of the probability over test-time augmentation; None where it was not run.
    """

    probability: float
    key_lps_mm: PointMm
    spread: float | None = None


@dataclass(frozen=True)
class FractureScores:
    """What the classifier says of a study: of the levels that it was shown, and of the spine as a whole."""

    levels: Mapping[Vertebra, LevelScore]
    overall: float


@dataclass(frozen=True)
class OperatingPoint:
    """Where probabilities become decisions; kept in the classifier bundle's metadata.

    Attributes:
        level, overall: probability from which a fracture is called present.
        min_margin: label margin (nats) under which the name of a level is not trusted.
        max_spread: spread of the probability above which the level is left undetermined.
    """

    level: float = 0.5
    overall: float = 0.5
    min_margin: float = 0.0
    max_spread: float = 1.0


@dataclass(frozen=True)
class ModelVersion:
    """One network that took part: bundle name, version and SHA-256 of its weights."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class VertebraFinding:
    """What is said of one vertebra.

    Attributes:
        level: which vertebra.
        visibility: how much of it the scan shows.
        probability: calibrated probability of a fracture in [0, 1]; None when it was not classified.
        decision: present, absent or undetermined.
        reason: one sentence, exactly when undetermined: why.
        box_lps_mm: smallest and largest corner of the vertebra; None when absent.
        center_lps_mm: its centre of mass; None when absent.
        key_slice: index of the slice of the volume to look at first; None when absent.
        key_sop_instance_uid: SOP Instance UID of that slice, where the volume came from DICOM.
    """

    level: Vertebra
    visibility: Visibility
    probability: float | None
    decision: Decision
    reason: str | None = None
    box_lps_mm: tuple[PointMm, PointMm] | None = None
    center_lps_mm: PointMm | None = None
    key_slice: int | None = None
    key_sop_instance_uid: str | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"{self.level}: probability {self.probability} is not in [0, 1]")
        if (self.decision is Decision.UNDETERMINED) != (self.reason is not None):
            raise ValueError(f"{self.level}: a reason is given exactly when the decision is undetermined")
        if self.decision is Decision.ABSENT and self.visibility is not Visibility.COMPLETE:
            raise ValueError(f"{self.level}: a fracture is ruled out only in a vertebra seen completely")
        if self.decision is not Decision.UNDETERMINED and self.probability is None:
            raise ValueError(f"{self.level}: a decision needs a probability")
        if (self.visibility is Visibility.ABSENT) != (self.box_lps_mm is None):
            raise ValueError(f"{self.level}: a box is given exactly when the vertebra was seen")


@dataclass(frozen=True)
class Overall:
    """What is said of the cervical spine as a whole."""

    probability: float | None
    decision: Decision


@dataclass(frozen=True)
class StudyFindings:
    """What is said of a study.

    Attributes:
        study_uid, series_uid: of the CT series; empty where it did not come from DICOM.
        overall: of the spine as a whole.
        levels: C1..C7, always all seven, in order.
        models: the networks that took part.
        warnings: sentences a reader should know (thick slices, what was left out), without PHI.
        seconds: wall-clock seconds by stage.
        failure: why nothing could be analysed; None for an analysed study.
    """

    study_uid: str
    series_uid: str
    overall: Overall
    levels: tuple[VertebraFinding, ...]
    models: tuple[ModelVersion, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None

    def __post_init__(self) -> None:
        if tuple(finding.level for finding in self.levels) != CERVICAL:
            raise ValueError("a study's findings hold C1..C7 in order")

    @property
    def outcome(self) -> Outcome:
        """How the analysis went, derived from the levels."""
        if self.failure is not None or all(f.probability is None for f in self.levels):
            return Outcome.FAILED
        partial = any(
            f.decision is Decision.UNDETERMINED or f.visibility is not Visibility.COMPLETE
            for f in self.levels
        )
        if (
            any(f.decision is Decision.PRESENT for f in self.levels)
            or self.overall.decision is Decision.PRESENT
        ):
            return Outcome.PARTIAL_FINDINGS if partial else Outcome.COMPLETE_FINDINGS
        return Outcome.PARTIAL_NO_FINDINGS if partial else Outcome.COMPLETE_NO_FINDINGS

    def level(self, vertebra: Vertebra) -> VertebraFinding:
        """The finding of one vertebra."""
        return self.levels[CERVICAL.index(vertebra)]

    @classmethod
    def failed(cls, reason: str, study_uid: str = "", series_uid: str = "") -> StudyFindings:
        """The result of a study that could not be analysed: every level undetermined, with the reason."""
        levels = tuple(
            VertebraFinding(v, Visibility.ABSENT, None, Decision.UNDETERMINED, reason) for v in CERVICAL
        )
        return cls(study_uid, series_uid, Overall(None, Decision.UNDETERMINED), levels, failure=reason)
