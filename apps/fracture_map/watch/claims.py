"""Who works on what: claims with leases, retries, dead letters."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, or_, select, update

from fracture_map.watch.audit import note
from fracture_map.watch.database import Database, results, studies
from fracture_map.watch.states import WORK, ClaimLostError, ResultState, State


@dataclass(frozen=True)
class Claim:
    """A study that one worker has for itself, as long as it renews the lease.

    Attributes:
        id: number of the study in the queue.
        study_uid: Study Instance UID.
        token: of this claim.
        state: what is to be done.
        content: what the study held when it was claimed.
        attempts: this one included.
        quiet_s: since the study last changed.
    """

    id: int
    study_uid: str
    token: str
    state: State
    content: str
    attempts: int
    quiet_s: float


class Claims:
    """Hands studies to workers.

    Args:
        database: of the queue.
        lease_s: after which a worker that gives no sign of life loses its study.
    """

    def __init__(self, database: Database, lease_s: float) -> None:
        self._database, self.lease_s = database, lease_s

    def take(self) -> Claim | None:
        """Claim the study that is next: results to be sent first, then whatever is due longest.

        A study whose worker died comes again when its lease has run out. Each claim counts as an attempt, so
        that a study that ends its worker every time is not tried for ever.
        """
        now = self._database.clock.now()
        due = (
            select(studies.c.id)
            .where(
                studies.c.state.in_(WORK),
                studies.c.next_try <= now,
                or_(studies.c.claim.is_(None), studies.c.lease_until < now),
            )
            .order_by(case((studies.c.state == State.STORING, 0), else_=1), studies.c.next_try, studies.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        taken = (
            update(studies)
            .where(studies.c.id == due.scalar_subquery())
            .values(
                claim=secrets.token_hex(16),
                lease_until=now + self.lease_s,
                attempts=studies.c.attempts + 1,
            )
            .returning(*studies.c)
        )
        with self._database.transaction() as connection:
            row = connection.execute(taken).first()
            if row is None:
                return None
            note(connection, row.id, "claimed", state=row.state, attempt=row.attempts)
        return Claim(
            id=row.id,
            study_uid=row.study_uid,
            token=row.claim,
            state=State(row.state),
            content=row.content,
            attempts=row.attempts,
            quiet_s=now - row.changed_at,
        )

    def renew(self, claim: Claim) -> None:
        """Give a sign of life.

        Raises:
            ClaimLostError: the lease had run out and another worker has the study.
        """
        with self._database.transaction() as connection:
            held = connection.execute(
                update(studies)
                .where(studies.c.id == claim.id, studies.c.claim == claim.token)
                .values(lease_until=self._database.clock.now() + self.lease_s)
            )
            if not held.rowcount:
                raise ClaimLostError

    def give_back(self, claim: Claim, reason: str | None, delay_s: float = 0.0) -> None:
        """Leave the study for later; the attempt does not count, for it was not the study's fault."""
        self._let_go(claim, "given back", reason, delay_s, attempts=claim.attempts - 1)

    def retry(self, claim: Claim, reason: str, delay_s: float) -> None:
        """Leave the study for another attempt."""
        self._let_go(claim, "failed", reason, delay_s)

    def wait_for_more(self, claim: Claim, reason: str, delay_s: float) -> None:
        """The images form no volume (yet): wait for the others."""
        self._let_go(claim, "incomplete", reason, delay_s, state=State.INCOMPLETE, attempts=0)

    def changed(self, claim: Claim) -> None:
        """The study changed meanwhile: begin again when it is quiet."""
        self._let_go(claim, "changed", None, 0.0, state=State.ARRIVING, attempts=0)

    def bury(self, claim: Claim, reason: str) -> None:
        """Give the study up, until it changes or a person asks for another attempt."""
        self._let_go(claim, "given up", reason, 0.0, state=State.DEAD)

    def skip(self, claim: Claim, reason: str) -> None:
        """There is nothing (left) to analyse."""
        self._let_go(claim, "skipped", reason, 0.0, state=State.SKIPPED)

    def revive(self, study: int) -> bool:
        """Try a study again that was given up; returns whether it was.

        One with a result that could not be stored goes on from there.
        """
        with self._database.transaction() as connection:
            state = State.STORING if has_unsent(connection, study) else State.READY
            done = connection.execute(
                update(studies)
                .where(studies.c.id == study, studies.c.state == State.DEAD)
                .values(state=state, attempts=0, next_try=self._database.clock.now())
            )
            if done.rowcount:
                note(connection, study, "revived", state=state)
            return bool(done.rowcount)

    def _let_go(self, claim: Claim, what: str, reason: str | None, delay_s: float, **new: Any) -> None:
        new = {"next_try": self._database.clock.now() + delay_s, "reason": reason, **new}
        with self._database.transaction() as connection:
            release(connection, claim, new)
            note(connection, claim.id, what, reason=reason, attempt=claim.attempts, state=new.get("state"))


def release(connection: Connection, claim: Claim, new: dict[str, Any]) -> None:
    """End a claim within a transaction.

    Args:
        connection: of the transaction.
        claim: to end.
        new: what to write into the study's row.

    Raises:
        ClaimLostError: another worker has the study; nothing is written.
    """
    mine = update(studies).where(studies.c.id == claim.id, studies.c.claim == claim.token)
    if not connection.execute(mine.values(claim=None, lease_until=None, **new)).rowcount:
        raise ClaimLostError


def has_unsent(connection: Connection, study: int) -> bool:
    """Whether a result of the study waits to be sent."""
    waiting = results.c.study_id == study, results.c.state == ResultState.STORING
    return connection.execute(select(results.c.id).where(*waiting)).first() is not None
