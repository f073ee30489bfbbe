"""What a person says of fractures: a decision for each level, and where to look.

In JSON, as the clients send it and as it is kept beside the mask::

    {"C5": {"decision": "present", "boxes_lps_mm": [[[x, y, z], [x, y, z]]], "points_lps_mm": [[x, y, z]]},
     "C6": {"decision": "absent"},
     "C7": {"decision": "undetermined", "reason": "Motion."}}

Points are LPS mm, the coordinates of DICOM and OHIF; 3D Slicer shows RAS, whose x and y have the other sign.
A level that is not there was not judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from cspine.anatomy import CERVICAL, Vertebra
from cspine.findings import Decision, Overall, PointMm, StudyFindings, VertebraFinding
from cspine.volume import SpineMask, Visibility, Volume
from cspine_label.errors import RefusedLabelError

Box = tuple[PointMm, PointMm]

REACH_MM: Final = 15.0
"""How far beyond the box of its vertebra a mark may lie: ligaments and small fragments do."""
NOT_SAID: Final = "The annotator could not decide."
NOT_JUDGED: Final = "The annotator did not judge {level}."


@dataclass(frozen=True)
class LevelAnnotation:
    """What is said of one vertebra.

    Attributes:
        decision: present, absent or undetermined.
        boxes_lps_mm: smallest and largest corner of each place where it is broken.
        points_lps_mm: further such places.
        reason: one sentence, for an undetermined level.
    """

    decision: Decision
    boxes_lps_mm: tuple[Box, ...] = ()
    points_lps_mm: tuple[PointMm, ...] = ()
    reason: str = ""

    @property
    def marks_lps_mm(self) -> tuple[PointMm, ...]:
        """Every corner and point."""
        return (*(corner for box in self.boxes_lps_mm for corner in box), *self.points_lps_mm)


Annotations = Mapping[Vertebra, LevelAnnotation]


def read_annotations(content: Any) -> dict[Vertebra, LevelAnnotation]:
    """Read what a client sent, or what was kept.

    Raises:
        RefusedLabelError: anything that does not fit the format above.
    """
    if not isinstance(content, Mapping):
        raise RefusedLabelError('Fractures are an object by level, as {"C5": {"decision": "present"}}.')
    names = {str(vertebra): vertebra for vertebra in CERVICAL}
    found = {}
    for name, said in content.items():
        if name not in names:
            raise RefusedLabelError(f"'{name}' is no level; fractures are annotated for C1 to C7.")
        found[names[name]] = _read_level(name, said)
    return dict(sorted(found.items()))


def _read_level(name: str, said: Any) -> LevelAnnotation:
    said = said if isinstance(said, Mapping) else {"decision": said}
    try:
        decision = Decision(said.get("decision"))
    except ValueError:
        raise RefusedLabelError(f"{name}: a decision is present, absent or undetermined.") from None
    boxes = tuple(_box(name, corners) for corners in _listed(name, said.get("boxes_lps_mm")))
    points = tuple(_point(name, point) for point in _listed(name, said.get("points_lps_mm")))
    if (boxes or points) and decision is not Decision.PRESENT:
        raise RefusedLabelError(f"{name}: only a fracture that is present has boxes and points.")
    return LevelAnnotation(decision, boxes, points, str(said.get("reason") or "")[:200])


def _listed(name: str, value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RefusedLabelError(f"{name}: boxes and points are given as lists.")
    return value


def _box(name: str, corners: Any) -> Box:
    if not isinstance(corners, list) or len(corners) != 2:
        raise RefusedLabelError(f"{name}: a box has two corners of three numbers each.")
    ends = np.array([_point(name, corner) for corner in corners])
    low, high = ends.min(0).tolist(), ends.max(0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _point(name: str, value: Any) -> PointMm:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(_is_number(number) for number in numbers):
        raise RefusedLabelError(f"{name}: a point has three finite numbers, LPS mm.")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def as_json(annotations: Annotations) -> dict[str, Any]:
    """The format above."""
    found = {}
    for vertebra, said in annotations.items():
        entry: dict[str, Any] = {"decision": str(said.decision)}
        if said.boxes_lps_mm:
            entry["boxes_lps_mm"] = [[list(corner) for corner in box] for box in said.boxes_lps_mm]
        if said.points_lps_mm:
            entry["points_lps_mm"] = [list(point) for point in said.points_lps_mm]
        if said.reason:
            entry["reason"] = said.reason
        found[str(vertebra)] = entry
    return found


def check_against(annotations: Annotations, mask: SpineMask) -> None:
    """Check that what is said can be said of this mask.

    Raises:
        RefusedLabelError: a decision on a level that is not drawn, or a mark far from its vertebra.
    """
    for vertebra, said in annotations.items():
        box = mask.level(vertebra).box_lps_mm(mask.grid)
        if box is None:
            if said.decision is not Decision.UNDETERMINED:
                raise RefusedLabelError(
                    f"{vertebra} is not drawn, so its fracture cannot be called {said.decision}; "
                    "draw it or leave it undetermined."
                )
            continue
        low, high = box[0] - REACH_MM, box[1] + REACH_MM
        if any(((np.array(mark) < low) | (np.array(mark) > high)).any() for mark in said.marks_lps_mm):
            raise RefusedLabelError(
                f"A mark of {vertebra} lies far from that vertebra; place it anew (LPS mm)."
            )


def annotated_findings(annotations: Annotations, volume: Volume, mask: SpineMask) -> StudyFindings:
    """What is said, as the findings that the SR writer takes; who calls adds the UIDs.

    A person's decision stands as probability 1 or 0. "Absent" of a level that is cut by the edge of the
    images becomes undetermined, as everywhere in this project.
    """
    levels = tuple(_finding(annotations.get(vertebra), volume, mask, vertebra) for vertebra in CERVICAL)
    decisions = [finding.decision for finding in levels]
    if Decision.PRESENT in decisions:
        overall = Overall(1.0, Decision.PRESENT)
    elif all(decision is Decision.ABSENT for decision in decisions):
        overall = Overall(0.0, Decision.ABSENT)
    else:
        overall = Overall(None, Decision.UNDETERMINED)
    return StudyFindings("", "", overall, levels)


def _finding(
    said: LevelAnnotation | None, volume: Volume, mask: SpineMask, vertebra: Vertebra
) -> VertebraFinding:
    seen = mask.level(vertebra)
    decision, reason = _decided(said, seen.visibility, vertebra)
    finding = VertebraFinding(
        level=vertebra,
        visibility=Visibility.ABSENT,
        probability={Decision.PRESENT: 1.0, Decision.ABSENT: 0.0}.get(decision),
        decision=Decision.UNDETERMINED,
        reason=reason or NOT_SAID,
    )
    box, center = seen.box_lps_mm(mask.grid), mask.center_lps_mm(vertebra)
    if box is None or center is None:
        return finding
    mark = _mark(said) or _as_point(center)
    key = int(np.clip(round(float(volume.grid.to_index(mark)[0])), 0, volume.grid.shape[0] - 1))
    return replace(
        finding,
        visibility=seen.visibility,
        decision=decision,
        reason=reason,
        box_lps_mm=(_as_point(box[0]), _as_point(box[1])),
        center_lps_mm=_as_point(center),
        key_slice=key,
        key_sop_instance_uid=volume.slice_uids[key] if volume.slice_uids else None,
    )


def _decided(
    said: LevelAnnotation | None, visibility: Visibility, vertebra: Vertebra
) -> tuple[Decision, str | None]:
    if visibility is Visibility.ABSENT:
        return Decision.UNDETERMINED, f"{vertebra} was not drawn."
    if said is None:
        return Decision.UNDETERMINED, NOT_JUDGED.format(level=vertebra)
    if said.decision is Decision.UNDETERMINED:
        return Decision.UNDETERMINED, said.reason or NOT_SAID
    if said.decision is Decision.ABSENT and visibility is Visibility.PARTIAL:
        return Decision.UNDETERMINED, f"{vertebra} is cut by the edge of the images."
    return said.decision, None


def _mark(said: LevelAnnotation | None) -> PointMm | None:
    if said is None:
        return None
    if said.boxes_lps_mm:
        return _as_point(np.mean(np.array(said.boxes_lps_mm[0]), axis=0))
    return said.points_lps_mm[0] if said.points_lps_mm else None


def _as_point(values: np.ndarray) -> PointMm:
    return float(values[0]), float(values[1]), float(values[2])
