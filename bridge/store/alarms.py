"""Alarms and their notices: a row when something begins to be wrong, its end when it is well again, and who was told.

An alarm is on once for each rule and subject. The notices of an edge are written with it, so that a restart neither
forgets nor repeats them: a notice that was begun goes out again with the same id, in the same batch (at least once).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.schema import alarm, insert_new, millis, moment, notice

ON, OVER = "on", "over"
WAITING, SENT, DROPPED = "WAITING", "SENT", "DROPPED"
TOPIC = "alarm"
FAR = 960_000
"""Milliseconds: no notice waits longer. A time beyond it was set before the clock went back (F25)."""

_is_on = sa.text("over_at IS NULL")
_waiting = sa.literal_column("'WAITING'", sa.Text)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One of them. `detail` holds what was found, as JSON values without a patient's."""

    id: int
    rule: str
    subject: str
    since: datetime
    over_at: datetime | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one notice."""

    alarm_id: int
    edge: str
    channel: str
    state: str
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class Due:
    """A notice that is to go out now, with its alarm as it stands."""

    id: int
    edge: str
    attempts: int  # this one included
    alarm: Alarm


def on_now(conn: sa.Connection) -> list[Alarm]:
    """What is wrong at the moment, the oldest first."""
    return [_alarm(row) for row in conn.execute(sa.select(alarm).where(_is_on).order_by(alarm.c.since, alarm.c.id))]


def history(conn: sa.Connection, limit: int = 200) -> list[Alarm]:
    """The newest alarms, whether on or over, newest first."""
    return [_alarm(row) for row in conn.execute(sa.select(alarm).order_by(alarm.c.id.desc()).limit(limit))]


def counts(conn: sa.Connection) -> dict[str, int]:
    """How many are on, by rule."""
    query = sa.select(alarm.c.rule, sa.func.count()).where(_is_on).group_by(alarm.c.rule)
    return {row[0]: row[1] for row in conn.execute(query)}


def begin(
    tx: Transaction, rule: str, subject: str, *, at: datetime, detail: Mapping[str, Any], channels: Sequence[str]
) -> int | None:
    """From now on it is wrong; its notices are due. None where it was on already, and then nothing is written."""
    row = {"rule": rule, "subject": subject, "since": millis(at), "detail": _text(detail)}
    made = insert_new(tx.conn.dialect.name, alarm, "id").run(tx.conn, row).scalar()
    if made is None:
        return None
    _tell(tx, made, ON, at=at, channels=channels)
    return int(made)


def end(tx: Transaction, alarm_id: int, *, at: datetime, channels: Sequence[str]) -> bool:
    """All is well again. False where it was over before."""
    over = alarm.update().where(alarm.c.id == alarm_id, _is_on)
    if tx.conn.execute(over, {"over_at": millis(at)}).rowcount != 1:
        return False
    _tell(tx, alarm_id, OVER, at=at, channels=channels)
    return True


def refresh(tx: Transaction, alarm_id: int, detail: Mapping[str, Any]) -> None:
    """What is found now of an alarm that is on. Nobody is told."""
    tx.conn.execute(alarm.update().where(alarm.c.id == alarm_id, _is_on), {"detail": _text(detail)})


def _tell(tx: Transaction, alarm_id: int, edge: str, *, at: datetime, channels: Sequence[str]) -> None:
    rows = [
        {"alarm_id": alarm_id, "edge": edge, "channel": one, "state": WAITING, "next_at": millis(at)}
        for one in channels
    ]
    if rows:
        tx.conn.execute(notice.insert(), rows)
    tx.notify(TOPIC, value=(alarm_id, edge))


_earlier = notice.alias("earlier")
_ITS_TURN = ~(
    sa.select(_earlier.c.id)
    .where(
        _earlier.c.state == _waiting,
        _earlier.c.alarm_id == notice.c.alarm_id,
        _earlier.c.channel == notice.c.channel,
        _earlier.c.id < notice.c.id,
    )
    .exists()
)
"""An alarm's end waits until its beginning is told, or dropped."""


def next_due(conn: sa.Connection, channel: str) -> int | None:
    """When the next notice of a channel is due, in stored milliseconds; None where none waits."""
    query = sa.select(sa.func.min(notice.c.next_at))
    found = conn.execute(query.where(notice.c.state == _waiting, notice.c.channel == channel, _ITS_TURN)).scalar()
    return None if found is None else int(found)


def take(tx: Transaction, channel: str, *, at: datetime, again_at: datetime, most: int) -> list[Due]:
    """The notices that go out together now, oldest first; empty where none is due. They are due again at `again_at`.

    Those that went out together before do so again: they share their attempts and their time.
    """
    now = millis(at)
    due = sa.and_(
        notice.c.state == _waiting,
        notice.c.channel == channel,
        sa.or_(notice.c.next_at <= now, notice.c.next_at > now + FAR),
        _ITS_TURN,
    )
    oldest = sa.select(notice.c.attempts, notice.c.next_at).where(due).order_by(notice.c.next_at, notice.c.id)
    found = tx.conn.execute(oldest.limit(1)).first()
    if found is None:
        return []
    together = [notice.c.attempts == found.attempts]
    if found.attempts:
        together.append(notice.c.next_at == found.next_at)
    ids = list(
        tx.conn.execute(sa.select(notice.c.id).where(due, *together).order_by(notice.c.id).limit(most)).scalars()
    )
    later = {"attempts": found.attempts + 1, "next_at": millis(again_at)}
    tx.conn.execute(notice.update().where(notice.c.id.in_(ids)), later)
    query = sa.select(notice.c.id.label("notice_id"), notice.c.edge, notice.c.attempts, alarm)
    rows = tx.conn.execute(
        query.join(alarm, alarm.c.id == notice.c.alarm_id).where(notice.c.id.in_(ids)).order_by(notice.c.id)
    )
    return [Due(row.notice_id, row.edge, row.attempts, _alarm(row)) for row in rows]


def settle(tx: Transaction, notices: Collection[int], state: str, *, reason: str = "") -> None:
    """The channel has them (SENT), or will never have them (DROPPED)."""
    tx.conn.execute(notice.update().where(notice.c.id.in_(notices)), {"state": state, "reason": reason})
    tx.notify(TOPIC)


def put_back(tx: Transaction, notices: Collection[int], *, at: datetime, reason: str) -> None:
    """Not taken: together again at that time."""
    tx.conn.execute(notice.update().where(notice.c.id.in_(notices)), {"next_at": millis(at), "reason": reason})
    tx.notify(TOPIC)


def drop_others(tx: Transaction, channels: Collection[str]) -> int:
    """What waits for a channel that the settings do not have any more is dropped; how many that were."""
    others = notice.update().where(notice.c.state == _waiting, notice.c.channel.not_in(sorted(channels)))
    return tx.conn.execute(others, {"state": DROPPED, "reason": "channel_gone"}).rowcount


def told(conn: sa.Connection, alarm_ids: Collection[int]) -> dict[int, list[Told]]:
    """The notices of these alarms, oldest first, by alarm."""
    found: dict[int, list[Told]] = {}
    query = sa.select(notice).where(notice.c.alarm_id.in_(sorted(alarm_ids))).order_by(notice.c.id)
    for row in conn.execute(query):
        one = Told(row.alarm_id, row.edge, row.channel, row.state, row.attempts, row.reason)
        found.setdefault(row.alarm_id, []).append(one)
    return found


@dataclass(frozen=True, slots=True)
class Trouble:
    """How a channel does: when the oldest alarm began whose notice waits, and notices dropped of alarms since then."""

    oldest: datetime | None = None
    dropped: int = 0


def troubles(conn: sa.Connection, channels: Sequence[str], *, since: datetime) -> dict[str, Trouble]:
    """How each channel does. `since` bounds what was dropped by when it happened."""
    happened = sa.case((notice.c.edge == OVER, alarm.c.over_at), else_=alarm.c.since)
    query = sa.select(notice.c.channel, happened.label("happened")).join(alarm, alarm.c.id == notice.c.alarm_id)
    found = {name: Trouble() for name in channels}
    waiting = query.where(notice.c.state == _waiting, notice.c.attempts > 0).order_by("happened")
    for name, at in conn.execute(waiting):
        if name in found and found[name].oldest is None:
            found[name] = Trouble(moment(at))
    newest = sa.select(sa.func.max(alarm.c.id)).scalar_subquery()
    dropped = query.where(notice.c.state == DROPPED, alarm.c.id > newest - 1000, happened >= millis(since))
    for name, _ in conn.execute(dropped):
        if name in found:
            found[name] = Trouble(found[name].oldest, found[name].dropped + 1)
    return found


def _alarm(row: Any) -> Alarm:
    over = moment(row.over_at) if row.over_at is not None else None
    return Alarm(row.id, row.rule, row.subject, moment(row.since), over, json.loads(row.detail))


def _text(detail: Mapping[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True)
