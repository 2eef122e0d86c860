"""Task rows: the intention to POST, committed before its first byte, and what came of it."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.states import State
from bridge.domain.task import FieldTrace
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import message, millis, task

_AGAIN = Prepared(
    task.update()
    .where(
        task.c.key == sa.bindparam("own_key"),
        task.c.generation == sa.bindparam("own_generation"),
        task.c.message_id == sa.bindparam("own_message"),
        task.c.state == State.RETRY,
        task.c.sent.is_(False),
    )
    .returning(task.c.id)
)
_INTEND = Prepared(task.insert().returning(task.c.id))
_SETTLE = Prepared(task.update().where(task.c.id == sa.bindparam("own_id")))
_OF_MESSAGE = Prepared(
    sa.select(task).where(task.c.message_id == sa.bindparam("own_message")).order_by(task.c.position, task.c.generation)
)


def intend(
    tx: Transaction,
    *,
    again: bool = True,
    message_id: int,
    position: int,
    order_id: int | None,
    purpose: str,
    key: str,
    generation: int,
    body: bytes,
    traces: Sequence[FieldTrace],
    at: datetime,
) -> int:
    """Write the intention down. The unique (key, generation) is what makes a second task impossible.

    An intention of the same message that provably was not sent (state RETRY, not `sent`) is taken up again with a
    body made anew; any other existing row raises StoreConflict. `again` false: there can be none.
    """
    values = {
        "state": State.INTENT,
        "reason": "",
        "body": body,
        "traces": json.dumps([t.as_json() for t in traces], ensure_ascii=False),
        "intent_at": millis(at),
        "settled_at": None,
    }
    if again:
        own = {"own_key": key, "own_generation": generation, "own_message": message_id}
        taken_up = _AGAIN.run(tx.conn, {**own, **values}).first()
        if taken_up is not None:
            return int(taken_up.id)
    made = _INTEND.run(
        tx.conn,
        {
            **values,
            "message_id": message_id,
            "position": position,
            "order_id": order_id,
            "purpose": purpose,
            "key": key,
            "generation": generation,
            "task_ids": "",
            "api_text": "",
            "sent": False,
        },
    ).one()
    return int(made.id)


def intend_again(tx: Transaction, task_row: int, *, at: datetime) -> bytes:
    """Take up an intention whose bytes may have been sent: the same bytes go out again (failures.md §3.2)."""
    row = tx.conn.execute(
        task.update()
        .where(task.c.id == task_row)
        .values(state=State.INTENT, reason="", intent_at=millis(at), settled_at=None)
        .returning(task.c.body)
    ).one()
    return bytes(row.body)


def settle(
    tx: Transaction,
    task_row: int,
    state: State,
    *,
    at: datetime,
    sent: bool = True,
    reason: str = "",
    task_ids: Sequence[int] = (),
    api_status: int | None = None,
    api_text: str = "",
) -> None:
    """What the POST came to."""
    _SETTLE.run(
        tx.conn,
        {
            "own_id": task_row,
            "state": state,
            "sent": sent,
            "reason": reason,
            "task_ids": ",".join(map(str, task_ids)),
            "settled_at": millis(at),
            "api_status": api_status,
            "api_text": api_text,
        },
    )


def belong(tx: Transaction, task_row: int, order_id: int) -> None:
    """The order of a recording came after its task: a change or a cancel concerns the task from now on."""
    tx.conn.execute(task.update().where(task.c.id == task_row, task.c.order_id.is_(None)), {"order_id": order_id})


def of_message(conn: sa.Connection, message_id: int) -> list[Any]:
    """The task rows of a message, by position, the newest generation last."""
    return list(_OF_MESSAGE.run(conn, {"own_message": message_id}).all())


def recording_tasks(conn: sa.Connection, message_id: int) -> list[Any]:
    """The newest task row of each group of a recording, in order, each with what was `understood` of its message."""
    rows = conn.execute(
        sa.select(task, message.c.understood)
        .join(message, message.c.id == task.c.message_id)
        .where(task.c.message_id == message_id, task.c.purpose == "recording")
        .order_by(task.c.position, task.c.generation)
    ).all()
    return list({row.position: row for row in rows}.values())


def last_generation(conn: sa.Connection, key: str) -> Any | None:
    """The newest row of a key."""
    return conn.execute(sa.select(task).where(task.c.key == key).order_by(task.c.generation.desc()).limit(1)).first()


def ids(row: Any) -> tuple[int, ...]:
    """The task ids of a row."""
    return tuple(int(i) for i in row.task_ids.split(",") if i)
