"""The processes that work on one store: who is there, who is gone, and who does what only one does at a time.

A process is gone when it said so, when it surely ended (`bridge.store.place`), or when it gave no sign of life for a
whole lease, as another one saw it: no clock of any host comes into that. From then on it can write nothing (its own
transactions begin with its row), and what it had in hand is another's: an INTENT of its is in doubt, never sent again.
"""

import importlib.metadata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from bridge.store import line, place
from bridge.store.port import Transaction
from bridge.store.schema import duty, message, millis, moment, worker

SURELY = 5
"""Looks in a row, a quarter of a lease apart, without a sign of life: one that slept itself sees the others first."""

ROLES = ("receive", "dispatch", "console")
"""What a process can be: the doors in, the door out, what people look at."""
REMEMBERED = 30 * 86_400_000
"""Milliseconds for which a process that is gone stays in the table."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process. `commits` grows with each sign of life."""

    name: str
    place: str
    roles: tuple[str, ...]
    version: str
    started_at: datetime
    seen_at: datetime
    commits: int


def there(conn: sa.Connection) -> list[Worker]:
    """Those that are not gone, the oldest first."""
    rows = conn.execute(sa.select(worker).where(worker.c.gone_at.is_(None)).order_by(worker.c.id))
    return [
        Worker(
            row.name,
            row.place,
            tuple(filter(None, row.roles.split(","))),
            row.version,
            moment(row.started_at),
            moment(row.seen_at),
            row.commits,
        )
        for row in rows
    ]


def by_role(conn: sa.Connection) -> dict[str, int]:
    """How many processes are there for each part. On SQLite there is one, for all of them."""
    found = dict.fromkeys(ROLES, int(conn.dialect.name == "sqlite"))
    for one in there(conn):
        for role in one.roles:
            found[role] += 1
    return found


def sign_on(tx: sa.Connection, name: str, roles: Collection[str], *, at: datetime) -> None:
    """A process begins. Those that went long ago are forgotten."""
    tx.execute(worker.delete().where(worker.c.gone_at < millis(at) - REMEMBERED))
    row = {"name": name, "place": place.here(), "roles": ",".join(roles), "started_at": millis(at)}
    version = importlib.metadata.version("cardio-bridge")
    tx.execute(worker.insert(), {**row, "version": version, "seen_at": millis(at), "commits": 0, "reason": ""})


def sign_off(tx: Transaction, names: Collection[str], *, at: datetime, reason: str) -> None:
    """These are gone: they can write nothing from now on, and their duties are free."""
    here = worker.update().where(worker.c.name.in_(sorted(names)), worker.c.gone_at.is_(None))
    tx.conn.execute(here, {"gone_at": millis(at), "reason": reason})
    tx.conn.execute(duty.delete().where(duty.c.worker.in_(sorted(names))))


def take_over(tx: Transaction, *, at: datetime, keep_waiting: Collection[str] = ()) -> dict[str, int]:
    """What those who are gone had in hand goes on, or is in doubt, as after a start on one machine."""
    names = [one.name for one in there(tx.conn)]
    left = sa.or_(message.c.owner.is_(None), message.c.owner.not_in(names))
    return line.recover(tx, at=at, keep_waiting=keep_waiting, left_by=left)


def surely_gone(known: Iterable[Worker]) -> list[str]:
    """Those of them that ran on this machine and run no more."""
    return [one.name for one in known if place.is_surely_gone(one.place)]


def take_duty(tx: Transaction, name: str, who: str) -> bool:
    """Whether the duty is this process's now: nobody had it, or who had it is gone."""
    holder = tx.conn.execute(sa.select(duty.c.worker).where(duty.c.name == name)).scalar()
    if holder is not None:
        return bool(holder == who)
    tx.conn.execute(duty.insert(), {"name": name, "worker": who})
    return True


def duties(conn: sa.Connection) -> dict[str, str]:
    """Who does what."""
    return {row.name: row.worker for row in conn.execute(sa.select(duty).order_by(duty.c.name))}


class Watch:
    """How long the others have been silent, by this process's own looks."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._looked_at = float("-inf")
        self._seen: dict[str, tuple[int, int, float]] = {}  # name → commits, looks without another, since when

    def silent(self, others: Sequence[Worker], now: float) -> list[str]:
        """Those that gave no sign of life for a lease and `SURELY` looks. `now` is a monotonic clock's."""
        counts = now - self._looked_at >= self._lease / (2 * (SURELY - 1))
        self._looked_at = now if counts else self._looked_at
        before, self._seen = self._seen, {}
        for one in others:
            commits, looks, since = before.get(one.name, (-1, 0, now))
            same = commits == one.commits
            self._seen[one.name] = (one.commits, looks + counts if same else 0, since if same else now)
        return [
            name for name, (_, looks, since) in self._seen.items() if looks >= SURELY and now - since >= self._lease
        ]
