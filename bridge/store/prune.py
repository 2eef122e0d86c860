"""What is finished and old is emptied: what was said of a patient goes, what makes a second task impossible stays.

No message's row is ever deleted. It is emptied, and stays for good, for these reasons:

- Its identity (a hash of sender, number and content; an object's UID with a hash) is how a resend is known: an archive
  may send an object again years later, and there is no time after which nobody does. `digest`, `control_id` and
  `sop_instance_uid` tell another content under the same number or UID from a resend.
- The key and generation of its tasks make a second task impossible, and `task_ids` is the record of what was made.
- Orders, patients, merges, anomalies and the audit trail name it.

What stays of a message is its row without `raw`, `payload`, `understood`, `order_key`, `order_number` and `decision`,
and with no more of its answer than MSH and MSA; one event, which says when and by whom it was pruned; its tasks without
body, traces and what was said of them; its orders with their number and the digest of what was ordered, and without a
patient; the words of its control id, SOP instance and tasks. None of it says who the patient was. Together with
its indexes that is a kilobyte, measured, an eighth of what it was.

Never emptied is what is open, in doubt, held or refused (unless the site sets a time for what was refused), what has an
answer or a report to tell, a task that is watched, a change that came after its task and that nobody has settled; an
order that stands without its recording, or on hold, or that was cancelled before it came; an order that an unfinished
recording names or that a person chose for one; a recording whose UID another one is held for.

Patients and merges are not pruned at all: they are what a recording is matched by, however late it comes, and a merge
that was forgotten would put a recording to the wrong patient. The audit trail is not either: a chain that is cut cannot
be told from one that was tampered with. The newest event, the mark of how far a store has come (F41), is never taken
away: each message that is pruned writes one.

An order number that comes again after its order was pruned is refused as a duplicate: whose it was is not known any
more. A merge or an update of a patient lists the tasks of messages that are not pruned.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from bridge.domain.order import Standing
from bridge.domain.states import SETTLED, State
from bridge.domain.task import Mapped
from bridge.retention_settings import RetentionSettings
from bridge.store import book, inbox
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import (
    OPEN,
    among,
    anomaly,
    barrier,
    clinical_order,
    commitment,
    commitment_instance,
    event,
    message,
    millis,
    number,
    outbound,
    task,
    term,
)
from bridge.store.terms import Kind

REASON = "pruned"
"""Reason of the one event that is left of a message."""
WINDOW = 1000
"""Messages that are looked at in one statement."""
STEP = 20
"""Messages that are emptied in one transaction."""

FINISHED = (State.CREATED, State.DONE, State.FILTERED, State.CANCELLED)
_UNFINISHED = tuple(state for state in State if state not in FINISHED)


def _written(*words: str) -> list[sa.ColumnClause[str]]:
    """Words of our own, written out: a prepared statement binds no lists."""
    return [sa.literal_column(f"'{word}'", sa.Text) for word in words]


_TASK_OVER = _written(State.CREATED, State.REJECTED, State.CANCELLED)
_COMPARED = _written(*(state for state in _UNFINISHED if state is not State.REJECTED))
_KEPT_WORDS = _written(Kind.CONTROL, Kind.INSTANCE, Kind.TASK)
_UNTOLD = _written("WAITING", "HELD")
(_NO_TEXT,) = _written("")
_NOTHING = json.dumps(book.mapped_to_json(Mapped({})))
"""What an order says of which nothing is known any more."""


@dataclass(frozen=True, slots=True)
class Upto:
    """Up to when what was finished goes, in stored milliseconds; `refused` None: never."""

    messages: int
    recordings: int
    refused: int | None
    alarms: int
    sessions: int

    def given(self) -> dict[str, int]:
        """What a statement is given; `oldest`: an anomaly that was settled since then keeps whatever it concerns."""
        refused = -1 if self.refused is None else self.refused
        kept = [self.messages, self.recordings, *([] if self.refused is None else [self.refused])]
        return {
            "messages": self.messages, "recordings": self.recordings, "refused": refused, "oldest": min(kept),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """Messages that can go, of those up to `last`; None: there are no more messages."""

    ids: Sequence[int]
    last: int | None


@dataclass(frozen=True, slots=True)
class Going:
    """A payload that no message names any more, and the UID by which whoever else may name it is found."""

    payload: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """What one transaction did."""

    messages: int = 0
    size: int = 0  # bytes, as they were received
    going: tuple[Going, ...] = ()


def upto(settings: RetentionSettings, now: datetime) -> Upto:
    """The edges as they are now."""

    def before(days: int) -> int:
        return millis(now - timedelta(days=days))

    refused = before(settings.refused) if settings.refused is not None else None
    return Upto(
        before(settings.messages), before(settings.recordings), refused, before(settings.alarms),
        before(settings.sessions),
    )  # fmt: skip


# --- what can go --------------------------------------------------------------------------------------------

_HL7: sa.BindParameter[int] = sa.bindparam("messages")
_OBJECTS: sa.BindParameter[int] = sa.bindparam("recordings")
_REFUSED: sa.BindParameter[int] = sa.bindparam("refused")
_OLDEST: sa.BindParameter[int] = sa.bindparam("oldest")
_EDGE: sa.ColumnElement[int] = sa.case(
    (message.c.state == State.REJECTED, _REFUSED), (message.c.kind == "hl7", _HL7), else_=_OBJECTS
)
"""Up to when a message must have come, and nothing may have happened to it since."""


def _none(table: sa.FromClause, *like: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return ~sa.select(sa.literal_column("1")).select_from(table).where(*like).exists()


def _is_alive(of: sa.FromClause) -> sa.ColumnElement[bool]:
    """A task that is not over, or not for long enough."""
    settled = sa.func.coalesce(of.c.settled_at, of.c.intent_at)
    return sa.or_(of.c.state.not_in(_TASK_OVER), of.c.watch_at.is_not(None), settled > _EDGE)


def _to_settle(column: sa.ColumnElement[int]) -> sa.Select[int]:
    """Messages whose task was made before a change that nobody has settled, or somebody a short time ago."""
    return sa.select(column).where(sa.or_(anomaly.c.settled_at.is_(None), anomaly.c.settled_at > _OLDEST))


def _is_untold() -> sa.ColumnElement[bool]:
    said_late = sa.func.coalesce(outbound.c.settled_at, outbound.c.created_at) > _EDGE
    newest = sa.select(sa.func.max(outbound.c.id)).scalar_subquery()  # SQLite would give its number once more
    return sa.or_(outbound.c.state.in_(_UNTOLD), said_late, outbound.c.id == newest)


def _is_compared_with_nothing() -> sa.ColumnElement[bool]:
    """No object under the same UID waits for a person, who needs both (F29)."""
    other = message.alias("other")
    twin = (other.c.sop_instance_uid == message.c.sop_instance_uid, other.c.id != message.c.id)
    return sa.or_(message.c.sop_instance_uid == "", _none(other, *twin, other.c.state.in_(_COMPARED)))


def _orders_are_over() -> list[sa.ColumnElement[bool]]:
    """Every order that a message stands for was withdrawn, or has its recording, and nobody needs it any more."""
    order, theirs = clinical_order.alias("own_order"), task.alias("theirs")
    recorded = (
        sa.select(sa.literal_column("1"))
        .where(theirs.c.order_id == order.c.id, theirs.c.purpose == "recording", theirs.c.state == State.CREATED)
        .exists()
    )
    over = sa.or_(
        order.c.standing.in_(_written(Standing.CANCELLED, Standing.REPLACED)),
        sa.and_(order.c.standing == Standing.ACTIVE, order.c.ordered, recorded),
    )
    is_needed = sa.or_(_is_alive(theirs), theirs.c.message_id.in_(_to_settle(anomaly.c.task_message_id)))
    mine, named, recording = number.alias("mine"), number.alias("named"), message.alias("recording")
    names_it = (
        mine.c.message_id == message.c.id,
        mine.c.role == "order",
        named.c.value == mine.c.value,
        named.c.role == "recording",
        recording.c.id == named.c.message_id,
        recording.c.state.in_(_written(*_UNFINISHED)),
    )
    return [
        _none(order, order.c.message_id == message.c.id, sa.not_(over)),
        _none(order.join(theirs, theirs.c.order_id == order.c.id), order.c.message_id == message.c.id, is_needed),
        _none(mine.join(named, sa.true()).join(recording, sa.true()), *names_it),
    ]


_CAN_GO = (
    message.c.state.in_(_written(*FINISHED, State.REJECTED)),
    message.c.received_at <= _EDGE,
    _none(event, event.c.message_id == message.c.id, sa.or_(event.c.at > _EDGE, event.c.reason == REASON)),
    _none(barrier, barrier.c.message_id == message.c.id),
    _none(task, task.c.message_id == message.c.id, _is_alive(task)),
    _none(outbound, outbound.c.message_id == message.c.id, _is_untold()),
    message.c.id.not_in(_to_settle(anomaly.c.message_id)),
    message.c.id.not_in(_to_settle(anomaly.c.task_message_id)),
    _is_compared_with_nothing(),
    *_orders_are_over(),
)
"""What must be true of a message, whatever a person chose and a peer asked for."""

_BEHIND = sa.select(message.c.id).where(message.c.id > sa.bindparam("after")).order_by(message.c.id).limit(WINDOW)
_LAST = Prepared(sa.select(sa.func.max(_BEHIND.subquery().c.id)))
_FOUND = Prepared(
    sa.select(message.c.id, message.c.sop_instance_uid)
    .where(message.c.id > sa.bindparam("after"), message.c.id <= sa.bindparam("last"), *_CAN_GO)
    .order_by(message.c.id)
)


def window(conn: sa.Connection, after: int, edges: Upto) -> Window:
    """The next `WINDOW` messages behind `after`, and which of them can go.

    On PostgreSQL by indexes, whatever the statistics say: made of a table that was nearly empty, they may lead through
    whole tables for each message. Such costs would set off the compiler (jit), which takes a second (measured).
    """
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL jit = off")
    last = _LAST.run(conn, {"after": after}).scalar()
    if last is None:
        return Window((), None)
    found = _FOUND.run(conn, {"after": after, "last": last, **edges.given()}).all()
    needed = _chosen(conn)
    asked_for = _committed(conn, [row.sop_instance_uid for row in found if row.sop_instance_uid], edges.recordings)
    can_go = [row.id for row in found if row.id not in needed and row.sop_instance_uid not in asked_for]
    return Window(can_go, last)


def measured(conn: sa.Connection, ids: Sequence[int]) -> tuple[int, int, int]:
    """How many messages these are, how many of them have a file, and their bytes as they were received."""
    size = sa.func.coalesce(sa.func.sum(message.c.size), 0)
    query = sa.select(sa.func.count(), sa.func.count(message.c.payload), size).where(message.c.id.in_(ids))
    many, files, whole = conn.execute(query).one()
    return int(many), int(files), int(whole)


def _chosen(conn: sa.Connection) -> set[int]:
    """Messages of orders that a person chose for recordings that are not finished.

    Where he does so a moment later he is asked again: what he chose is not what he saw (`dispatch.decisions`).
    """
    mine = sa.or_(among(OPEN), sa.and_(among(SETTLED), message.c.state.in_(_UNFINISHED)))
    query = sa.select(message.c.decision).where(mine, message.c.decision.is_not(None))
    words = [json.loads(text) for text in conn.execute(query).scalars() if text]
    orders = {int(word["order"]) for word in words if word.get("order") is not None}
    if not orders:
        return set()
    theirs = sa.select(clinical_order.c.message_id).where(clinical_order.c.id.in_(sorted(orders)))
    return set(conn.execute(theirs).scalars())


def _committed(conn: sa.Connection, uids: Sequence[str], edge: int) -> set[str]:
    """Objects whose peers asked for them, or wait for an answer: the time runs from there."""
    if not uids:
        return set()
    asked = sa.or_(commitment.c.state.in_(_UNTOLD), commitment.c.requested_at > edge)
    query = (
        sa.select(commitment_instance.c.sop_instance_uid)
        .join(commitment, commitment.c.id == commitment_instance.c.commitment_id)
        .where(commitment_instance.c.sop_instance_uid.in_(uids), asked)
    )
    return set(conn.execute(query).scalars())


_ASKED_JUST_NOW = Prepared(
    sa.select(commitment_instance.c.sop_instance_uid)
    .join(commitment, commitment.c.id == commitment_instance.c.commitment_id)
    .where(commitment.c.state == sa.literal_column("'WAITING'", sa.Text))  # few, by the index of what waits
)


# --- emptying -----------------------------------------------------------------------------------------------

_THESE: tuple[sa.BindParameter[int], ...] = tuple(sa.bindparam(f"id_{place}") for place in range(STEP))
_COLUMNS = ("id", "kind", "state", "size", "payload", "sop_instance_uid", "answer")
_GOES = Prepared(sa.select(*(message.c[name] for name in _COLUMNS)).where(message.c.id.in_(_THESE), *_CAN_GO))
_NEWEST_EVENT = Prepared(sa.select(sa.func.max(event.c.id)))
_ANSWER = Prepared(message.update().where(message.c.id == sa.bindparam("which")))
_EMPTY = (
    Prepared(
        message.update()
        .where(message.c.id.in_(_THESE))
        .values(
            raw=sa.null(), payload=sa.null(), understood=sa.null(), order_key=sa.null(), order_number=_NO_TEXT,
            decision=sa.null(),
        )
    ),
    Prepared(
        clinical_order.update()
        .where(clinical_order.c.message_id.in_(_THESE))
        .values(
            mapped=_NOTHING, patient_value=_NO_TEXT,
            patient_authority=_NO_TEXT, visit=_NO_TEXT, plan=_NO_TEXT, due_at=sa.literal_column("0"),
        )
    ),
    Prepared(number.delete().where(number.c.message_id.in_(_THESE))),
    Prepared(outbound.delete().where(outbound.c.message_id.in_(_THESE))),
    Prepared(term.delete().where(term.c.message_id.in_(_THESE), term.c.kind.not_in(_KEPT_WORDS))),
)  # fmt: skip
_EMPTY_TASKS = Prepared(task.update().where(task.c.message_id.in_(_THESE)))
_FORGET = Prepared(event.delete().where(event.c.message_id.in_(_THESE), event.c.id <= sa.bindparam("before")))


def empty(
    tx: Transaction, ids: Sequence[int], edges: Upto, *, at: datetime, by: str, bare: Callable[[bytes], bytes]
) -> Emptied:
    """Empty those of these messages, `STEP` at the most, that still can go. `bare` is what may stay of an HL7 answer.

    The payloads that were theirs are `going`: their files are removed once this is committed.
    """
    conn = tx.conn
    erase_what_goes(conn)
    waiting = set(_ASKED_JUST_NOW.run(conn).scalars())
    found = _GOES.run(conn, {**_places(ids), **edges.given()}).all()
    rows = [row for row in found if row.sop_instance_uid not in waiting]
    if not rows:
        return Emptied()
    before = _NEWEST_EVENT.run(conn).scalar()
    for row in rows:
        if row.kind == "hl7" and row.answer:
            _ANSWER.run(conn, {"which": row.id, "answer": bare(bytes(row.answer))})
        state = State(row.state)
        if state is State.REJECTED:  # nobody can have it sent any more
            inbox.move(tx, row.id, state, State.CANCELLED, at=at, reason=REASON, actor=by)
        else:
            inbox.record(tx, row.id, state, at=at, reason=REASON, actor=by)
    these = _places([row.id for row in rows])
    for statement in _EMPTY:
        statement.run(conn, these)
    _EMPTY_TASKS.run(conn, {**these, "body": b"{}", "traces": "[]", "api_text": "", "watched": ""})
    _FORGET.run(conn, {**these, "before": before})
    going = tuple(Going(row.payload, row.sop_instance_uid) for row in rows if row.payload)
    return Emptied(len(rows), sum(row.size for row in rows), going)


def _places(ids: Sequence[int]) -> dict[str, int]:
    """So many places as a statement has; no message has the id 0."""
    if len(ids) > STEP:
        raise ValueError(f"{STEP} messages at the most")
    return {f"id_{place}": ids[place] if place < len(ids) else 0 for place in range(STEP)}


def erase_what_goes(conn: sa.Connection) -> None:
    """SQLite writes zeros over what is deleted or made shorter from here on; PostgreSQL's vacuum gives the room to
    other rows.
    """
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql("PRAGMA secure_delete=ON")


def is_named(conn: sa.Connection, one: Going) -> bool:
    """Whether a message rests on this payload: the same bytes have the same UID, by which it is found."""
    mine = sa.select(message.c.id).where(
        message.c.sop_instance_uid == one.sop_instance_uid, message.c.payload == one.payload
    )
    return conn.execute(mine.limit(1)).first() is not None


def payloads(conn: sa.Connection) -> frozenset[str]:
    """Every payload that a message rests on: a hundred bytes of memory each."""
    return frozenset(conn.execute(sa.select(message.c.payload).where(message.c.payload.is_not(None))).scalars())
