"""What could not be told: HL7 messages and storage commitment reports that their receivers would not take.

They are held after some refusals (F44). A person lets them go out again, or drops them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from bridge.store import outbound as told
from bridge.store.port import Transaction
from bridge.store.schema import commitment, millis, moment, outbound

HELD, WAITING, DROPPED = told.HELD, told.WAITING, "DROPPED"


class Queue(StrEnum):
    """What goes out besides tasks. The words are those of the command line, and of the notices."""

    OUTBOUND = "outbound"
    COMMITMENT = "commitment"


_TABLES = {Queue.OUTBOUND: outbound, Queue.COMMITMENT: commitment}


@dataclass(frozen=True, slots=True)
class Untold:
    """One of them; ids are strings as in every list. `to` is an address or an AE title."""

    queue: str
    id: str
    message: str  # whose ids it tells; empty for a report
    state: str
    reason: str
    to: str
    attempts: int
    since: str


def held(conn: sa.Connection, limit: int = 100) -> list[Untold]:
    """What waits for a person, newest first in each queue."""
    found: list[Untold] = []
    for queue in Queue:
        table = _TABLES[queue]
        rows = conn.execute(sa.select(table).where(table.c.state == HELD).order_by(table.c.id.desc()).limit(limit))
        found.extend(_untold(queue, row) for row in rows)
    return found


def one(conn: sa.Connection, queue: Queue, row_id: int) -> Untold | None:
    """The one with this id, whatever became of it."""
    table = _TABLES[queue]
    row = conn.execute(sa.select(table).where(table.c.id == row_id)).first()
    return _untold(queue, row) if row is not None else None


def _untold(queue: Queue, row: Any) -> Untold:
    of_message = queue is Queue.OUTBOUND
    return Untold(
        queue=queue.value,
        id=str(row.id),
        message=str(row.message_id) if of_message else "",
        state=row.state,
        reason=row.reason,
        to=row.address if of_message else row.requester,
        attempts=row.attempts,
        since=moment(row.created_at if of_message else row.requested_at).isoformat(),
    )


def release(tx: Transaction, queue: Queue, row_id: int, *, at: datetime) -> bool:
    """Due now, with every attempt ahead of it. False where it is not held any more."""
    fresh = {"state": WAITING, "next_at": millis(at), "attempts": 0, "refusals": 0, "settled_at": None}
    if not _moved(tx, queue, row_id, fresh):
        return False
    tx.notify(queue.value)
    return True


def drop(tx: Transaction, queue: Queue, row_id: int, *, at: datetime) -> bool:
    """Never told. False where it is not held any more."""
    return _moved(tx, queue, row_id, {"state": DROPPED, "settled_at": millis(at)})


def _moved(tx: Transaction, queue: Queue, row_id: int, values: dict[str, Any]) -> bool:
    table = _TABLES[queue]
    return tx.conn.execute(table.update().where(table.c.id == row_id, table.c.state == HELD), values).rowcount == 1
