"""What came in: kept once, with the answer that its sender was given."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.states import SETTLED, State, allowed
from bridge.store import terms
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import barrier, event, insert_new, message, millis


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as received, before it is understood. `identity` None: it cannot be told from another."""

    kind: str
    type: str
    received_at: datetime
    listener: str
    peer: str
    sender: str
    identity: str | None
    digest: str
    control_id: str = ""
    sop_instance_uid: str = ""
    raw: bytes | None = None
    payload: str | None = None
    size: int = 0
    notes: tuple[str, ...] = ()  # what was tolerated


@dataclass(frozen=True, slots=True)
class AtHand:
    """What was kept, as its keeper has it: whoever hears of it need not read it back. `message` is its reader's."""

    arrival: Arrival
    message: Any
    answer: bytes | None = None
    answer_code: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an arrival stands. `known` is true where the same one was here before."""

    id: int
    known: bool
    state: State
    answer: bytes | None = None
    answer_code: str = ""
    destination: str = ""  # of what was here before


_KNOWN = Prepared(
    sa.select(message.c.id, message.c.state, message.c.answer, message.c.answer_code, message.c.destination).where(
        message.c.identity == sa.bindparam("identity")
    )
)
_SAME_CONTROL_ID = Prepared(
    sa.select(message.c.id)
    .where(
        message.c.sender == sa.bindparam("sender"),
        message.c.control_id == sa.bindparam("control_id"),
        message.c.id != sa.bindparam("own"),
    )
    .limit(1)
)
_RECORD = Prepared(event.insert().returning(event.c.id))
_UNBAR = Prepared(barrier.delete().where(barrier.c.message_id == sa.bindparam("own_message")))
_MOVE = Prepared(
    message.update().where(message.c.id == sa.bindparam("which"), message.c.state == sa.bindparam("before"))
)
"""Statements are built once: building one costs several times what running it does."""


def keep(
    tx: Transaction,
    arrival: Arrival,
    *,
    state: State = State.RECEIVED,
    reason: str = "",
    answer: bytes | None = None,
    answer_code: str = "",
    at_hand: bool = False,
    announce: bool = True,
) -> Kept:
    """Take custody. `at_hand`: whoever hears of it gets the arrival itself.

    An arrival whose identity is here already finds its own row instead (F7, F9, F30). A message that is refused in the
    same breath is kept with its answer, to be looked at. `announce` false: its keeper goes on with it himself.
    """
    row = (
        insert_new(tx.conn.dialect.name, message, "id")
        .run(
            tx.conn,
            {
                "kind": arrival.kind,
                "type": arrival.type,
                "state": state,
                "reason": reason,
                "received_at": millis(arrival.received_at),
                "listener": arrival.listener,
                "peer": arrival.peer,
                "sender": arrival.sender,
                "control_id": arrival.control_id,
                "sop_instance_uid": arrival.sop_instance_uid,
                "identity": arrival.identity,
                "digest": arrival.digest,
                "raw": arrival.raw,
                "payload": arrival.payload,
                "size": arrival.size or len(arrival.raw or b""),
                "answer": answer,
                "answer_code": answer_code,
                "order_number": "",
                "attempts": 0,
            },
        )
        .first()
    )
    if row is None:
        found = _KNOWN.run(tx.conn, {"identity": arrival.identity}).one()
        return Kept(found.id, True, State(found.state), found.answer, found.answer_code, found.destination)
    detail = {"notes": list(arrival.notes)} if arrival.notes else None
    record(tx, row.id, state, at=arrival.received_at, reason=reason, detail=detail)
    words = terms.of_arrival(arrival.sender, arrival.peer, arrival.control_id, arrival.sop_instance_uid)
    terms.note(tx, row.id, words)
    if state is State.RECEIVED and announce:
        tx.notify("received", row.id, AtHand(arrival, None, answer, answer_code) if at_hand else None)
    return Kept(row.id, False, state, answer, answer_code)


def announce_late(tx: Transaction, kept: Kept, arrival: Arrival, read_as: Any) -> None:
    """Work for the reader after all: what `keep` announces, where it was asked not to."""
    tx.notify("received", kept.id, AtHand(arrival, read_as, kept.answer, kept.answer_code))


def same_control_id(conn: sa.Connection, arrival: Arrival, message_id: int) -> bool:
    """Whether the sender used this MSH-10 before, for other content (F31)."""
    asked = {"sender": arrival.sender, "control_id": arrival.control_id, "own": message_id}
    return _SAME_CONTROL_ID.run(conn, asked).first() is not None


def is_known(conn: sa.Connection, identity: str | None) -> bool:
    """Whether this very arrival was here before."""
    return _KNOWN.run(conn, {"identity": identity}).first() is not None


@dataclass(frozen=True, slots=True)
class OtherObject:
    """An object that was accepted under the same UID with other bytes."""

    id: int
    payload: str


_OTHERS = Prepared(
    sa.select(message.c.id, message.c.payload).where(
        message.c.sop_instance_uid == sa.bindparam("uid"),
        message.c.digest != sa.bindparam("own_digest"),
        message.c.identity.startswith("sop:"),
    )
)


def others_of_uid(conn: sa.Connection, sop_instance_uid: str, digest: str) -> tuple[OtherObject, ...]:
    """What was accepted under this UID with other bytes (F29). A refused object does not count."""
    rows = _OTHERS.run(conn, {"uid": sop_instance_uid, "own_digest": digest}).all()
    return tuple(OtherObject(row.id, row.payload or "") for row in rows)


_REFERS = Prepared(sa.select(message.c.id).where(message.c.payload == sa.bindparam("name")).limit(1))


def refers_to(conn: sa.Connection, payload: str) -> bool:
    """Whether a message rests on this payload file."""
    return _REFERS.run(conn, {"name": payload}).first() is not None


def record(
    tx: Transaction,
    message_id: int,
    state: State,
    *,
    at: datetime,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
    actor: str = "bridge",
) -> None:
    """A row of the message's history."""
    tx.reached = _RECORD.run(
        tx.conn,
        {
            "message_id": message_id,
            "at": millis(at),
            "actor": actor,
            "state": state,
            "reason": reason,
            "detail": json.dumps(detail, ensure_ascii=False) if detail else "",
        },
    ).scalar()


def move(
    tx: Transaction,
    message_id: int,
    before: State,
    after: State,
    *,
    at: datetime,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
    actor: str = "bridge",
    **columns: Any,
) -> bool:
    """The one function that changes a message's state, with its event row in the same transaction.

    False where the message is not in `before` any more: somebody else moved it. Raises ValueError for a move that
    the table does not have. `columns` are further columns to set.
    """
    if not allowed(before, after):
        raise ValueError(f"no move from {before} to {after}")
    if after in SETTLED:
        columns = {"owner": None, "next_at": None, **columns}
    moved = _MOVE.run(tx.conn, {"which": message_id, "before": before, "state": after, "reason": reason, **columns})
    if moved.rowcount != 1:
        return False
    record(tx, message_id, after, at=at, reason=reason, detail=detail, actor=actor)
    if after is State.READY:
        tx.notify("ready", message_id, columns.get("destination"))
    if before is State.HELD and _UNBAR.run(tx.conn, {"own_message": message_id}).rowcount:
        tx.notify("ready")  # a person has decided: the patients whose work waited go on
    if after in SETTLED:
        tx.notify("settled", message_id, columns.get("answer"))
    return True


def answer_once(tx: Transaction, message_id: int, answer: bytes, code: str) -> bytes:
    """Store the answer unless there is one; the one that stands is returned (A5)."""
    taken = _ANSWER_ONCE.run(tx.conn, {"which": message_id, "answer": answer, "answer_code": code})
    if taken.rowcount == 1:
        return answer
    return bytes(_ANSWER.run(tx.conn, {"which": message_id}).scalar())


_ANSWER_ONCE = Prepared(message.update().where(message.c.id == sa.bindparam("which"), message.c.answer.is_(None)))
_ANSWER = Prepared(sa.select(message.c.answer).where(message.c.id == sa.bindparam("which")))
_ANSWER_CODE = Prepared(sa.select(message.c.answer_code).where(message.c.id == sa.bindparam("which")))


def answer_code_of(conn: sa.Connection, message_id: int) -> str:
    """MSA-1 of the answer that is stored; empty where none is."""
    return str(_ANSWER_CODE.run(conn, {"which": message_id}).scalar())


_DECISION = Prepared(sa.select(message.c.decision).where(message.c.id == sa.bindparam("which")))


def decision_of(conn: sa.Connection, message_id: int) -> str:
    """What a person decided of the message, as JSON; empty where nobody has."""
    return str(_DECISION.run(conn, {"which": message_id}).scalar() or "")


@dataclass(frozen=True, slots=True)
class Source:
    """A message as it was received, and by which way."""

    kind: str
    listener: str
    sender: str
    raw: bytes | None


def source_of(conn: sa.Connection, message_id: int) -> Source:
    """The message as it was received."""
    row = conn.execute(
        sa.select(message.c.kind, message.c.listener, message.c.sender, message.c.raw).where(message.c.id == message_id)
    ).one()
    return Source(row.kind, row.listener, row.sender, row.raw)
