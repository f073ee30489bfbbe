"""Published results, to hold numbers against: each with its data. All of them are of patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Anchor:
    """One published result.

    Attributes:
        about: "fractures", "vertebrae" or "boxes".
        source: who and when.
        data: on what.
        result: as published.
    """

    about: str
    source: str
    data: str
    result: str


ANCHORS: Final = (
    Anchor(
        "fractures",
        "Lee 2024, RSNA 2022 winners",
        "RSNA 2022 private test set, 789 studies",
        "study AUC .95-.97; mean sensitivity 88 %, specificity 94 %",
    ),
    Anchor(
        "fractures",
        "RSNA 2022 leaderboard",
        "private test set, weighted log loss",
        "gold at most .277, median .522; prevalence constants .563; all .5 gives .693",
    ),
    Anchor(
        "fractures",
        "Hu 2024, seven winners' models",
        "1,829 series of one trauma centre, 130 with a fracture",
        "AUC .89 without, .88 with contrast; sensitivity 67 %, specificity 93 % without contrast",
    ),
    Anchor(
        "fractures",
        "Small 2021, commercial tool",
        "665 studies",
        "sensitivity 76 %, specificity 97 %; radiologists 93 %, 96 %",
    ),
    Anchor(
        "fractures",
        "van den Wittenboer 2024, commercial tool",
        "2,368 studies, 221 with a fracture",
        "sensitivity 71.5 %, specificity 98.6 %; radiologists 88.2 %, 99.2 %",
    ),
    Anchor(
        "fractures",
        "Sung 2026, commercial tool",
        "155 studies with a fracture, 173 without",
        "sensitivity 90.3 %, specificity 91.9 %; level right 97.3 %; PPV of boxes 84.4 %",
    ),
    Anchor(
        "vertebrae",
        "TotalSegmentator v1",
        "its own test set of CT",
        "Dice C1-C7 .894 .984 .968 .890 .883 .871 .975",
    ),
    Anchor(
        "vertebrae",
        "VERIDAH, sequence decoding",
        "CT of spines",
        "all levels right in 99.2 %, 77.3 % without decoding",
    ),
    Anchor("vertebrae", "VerSe challenge", "374 CT of 355 patients", "id-rate 94-97 % of the best"),
    Anchor(
        "boxes",
        "Yaseen, YOLOv5",
        "axial CT images of the cervical spine",
        "mAP50 93 %, mAP50-95 83 %",
    ),
)
