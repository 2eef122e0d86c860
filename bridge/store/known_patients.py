"""Patients for people: found by what was typed, and one with all that is known of it.

By identifier the record's own index is asked, by name the words of the messages that named it (`store.search`): without
case and accents, and bounded however many there are.
"""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Identifier
from bridge.store import patients, search
from bridge.store.beside import BRIEF, brief, task_row
from bridge.store.port import Connection
from bridge.store.schema import alias, clinical_order, message, moment, patient, task

MOST = 50
_MESSAGES = 400
"""Messages whose patients are looked at."""
_END = "\U0010ffff"
_MOST_CHAIN = 100


def find(conn: Connection, text: str) -> list[dict[str, Any]]:
    """Records whose identifier begins so, then those of the newest messages that are found by it; the first `MOST`."""
    wanted = text.strip()
    if not wanted:
        return []
    begins = (patient.c.value >= wanted, patient.c.value < wanted + _END)
    rows = list(conn.execute(sa.select(patient).where(*begins).order_by(patient.c.value).limit(MOST)))
    retired = sa.select(alias.c.survivor_value).where(alias.c.retired_value == wanted, alias.c.undone_at.is_(None))
    keys = list(conn.execute(retired.limit(MOST)).scalars())
    found = [int(m.id) for m in search.find(conn, wanted, limit=_MESSAGES).rows]
    named = sa.select(message.c.order_key).where(message.c.id.in_(found)).order_by(message.c.id.desc())
    keys += [key for key in conn.execute(named).scalars() if key]
    values = list(dict.fromkeys(keys))[: MOST * 2]
    rows += conn.execute(sa.select(patient).where(patient.c.value.in_(values)).limit(MOST * 2)).all()
    rank = {value: number for number, value in enumerate(values)}
    once = {row.id: row for row in sorted(rows, key=lambda row: rank.get(row.value, -1))}
    return [_record(row) for row in list(once.values())[:MOST]]


def newest(conn: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """The records that were opened last."""
    return [_record(row) for row in conn.execute(sa.select(patient).order_by(patient.c.id.desc()).limit(limit))]


def _record(row: Any) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "value": row.value,
        "authority": row.authority,
        "last_name": row.last_name,
        "first_name": row.first_name,
        "gender": row.gender,
        "birth_date": row.birth_date,
        "inactive": bool(row.inactive),
        "message_id": str(row.message_id),
    }


def whole(conn: Connection, patient_id: int, *, site_authority: str) -> dict[str, Any] | None:
    """A record with its identifiers, merges, orders, tasks and messages, as JSON values; None where there is none."""
    row = conn.execute(sa.select(patient).where(patient.c.id == patient_id)).first()
    if row is None:
        return None
    own = Identifier(row.value, row.authority)
    now = patients.canonical(conn, own, site_authority=site_authority)
    known = patients.retired_into(conn, now, site_authority=site_authority)[:_MOST_CHAIN]
    values = list(dict.fromkeys([*(one.value for one in known), row.value]))
    orders = conn.execute(
        sa.select(clinical_order)
        .where(clinical_order.c.patient_value.in_(values))
        .order_by(clinical_order.c.id.desc())
        .limit(MOST)
    ).all()
    messages = _messages(conn, values, [o.message_id for o in orders])
    tasks = conn.execute(
        sa.select(task)
        .where(task.c.message_id.in_([int(m["id"]) for m in messages]))
        .order_by(task.c.id.desc())
        .limit(MOST)
    ).all()
    survivor = conn.execute(sa.select(patient.c.id).where(patient.c.value == now.value)).scalars().all()
    return {
        **_record(row),
        "visit": json.loads(row.visit) if row.visit else {},
        "now": now.value,
        "now_id": str(survivor[0]) if len(survivor) == 1 and now.value != row.value else None,
        "identifiers": [{"value": one.value, "authority": one.authority} for one in known],
        "aliases": _aliases(conn, values),
        "orders": [
            {"id": str(o.id), "number": o.number, "standing": o.standing, "message_id": str(o.message_id)}
            for o in orders
        ],
        "tasks": [task_row(t) for t in tasks],
        "messages": messages,
    }


def _aliases(conn: Connection, values: Sequence[str]) -> list[dict[str, Any]]:
    """Every merge that one of these identifiers is part of, undone ones too."""
    concerned = sa.or_(alias.c.retired_value.in_(values), alias.c.survivor_value.in_(values))
    rows = conn.execute(sa.select(alias).where(concerned).order_by(alias.c.id).limit(_MOST_CHAIN))
    return [
        {
            "id": str(row.id),
            "retired": row.retired_value,
            "retired_authority": row.retired_authority,
            "survivor": row.survivor_value,
            "survivor_authority": row.survivor_authority,
            "message_id": str(row.message_id),
            "at": moment(row.at).isoformat(),
            "undone_at": moment(row.undone_at).isoformat() if row.undone_at is not None else None,
        }
        for row in rows
    ]


def _messages(conn: Connection, values: Sequence[str], ordered: Sequence[int]) -> list[dict[str, str]]:
    """The newest messages of these identifiers: those that named one, and those of the orders."""
    named: set[int] = set(ordered)
    for value in values:
        named.update(int(m.id) for m in search.find(conn, value, limit=MOST).rows)
    query = (
        sa.select(*BRIEF)
        .where(message.c.id.in_(sorted(named)), sa.or_(message.c.order_key.in_(values), message.c.id.in_(ordered)))
        .order_by(message.c.id.desc())
        .limit(MOST)
    )
    return [brief(r) for r in conn.execute(query)]


def of_order(conn: Connection, value: str, authority: str, *, site_authority: str) -> dict[str, Any] | None:
    """The record of an order's patient, merges followed; None where there is none, or where several could be meant."""
    now = patients.canonical(conn, Identifier(value, authority), site_authority=site_authority)
    rows = conn.execute(sa.select(patient).where(patient.c.value == now.value)).all()
    fits = [r for r in rows if Identifier(r.value, r.authority).agrees(now, site_authority=site_authority)]
    return _record(fits[0]) if len(fits) == 1 else None
