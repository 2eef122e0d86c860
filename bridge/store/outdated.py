"""What nothing refers to any more once it is over: requests for commitment that were told, alarms, ended sessions.

The newest row of each table stays: SQLite would give its number once more, and receivers tell notices apart by it.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.prune import Upto, erase_what_goes
from bridge.store.schema import alarm, commitment, commitment_instance, notice, session

STEP = 200
"""Rows that are taken away in one transaction, besides those that hang on them."""


def _oldest(conn: sa.Connection, table: sa.Table, *like: sa.ColumnElement[bool]) -> list[int]:
    newest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
    query = sa.select(table.c.id).where(*like, table.c.id < newest).order_by(table.c.id).limit(STEP)
    return list(conn.execute(query).scalars())


def _told_commitments(edges: Upto) -> tuple[sa.ColumnElement[bool], ...]:
    return commitment.c.state.in_(("SENT", "DROPPED")), commitment.c.requested_at <= edges.recordings


def _alarms_over(edges: Upto) -> tuple[sa.ColumnElement[bool], ...]:
    waits = sa.select(notice.c.id).where(notice.c.alarm_id == alarm.c.id, notice.c.state == "WAITING").exists()
    return alarm.c.over_at.is_not(None), alarm.c.over_at <= edges.alarms, ~waits


def _ended_sessions(edges: Upto) -> tuple[sa.ColumnElement[bool], ...]:
    return session.c.ended_at.is_not(None), session.c.ended_at <= edges.sessions


_Kind = tuple[sa.Table, Callable[[Upto], tuple[sa.ColumnElement[bool], ...]], sa.Column[Any] | None]
KINDS: dict[str, _Kind] = {
    "commitments": (commitment, _told_commitments, commitment_instance.c.commitment_id),
    "alarms": (alarm, _alarms_over, notice.c.alarm_id),
    "sessions": (session, _ended_sessions, None),
}
"""By name: the table, what can go of it, and what hangs on its rows."""


def step(tx: Transaction, kind: str, edges: Upto) -> int:
    """Take away the oldest of a kind; how many rows that were."""
    table, can_go, hanging = KINDS[kind]
    erase_what_goes(tx.conn)
    going = _oldest(tx.conn, table, *can_go(edges))
    if going and hanging is not None:
        tx.conn.execute(sa.delete(hanging.table).where(hanging.in_(going)))
    if going:
        tx.conn.execute(table.delete().where(table.c.id.in_(going)))
    return len(going)


def count(conn: sa.Connection, kind: str, edges: Upto) -> int:
    """How many rows of a kind would go."""
    table, can_go, _ = KINDS[kind]
    newest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
    query = sa.select(sa.func.count()).select_from(table).where(*can_go(edges), table.c.id < newest)
    return int(conn.execute(query).scalar_one())
