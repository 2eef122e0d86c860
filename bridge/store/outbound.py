"""HL7 messages of our own: kept until their receiver has said that he has them (F44)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import millis, outbound

WAITING, SENT, HELD = "WAITING", "SENT", "HELD"
APPLICATION_ANSWER = "application_answer"

_earlier = outbound.alias("earlier")
_waiting = sa.literal_column("'WAITING'", sa.Text)
_ADD = Prepared(outbound.insert())
_NEXT = Prepared(
    sa.select(outbound)
    .where(
        outbound.c.state == _waiting,
        outbound.c.address == sa.bindparam("own_address"),
        sa.or_(outbound.c.next_at <= sa.bindparam("now"), outbound.c.next_at > sa.bindparam("far")),
        ~sa.select(_earlier.c.id)
        .where(
            _earlier.c.state == _waiting,
            _earlier.c.address == outbound.c.address,
            _earlier.c.order_key == outbound.c.order_key,
            _earlier.c.id < outbound.c.id,
        )
        .exists(),
    )
    .order_by(outbound.c.id)
    .limit(1)
)
_FIRSTS = (
    sa.select(sa.func.min(_earlier.c.id))
    .where(_earlier.c.state == _waiting)
    .group_by(_earlier.c.address, _earlier.c.order_key)
)
_ADDRESSES = (
    sa.select(outbound.c.address, sa.func.min(outbound.c.next_at))
    .where(outbound.c.state == _waiting, sa.or_(outbound.c.order_key.is_(None), outbound.c.id.in_(_FIRSTS)))
    .group_by(outbound.c.address)
)
"""Of what `_NEXT` may find at any time: what stands behind another of its patient is due when that one is gone. Not by
the words of `_NEXT`, which are for one row: for 5,000 that wait they take SQLite 3.4 s, and these 14 ms."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message of ours that is to go out."""

    id: int
    message_id: int
    listener: str
    address: str
    control_id: str
    body: bytes
    attempts: int
    refusals: int


def add(
    tx: Transaction,
    *,
    message_id: int,
    kind: str,
    listener: str,
    address: str,
    order_key: str | None,
    control_id: str,
    body: bytes,
    at: datetime,
) -> None:
    """Keep a message of ours, in the transaction of what it tells."""
    _ADD.run(
        tx.conn,
        {
            "message_id": message_id,
            "kind": kind,
            "listener": listener,
            "address": address,
            "order_key": order_key,
            "control_id": control_id,
            "body": body,
            "state": WAITING,
            "next_at": millis(at),
            "created_at": millis(at),
        },
    )
    tx.notify("outbound", message_id)


def addresses(conn: sa.Connection) -> dict[str, int]:
    """Each receiver that something waits for, and when the earliest of it is due (stored milliseconds).

    Only the first of each patient counts, as for `next_due`; those without a patient do not wait for each other.
    """
    return {row[0]: row[1] for row in conn.execute(_ADDRESSES)}


def next_due(conn: sa.Connection, address: str, *, at: datetime) -> Due | None:
    """The oldest message that can go to this receiver now: in order for each patient."""
    row = _NEXT.run(conn, {"own_address": address, "now": millis(at), "far": millis(at) + 960_000}).first()
    if row is None:
        return None
    return Due(
        row.id, row.message_id, row.listener, row.address, row.control_id, bytes(row.body), row.attempts, row.refusals
    )


def settle(tx: Transaction, outbound_id: int, state: str, *, at: datetime, reason: str, answer: bytes | None) -> None:
    """The receiver has it (SENT), or a person must look (HELD)."""
    tx.conn.execute(
        outbound.update().where(outbound.c.id == outbound_id),
        {"state": state, "settled_at": millis(at), "reason": reason, "answer": answer},
    )


def put_back(tx: Transaction, due: Due, *, reason: str, refused: bool, seconds: float, at: datetime) -> None:
    """Not said to be there: the same bytes again, later. Connection faults keep the whole receiver waiting."""
    again = millis(at) + round(seconds * 1000)
    tx.conn.execute(
        outbound.update().where(outbound.c.id == due.id),
        {"next_at": again, "reason": reason, "attempts": due.attempts + 1, "refusals": due.refusals + int(refused)},
    )
    if not refused:
        tx.conn.execute(
            outbound.update().where(
                outbound.c.state == _waiting, outbound.c.address == due.address, outbound.c.next_at < again
            ),
            {"next_at": again},
        )


def of_message(conn: sa.Connection, message_id: int) -> list[Any]:
    """What was to be told about a message, oldest first."""
    return list(
        conn.execute(sa.select(outbound).where(outbound.c.message_id == message_id).order_by(outbound.c.id)).all()
    )


def was_answered_apart(conn: sa.Connection, message_id: int) -> bool:
    """Whether an application answer to this message was put on its way."""
    query = sa.select(outbound.c.id).where(outbound.c.message_id == message_id, outbound.c.kind == APPLICATION_ANSWER)
    return conn.execute(query.limit(1)).first() is not None
