"""Tables, engine and clock of the queue: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    exc,
    insert,
    select,
    update,
)
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from cspine.errors import OutputError, UsageError
from fracture_map.watch.states import ResultState

_BUSY_S: Final = 30
_READING: Final[dict[str, Any]] = {"reading": True}

metadata = MetaData()

studies = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("instances", Integer),  # of the whole study at the last look; None: unknown
    Column("content", String(64), nullable=False),  # what its CT series hold (StudySeen.content)
    Column("changed_at", Float, nullable=False),  # when that last changed
    Column("analysed", String(64)),  # the content behind the current result
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_try", Float, nullable=False, default=0.0),
    Column("claim", String(32), index=True),
    Column("lease_until", Float),
    Column("reason", Text),
)
results = Table(
    "result",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("state", String(16), nullable=False),  # ResultState
    Column("content", String(64), nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("probability", Float),
    Column("report", LargeBinary, nullable=False),
    Column("waiting_since", Float),  # for a reader: since this or the open result before it was stored
    Column("closed_at", Float),  # when a reader closed it in the worklist
)
for _state in (ResultState.STORING, ResultState.CURRENT):
    _only = results.c.state == _state.value
    Index(f"one_{_state}", results.c.study_id, unique=True, sqlite_where=_only, postgresql_where=_only)
objects = Table(
    "result_object",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("result_id", ForeignKey("result.id"), nullable=False, index=True),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("data", LargeBinary),  # until the PACS has it
)
events = Table(
    "audit_event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("line", Text, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again
)
marks = Table(
    "mark",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Float, nullable=False),
)
"""Where this queue stands: `clock`, its time in seconds; `changes`, the last change taken from Orthanc."""

CLOCK: Final = "clock"
AWAY: Final = (InterfaceError, OperationalError, exc.TimeoutError)
"""What is raised where the database does not answer, is full or is locked for too long: worth another try."""


class QueueClock:
    """The time of the queue: seconds that pass as the monotonic clock says, kept in the database.

    Wall clocks jump, and monotonic ones mean nothing to another process. So the table holds the highest time
    that any process has reached, each goes on from there by its own monotonic clock, and none ever goes back.
    While no process runs, no time passes.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._offset_s = -time.monotonic()
        self.sync()

    def now(self) -> float:
        """Seconds; to be compared with times of the tables only."""
        return time.monotonic() + self._offset_s

    def sync(self) -> None:
        """Agree with the other processes; to be called every few seconds."""
        with self._engine.begin() as connection:
            row = connection.execute(select(marks.c.value).where(marks.c.name == CLOCK).with_for_update())
            stored = float(row.scalar_one())
            if stored < self.now():
                connection.execute(update(marks).where(marks.c.name == CLOCK).values(value=self.now()))
            else:
                self._offset_s = stored - time.monotonic()


class Database:
    """The queue's database.

    Attributes:
        engine: of SQLAlchemy.
        clock: the queue's time.
    """

    def __init__(self, url: str) -> None:
        """Open a database; its tables are made where they are absent.

        Args:
            url: as SQLAlchemy takes it.

        Raises:
            UsageError: the URL is none, or its driver is not known.
            OutputError: there is no such database, or it does not answer.
        """
        self.engine = _engine(url)
        try:
            self._make_tables()
        except OperationalError:
            raise OutputError(
                "The queue's database cannot be opened; check its address, that it runs and may be written."
            ) from None
        self.clock = QueueClock(self.engine)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One step: all of it or nothing."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """For looking only; waits for nobody."""
        with self.engine.connect().execution_options(**_READING) as connection:
            yield connection

    def mark(self, name: str) -> int:
        """The mark of that name; 0 where it was never set."""
        with self.reading() as connection:
            return int(connection.execute(select(marks.c.value).where(marks.c.name == name)).scalar() or 0)

    def set_mark(self, name: str, value: int) -> None:
        """Set a mark."""
        with self.transaction() as connection:
            done = connection.execute(update(marks).where(marks.c.name == name).values(value=value))
            if not done.rowcount:
                connection.execute(insert(marks).values(name=name, value=value))

    def _make_tables(self) -> None:
        try:
            metadata.create_all(self.engine)
        except (ProgrammingError, IntegrityError):
            metadata.create_all(self.engine)  # another process made them at the same moment
        try:
            with self.transaction() as connection:
                connection.execute(insert(marks).values(name=CLOCK, value=0.0))
        except IntegrityError:
            pass  # the clock runs already


def sqlite_url(path: Path) -> str:
    """The URL of a database in a file."""
    return f"sqlite:///{path}"


def _engine(url: str) -> Engine:
    try:
        # READ COMMITTED: a claim skips the rows that others hold, whatever the server's default is.
        own = {} if url.startswith("sqlite") else {"isolation_level": "READ COMMITTED"}
        engine = create_engine(url, pool_pre_ping=True, **own)
    except (ArgumentError, NoSuchModuleError):
        raise UsageError(
            "The database's address is none; give one like postgresql+psycopg://user@host/name."
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    # What is recorded must outlive a loss of power, or a result could be sent under two UIDs.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first could not wait for it later."""
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
