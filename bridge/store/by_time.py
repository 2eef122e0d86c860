"""Messages by when they came, without an index of times, which every message would pay for: ids grow with time."""

from datetime import datetime

import sqlalchemy as sa

from bridge.store import line
from bridge.store.prepared import Prepared
from bridge.store.schema import message, millis

BEHIND = 2**62
"""An id behind every one."""
ASTRAY = 2 * 3_600_000
"""Milliseconds. How much wider the edges are drawn: twice as far as a clock is set wrong (F25: an hour)."""

_FROM = Prepared(
    sa.select(message.c.id, message.c.received_at)
    .where(message.c.id >= sa.bindparam("own_id"))
    .order_by(message.c.id)
    .limit(1)
)


def between(conn: sa.Connection, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """Ids that hold every message of these times, and some others: from the first, up to before the second.

    Each edge is found by halving. Where a clock was set back a time is there twice, and the halving ends at one of the
    two: so the edges are drawn wider, and the rows inside are to be asked for their own times.
    """
    low = first_at(conn, millis(since) - ASTRAY) if since is not None else 0
    high = first_at(conn, millis(until) + ASTRAY) if until is not None else BEHIND
    return low, high


def first_at(conn: sa.Connection, at: int) -> int:
    """The first message that was received then or later, where times grow with ids; one behind the newest: none."""
    low, high = 0, line.newest(conn) + 1
    while low < high:
        middle = (low + high) // 2
        row = _FROM.run(conn, {"own_id": middle}).first()
        if row is None or row.received_at >= at:
            high = middle
        else:
            low = row.id + 1
    return low
