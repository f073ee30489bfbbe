"""In which order open results are read: the likeliest fractures first, and nobody waits for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select, update

from fracture_map.watch.audit import note
from fracture_map.watch.database import Database, results, studies
from fracture_map.watch.settings import Worklist
from fracture_map.watch.states import ResultState, State

UNKNOWN: Final = 0.5
"""Where a study without a probability (undetermined, failed) stands: nobody knows, so before the unlikely."""


@dataclass(frozen=True)
class OpenStudy:
    """A study whose result nobody has closed.

    Attributes:
        id: number of the study in the queue.
        study_uid: to open it with.
        outcome: as in findings.json.
        probability: that the cervical spine is fractured; None where undetermined.
        waiting_s: since its result was stored.
        overdue: it has waited longer than the cap.
    """

    id: int
    study_uid: str
    outcome: str
    probability: float | None
    waiting_s: float
    overdue: bool


def open_studies(database: Database, settings: Worklist) -> list[OpenStudy]:
    """The open studies: those that waited longer than the cap by their waiting, then all by probability."""
    now = database.clock.now()
    with database.reading() as connection:
        found = connection.execute(
            select(
                studies.c.id,
                studies.c.study_uid,
                results.c.outcome,
                results.c.probability,
                results.c.waiting_since,
            )
            .join(results, results.c.study_id == studies.c.id)
            .where(
                results.c.state == ResultState.CURRENT,
                results.c.closed_at.is_(None),
                results.c.waiting_since > now - settings.keep_s,
            )
        ).all()
    listed = [
        OpenStudy(
            id=row.id,
            study_uid=row.study_uid,
            outcome=row.outcome,
            probability=row.probability,
            waiting_s=round(now - row.waiting_since, 1),
            overdue=now - row.waiting_since > settings.cap_s,
        )
        for row in found
    ]
    return sorted(listed, key=_rank)


def close(database: Database, study: int) -> bool:
    """A reader is done with a study; returns whether it was open."""
    with database.transaction() as connection:
        done = connection.execute(
            update(results)
            .where(
                results.c.study_id == study,
                results.c.state == ResultState.CURRENT,
                results.c.closed_at.is_(None),
            )
            .values(closed_at=database.clock.now())
        )
        if done.rowcount:
            note(connection, study, "closed by a reader")
        return bool(done.rowcount)


def dead_letters(database: Database) -> list[dict[str, Any]]:
    """The studies that were given up, and why."""
    with database.reading() as connection:
        found = connection.execute(
            select(studies.c.id, studies.c.study_uid, studies.c.reason, studies.c.attempts)
            .where(studies.c.state == State.DEAD)
            .order_by(studies.c.id)
        )
        return [dict(row) for row in found.mappings()]


def _rank(study: OpenStudy) -> tuple[float, ...]:
    if study.overdue:
        return (0, -study.waiting_s, study.id)
    return (1, -(UNKNOWN if study.probability is None else study.probability), -study.waiting_s, study.id)
