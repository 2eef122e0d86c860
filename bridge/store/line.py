"""The line of work: who is next, in order within each patient, and what a restart finds."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Identifier
from bridge.domain.states import UNDER_WAY, State
from bridge.store.inbox import Arrival, move, record
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import barrier, event, message, millis, task

AWAITING_ORDER = "awaiting_order"
ON_HOLD = "order_on_hold"
MORE_GROUPS = "more_groups"
"""Reason of an INTENT: further groups of the recording are to be sent behind this one."""
QUIET = (AWAITING_ORDER, ON_HOLD)
"""Reasons of a RETRY that hold nobody up: the recording waits for its order, the order for its release."""

FOR_EVER = 1e12
"""Seconds: longer than any order is waited for."""
LONGEST_WAIT = 960_000
"""Milliseconds: a little more than the longest time that a message waits by itself (failures.md F14)."""
AFTER_INTERRUPTION = 5000
"""Milliseconds until a message whose work was interrupted is taken up again."""
GONE = "destination_gone"
"""Reason of a RETRY: the settings name its destination no more. A start looks again."""
ANY_SIZE = 2**63 - 1

_next = message.alias("next")
_earlier = message.alias("earlier")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message in hand."""

    id: int
    kind: str
    state: State
    attempts: int
    raw: bytes | None
    payload: str | None
    understood: str | None
    received_at: int
    listener: str
    sender: str
    peer: str
    answer: bytes | None
    answer_code: str
    sop_instance_uid: str
    order_key: str | None
    reason: str
    destination: str = ""
    size: int = 0


_COLUMNS = (
    "id", "kind", "state", "attempts", "raw", "payload", "understood", "received_at", "listener", "sender", "peer",
    "answer", "answer_code", "sop_instance_uid", "order_key", "reason", "destination", "size",
)  # fmt: skip


def _written(*states: State) -> list[sa.ColumnClause[str]]:
    """States written out, not bound, so that the partial indexes of open work can serve."""
    return [sa.literal_column(f"'{state}'", sa.Text) for state in sorted(states)]


def _open(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Open work, in the very words of the partial indexes: SQLite takes such an index for no other condition."""
    return table.c.state.in_(_written(State.RECEIVED, *UNDER_WAY))


TO_BE_SENT = (
    message.c.state.in_(_written(*UNDER_WAY)),
    _open(message),
    *(message.c.reason != reason for reason in QUIET),
)
"""What waits to be sent or is being sent. What waits for its order or its release does not count."""

_NEXT_RECEIVED = Prepared(
    message.update()
    .where(
        message.c.id.in_(
            sa.select(message.c.id)
            .where(message.c.state.in_(_written(State.RECEIVED)), _open(message))
            .order_by(message.c.id)
            .limit(sa.bindparam("most"))
            .scalar_subquery()
        )
    )
    .values(attempts=message.c.attempts + 1)
    .returning(*(message.c[c] for c in _COLUMNS))
)
_ANY_RECEIVED = Prepared(
    sa.select(message.c.id).where(message.c.state.in_(_written(State.RECEIVED)), _open(message)).limit(1)
)
_LEFT_OVER = Prepared(
    sa.select(*(message.c[c] for c in _COLUMNS))
    .where(message.c.state.in_(_written(State.RECEIVED)), _open(message), message.c.id <= sa.bindparam("upto"))
    .order_by(message.c.id)
    .limit(sa.bindparam("most"))
)
_HELD_UP = (
    sa.select(_earlier.c.id)
    .where(
        _earlier.c.order_key == _next.c.order_key,
        _earlier.c.id < _next.c.id,
        _earlier.c.state.in_(_written(*UNDER_WAY)),
        _open(_earlier),
        *(_earlier.c.reason != reason for reason in QUIET),
    )
    .exists()
)
_BARRED = (
    sa.select(barrier.c.id).where(barrier.c.order_key == _next.c.order_key, barrier.c.message_id < _next.c.id).exists()
)


def _may_go_on(*more: sa.ColumnElement[bool]) -> tuple[sa.ColumnElement[bool], ...]:
    """What is due and may go on. `more` says which of it; what costs most to find out comes last."""
    due = sa.or_(
        _next.c.next_at.is_(None),
        _next.c.next_at <= sa.bindparam("now"),
        # Nothing waits so long by itself: the clock was set back (F25).
        sa.and_(_next.c.next_at > sa.bindparam("far"), *(_next.c.reason != reason for reason in (*QUIET, GONE))),
        sa.and_(_next.c.next_at > sa.bindparam("far_order"), _next.c.reason == AWAITING_ORDER),
    )
    stands = (_next.c.state.in_(_written(State.READY, State.RETRY)), _open(_next), _next.c.owner.is_(None), due)
    return (*stands, *more, ~_HELD_UP, ~_BARRED)


def _claiming(*more: sa.ColumnElement[bool]) -> Any:
    """The oldest of what may go on."""
    oldest = (
        sa.select(_next.c.id)
        .where(*_may_go_on(*more))
        .order_by(_next.c.id)
        .limit(sa.bindparam("most"))
        .scalar_subquery()
    )
    return (
        message.update()
        .where(message.c.id.in_(oldest), message.c.owner.is_(None))
        .values(owner=sa.bindparam("new_owner"), attempts=message.c.attempts + 1)
        .returning(*(message.c[c] for c in _COLUMNS))
    )


_CLAIM = Prepared(_claiming())
_GOES_THERE = (
    _next.c.destination == sa.bindparam("goes_to"),
    sa.or_(_next.c.kind == "hl7", _next.c.size < sa.bindparam("smaller")),
)
_CLAIM_OF = Prepared(_claiming(*_GOES_THERE))
_ANY_OF = Prepared(sa.select(_next.c.id).where(*_may_go_on(*_GOES_THERE)).limit(1))
_NEXT_DUE = Prepared(
    sa.select(sa.func.min(message.c.next_at)).where(
        message.c.state.in_(_written(State.RETRY)),
        _open(message),
        message.c.owner.is_(None),
        message.c.destination == sa.bindparam("goes_to"),
    )
)


def _claimed(row: Any) -> Claimed:
    return Claimed(**{**row._asdict(), "state": State(row.state)})


def claimed_anew(message_id: int, arrival: Arrival, answer: bytes | None, answer_code: str) -> Claimed:
    """A message that was just kept, as it would be read from the store."""
    return Claimed(
        id=message_id,
        kind=arrival.kind,
        state=State.RECEIVED,
        attempts=0,
        raw=arrival.raw,
        payload=arrival.payload,
        understood=None,
        received_at=round(arrival.received_at.timestamp() * 1000),
        listener=arrival.listener,
        sender=arrival.sender,
        peer=arrival.peer,
        answer=answer,
        answer_code=answer_code,
        sop_instance_uid=arrival.sop_instance_uid,
        order_key=None,
        reason="",
        size=arrival.size or len(arrival.raw or b""),
    )


_UNREAD_BEFORE = (
    message.c.state.in_(_written(State.RECEIVED)),
    _open(message),
    message.c.kind == "hl7",
    message.c.id < sa.bindparam("own"),
)
_UNREAD = Prepared(sa.select(message.c.id).where(*_UNREAD_BEFORE).limit(1))
_UNREAD_FROM = Prepared(sa.select(message.c.id).where(*_UNREAD_BEFORE, message.c.id >= sa.bindparam("first")))


def unread_from(conn: sa.Connection, first: int, before: int) -> list[int]:
    """The HL7 messages from one on, before another, that are kept and not yet understood."""
    return list(_UNREAD_FROM.run(conn, {"first": first, "own": before}).scalars())


def is_unread_before(conn: sa.Connection, message_id: int) -> bool:
    """Whether an older HL7 message is kept and not yet understood: it counts for those behind it."""
    return _UNREAD.run(conn, {"own": message_id}).first() is not None


def next_received(tx: Transaction, limit: int) -> list[Claimed]:
    """The oldest messages that nobody has understood yet, in order of arrival.

    The attempt is counted before anything is parsed, so that a poison message cannot hide (F28).
    """
    rows = _NEXT_RECEIVED.run(tx.conn, {"most": limit}).all()
    return sorted((_claimed(row) for row in rows), key=lambda c: c.id)


def has_received(conn: sa.Connection) -> bool:
    """Whether `next_received` would find something at this moment: it costs no turn to ask."""
    return _ANY_RECEIVED.run(conn).first() is not None


def left_over(conn: sa.Connection, upto: int, limit: int) -> list[Claimed]:
    """The oldest messages that nobody has understood yet, of those that were there when the service started."""
    return [_claimed(row) for row in _LEFT_OVER.run(conn, {"upto": upto, "most": limit}).all()]


def _asked(owner: str, limit: int, at: datetime, order_wait: float) -> dict[str, Any]:
    return {"most": limit, "new_owner": owner, **_moments(at, order_wait)}


def _moments(at: datetime, order_wait: float) -> dict[str, int]:
    now = millis(at)
    return {"now": now, "far": now + LONGEST_WAIT, "far_order": now + round(order_wait * 1000) + 1000}


def claim(
    tx: Transaction,
    owner: str,
    limit: int,
    *,
    at: datetime,
    destination: str | None = None,
    smaller: int = ANY_SIZE,
    order_wait: float = FOR_EVER,
) -> list[Claimed]:
    """The oldest messages whose task is due, at most one of each patient, none with an earlier one open.

    A recording that waits for its order holds nobody up. Messages without a patient key do not wait for each other.
    `destination` None: wherever they go; else those that go there, of the recordings those of fewer bytes than
    `smaller`. No recording waits for its order for longer than `order_wait` seconds, however the clock was set (F25).
    """
    asked = _asked(owner, limit, at, order_wait)
    if destination is None:
        rows = _CLAIM.run(tx.conn, asked).all()
    else:
        rows = _CLAIM_OF.run(tx.conn, {**asked, "goes_to": destination, "smaller": smaller}).all()
    return sorted((_claimed(row) for row in rows), key=lambda c: c.id)


def is_claimable(
    conn: sa.Connection, *, at: datetime, destination: str, smaller: int = ANY_SIZE, order_wait: float = FOR_EVER
) -> bool:
    """Whether `claim` would find something at this moment: it costs no turn to ask."""
    asked = {**_moments(at, order_wait), "goes_to": destination, "smaller": smaller}
    return _ANY_OF.run(conn, asked).first() is not None


def claim_astray(tx: Transaction, owner: str, limit: int, known: Collection[str], *, at: datetime) -> list[Claimed]:
    """As `claim`: what has no destination yet (a person released it), or one that the settings do not name."""
    asked = _asked(owner, limit, at, FOR_EVER)
    rows = tx.conn.execute(_claiming(_next.c.destination.not_in(sorted(known))), asked).all()
    return sorted((_claimed(row) for row in rows), key=lambda c: c.id)


def astray(conn: sa.Connection, known: Collection[str], *, but: str | None = None) -> dict[str, int]:
    """Open messages whose destination the settings do not name, by its name; empty where it is not decided. Those that
    wait for the reason `but` do not count.
    """
    query = (
        sa.select(message.c.destination, sa.func.count())
        .where(message.c.state.in_(_written(*UNDER_WAY)), _open(message), message.c.destination.not_in(sorted(known)))
        .group_by(message.c.destination)
    )
    if but is not None:
        query = query.where(message.c.reason != but)
    return {str(name): int(count) for name, count in conn.execute(query).all()}


_WAITS = Prepared(
    sa.select(message.c.id)
    .where(
        message.c.state.in_(_written(State.READY)),
        _open(message),
        message.c.owner.is_(None),
        message.c.destination == sa.bindparam("goes_to"),
    )
    .limit(1)
)
_CLAIM_ONE = Prepared(
    message.update()
    .where(
        message.c.id.in_(
            sa.select(_next.c.id)
            .where(
                _next.c.id == sa.bindparam("which"),
                _next.c.state.in_(_written(State.READY)),
                _next.c.owner.is_(None),
                ~_HELD_UP,
                ~_BARRED,
            )
            .scalar_subquery()
        )
    )
    .values(owner=sa.bindparam("new_owner"), attempts=message.c.attempts + 1)
)


def claim_one(tx: Transaction, owner: str, message_id: int) -> bool:
    """Claim this very message, where nothing of its patient stands before it."""
    return _CLAIM_ONE.run(tx.conn, {"which": message_id, "new_owner": owner}).rowcount == 1


def waits(conn: sa.Connection, destination: str) -> bool:
    """Whether something goes there that nobody has in hand: it may stand behind another of its patient."""
    return _WAITS.run(conn, {"goes_to": destination}).first() is not None


def release(tx: Transaction, message_id: int, *, at: datetime) -> None:
    """Give a message back whose work was interrupted before its intention was written: somebody takes it up again, but
    not at once, since what interrupted it may be there still.
    """
    again = millis(at) + AFTER_INTERRUPTION
    for before in (State.UPLOADING, State.READY, State.RETRY):
        if move(tx, message_id, before, State.RETRY, at=at, reason="interrupted", next_at=again, owner=None):
            tx.notify("ready", message_id)
            return


def next_due(conn: sa.Connection, destination: str) -> int | None:
    """When the earliest message that waits to go there is due, in stored milliseconds; None where none waits."""
    due: int | None = _NEXT_DUE.run(conn, {"goes_to": destination}).scalar()
    return due


def limited_until(conn: sa.Connection, reason: str) -> dict[str, int]:
    """Until when the messages of each destination wait for this reason, in stored milliseconds."""
    query = (
        sa.select(message.c.destination, sa.func.max(message.c.next_at))
        .where(message.c.state.in_(_written(State.RETRY)), _open(message), message.c.reason == reason)
        .group_by(message.c.destination)
    )
    return {str(name): int(until or 0) for name, until in conn.execute(query).all()}


def times(conn: sa.Connection, message_id: int, reason: str) -> int:
    """How often a message was put back for this reason."""
    query = sa.select(sa.func.count()).where(
        event.c.message_id == message_id, event.c.state == State.RETRY, event.c.reason == reason
    )
    return int(conn.execute(query).scalar_one())


def recover(
    tx: Transaction,
    *,
    at: datetime,
    keep_waiting: Collection[str] = (),
    left_by: sa.ColumnElement[bool] | None = None,
) -> dict[str, int]:
    """What a start finds: an INTENT without outcome is in doubt, everything else goes on.

    Nothing that may have been sent is sent again by this. What waits is due at once, since the cause may be gone (a
    token changed, a network mended), except for the reasons in `keep_waiting` and recordings that wait for an order.
    `left_by` says whose work it is, where others are at theirs; none: everybody's. Returns how many messages of each
    kind there were.
    """
    whose = sa.true() if left_by is None else left_by
    intents = sa.select(message.c.id, message.c.kind, message.c.reason).where(message.c.state == State.INTENT, whose)
    doubts = tx.conn.execute(intents).all()
    for message_id, kind, reason in doubts:
        tx.conn.execute(
            task.update().where(task.c.message_id == message_id, task.c.state == State.INTENT),
            {"state": State.IN_DOUBT, "reason": "interrupted", "settled_at": millis(at)},
        )
        # A message of orders goes on behind the one in doubt, and is answered, and a recording goes on with its next
        # group: the one in doubt is never sent again.
        after = State.READY if kind == "hl7" or reason == MORE_GROUPS else State.IN_DOUBT
        move(tx, message_id, State.INTENT, after, at=at, reason="interrupted", owner=None)
    uploads = sa.select(message.c.id).where(message.c.state == State.UPLOADING, whose)
    cut = tx.conn.execute(uploads).scalars().all()
    for message_id in cut:
        move(tx, message_id, State.UPLOADING, State.READY, at=at, reason="interrupted", owner=None)
    given_back = tx.conn.execute(message.update().where(message.c.owner.is_not(None), whose), {"owner": None})
    if given_back.rowcount:
        tx.notify("ready")
    tx.conn.execute(
        message.update().where(message.c.state == State.RETRY, message.c.reason.not_in([*QUIET, *keep_waiting]), whose),
        {"next_at": millis(at)},
    )
    return {"in_doubt": len(doubts), "resumed": len(cut)}


def wake_on_hold(tx: Transaction, *, at: datetime) -> None:
    """Whatever waits for the release of an order looks again whether it is its own: by which number, or by whose
    decision, it came to that order only it can say.
    """
    waiting = sa.select(message.c.id).where(
        message.c.state.in_(_written(State.RETRY)), _open(message), message.c.reason == ON_HOLD
    )
    wake_waiting(tx, tx.conn.execute(waiting.order_by(message.c.id)).scalars().all(), at=at, reason=ON_HOLD)


def wake_waiting(tx: Transaction, message_ids: Collection[int], *, at: datetime, reason: str = AWAITING_ORDER) -> None:
    """Messages that wait for their order, or for its release, are due now."""
    for message_id in message_ids:
        woken = tx.conn.execute(
            message.update().where(
                message.c.id == message_id,
                message.c.state == State.RETRY,
                message.c.reason == reason,
                message.c.owner.is_(None),
            ),
            {"next_at": millis(at)},
        )
        if woken.rowcount:
            record(tx, message_id, State.RETRY, at=at, reason=reason, detail={"order": "arrived or released"})
            tx.notify("ready", message_id)


def rekey(tx: Transaction, old: Identifier, new: str, *, site_authority: str) -> None:
    """Open work of a patient whose identifier was merged stands in the line of the one that stays."""
    query = sa.select(message.c.id, message.c.understood).where(message.c.order_key == old.value, _open(message))
    mine = [
        row.id
        for row in tx.conn.execute(query).all()
        if row.understood
        and Identifier(old.value, authority_of(row.understood)).agrees(old, site_authority=site_authority)
    ]
    if mine:
        tx.conn.execute(message.update().where(message.c.id.in_(mine)), {"order_key": new})


def authority_of(understood: str) -> str:
    """Who issued the patient identifier of what was understood."""
    document = json.loads(understood)
    if document["recording"]:
        return str(document["recording"]["patient_authority"])
    return next((str(o["authority"]) for o in document["orders"]), "")


def newest(conn: sa.Connection) -> int:
    """The id of the newest message; 0 where there is none."""
    return int(conn.execute(sa.select(sa.func.max(message.c.id))).scalar() or 0)


def hurry(tx: Transaction, reasons: Collection[str], *, at: datetime, destination: str) -> None:
    """What waits there for these reasons is due now: their cause is gone."""
    tx.conn.execute(
        message.update().where(
            message.c.state.in_(_written(State.RETRY)),
            _open(message),
            message.c.reason.in_(sorted(reasons)),
            message.c.destination == destination,
        ),
        {"next_at": millis(at)},
    )
    tx.notify("ready")


def bar(tx: Transaction, message_id: int, order_keys: Collection[str]) -> None:
    """The later work of these patients waits until the message leaves HELD."""
    rows = [{"message_id": message_id, "order_key": key} for key in sorted(set(order_keys))]
    if rows:
        tx.conn.execute(barrier.insert(), rows)
