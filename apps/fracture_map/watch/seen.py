"""What a PACS says it holds of a study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SeriesSeen:
    """One series, as QIDO-RS lists it.

    Attributes:
        uid: Series Instance UID.
        modality: Modality.
        instances: how many it holds now.
        description, body_part, protocol, station: as in the attributes of those names; "" where not told.
    """

    uid: str
    modality: str
    instances: int
    description: str = ""
    body_part: str = ""
    protocol: str = ""
    station: str = ""


@dataclass(frozen=True)
class StudySeen:
    """One study, as QIDO-RS lists it.

    Attributes:
        uid: Study Instance UID.
        date: Study Date, YYYYMMDD; "" where not told.
        description: Study Description.
        instances: how many it holds, of any kind; None where not told.
        series: all of them.
    """

    uid: str
    date: str
    description: str
    instances: int | None
    series: tuple[SeriesSeen, ...]

    @property
    def ct(self) -> tuple[SeriesSeen, ...]:
        """The CT series: what is fetched and analysed. Results of this software are none."""
        return tuple(series for series in self.series if series.modality == "CT")

    @property
    def content(self) -> str:
        """Stands for what the CT series hold: another value means that the study has changed."""
        held = "\n".join(sorted(f"{series.uid} {series.instances}" for series in self.ct))
        return hashlib.sha256(held.encode()).hexdigest()


def value(record: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute in a DICOM JSON record, as text; "" where it has none."""
    values = record.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None else str(values[0])


def count(record: Mapping[str, Any], tag: str) -> int | None:
    """A whole number; None where it is not told."""
    text = value(record, tag)
    return int(text) if text.isdigit() else None
