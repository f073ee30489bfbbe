"""The audit log: what became of every study, one JSON line an event, without anything about the patient.

An event is written into the database in the transaction of the step that it tells of, and moved to the file
afterwards: so no step is without its line. A crash in between can write a line twice; `event` tells them
apart. Studies are called by their number in the queue.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select

from cspine.errors import OutputError
from fracture_map.watch.database import Database, events


def note(connection: Connection, study: int, what: str, **more: object) -> None:
    """Record an event within the transaction of its step.

    Args:
        connection: of the transaction.
        study: its number in the queue.
        what: what happened.
        more: exit codes, reasons and the like; never a UID or anything else about the patient.
    """
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    known = {key: value for key, value in more.items() if value is not None}
    line = json.dumps({"at": moment, "study": study, "what": what, **known}, ensure_ascii=False)
    connection.execute(insert(events).values(line=line))


def write_out(database: Database, path: Path) -> int:
    """Move the events to the end of the file; several processes may share both.

    Returns:
        How many there were.

    Raises:
        OutputError: the file cannot be written; the events stay where they are.
    """
    with database.transaction() as connection:
        ours = select(events).order_by(events.c.id).limit(1000).with_for_update(skip_locked=True)
        found = connection.execute(ours).all()
        if found:
            lines = [
                json.dumps({"event": row.id, **json.loads(row.line)}, ensure_ascii=False) for row in found
            ]
            _append(path, "".join(f"{line}\n" for line in lines).encode())
            connection.execute(delete(events).where(events.c.id.in_([row.id for row in found])))
    return len(found)


def _append(path: Path, data: bytes) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            written = os.write(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        if written != len(data):
            raise OSError
    except OSError:
        raise OutputError(f"The audit log '{path}' cannot be written; make room there.") from None
