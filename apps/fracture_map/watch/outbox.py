"""Results on their way into the PACS: recorded with their bytes first, sent from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from fracture_map.study import ANSWERS
from fracture_map.watch.audit import note
from fracture_map.watch.claims import Claim, release
from fracture_map.watch.database import Database, objects, results, studies
from fracture_map.watch.states import ClaimLostError, ResultState, State


@dataclass(frozen=True)
class ResultObject:
    """One DICOM object of a result."""

    series_uid: str
    sop_uid: str
    data: bytes


@dataclass(frozen=True)
class NewResult:
    """What an analysis ended with.

    Attributes:
        exit_code: of the analysis.
        reason: its one sentence; None where it succeeded.
        outcome: as in findings.json.
        probability: that the cervical spine is fractured; None where undetermined.
        objects: in the order in which they are sent: the report last, for it refers to the others.
    """

    exit_code: int
    reason: str | None
    outcome: str
    probability: float | None
    objects: tuple[ResultObject, ...]

    @property
    def report(self) -> ResultObject:
        """The SR."""
        return self.objects[-1]


@dataclass(frozen=True)
class CurrentResult:
    """The result of a study that is in the PACS: outcome as in findings.json, and the SR."""

    outcome: str
    report: bytes


class Outbox:
    """Takes results and gives them to whoever sends them.

    Args:
        database: of the queue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, claim: Claim, new: NewResult) -> bool:
        """Take the result of an analysis; from now on it is this one, with these UIDs, that will be sent.

        Returns:
            False where the study has changed meanwhile: the result is dropped and the study begins again.

        Raises:
            ClaimLostError: another worker has the study.
        """
        with self._database.transaction() as connection:
            content: str | None = connection.execute(
                select(studies.c.content)
                .where(studies.c.id == claim.id, studies.c.claim == claim.token)
                .with_for_update()
            ).scalar()
            if content is None:
                raise ClaimLostError
            if content != claim.content:
                now = self._database.clock.now()
                release(connection, claim, {"state": State.ARRIVING, "attempts": 0, "next_try": now})
                note(connection, claim.id, "changed")
                return False
            self._insert(connection, claim, new)
            mine = update(studies).where(studies.c.id == claim.id)
            connection.execute(mine.values(state=State.STORING, attempts=1, reason=new.reason))
            note(
                connection,
                claim.id,
                "analysed",
                exit_code=new.exit_code,
                outcome=new.outcome,
                reason=new.reason,
            )
        return True

    def unsent(self, claim: Claim) -> tuple[ResultObject, ...]:
        """The objects of the result that is to be sent, in order."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(objects)
                .join(results)
                .where(results.c.study_id == claim.id, results.c.state == ResultState.STORING)
                .order_by(objects.c.id)
            ).all()
        return tuple(ResultObject(row.series_uid, row.sop_uid, row.data) for row in found)

    def sent(self, claim: Claim) -> None:
        """The PACS has the whole result: it is the current one.

        Raises:
            ClaimLostError: another worker has the study.
        """
        now = self._database.clock.now()
        with self._database.transaction() as connection:
            new = connection.execute(
                select(results).where(results.c.study_id == claim.id, results.c.state == ResultState.STORING)
            ).first()
            if new is None:
                raise ClaimLostError
            since = self._supersede(connection, claim.id)
            connection.execute(
                update(results)
                .where(results.c.id == new.id)
                .values(state=ResultState.CURRENT, waiting_since=now if since is None else since)
            )
            connection.execute(update(objects).where(objects.c.result_id == new.id).values(data=None))
            content: str = connection.execute(
                select(studies.c.content).where(studies.c.id == claim.id).with_for_update()
            ).scalar_one()
            state = _state_after(new.exit_code, changed=content != new.content)
            release(
                connection,
                claim,
                {"state": state, "analysed": new.content, "attempts": 0, "next_try": now},
            )
            note(connection, claim.id, "stored", state=state, exit_code=new.exit_code)

    def current(self, study: int) -> CurrentResult | None:
        """The result of the study that is in the PACS; None where none is, or its report was dropped here."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(results.c.outcome, results.c.report).where(
                    results.c.study_id == study, results.c.state == ResultState.CURRENT
                )
            ).first()
        return CurrentResult(row.outcome, row.report) if row and row.report else None

    def forget_reports(self, older_than_s: float) -> None:
        """Drop the reports of older results: they are in the PACS, where the rare re-run finds them."""
        with self._database.transaction() as connection:
            before = self._database.clock.now() - older_than_s
            old = results.c.waiting_since < before, results.c.report != b""
            connection.execute(update(results).where(*old).values(report=b""))

    @staticmethod
    def _supersede(connection: Connection, study: int) -> float | None:
        """Take its place from the result that was current; returns since when that waits for a reader."""
        old = connection.execute(
            update(results)
            .where(results.c.study_id == study, results.c.state == ResultState.CURRENT)
            .values(state=ResultState.SUPERSEDED, report=b"")  # only the current one is ever replaced
            .returning(results.c.waiting_since, results.c.closed_at)
        ).first()
        return old.waiting_since if old is not None and old.closed_at is None else None

    @staticmethod
    def _insert(connection: Connection, claim: Claim, new: NewResult) -> None:
        made: int = connection.execute(
            insert(results)
            .values(
                study_id=claim.id,
                state=ResultState.STORING,
                content=claim.content,
                exit_code=new.exit_code,
                outcome=new.outcome,
                probability=new.probability,
                report=new.report.data,
            )
            .returning(results.c.id)
        ).scalar_one()
        rows: Sequence[dict[str, object]] = [
            {"result_id": made, "series_uid": item.series_uid, "sop_uid": item.sop_uid, "data": item.data}
            for item in new.objects
        ]
        connection.execute(insert(objects), rows)


def _state_after(exit_code: int, *, changed: bool) -> State:
    if changed:
        return State.ARRIVING
    return State.DONE if exit_code in ANSWERS else State.DEAD
