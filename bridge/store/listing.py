"""Reading for people: the list, one message with its history, and the counts."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Identifier
from bridge.domain.states import SETTLED, State
from bridge.store import anomalies, earlier, outbound, patients
from bridge.store.schema import OPEN, among, anomaly, event, message, millis, moment, number, task, term
from bridge.store.terms import Kind, plain

_FEW = 10_000
"""Messages of rare states that are looked at one by one, instead of all messages."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the list; ids are strings, since JSON readers lose 64-bit numbers."""

    id: str
    state: str
    reason: str
    kind: str
    type: str
    received_at: str
    peer: str
    control_id: str
    sop_instance_uid: str
    order: str
    task_ids: list[str]
    attempts: int


@dataclass(frozen=True, slots=True)
class Listed(Row):
    """A message in the console's list."""

    listener: str
    sender: str
    destination: str


_OF_ROW = [message.c[f.name] for f in fields(Row) if f.name not in {"order", "task_ids"}] + [message.c.order_number]


def of_ids(conn: sa.Connection, message_ids: Sequence[int]) -> list[Listed]:
    """These messages, newest first."""
    if not message_ids:
        return []
    own = (message.c.listener, message.c.sender, message.c.destination)
    query = sa.select(*_OF_ROW, *own).where(message.c.id.in_(message_ids)).order_by(message.c.id.desc())
    ids = _task_ids(conn, list(message_ids))
    return [
        Listed(**_values(r, ids.get(r.id, [])), listener=r.listener, sender=r.sender, destination=r.destination)
        for r in conn.execute(query)
    ]


def rows(
    conn: sa.Connection,
    *,
    states: Sequence[str] = (),
    reason: str = "",
    patient: str = "",
    order: str = "",
    control_id: str = "",
    sop_instance_uid: str = "",
    task_id: str = "",
    received_before: datetime | None = None,
    with_anomaly: bool = False,
    before: int | None = None,
    limit: int = 50,
) -> list[Row]:
    """Messages, newest first; each condition narrows the list, and `before` goes on behind the last id of a page.

    `patient` is an identifier as a message says it, or what it was merged into. `with_anomaly`: those whose task was
    made before a change that nobody has settled.
    """
    query = sa.select(*_OF_ROW).order_by(message.c.id.desc()).limit(limit)
    if states:
        few = in_states(conn, states, most=_FEW + 1)
        query = query.where(message.c.state.in_(states) if len(few) > _FEW else message.c.id.in_(few))
    if patient:
        query = query.where(message.c.order_key.in_(_identifiers(conn, patient)))
    query = query.where(*_by_number(conn, order, task_id, control_id))
    if with_anomaly:
        open_ones = sa.select(anomaly.c.task_message_id).where(anomaly.c.settled_at.is_(None))
        query = query.where(message.c.id.in_(open_ones))
    if received_before is not None:
        query = query.where(message.c.received_at <= millis(received_before))
    if before is not None:
        query = query.where(message.c.id < before)
    equal = {"reason": reason, "control_id": control_id, "sop_instance_uid": sop_instance_uid}
    for name, value in equal.items():
        if value:
            query = query.where(message.c[name] == value)
    found = conn.execute(query).all()
    ids = _task_ids(conn, [r.id for r in found])
    return [_row(r, ids.get(r.id, [])) for r in found]


def in_states(conn: sa.Connection, states: Collection[str], *, low: int = 0, high: int = 2**62, most: int) -> list[int]:
    """The newest messages in these states, newest first, by the index that each of them has; `high` is behind them."""
    found: set[int] = set()
    for state in set(states):
        group = SETTLED if state in SETTLED else OPEN
        query = sa.select(message.c.id).where(message.c.state == state, among(group))
        query = query.where(message.c.id >= low, message.c.id < high).order_by(message.c.id.desc()).limit(most)
        found.update(conn.execute(query).scalars())
    return sorted(found, reverse=True)[:most]


def _by_number(conn: sa.Connection, order: str, task_id: str, control_id: str) -> list[sa.ColumnElement[bool]]:
    """By exact numbers; through the words that find them, where every message has its words."""
    whole = not earlier.upto(conn)
    made: list[sa.ColumnElement[bool]] = []
    if order:
        numbered = sa.select(number.c.message_id).where(number.c.value == order)
        made.append(sa.or_(message.c.order_number == order, message.c.id.in_(numbered)))
        if whole:
            made.append(message.c.id.in_(numbered.union(_with_word(Kind.ORDER, order))))
    if task_id and whole:
        made.append(message.c.id.in_(_with_word(Kind.TASK, task_id)))
    elif task_id:
        named = sa.literal(",") + task.c.task_ids + sa.literal(",")
        listed = sa.select(task.c.message_id).where(named.contains(f",{task_id},", autoescape=True))
        made.append(message.c.id.in_(listed))
    if plain(control_id) and whole:
        made.append(message.c.id.in_(_with_word(Kind.CONTROL, control_id)))
    return made


def _with_word(kind: str, value: str) -> sa.Select[int]:
    return sa.select(term.c.message_id).where(term.c.value == plain(value), term.c.kind == kind)


def _identifiers(conn: sa.Connection, value: str) -> list[str]:
    """The identifier itself and what stands for it since a merge, whoever issued it."""
    return sorted({value, patients.canonical(conn, Identifier(value), site_authority="").value})


def _task_ids(conn: sa.Connection, message_ids: list[int]) -> dict[int, list[str]]:
    made: dict[int, list[str]] = {}
    query = sa.select(task.c.message_id, task.c.task_ids).where(task.c.message_id.in_(message_ids))
    for row in conn.execute(query.order_by(task.c.position, task.c.id)):
        made.setdefault(row.message_id, []).extend(i for i in row.task_ids.split(",") if i)
    return made


def _row(row: Any, task_ids: list[str]) -> Row:
    return Row(**_values(row, task_ids))


def _values(row: Any, task_ids: list[str]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "state": row.state,
        "reason": row.reason,
        "kind": row.kind,
        "type": row.type,
        "received_at": moment(row.received_at).isoformat(),
        "peer": row.peer,
        "control_id": row.control_id,
        "sop_instance_uid": row.sop_instance_uid,
        "order": row.order_number,
        "task_ids": task_ids,
        "attempts": row.attempts,
    }


def whole(conn: sa.Connection, message_id: int) -> dict[str, Any] | None:
    """Everything that is known of a message, as JSON values; None where there is none.

    Holds patient values: for people who may see them.
    """
    row = conn.execute(sa.select(message).where(message.c.id == message_id)).first()
    if row is None:
        return None
    tasks = conn.execute(sa.select(task).where(task.c.message_id == message_id).order_by(task.c.id)).all()
    history = conn.execute(sa.select(event).where(event.c.message_id == message_id).order_by(event.c.id)).all()
    return {
        **asdict(_row(row, [i for t in tasks for i in t.task_ids.split(",") if i])),
        "destination": row.destination,
        "decision": json.loads(row.decision) if row.decision else None,
        "sender": row.sender,
        "size": row.size,
        "payload": row.payload,
        "raw": row.raw.decode("latin-1") if row.raw is not None else None,
        "answer_code": row.answer_code,
        "answer": row.answer.decode("latin-1") if row.answer else None,
        "understood": json.loads(row.understood) if row.understood else None,
        "tasks": [
            {
                "position": t.position,
                "key": t.key,
                "generation": t.generation,
                "purpose": t.purpose,
                "state": t.state,
                "reason": t.reason,
                "body": json.loads(t.body),
                "traces": json.loads(t.traces),
                "task_ids": [i for i in t.task_ids.split(",") if i],
                "intent_at": moment(t.intent_at).isoformat(),
                "settled_at": moment(t.settled_at).isoformat() if t.settled_at is not None else None,
                "api_status": t.api_status,
                "api_text": t.api_text,
            }
            for t in tasks
        ],
        "told_later": [
            {
                "id": str(o.id),
                "kind": o.kind,
                "address": o.address,
                "control_id": o.control_id,
                "state": o.state,
                "reason": o.reason,
                "attempts": o.attempts,
                "body": o.body.decode("latin-1"),
                "answer": o.answer.decode("latin-1") if o.answer else None,
            }
            for o in outbound.of_message(conn, message_id)
        ],
        "anomalies": [
            {
                "id": str(a.id),
                "reason": a.reason,
                "message": str(a.message_id),
                "task_message": str(a.task_message_id),
                "task_ids": [i for i in a.task_ids.split(",") if i],
                "at": moment(a.at).isoformat(),
                "settled": a.settled_at is not None,
            }
            for a in anomalies.of_message(conn, message_id)
        ],
        "history": [
            {
                "at": moment(e.at).isoformat(),
                "actor": e.actor,
                "state": e.state,
                "reason": e.reason,
                "detail": json.loads(e.detail) if e.detail else None,
            }
            for e in history
        ],
    }


def counts(conn: sa.Connection) -> dict[str, int]:
    """How many messages stand where."""
    found: dict[str, int] = {}
    for group in (SETTLED, OPEN):  # each has its index: a scan of all messages takes a second for each million
        query = sa.select(message.c.state, sa.func.count()).where(among(group))
        found |= {row.state: row[1] for row in conn.execute(query.group_by(message.c.state))}
    return found


def in_doubt(conn: sa.Connection) -> tuple[int, int | None]:
    """How many task POSTs are in doubt, and when the oldest of them began, in stored milliseconds.

    Counted by task, not by message: of one with several orders one may be in doubt and the others made.
    """
    query = sa.select(sa.func.count(), sa.func.min(task.c.intent_at)).where(task.c.state == State.IN_DOUBT)
    many, oldest = conn.execute(query).one()
    return int(many), oldest


def row_of(conn: sa.Connection, message_id: int) -> Any | None:
    """The row of a message as it is; None where there is none."""
    return conn.execute(sa.select(message).where(message.c.id == message_id)).first()


def last_event_at(conn: sa.Connection, message_id: int) -> int:
    """When something happened to a message last, in stored milliseconds."""
    newest = sa.select(sa.func.max(event.c.at)).where(event.c.message_id == message_id)
    return int(conn.execute(newest).scalar() or 0)


def has_several_groups(conn: sa.Connection, message_id: int) -> bool:
    """Whether a recording was sent group by group: its history numbers them then."""
    details = conn.execute(sa.select(event.c.detail).where(event.c.message_id == message_id, event.c.detail != ""))
    return any("group" in json.loads(detail) for detail in details.scalars())
