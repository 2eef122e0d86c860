"""A database that may be an older copy of itself: what it holds may have been sent since the copy was made (F41).

In quarantine custody is taken and nothing is sent. All that was open in the copy is held, since its POST may have
happened; what a person decided since then is not in it either, and each message that waits for one says so in its
history. Messages that were received after the copy are in nobody's custody any more: their senders bring them again,
as if they were new. So a release asks what becomes of what came in meanwhile.
"""

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from bridge.domain.states import State
from bridge.store import marks
from bridge.store.inbox import move
from bridge.store.port import Transaction
from bridge.store.schema import event, message, millis, moment, task

REASON = "quarantine"
"""Reason of a message that is held, or in doubt, because of it."""
_OPEN = (State.RECEIVED, State.READY, State.UPLOADING, State.RETRY)
_FOR_A_PERSON = (State.HELD, State.REJECTED, State.IN_DOUBT)


@dataclass(frozen=True, slots=True)
class Standing:
    """Why, since when, and the newest message that the copy held."""

    reason: str
    since: datetime | None
    upto: int


def reason(conn: sa.Connection) -> str:
    """Why the store is in quarantine; empty where it is not."""
    found = standing(conn)
    return found.reason if found else ""


def standing(conn: sa.Connection) -> Standing | None:
    """The quarantine that the store is in; None where it is in none."""
    value = marks.value_of(conn, marks.QUARANTINE)
    if not value:
        return None
    document = json.loads(value)
    since = moment(document["since"]) if document["since"] else None
    return Standing(document["reason"], since, document["upto"])


def begin(conn: sa.Connection, why: str) -> None:
    """From now on. What the copy holds is set aside by `hold`."""
    upto = conn.execute(sa.select(sa.func.max(message.c.id))).scalar() or 0
    _put(conn, Standing(why, None, upto))


def _put(conn: sa.Connection, now: Standing) -> None:
    since = millis(now.since) if now.since else None
    marks.put(conn, marks.QUARANTINE, json.dumps({"reason": now.reason, "since": since, "upto": now.upto}))


def hold(tx: Transaction, *, at: datetime) -> int:
    """Set aside whatever the copy had open; how many messages that are. Done once for each quarantine."""
    found = standing(tx.conn)
    if found is None or found.since is not None:
        return 0
    known = message.c.id <= found.upto
    tx.conn.execute(
        event.insert().from_select(
            ["message_id", "at", "actor", "state", "reason", "detail"],
            sa.select(
                message.c.id,
                sa.literal(millis(at)),
                sa.literal("bridge"),
                message.c.state,
                sa.literal(REASON),
                sa.literal(""),
            ).where(message.c.state.in_(_FOR_A_PERSON), known),
        )
    )
    tx.conn.execute(
        task.update().where(task.c.state == State.INTENT, task.c.message_id <= found.upto),
        {"state": State.IN_DOUBT, "reason": REASON, "settled_at": millis(at)},
    )
    rows = tx.conn.execute(
        sa.select(message.c.id, message.c.state).where(message.c.state.in_((*_OPEN, State.INTENT)), known)
    ).all()
    for message_id, state in rows:
        after = State.IN_DOUBT if state == State.INTENT else State.HELD
        move(tx, message_id, State(state), after, at=at, reason=REASON, owner=None)
    _put(tx.conn, Standing(found.reason, at, found.upto))
    return len(rows)


def release(tx: Transaction, *, at: datetime, send_waiting: bool) -> int:
    """A person's word that this database goes on: what comes in from the next start on is sent.

    What came in meanwhile is held too, unless `send_waiting` says that none of it was here before. What is held stays
    so, each for a decision of its own. Returns how many messages came in meanwhile and wait.
    """
    found = standing(tx.conn)
    if found is None:
        return 0
    hold(tx, at=at)
    rows = tx.conn.execute(
        sa.select(message.c.id, message.c.state).where(message.c.state.in_(_OPEN), message.c.id > found.upto)
    ).all()
    if not send_waiting:
        for message_id, state in rows:
            move(tx, message_id, State(state), State.HELD, at=at, reason=REASON, owner=None)
    marks.put(tx.conn, marks.QUARANTINE, "")
    marks.end_line(tx.conn)
    return len(rows)
