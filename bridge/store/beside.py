"""What stands beside a message, for people: its task rows' orders, when it is tried next, and who shares its UID."""

import json
from typing import Any

import sqlalchemy as sa

from bridge.store import book
from bridge.store.port import Connection
from bridge.store.schema import clinical_order, event, message, moment, number, task

_FEW = 50


def of_message(conn: Connection, message_id: int) -> dict[str, Any]:
    """As JSON values: `next_at`, `listener`, its `orders`, and by task row what `listing.whole` leaves out."""
    row = conn.execute(sa.select(message).where(message.c.id == message_id)).one()
    tasks = conn.execute(sa.select(task).where(task.c.message_id == message_id).order_by(task.c.id)).all()
    theirs = sorted({t.order_id for t in tasks if t.order_id is not None})
    concerned = sa.or_(clinical_order.c.message_id == message_id, clinical_order.c.id.in_(theirs))
    orders = conn.execute(sa.select(clinical_order).where(concerned).order_by(clinical_order.c.id).limit(_FEW)).all()
    return {
        "next_at": moment(row.next_at).isoformat() if row.next_at is not None else None,
        "listener": row.listener,
        "orders": [_order_row(o) for o in orders],
        "tasks": [
            {
                "order_id": str(t.order_id) if t.order_id is not None else None,
                "sent": bool(t.sent),
                "watched": json.loads(t.watched) if t.watched else None,
            }
            for t in tasks
        ],
        "same_uid": _same_uid(conn, row),
    }


def newest_event(conn: Connection, message_id: int) -> int:
    """The row of what happened to a message last; 0 where nothing did."""
    return int(conn.execute(sa.select(sa.func.max(event.c.id)).where(event.c.message_id == message_id)).scalar() or 0)


def _order_row(row: Any) -> dict[str, Any]:
    return {"id": str(row.id), "message_id": str(row.message_id), "number": row.number, "standing": row.standing}


def _same_uid(conn: Connection, row: Any) -> list[dict[str, str]]:
    if not row.sop_instance_uid:
        return []
    query = (
        sa.select(message.c.id, message.c.state, message.c.reason)
        .where(message.c.sop_instance_uid == row.sop_instance_uid, message.c.id != row.id)
        .order_by(message.c.id.desc())
        .limit(_FEW)
    )
    return [{"id": str(r.id), "state": r.state, "reason": r.reason} for r in conn.execute(query)]


def order(conn: Connection, order_id: int) -> dict[str, Any] | None:
    """An order of the book as JSON values, with its plan, its tasks, and the messages that concern it."""
    row = conn.execute(sa.select(clinical_order).where(clinical_order.c.id == order_id)).first()
    if row is None:
        return None
    tasks = conn.execute(sa.select(task).where(task.c.order_id == order_id).order_by(task.c.id)).all()
    own = sa.select(number.c.value).where(
        number.c.role == "order", number.c.message_id == row.message_id, number.c.position == row.position
    )
    numbers = sorted({row.number, *conn.execute(own).scalars()})
    recordings = book.recordings_with(conn, numbers)[:_FEW]
    concerned = {row.message_id: "ordered it", **dict.fromkeys(recordings, "a recording with its number")}
    concerned |= {t.message_id: f"its {t.purpose}" for t in tasks if t.message_id != row.message_id}
    if row.withdrawn_by is not None:
        concerned[row.withdrawn_by] = "withdrew it"
    plan = json.loads(row.plan) if row.plan else {}
    if plan.get("message_id"):
        concerned.setdefault(plan["message_id"], "planned it")
    gone = (clinical_order.c.withdrawn_by == row.message_id, clinical_order.c.replaced_by == order_id)
    replaced = conn.execute(sa.select(clinical_order.c.id).where(*gone)).scalars()
    return {
        "id": str(row.id),
        "number": row.number,
        "authority": row.authority,
        "message_id": str(row.message_id),
        "position": row.position,
        "standing": row.standing,
        "ordered": bool(row.ordered),
        "sent_at": moment(row.sent_at).isoformat() if row.sent_at is not None else None,
        "due_at": moment(row.due_at).isoformat() if row.due_at else None,
        "replaced_by": str(row.replaced_by) if row.replaced_by is not None else None,
        "replaces": [str(i) for i in replaced],
        "withdrawn_by": str(row.withdrawn_by) if row.withdrawn_by is not None else None,
        "visit": row.visit,
        "patient_value": row.patient_value,
        "patient_authority": row.patient_authority,
        "numbers": numbers,
        "mapped": json.loads(row.mapped),
        "plan": plan,
        "tasks": [task_row(t) for t in tasks],
        "messages": _rows(conn, concerned),
    }


def task_row(row: Any) -> dict[str, Any]:
    """A task row in a list: what came of it, without its body."""
    return {
        "message_id": str(row.message_id),
        "order_id": str(row.order_id) if row.order_id is not None else None,
        "purpose": row.purpose,
        "generation": row.generation,
        "state": row.state,
        "reason": row.reason,
        "task_ids": [i for i in row.task_ids.split(",") if i],
        "intent_at": moment(row.intent_at).isoformat(),
        "settled_at": moment(row.settled_at).isoformat() if row.settled_at is not None else None,
    }


BRIEF = (message.c.id, message.c.type, message.c.state, message.c.reason, message.c.received_at)
"""What `brief` tells of a message."""


def brief(row: Any) -> dict[str, str]:
    """A message beside something else."""
    return {
        "id": str(row.id),
        "type": row.type,
        "state": row.state,
        "reason": row.reason,
        "received_at": moment(row.received_at).isoformat(),
    }


def _rows(conn: Connection, concerned: dict[int, str]) -> list[dict[str, str]]:
    query = sa.select(*BRIEF).where(message.c.id.in_(sorted(concerned)))
    return [{**brief(r), "why": concerned[r.id]} for r in conn.execute(query.order_by(message.c.id))]
