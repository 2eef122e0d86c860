"""What alarms are judged by: counts, ages and reasons that we minted, never a patient or an order.

A look costs what is open, held or in doubt, and not what was ever received: conditions are those of the partial
indexes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from bridge.domain.states import SETTLED, State
from bridge.store import commitments, line, outbound, quarantine
from bridge.store.schema import OPEN, among, anomaly, commitment, destination, event, message, millis, moment
from bridge.store.schema import outbound as outbound_table

CANDIDATES = 200
"""Messages that are looked at one by one for how long they wait: the ones that were received first."""
REUSED = "control_id_reuse"


@dataclass(frozen=True, slots=True)
class Pile:
    """Several of a kind: what they have in common, how many, and since when the oldest is there."""

    name: str
    number: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Down:
    """A destination that is not sent to."""

    name: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened to a message: it was refused, or its MSH-10 was used before."""

    event_id: int
    at: datetime
    reason: str
    listener: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest message of a listener or a sender."""

    listener: str
    sender: str
    at: datetime


_IN_LINE = sa.and_(among(OPEN), message.c.reason.not_in(line.QUIET))


def queued(conn: sa.Connection) -> dict[str, int]:
    """How many messages wait to be sent or are being sent, by destination; under an empty name what is not routed."""
    query = sa.select(message.c.destination, sa.func.count()).where(_IN_LINE).group_by(message.c.destination)
    return {row[0]: row[1] for row in conn.execute(query)}


def waiting(conn: sa.Connection, *, since: datetime) -> list[Pile]:
    """What has stood in line from before that moment on, by destination.

    Where a message was at rest in between (held, or waiting for its order), it stands in line since that was over.
    """
    rest = event.alias("rest")
    rested = (
        sa.select(sa.func.max(rest.c.id))
        .where(
            rest.c.message_id == message.c.id,
            sa.or_(rest.c.state.not_in(sorted(OPEN)), rest.c.reason.in_(line.QUIET)),
        )
        .correlate(message)
        .scalar_subquery()
    )
    back = (
        sa.select(sa.func.min(event.c.at))
        .where(event.c.message_id == message.c.id, event.c.id > rested)
        .correlate(message)
        .scalar_subquery()
    )
    first = sa.select(message.c.id).where(_IN_LINE, message.c.received_at <= millis(since)).order_by(message.c.id)
    query = sa.select(message.c.destination, sa.func.coalesce(back, message.c.received_at).label("since")).where(
        message.c.id.in_(first.limit(CANDIDATES))
    )
    return _piles((name, at) for name, at in conn.execute(query) if at <= millis(since))


def held(conn: sa.Connection) -> list[Pile]:
    """What waits for a person, by its reason; `oldest` is when the first of them was received."""
    query = sa.select(message.c.reason, sa.func.count(), sa.func.min(message.c.received_at))
    rows = conn.execute(query.where(among(SETTLED), message.c.state == State.HELD).group_by(message.c.reason))
    return [Pile(name, number, moment(oldest)) for name, number, oldest in rows]


def anomalies(conn: sa.Connection) -> list[Pile]:
    """Tasks that a person must settle, by reason."""
    query = sa.select(anomaly.c.reason, sa.func.count(), sa.func.min(anomaly.c.at))
    rows = conn.execute(query.where(anomaly.c.settled_at.is_(None)).group_by(anomaly.c.reason))
    return [Pile(name, number, moment(oldest)) for name, number, oldest in rows]


def untold(conn: sa.Connection, *, since: datetime) -> list[Pile]:
    """Ids and reports that their receivers refused, or have not taken since that moment, by receiver."""
    kinds = (
        (outbound_table, outbound_table.c.address, outbound_table.c.created_at, outbound),
        (commitment, commitment.c.requester, commitment.c.requested_at, commitments),
    )
    found: list[tuple[str, int]] = []
    for table, receiver, at, words in kinds:
        late = sa.and_(table.c.state == sa.literal_column(f"'{words.WAITING}'"), at <= millis(since))
        query = sa.select(receiver, at).where(sa.or_(table.c.state == words.HELD, late))
        found.extend((f"{table.name} {row[0]}", row[1]) for row in conn.execute(query))
    return _piles(found)


def _piles(rows: Iterable[tuple[str, int]]) -> list[Pile]:
    piles: dict[str, Pile] = {}
    for name, at in rows:
        known = piles.get(name)
        oldest = moment(at) if known is None else min(known.oldest, moment(at))
        piles[name] = Pile(name, known.number + 1 if known else 1, oldest)
    return list(piles.values())


def down(conn: sa.Connection) -> list[Down]:
    """Destinations that are not sent to."""
    query = sa.select(destination.c.name, destination.c.reason, destination.c.since).where(destination.c.down)
    return [Down(name, reason, moment(since)) for name, reason, since in conn.execute(query)]


def before(conn: sa.Connection, at: datetime) -> int:
    """The id of the newest event from before that moment. Looks at the events since then, and no further back."""
    query = sa.select(event.c.id).where(event.c.at < millis(at)).order_by(event.c.id.desc()).limit(1)
    return int(conn.execute(query).scalar() or 0)


def news(conn: sa.Connection, *, after: int) -> tuple[int, list[News]]:
    """The id of the newest event, and what those above `after` tell of refusals and of numbers (MSH-10) used twice."""
    upto = int(conn.execute(sa.select(sa.func.max(event.c.id))).scalar() or after)
    query = (
        sa.select(event.c.id, event.c.at, event.c.reason, message.c.listener)
        .join(message, message.c.id == event.c.message_id)
        .where(
            event.c.id > after,
            event.c.id <= upto,
            event.c.actor == "bridge",  # what a person notes of a message that was refused is no refusal
            event.c.reason != quarantine.REASON,
            sa.or_(event.c.state == State.REJECTED, event.c.reason == REUSED),
        )
    )
    return upto, [News(i, moment(at), reason, listener) for i, at, reason, listener in conn.execute(query)]


def newest(conn: sa.Connection) -> int:
    """The id of the newest message; 0 where there is none."""
    return int(conn.execute(sa.select(sa.func.max(message.c.id))).scalar() or 0)


def last_heard(conn: sa.Connection, listeners: Iterable[str], senders: Iterable[str]) -> dict[str, datetime]:
    """When the last message of each of these came; none of those that were never heard. For a start: where a listener
    was never heard every message is looked at.
    """
    found: dict[str, datetime] = {}
    at = sa.select(message.c.received_at)
    for name in listeners:
        own = at.where(message.c.listener == name).order_by(message.c.id.desc()).limit(1)
        if (came := conn.execute(own).scalar()) is not None:
            found[name] = moment(came)
    for name in senders:
        last = sa.select(sa.func.max(message.c.id)).where(message.c.sender == name).scalar_subquery()
        if (came := conn.execute(at.where(message.c.id == last)).scalar()) is not None:
            found[name] = moment(came)
    return found


def heard(conn: sa.Connection, *, after: int) -> tuple[int, list[Heard]]:
    """The id of the newest message, and the last one of each sender at each listener among those above `after`."""
    upto = max(newest(conn), after)
    query = (
        sa.select(message.c.listener, message.c.sender, sa.func.max(message.c.received_at))
        .where(message.c.id > after, message.c.id <= upto)
        .group_by(message.c.listener, message.c.sender)
        .order_by(message.c.listener, message.c.sender)
    )
    return upto, [Heard(listener, sender, moment(at)) for listener, sender, at in conn.execute(query)]
