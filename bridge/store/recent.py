"""The last hour in figures, for the first page: what came by which way and when, and what waits for how long.

Bounded, however much is kept: the last hour's messages and no more than `MOST` of them, work that is open, and one look
for each sender. Only the counts of what is settled grow with the store, by an index of it: 1,000,000 messages take a
tenth of a second, so `Lately` remembers what was seen for twenty times as long as the look took.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.clock import Clock
from bridge.domain.states import State
from bridge.store import by_time, line, listing
from bridge.store.port import Store
from bridge.store.schema import OPEN, among, message, millis, moment, term
from bridge.store.terms import Kind, plain

MINUTES = 60
MOST = 20_000
"""Messages that the figures of an hour are made of: more came than anybody can count, and `since` says so."""
FIVE = 5 * 60_000
SENDERS = 200
"""Senders that are told apart: MSH-3 is the sender's to choose, and a hostile one has many."""
_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class Flow:
    """What came by one listener, from one sender, or goes to one destination."""

    name: str
    last_at: datetime | None  # none: nothing that is known of
    five_minutes: int
    minutes: tuple[int, ...]  # 60, the oldest first; the last one is under way


@dataclass(frozen=True, slots=True)
class Queue:
    """Open work of one destination in one state; no destination: not understood yet, or released by a person.

    `waits` of them stand back on purpose, for their order or for its release, and are not counted in `oldest_at`.
    """

    destination: str
    state: State
    depth: int
    oldest_at: datetime | None
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Recent:
    """The figures. `since` is set where the hour had too many messages: from then on they are counted."""

    at: datetime
    listeners: tuple[Flow, ...]
    senders: tuple[Flow, ...]
    destinations: tuple[Flow, ...]
    queues: tuple[Queue, ...]
    states: Mapping[State, int]
    since: datetime | None = None


@dataclass(slots=True)
class _Tally:
    last: int = 0
    five: int = 0
    minutes: list[int] = field(default_factory=lambda: [0] * MINUTES)


def recent(conn: sa.Connection, now: datetime) -> Recent:
    """The figures as they are now."""
    begin = (millis(now) // _MINUTE - MINUTES + 1) * _MINUTE
    floor = max(by_time.first_at(conn, begin), line.newest(conn) - MOST + 1)
    tallies: dict[str, dict[str, _Tally]] = {"listener": {}, "sender": {}, "destination": {}}
    for row in _by_minute(conn, floor, begin, millis(now)):
        for what, of in tallies.items():
            name = getattr(row, what)
            if name:
                _count(of.setdefault(name, _Tally()), row)
    for name in _senders(conn, tallies["sender"]):
        _note_last(conn, name, tallies)
    flows = {what: tuple(_flow(name, of[name]) for name in sorted(of)) for what, of in tallies.items()}
    return Recent(
        now,
        flows["listener"],
        flows["sender"],
        flows["destination"],
        _queues(conn),
        {State(state): many for state, many in listing.counts(conn).items()},
        _counted_since(conn, floor, begin),
    )


def _by_minute(conn: sa.Connection, floor: int, begin: int, now: int) -> Sequence[Any]:
    at = message.c.received_at
    minute = ((at - begin) // _MINUTE).label("minute")
    ways = (message.c.listener, message.c.sender, message.c.destination)
    fresh = sa.func.sum(sa.case((at >= now - FIVE, 1), else_=0)).label("five")
    query = sa.select(*ways, minute, sa.func.count().label("many"), sa.func.max(at).label("last"), fresh)
    query = query.where(message.c.id >= floor, at >= begin, at < begin + MINUTES * _MINUTE)
    return conn.execute(query.group_by(*ways, minute)).all()


def _count(tally: _Tally, row: Any) -> None:
    tally.last = max(tally.last, row.last)
    tally.five += row.five
    tally.minutes[row.minute] += row.many


def _flow(name: str, tally: _Tally) -> Flow:
    return Flow(name, moment(tally.last) if tally.last else None, tally.five, tuple(tally.minutes))


def _counted_since(conn: sa.Connection, floor: int, begin: int) -> datetime | None:
    """When the first message that is counted came, where others of the hour came before it."""
    query = sa.select(message.c.received_at).where(message.c.id < floor).order_by(message.c.id.desc()).limit(1)
    before = conn.execute(query).scalar()
    return moment(before) if before is not None and before >= begin else None


def _senders(conn: sa.Connection, seen: Iterable[str]) -> list[str]:
    """Who ever sent something, by leaps through the index of senders; those of the last hour in any case."""
    found: dict[str, None] = dict.fromkeys(seen)
    after: str | None = ""
    leap = sa.select(sa.func.min(message.c.sender)).where(message.c.sender > sa.bindparam("after"))
    while len(found) < SENDERS:
        after = conn.execute(leap, {"after": after}).scalar()
        if after is None:
            break
        found[after] = None
    return list(found)[:SENDERS]


_LAST = (
    sa.select(message.c.sender, message.c.received_at, message.c.listener, message.c.destination)
    .join(term, term.c.message_id == message.c.id)
    .where(term.c.value == sa.bindparam("own_value"), term.c.kind == Kind.SENDER)
    .order_by(term.c.message_id.desc())
    .limit(1)
)


def _note_last(conn: sa.Connection, sender: str, tallies: Mapping[str, dict[str, _Tally]]) -> None:
    """A sender's last message, however long ago; it says something of its listener and destination as well."""
    row = conn.execute(_LAST, {"own_value": plain(sender)}).first()
    if row is None or row.sender != sender:
        tallies["sender"].setdefault(sender, _Tally())
        return
    for what, of in tallies.items():
        name = getattr(row, what)
        if name:
            tally = of.setdefault(name, _Tally())
            tally.last = max(tally.last, row.received_at)


# --- what waits ---------------------------------------------------------------------------------------------


def _queues(conn: sa.Connection) -> tuple[Queue, ...]:
    """By the partial index of open work alone; the rows that wait to be tried again are asked why, up to `MOST`."""
    ways = (message.c.destination, message.c.state)
    oldest = sa.func.min(message.c.id).label("oldest")
    query = sa.select(*ways, sa.func.count().label("depth"), oldest).where(among(OPEN))
    rows = conn.execute(query.group_by(*ways).order_by(*ways)).all()
    made: list[Queue] = []
    for row in rows:
        oldest_id, waits = row.oldest, 0
        if row.state == State.RETRY and row.depth <= MOST:
            oldest_id, waits = _not_quiet(conn, row.destination)
        made.append(Queue(row.destination, State(row.state), row.depth, _received_at(conn, oldest_id), waits))
    return tuple(made)


def _not_quiet(conn: sa.Connection, destination: str) -> tuple[int | None, int]:
    """The oldest that waits for something else than its order, and how many wait for that."""
    quiet = sa.case((message.c.reason.in_(line.QUIET), 1), else_=0)
    query = sa.select(sa.func.min(sa.case((quiet == 0, message.c.id))), sa.func.coalesce(sa.func.sum(quiet), 0)).where(
        message.c.destination == destination, message.c.state == State.RETRY, among(OPEN)
    )
    oldest, waits = conn.execute(query).one()
    return oldest, int(waits)


def _received_at(conn: sa.Connection, message_id: int | None) -> datetime | None:
    if message_id is None:
        return None
    return moment(conn.execute(sa.select(message.c.received_at).where(message.c.id == message_id)).scalar_one())


# --- how often ----------------------------------------------------------------------------------------------

_SHARE = 20


class Lately:
    """The figures for any number of pages: what was seen holds for twenty times as long as the look took."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: Recent | None = None
        self._until = float("-inf")

    async def figures(self) -> Recent:
        """As they are, or were a moment ago. Raises StoreError."""
        if self._seen is None or time.monotonic() >= self._until:
            began = time.monotonic()
            self._seen = await self._store.read(lambda conn: recent(conn, self._clock.now()))
            self._until = time.monotonic() + _SHARE * (time.monotonic() - began)
        return self._seen
