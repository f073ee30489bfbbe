"""Which studies are analysed."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from fracture_map.watch.seen import SeriesSeen, StudySeen


@dataclass(frozen=True)
class Rules:
    """Which studies are analysed; a study must pass every rule that is given.

    Attributes:
        body_parts, descriptions, protocols: a CT series or the study must match one of these, of any of the
            three kinds (they are hints that scanners fill in differently); regular expressions, found
            anywhere, in any case. Without any of them every CT is analysed.
        without: a study whose description, or every CT series of which, matches one of these is left alone.
        stations: names of the scanners; empty for any.
        max_age_days: a study that is older is left alone; None for any age.
    """

    body_parts: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    max_age_days: int | None = 7

    def refusal(self, study: StudySeen, today: datetime.date) -> str | None:
        """Why a study is not analysed, without a word about the patient; None where it is."""
        if not study.ct:
            return "It holds no CT series."
        if self._is_too_old(study.date, today):
            return f"It is older than {self.max_age_days} days."
        if self.stations and not any(series.station in self.stations for series in study.ct):
            return "No CT series is from a station of the rules."
        if _found(self.without, study.description) or all(
            _found(self.without, series.description) for series in study.ct
        ):
            return "Its description is one that the rules leave out."
        if not self._names_wanted(study):
            return "Neither body part, description nor protocol is one of the rules."
        return None

    def since(self, today: datetime.date) -> str | None:
        """The first Study Date that is young enough; a day more, for clocks differ. None for any age."""
        if self.max_age_days is None:
            return None
        return f"{today - datetime.timedelta(days=self.max_age_days + 1):%Y%m%d}"

    def _is_too_old(self, date: str, today: datetime.date) -> bool:
        since = self.since(today)
        return since is not None and len(date) == len(since) and date < since

    def _names_wanted(self, study: StudySeen) -> bool:
        if not (self.body_parts or self.descriptions or self.protocols):
            return True
        return _found(self.descriptions, study.description) or any(map(self._series_wanted, study.ct))

    def _series_wanted(self, series: SeriesSeen) -> bool:
        return (
            _found(self.body_parts, series.body_part)
            or _found(self.descriptions, series.description)
            or _found(self.protocols, series.protocol)
        )


def _found(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
