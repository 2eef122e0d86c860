"""Task rows: the intention to POST, committed before its first byte, and what came of it."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.states import State
from bridge.domain.task import FieldTrace
from bridge.store import terms
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import message, millis, task
from bridge.store.watched import first_look

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
_SETTLE = Prepared(task.update().where(task.c.id == sa.bindparam("own_id")).returning(task.c.message_id))
_OF_MESSAGE = Prepared(
    sa.select(task).where(task.c.message_id == sa.bindparam("own_message")).order_by(task.c.position, task.c.id)
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
        # Prepared under another key, for an address that the settings have changed since: that one is never sent.
        drop_unsent(tx, message_id, at=at, reason="superseded", position=position)
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
    """What the POST came to. `sent` false: no byte left us this time; what left us before stays told."""
    values = {
        "own_id": task_row,
        "state": state,
        "reason": reason,
        "task_ids": ",".join(map(str, task_ids)),
        "settled_at": millis(at),
        "watch_at": first_look(at) if state is State.CREATED else None,
        "api_status": api_status,
        "api_text": api_text,
    }
    settled = _SETTLE.run(tx.conn, {**values, "sent": True} if sent else values).first()
    if task_ids and settled is not None:
        terms.note(tx, settled.message_id, terms.of_tasks(task_ids))


def belong(tx: Transaction, task_row: int, order_id: int) -> None:
    """The order of a recording came after its task: a change or a cancel concerns the task from now on."""
    tx.conn.execute(task.update().where(task.c.id == task_row, task.c.order_id.is_(None)), {"order_id": order_id})


def of_message(conn: sa.Connection, message_id: int) -> list[Any]:
    """The task rows of a message, by position, the newest of each last."""
    return list(_OF_MESSAGE.run(conn, {"own_message": message_id}).all())


def recording_tasks(conn: sa.Connection, message_id: int) -> list[Any]:
    """The newest task row of each group of a recording, in order, each with what was `understood` of its message."""
    rows = conn.execute(
        sa.select(task, message.c.understood)
        .join(message, message.c.id == task.c.message_id)
        .where(task.c.message_id == message_id, task.c.purpose == "recording")
        .order_by(task.c.position, task.c.id)
    ).all()
    return list({row.position: row for row in rows}.values())


def last_generation(conn: sa.Connection, key: str) -> Any | None:
    """The newest row of a key."""
    return conn.execute(sa.select(task).where(task.c.key == key).order_by(task.c.generation.desc()).limit(1)).first()


def ids(row: Any) -> tuple[int, ...]:
    """The task ids of a row."""
    return tuple(int(i) for i in row.task_ids.split(",") if i)


# --- what a person decides ----------------------------------------------------------------------------------


def newest(conn: sa.Connection, message_id: int) -> list[Any]:
    """The newest task row of each order or group of a message: those that count."""
    return list({row.position: row for row in of_message(conn, message_id)}.values())


def holder_of(conn: sa.Connection, task_id: int) -> Any | None:
    """The row that has this task id; None where none has it. Looks at every row that has several ids."""
    alone = conn.execute(sa.select(task).where(task.c.task_ids == str(task_id)).limit(1)).first()
    if alone is not None:
        return alone
    listed = (sa.literal(",") + task.c.task_ids + sa.literal(",")).contains(f",{task_id},", autoescape=True)
    return conn.execute(sa.select(task).where(task.c.task_ids.contains(","), listed).limit(1)).first()


def found(tx: Transaction, task_row: int, task_id: int, *, at: datetime) -> bool:
    """The task of a doubt is there. False where the row is in doubt no more."""
    values = {"state": State.CREATED, "reason": "found", "task_ids": str(task_id), "settled_at": millis(at)}
    values["watch_at"] = first_look(at)
    return _out_of_doubt(tx, task_row, values)


def given_up(tx: Transaction, task_row: int, *, at: datetime, reason: str) -> bool:
    """The task of a doubt is not there, and the row stands as history. False where it is in doubt no more."""
    return _out_of_doubt(tx, task_row, {"state": State.CANCELLED, "reason": reason, "settled_at": millis(at)})


def _out_of_doubt(tx: Transaction, task_row: int, values: dict[str, Any]) -> bool:
    doubtful = task.update().where(task.c.id == task_row, task.c.state == State.IN_DOUBT).returning(task.c.message_id)
    message_id = tx.conn.execute(doubtful, values).scalar()
    if message_id is not None and "task_ids" in values:
        terms.note(tx, message_id, terms.of_tasks([int(values["task_ids"])]))
    return message_id is not None


def repeat(tx: Transaction, row: Any) -> int:
    """A further generation of a row that was provably not applied, or that a person gave up: nothing of it is sent
    yet. Returns the new generation. Raises StoreConflict where there is a later one already.
    """
    names = ("message_id", "position", "order_id", "purpose", "key", "body", "traces", "intent_at")
    copied = {name: getattr(row, name) for name in names}
    fresh = {"generation": row.generation + 1, "state": State.RETRY, "reason": "new_generation", "sent": False}
    tx.conn.execute(task.insert(), {**copied, **fresh})
    return int(row.generation) + 1


def drop_unsent(tx: Transaction, message_id: int, *, at: datetime, reason: str, position: int | None = None) -> None:
    """What waits to be sent of a message never will be: nothing of it was applied."""
    waiting = task.update().where(task.c.message_id == message_id, task.c.state == State.RETRY)
    if position is not None:
        waiting = waiting.where(task.c.position == position)
    tx.conn.execute(waiting, {"state": State.CANCELLED, "reason": reason, "settled_at": millis(at)})
