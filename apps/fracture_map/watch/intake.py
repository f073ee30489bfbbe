"""What was seen in the PACS goes into the queue."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from fracture_map.watch.audit import note
from fracture_map.watch.claims import has_unsent
from fracture_map.watch.database import Database, studies
from fracture_map.watch.seen import StudySeen
from fracture_map.watch.states import State

_WAITING: Final = (State.ARRIVING, State.READY, State.INCOMPLETE, State.SKIPPED)
"""States in which a study may be put aside because the rules do not want it (any more)."""


class Intake:
    """Puts what is seen into the queue.

    Args:
        database: of the queue.
        quiet_s: without a change before a study is taken as complete.
    """

    def __init__(self, database: Database, quiet_s: float) -> None:
        self._database, self._quiet_s = database, quiet_s

    def observe(self, seen: StudySeen, refusal: str | None, *, stable: bool = False) -> None:
        """Take what the PACS holds of a study; may be told the same any number of times.

        Args:
            seen: what it holds.
            refusal: why the rules do not want it; None where they do.
            stable: the PACS says that the study is complete, so that no quiet period is needed.
        """
        try:
            with self._database.transaction() as connection:
                row = connection.execute(
                    select(studies).where(studies.c.study_uid == seen.uid).with_for_update()
                ).first()
                if row is None:
                    self._begin(connection, seen, refusal, stable)
                else:
                    self._go_on(connection, row, seen, refusal, stable)
        except IntegrityError:  # another process saw it first
            self.observe(seen, refusal, stable=stable)

    def gone(self, study_uid: str) -> None:
        """The PACS holds nothing of the study any more; should it come again, that is a change."""
        with self._database.transaction() as connection:
            connection.execute(
                update(studies)
                .where(studies.c.study_uid == study_uid, studies.c.state == State.ARRIVING)
                .values(state=State.SKIPPED, content="", instances=0, reason="It is no longer in the PACS.")
            )

    def arriving(self) -> list[str]:
        """UIDs of the studies that are to be looked at again until they are quiet."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(studies.c.study_uid).where(studies.c.state == State.ARRIVING).order_by(studies.c.id)
            )
            return [row.study_uid for row in found]

    def is_known(self, study_uid: str, instances: int | None) -> bool:
        """Whether the study was looked at when it held as many instances as now."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(studies.c.instances).where(studies.c.study_uid == study_uid)
            ).first()
        return found is not None and instances is not None and found.instances == instances

    def _begin(self, connection: Connection, seen: StudySeen, refusal: str | None, stable: bool) -> None:
        now = self._database.clock.now()
        state = State.SKIPPED if refusal else State.READY if stable else State.ARRIVING
        made = connection.execute(
            insert(studies)
            .values(
                study_uid=seen.uid,
                state=state,
                instances=seen.instances,
                content=seen.content,
                changed_at=now,
                next_try=now,
                reason=refusal,
            )
            .returning(studies.c.id)
        )
        note(connection, made.scalar_one(), "seen", state=state, reason=refusal)

    def _go_on(
        self, connection: Connection, row: Row[Any], seen: StudySeen, refusal: str | None, stable: bool
    ) -> None:
        now = self._database.clock.now()
        new: dict[str, Any] = {}
        if row.content != seen.content:
            new = {"content": seen.content, "changed_at": now}
        state = self._next_state(row, seen, refusal, stable)
        if row.state == State.DEAD != state and has_unsent(connection, row.id):
            state = State.STORING  # what the PACS has of it comes first; then the study begins again
        if state != row.state:
            new |= {"state": state, "attempts": 0, "next_try": now, "reason": refusal}
            note(connection, row.id, "seen", state=state, reason=refusal)
        if row.instances != seen.instances:
            new["instances"] = seen.instances
        if new:
            connection.execute(update(studies).where(studies.c.id == row.id).values(**new))

    def _next_state(self, row: Row[Any], seen: StudySeen, refusal: str | None, stable: bool) -> State:
        state = State(row.state)
        if state is State.STORING or row.claim is not None:
            return state  # whoever holds it finds the change when done
        if refusal:
            return State.SKIPPED if state in _WAITING and row.analysed is None else state
        if row.content != seen.content:
            if seen.content == row.analysed:
                return State.DONE
            return State.READY if stable else State.ARRIVING
        if state is State.SKIPPED:
            return State.DONE if seen.content == row.analysed else State.ARRIVING
        quiet = self._database.clock.now() - row.changed_at >= self._quiet_s
        return State.READY if state is State.ARRIVING and (stable or quiet) else state
