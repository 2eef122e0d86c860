"""Reading for people: the list, one message with its history, and the counts."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from bridge.store import anomalies, outbound
from bridge.store.schema import anomaly, event, message, moment, task


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


def rows(
    conn: sa.Connection,
    *,
    states: Sequence[str] = (),
    order: str = "",
    control_id: str = "",
    task_id: str = "",
    with_anomaly: bool = False,
    limit: int = 50,
) -> list[Row]:
    """Messages, newest first. `with_anomaly`: those whose task was made before a change that nobody has settled."""
    query = sa.select(message).order_by(message.c.id.desc()).limit(limit)
    if states:
        query = query.where(message.c.state.in_(states))
    if order:
        query = query.where(message.c.order_number == order)
    if control_id:
        query = query.where(message.c.control_id == control_id)
    if task_id:
        named = sa.literal(",") + task.c.task_ids + sa.literal(",")
        query = query.where(
            message.c.id.in_(sa.select(task.c.message_id).where(named.contains(f",{task_id},", autoescape=True)))
        )
    if with_anomaly:
        open_ones = sa.select(anomaly.c.task_message_id).where(anomaly.c.settled_at.is_(None))
        query = query.where(message.c.id.in_(open_ones))
    found = conn.execute(query).all()
    ids = _task_ids(conn, [r.id for r in found])
    return [_row(r, ids.get(r.id, [])) for r in found]


def _task_ids(conn: sa.Connection, message_ids: list[int]) -> dict[int, list[str]]:
    made: dict[int, list[str]] = {}
    query = sa.select(task.c.message_id, task.c.task_ids).where(task.c.message_id.in_(message_ids))
    for row in conn.execute(query.order_by(task.c.position, task.c.generation)):
        made.setdefault(row.message_id, []).extend(i for i in row.task_ids.split(",") if i)
    return made


def _row(row: Any, task_ids: list[str]) -> Row:
    return Row(
        id=str(row.id),
        state=row.state,
        reason=row.reason,
        kind=row.kind,
        type=row.type,
        received_at=moment(row.received_at).isoformat(),
        peer=row.peer,
        control_id=row.control_id,
        sop_instance_uid=row.sop_instance_uid,
        order=row.order_number,
        task_ids=task_ids,
        attempts=row.attempts,
    )


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
        "sender": row.sender,
        "size": row.size,
        "payload": row.payload,
        "raw": row.raw.decode("latin-1") if row.raw is not None else None,
        "answer_code": row.answer_code,
        "answer": row.answer.decode("latin-1") if row.answer else None,
        "understood": json.loads(row.understood) if row.understood else None,
        "tasks": [
            {
                "key": t.key,
                "generation": t.generation,
                "purpose": t.purpose,
                "state": t.state,
                "reason": t.reason,
                "body": json.loads(t.body),
                "traces": json.loads(t.traces),
                "task_ids": [i for i in t.task_ids.split(",") if i],
                "intent_at": moment(t.intent_at).isoformat(),
                "api_status": t.api_status,
                "api_text": t.api_text,
            }
            for t in tasks
        ],
        "told_later": [
            {
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
    query = sa.select(message.c.state, sa.func.count()).group_by(message.c.state)
    return {row.state: row[1] for row in conn.execute(query)}
