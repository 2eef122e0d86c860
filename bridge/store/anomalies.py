"""What cannot be put right by the bridge: changes that came after a task was made. A person settles them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Identifier
from bridge.domain.states import State
from bridge.store import line
from bridge.store.port import Transaction
from bridge.store.schema import anomaly, insert_new, message, millis, task

_MADE = (State.CREATED, State.IN_DOUBT, State.INTENT)


def note(
    tx: Transaction, *, message_id: int, task_message_id: int, reason: str, task_ids: Sequence[int], at: datetime
) -> None:
    """List a task that was made before what this message says; the same one once.

    Several tasks of one message (the groups of a recording) are one thing to settle, with all their ids.
    """
    open_already = sa.select(anomaly.c.id, anomaly.c.message_id, anomaly.c.task_ids).where(
        anomaly.c.task_message_id == task_message_id, anomaly.c.reason == reason, anomaly.c.settled_at.is_(None)
    )
    listed = tx.conn.execute(open_already).first()
    if listed is not None:
        known = [i for i in listed.task_ids.split(",") if i]
        fresh = [str(i) for i in task_ids if str(i) not in known]
        if fresh and listed.message_id == message_id:
            tx.conn.execute(anomaly.update().where(anomaly.c.id == listed.id), {"task_ids": ",".join([*known, *fresh])})
        return
    insert_new(tx.conn.dialect.name, anomaly, "id").run(
        tx.conn,
        {
            "message_id": message_id,
            "task_message_id": task_message_id,
            "reason": reason,
            "task_ids": ",".join(map(str, task_ids)),
            "at": millis(at),
        },
    )


def is_listed(conn: sa.Connection, task_message_ids: Iterable[int], reason: str) -> bool:
    """Whether one of these messages' tasks waits for a person for this reason."""
    waiting = sa.select(anomaly.c.id).where(
        anomaly.c.task_message_id.in_(sorted(set(task_message_ids))),
        anomaly.c.reason == reason,
        anomaly.c.settled_at.is_(None),
    )
    return conn.execute(waiting.limit(1)).first() is not None


def tasks_made_for(conn: sa.Connection, patient: Identifier, *, site_authority: str) -> list[Any]:
    """The task rows that were sent under this patient identifier, oldest first."""
    query = (
        sa.select(task, message.c.understood)
        .join(message, message.c.id == task.c.message_id)
        .where(message.c.order_key == patient.value, task.c.state.in_(_MADE))
        .order_by(task.c.id)
    )
    rows = conn.execute(query).all()
    own = [(r, Identifier(patient.value, line.authority_of(r.understood))) for r in rows]
    return [row for row, sent_for in own if sent_for.agrees(patient, site_authority=site_authority)]


def of_message(conn: sa.Connection, message_id: int) -> list[Any]:
    """What a message brought about, and what concerns its own tasks."""
    query = sa.select(anomaly).where(
        sa.or_(anomaly.c.message_id == message_id, anomaly.c.task_message_id == message_id)
    )
    return list(conn.execute(query.order_by(anomaly.c.id)).all())


def open_ones(conn: sa.Connection, limit: int = 100) -> list[Any]:
    """What nobody has settled yet, newest first."""
    query = sa.select(anomaly).where(anomaly.c.settled_at.is_(None)).order_by(anomaly.c.id.desc()).limit(limit)
    return list(conn.execute(query).all())


def one(conn: sa.Connection, anomaly_id: int) -> Any | None:
    """The one with this id."""
    return conn.execute(sa.select(anomaly).where(anomaly.c.id == anomaly_id)).first()


def settle(tx: Transaction, anomaly_id: int, *, at: datetime) -> bool:
    """A person has put it right, or has seen it. False where somebody did so before."""
    waiting = anomaly.update().where(anomaly.c.id == anomaly_id, anomaly.c.settled_at.is_(None))
    return tx.conn.execute(waiting, {"settled_at": millis(at)}).rowcount == 1
