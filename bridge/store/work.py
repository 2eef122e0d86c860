"""What waits for a person, by cause; counted up to a bound, since a store may hold much that was refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.states import SETTLED, State
from bridge.store import untold
from bridge.store.port import Connection
from bridge.store.schema import anomaly, commitment, message, moment, outbound

MOST = 10_000
"""Messages of a state that are counted, the newest of them."""
FOR_A_PERSON = (State.IN_DOUBT, State.HELD, State.REJECTED)
# Written out: a partial index is used only where the statement says its condition in so many words.
_INDEXED = sa.text(f"state IN ({', '.join(repr(str(s)) for s in sorted(SETTLED))})")
_UNTOLD = {
    untold.Queue.OUTBOUND: (outbound, outbound.c.created_at),
    untold.Queue.COMMITMENT: (commitment, commitment.c.requested_at),
}


@dataclass(frozen=True, slots=True)
class Group:
    """So many of one cause, and since when the oldest of them waits. `more`: there are others that were not counted."""

    kind: str  # a state, `anomaly`, or the queue of what could not be told
    reason: str
    many: int
    oldest: datetime
    more: bool = False


def groups(conn: Connection) -> list[Group]:
    """Everything that a person must look at: in doubt first, what was refused last."""
    found: list[Group] = []
    for state in FOR_A_PERSON:
        found.extend(_of_state(conn, state))
        if state is State.HELD:
            found.extend(_others(conn))
    return found


def _of_state(conn: Connection, state: State) -> Iterator[Group]:
    newest = (
        sa.select(message.c.reason, message.c.received_at)
        .where(_INDEXED, message.c.state == state)
        .order_by(message.c.id.desc())
        .limit(MOST)
        .subquery()
    )
    query = sa.select(newest.c.reason, sa.func.count(), sa.func.min(newest.c.received_at)).group_by(newest.c.reason)
    rows = sorted(conn.execute(query).all(), key=lambda row: (-row[1], row[0]))
    more = sum(row[1] for row in rows) >= MOST
    return (Group(state.value, row[0], row[1], moment(row[2]), more) for row in rows)


def _others(conn: Connection) -> Iterator[Group]:
    open_ones = sa.select(anomaly.c.reason, sa.func.count(), sa.func.min(anomaly.c.at)).where(
        anomaly.c.settled_at.is_(None)
    )
    for row in conn.execute(open_ones.group_by(anomaly.c.reason).order_by(anomaly.c.reason)):
        yield Group("anomaly", row[0], row[1], moment(row[2]))
    for queue, (table, since) in _UNTOLD.items():
        held = sa.select(table.c.reason, sa.func.count(), sa.func.min(since)).where(table.c.state == untold.HELD)
        for row in conn.execute(held.group_by(table.c.reason).order_by(table.c.reason)):
            yield Group(queue.value, row[0], row[1], moment(row[2]))


def ids(conn: Connection, state: State, reason: str, *, before: int | None = None, limit: int = 50) -> list[int]:
    """The messages of a group, newest first; `before` goes on behind the last of a page."""
    query = sa.select(message.c.id).where(_INDEXED, message.c.state == state, message.c.reason == reason)
    if before is not None:
        query = query.where(message.c.id < before)
    return list(conn.execute(query.order_by(message.c.id.desc()).limit(limit)).scalars())


def anomalies(conn: Connection, reason: str, *, before: int | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """Tasks that were made before a change, newest first, as JSON values."""
    query = sa.select(anomaly).where(anomaly.c.settled_at.is_(None), anomaly.c.reason == reason)
    if before is not None:
        query = query.where(anomaly.c.id < before)
    return [
        {
            "id": str(row.id),
            "reason": row.reason,
            "message": str(row.message_id),
            "task_message": str(row.task_message_id),
            "task_ids": [i for i in row.task_ids.split(",") if i],
            "at": moment(row.at).isoformat(),
        }
        for row in conn.execute(query.order_by(anomaly.c.id.desc()).limit(limit))
    ]


def untold_ones(
    conn: Connection, queue: untold.Queue, reason: str, *, before: int | None = None, limit: int = 50
) -> Sequence[untold.Untold]:
    """What could not be told for this reason, newest first."""
    table, _ = _UNTOLD[queue]
    query = sa.select(table.c.id).where(table.c.state == untold.HELD, table.c.reason == reason)
    if before is not None:
        query = query.where(table.c.id < before)
    rows = conn.execute(query.order_by(table.c.id.desc()).limit(limit)).scalars().all()
    return [found for row in rows if (found := untold.one(conn, queue, row)) is not None]
