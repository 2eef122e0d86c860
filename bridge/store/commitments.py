"""Requests for storage commitment: kept until their peer has been told which of its objects are ours (PS3.4 J.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import commitment, commitment_instance, insert_new, message, millis, moment

WAITING, SENT, HELD = "WAITING", "SENT", "HELD"

FAR = 960.0
"""Seconds: no wait is longer. A due time beyond it was set before the clock went back (F25)."""

Pair = tuple[str, str]
"""SOP class UID and SOP instance UID."""

_waiting = sa.literal_column("'WAITING'", sa.Text)
_ADD_INSTANCE = Prepared(commitment_instance.insert())
_TELL = Prepared(commitment_instance.update().where(commitment_instance.c.id == sa.bindparam("which")))
_INSTANCES = Prepared(
    sa.select(commitment_instance.c.id, commitment_instance.c.sop_class_uid, commitment_instance.c.sop_instance_uid)
    .where(commitment_instance.c.commitment_id == sa.bindparam("of"))
    .order_by(commitment_instance.c.id)
)
_KEPT = Prepared(
    sa.select(message.c.id, message.c.type, message.c.payload, message.c.digest).where(
        message.c.sop_instance_uid == sa.bindparam("uid"),
        message.c.identity.startswith("sop:"),
        message.c.payload.is_not(None),
    )
)
_NEXT = (
    sa.select(commitment)
    .where(
        commitment.c.state == _waiting,
        commitment.c.requester == sa.bindparam("who"),
        sa.or_(commitment.c.next_at <= sa.bindparam("now"), commitment.c.next_at > sa.bindparam("far")),
    )
    .order_by(commitment.c.id)
    .limit(1)
)
_EARLIEST = (
    sa.select(commitment.c.requester, sa.func.min(commitment.c.next_at), sa.func.max(commitment.c.next_at))
    .where(commitment.c.state == _waiting)
    .group_by(commitment.c.requester)
)


class Asked(Enum):
    """What a request was to the store."""

    NEW = "new"
    AGAIN = "again"  # the same request: it is told once more
    OTHER = "other"  # the same Transaction UID for other instances; nothing was kept


@dataclass(frozen=True, slots=True)
class Due:
    """A report that is to go out."""

    id: int
    transaction_uid: str
    requester: str
    called: str
    requested_at: datetime
    attempts: int
    refusals: int
    instances: tuple[Pair, ...]
    instance_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object that was accepted and kept: its SOP class as messages name it, its payload and what that hashes to."""

    message_id: int
    type: str
    payload: str
    digest: str


def ask(
    tx: Transaction,
    *,
    transaction_uid: str,
    requester: str,
    called: str,
    peer: str,
    instances: Sequence[Pair],
    at: datetime,
    due_at: datetime,
) -> Asked:
    """Keep a request. The same one again, by the same peer, is told anew, whatever became of it before."""
    asked = {
        "called": called,
        "peer": peer,
        "state": WAITING,
        "reason": "",
        "attempts": 0,
        "refusals": 0,
        "next_at": millis(due_at),
        "requested_at": millis(at),
    }
    own = {"transaction_uid": transaction_uid, "requester": requester, **asked}
    row = insert_new(tx.conn.dialect.name, commitment, "id").run(tx.conn, own).first()
    if row is not None:
        rows = [{"commitment_id": row.id, "sop_class_uid": c, "sop_instance_uid": i} for c, i in instances]
        _ADD_INSTANCE.run_many(tx.conn, rows)
        tx.notify("commitment")
        return Asked.NEW
    known = tx.conn.execute(
        sa.select(commitment.c.id).where(
            commitment.c.requester == requester, commitment.c.transaction_uid == transaction_uid
        )
    ).scalar_one()
    if set(_instances(tx.conn, known).values()) != set(instances):
        return Asked.OTHER
    tx.conn.execute(commitment.update().where(commitment.c.id == known), {**asked, "settled_at": None})
    tx.notify("commitment")
    return Asked.AGAIN


def earliest(conn: sa.Connection) -> dict[str, tuple[int, int]]:
    """Each peer that something waits for, and when the first and the last of it is due (stored milliseconds)."""
    return {row[0]: (row[1], row[2]) for row in conn.execute(_EARLIEST)}


def next_due(conn: sa.Connection, requester: str, *, at: datetime) -> Due | None:
    """The oldest report that can go to this peer now."""
    far = millis(at) + round(FAR * 1000)
    row = conn.execute(_NEXT, {"who": requester, "now": millis(at), "far": far}).first()
    if row is None:
        return None
    instances = _instances(conn, row.id)
    return Due(
        row.id,
        row.transaction_uid,
        row.requester,
        row.called,
        moment(row.requested_at),
        row.attempts,
        row.refusals,
        tuple(instances.values()),
        tuple(instances),
    )


def kept_objects(conn: sa.Connection, sop_instance_uids: Sequence[str]) -> dict[str, tuple[KeptObject, ...]]:
    """What is in our custody under each UID. A refused object is not, nor one that was noted and not kept."""
    return {
        uid: tuple(KeptObject(row.id, row.type, row.payload, row.digest) for row in _KEPT.run(conn, {"uid": uid}).all())
        for uid in dict.fromkeys(sop_instance_uids)
    }


def settle(tx: Transaction, due: Due, state: str, *, at: datetime, reason: str, told: Sequence[int] = ()) -> bool:
    """The peer has it (SENT, with what it was `told` of each instance), or nothing more is done by itself (HELD).

    False where it was asked for anew meanwhile: then it is told once more.
    """
    moved = tx.conn.execute(
        commitment.update().where(
            commitment.c.id == due.id,
            commitment.c.state == _waiting,
            commitment.c.requested_at == millis(due.requested_at),
        ),
        {"state": state, "settled_at": millis(at), "reason": reason, "attempts": due.attempts + 1},
    )
    rows = [{"which": which, "failure": failure} for which, failure in zip(due.instance_ids, told, strict=False)]
    _TELL.run_many(tx.conn, rows)
    return moved.rowcount == 1


def put_back(tx: Transaction, due: Due, *, reason: str, refused: bool, seconds: float, at: datetime) -> None:
    """Not said to be there: told again later. What says nothing of this one report keeps the whole peer waiting."""
    again = millis(at) + round(seconds * 1000)
    tx.conn.execute(
        commitment.update().where(commitment.c.id == due.id, commitment.c.requested_at == millis(due.requested_at)),
        {"next_at": again, "reason": reason, "attempts": due.attempts + 1, "refusals": due.refusals + int(refused)},
    )
    if not refused:
        tx.conn.execute(
            commitment.update().where(
                commitment.c.state == _waiting, commitment.c.requester == due.requester, commitment.c.next_at < again
            ),
            {"next_at": again},
        )


def counts(conn: sa.Connection) -> dict[str, int]:
    """How many requests are in each state; a state without one is left out."""
    return {
        row[0]: row[1]
        for row in conn.execute(sa.select(commitment.c.state, sa.func.count()).group_by(commitment.c.state))
    }


def _instances(conn: sa.Connection, commitment_id: int) -> dict[int, Pair]:
    """The instances of a request by their rows' ids, in the order of the request."""
    rows = _INSTANCES.run(conn, {"of": commitment_id}).all()
    return {row.id: (row.sop_class_uid, row.sop_instance_uid) for row in rows}
