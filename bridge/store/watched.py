"""Tasks that are watched: when each is looked at next, and what was seen (F38, failures.md §3.6)."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

import sqlalchemy as sa

from bridge.domain.states import State
from bridge.store.port import Transaction
from bridge.store.schema import destination, message, millis, moment, task

FIRST_LOOK, LONGEST = 60.0, 3600.0
"""Seconds from a task's creation to the first look, and between two looks at the most."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A task row whose status is to be asked for. `looks` were there before."""

    id: int
    message_id: int
    destination: str
    purpose: str
    task_ids: tuple[int, ...]
    created_at: datetime
    looks: int


def first_look(at: datetime) -> int:
    """When a task that is created now is looked at first, as a stored time."""
    return millis(at) + round(FIRST_LOOK * 1000)


def due(conn: sa.Connection, *, at: datetime, without: Collection[str] = ()) -> Watched | None:
    """The row that is due, the longest overdue first; none of a destination that is down or in `without`.

    A time further away than anything waits is due: the clock was set back (F25).
    """
    now, far = millis(at), millis(at) + round(2 * LONGEST * 1000)
    down = sa.select(destination.c.name).where(destination.c.down)
    query = (
        sa.select(task, message.c.destination)
        .join(message, message.c.id == task.c.message_id)
        .where(
            task.c.watch_at.is_not(None),
            sa.or_(task.c.watch_at <= now, task.c.watch_at > far),
            message.c.destination.not_in(down),
            message.c.destination.not_in(sorted(without)),
        )
        .order_by(task.c.watch_at, task.c.id)
        .limit(1)
    )
    row = conn.execute(query).first()
    if row is None:
        return None
    ids = tuple(int(i) for i in row.task_ids.split(",") if i)
    looks = int(json.loads(row.watched)["looks"]) if row.watched else 0
    return Watched(row.id, row.message_id, row.destination, row.purpose, ids, moment(row.settled_at), looks)


def again(tx: Transaction, one: Watched, *, at: datetime, seconds: float, seen: Mapping[str, Any]) -> None:
    """Looked at, and once more after so many seconds."""
    _note(tx, one, millis(at) + round(seconds * 1000), seen)


def over(tx: Transaction, one: Watched, *, seen: Mapping[str, Any]) -> None:
    """Nothing more is asked of it."""
    _note(tx, one, None, seen)


def _note(tx: Transaction, one: Watched, watch_at: int | None, seen: Mapping[str, Any]) -> None:
    told = json.dumps({"looks": one.looks + 1, **seen})
    tx.conn.execute(task.update().where(task.c.id == one.id), {"watch_at": watch_at, "watched": told})


def waiting(conn: sa.Connection) -> int:
    """How many rows are watched."""
    return int(conn.execute(sa.select(sa.func.count()).where(task.c.watch_at.is_not(None))).scalar() or 0)


@dataclass(slots=True)
class Day:
    """Tasks of one day, by the site's calendar, as the bridge counts them."""

    drafts: int = 0
    recordings: int = 0
    in_doubt: int = 0
    ids: int = 0


def by_day(conn: sa.Connection, zone: tzinfo, *, since: datetime) -> dict[str, Day]:
    """What was created, to be laid beside the dashboard's own export (§3.6)."""
    states = (State.CREATED, State.IN_DOUBT)
    query = sa.select(task.c.intent_at, task.c.purpose, task.c.state, task.c.task_ids).where(
        task.c.state.in_(states), task.c.intent_at >= millis(since)
    )
    days: dict[str, Day] = {}
    for intent_at, purpose, state, task_ids in conn.execute(query.order_by(task.c.intent_at)):
        day = days.setdefault(moment(intent_at).astimezone(zone).date().isoformat(), Day())
        if state == State.IN_DOUBT:
            day.in_doubt += 1
            continue
        day.drafts += purpose == "draft"
        day.recordings += purpose != "draft"
        day.ids += len([i for i in task_ids.split(",") if i])
    return days


def named_twice(conn: sa.Connection) -> list[str]:
    """Task ids that two rows have: the API gave one id twice, or one task was counted for two. An incident."""
    seen: dict[str, int] = {}
    for (task_ids,) in conn.execute(sa.select(task.c.task_ids).where(task.c.task_ids != "")):
        for one in task_ids.split(","):
            seen[one] = seen.get(one, 0) + 1
    return sorted(one for one, times in seen.items() if times > 1)
