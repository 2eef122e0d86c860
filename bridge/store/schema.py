"""The tables. One message is one row of `message`; its history is its rows of `event`.

Times are whole milliseconds since 1970 UTC. JSON is text. Nothing here is particular to one engine.
"""

import functools
from collections.abc import Collection
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bridge.domain.states import SETTLED, UNDER_WAY, State
from bridge.store.prepared import Prepared

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = frozenset({State.RECEIVED, *UNDER_WAY})
_OPEN = sa.text(f"state IN ({', '.join(repr(str(s)) for s in sorted(OPEN))})")
_SETTLED = sa.text(f"state IN ({', '.join(repr(str(s)) for s in sorted(SETTLED))})")

message = sa.Table(
    "message",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False),  # hl7 | dicom
    sa.Column("type", sa.Text, nullable=False, default=""),  # ORM^O01; a SOP class name
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("listener", sa.Text, nullable=False, default=""),
    sa.Column("peer", sa.Text, nullable=False, default=""),  # address
    sa.Column("sender", sa.Text, nullable=False, default=""),  # MSH-3|MSH-4; calling AE title
    sa.Column("control_id", sa.Text, nullable=False, default=""),
    sa.Column("sop_instance_uid", sa.Text, nullable=False, default=""),
    sa.Column("identity", sa.Text, nullable=True, unique=True),  # the inbox key: sender, number and content
    sa.Column("digest", sa.Text, nullable=False, default=""),  # of the content alone
    sa.Column("raw", sa.LargeBinary, nullable=True),
    sa.Column("payload", sa.Text, nullable=True),  # name in the payload store
    sa.Column("size", sa.BigInteger, nullable=False, default=0),
    sa.Column("order_key", sa.Text, nullable=True),  # the patient: work is in order within it
    sa.Column("order_number", sa.Text, nullable=False, default=""),
    sa.Column("understood", sa.Text, nullable=True),  # what the rules made of it
    sa.Column("answer_code", sa.Text, nullable=False, default=""),
    sa.Column("answer", sa.LargeBinary, nullable=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.BigInteger, nullable=True),
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("destination", sa.Text, nullable=False, default=""),  # its route, since it was understood (F42)
    sa.Column("decision", sa.Text, nullable=True),  # JSON: what a person decided of it
    sqlite_autoincrement=True,  # an id is never used twice
)
sa.Index("ix_message_open", message.c.state, message.c.id, sqlite_where=_OPEN, postgresql_where=_OPEN)
sa.Index("ix_message_settled", message.c.state, message.c.id, sqlite_where=_SETTLED, postgresql_where=_SETTLED)
_ROUTED = (message.c.destination, message.c.state, message.c.id)
sa.Index("ix_message_destination", *_ROUTED, sqlite_where=_OPEN, postgresql_where=_OPEN)
sa.Index("ix_message_line", message.c.order_key, message.c.id, sqlite_where=_OPEN, postgresql_where=_OPEN)
sa.Index("ix_message_control", message.c.sender, message.c.control_id)
sa.Index("ix_message_sop", message.c.sop_instance_uid)

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False, index=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default=""),
)

patient = sa.Table(
    "patient",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("authority", sa.Text, nullable=False, default=""),
    sa.Column("last_name", sa.Text, nullable=False, default=""),
    sa.Column("first_name", sa.Text, nullable=False, default=""),
    sa.Column("gender", sa.Text, nullable=False, default=""),
    sa.Column("birth_date", sa.Text, nullable=False, default=""),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False),
    sa.Column("inactive", sa.Boolean, nullable=False, default=False),  # deleted by its sender: kept, and marked
    sa.Column("visit", sa.Text, nullable=False, default=""),  # JSON: number, class, location, status
    sa.UniqueConstraint("value", "authority"),
)

alias = sa.Table(
    "alias",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("retired_value", sa.Text, nullable=False),
    sa.Column("retired_authority", sa.Text, nullable=False, default=""),
    sa.Column("survivor_value", sa.Text, nullable=False),
    sa.Column("survivor_authority", sa.Text, nullable=False, default=""),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("undone_at", sa.BigInteger, nullable=True),  # a merge that no longer counts; never deleted
    sa.Index("ix_alias_retired_value", "retired_value"),
    sa.Index("ix_alias_survivor_value", "survivor_value"),
)

barrier = sa.Table(
    "barrier",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False, index=True),
    sa.Column("order_key", sa.Text, nullable=False, index=True),  # whose later work waits for a held move or merge
)

anomaly = sa.Table(
    "anomaly",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False, index=True),  # what brought it about
    sa.Column("task_message_id", _ID, sa.ForeignKey("message.id"), nullable=False),  # whose task it concerns
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("task_ids", sa.Text, nullable=False, default=""),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("settled_at", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("message_id", "task_message_id", "reason"),
)

_WAITING = sa.text("state = 'WAITING'")
outbound = sa.Table(
    "outbound",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),  # task_ids | application_answer
    sa.Column("listener", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("order_key", sa.Text, nullable=True),
    sa.Column("control_id", sa.Text, nullable=False, unique=True),  # MSH-10: the same at every attempt
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # WAITING | SENT | HELD
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("refusals", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("settled_at", sa.BigInteger, nullable=True),
    sa.Column("answer", sa.LargeBinary, nullable=True),
)
sa.Index("ix_outbound_waiting", outbound.c.address, outbound.c.id, sqlite_where=_WAITING, postgresql_where=_WAITING)

commitment = sa.Table(
    "commitment",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("transaction_uid", sa.Text, nullable=False),
    sa.Column("requester", sa.Text, nullable=False),  # AE title that asked, and that is told
    sa.Column("called", sa.Text, nullable=False),  # our AE title in its association
    sa.Column("peer", sa.Text, nullable=False, default=""),  # address
    sa.Column("state", sa.Text, nullable=False),  # WAITING | SENT | HELD
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("refusals", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.BigInteger, nullable=False),
    sa.Column("requested_at", sa.BigInteger, nullable=False),  # the last time it was asked for
    sa.Column("settled_at", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("requester", "transaction_uid"),
)
sa.Index(
    "ix_commitment_waiting", commitment.c.requester, commitment.c.id, sqlite_where=_WAITING, postgresql_where=_WAITING
)

commitment_instance = sa.Table(
    "commitment_instance",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("commitment_id", _ID, sa.ForeignKey("commitment.id"), nullable=False, index=True),
    sa.Column("sop_class_uid", sa.Text, nullable=False),
    sa.Column("sop_instance_uid", sa.Text, nullable=False),
    sa.Column("failure", sa.Integer, nullable=True),  # what was told last: 0 committed, else the reason; none yet: null
)

clinical_order = sa.Table(
    "clinical_order",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("number", sa.Text, nullable=False),  # placer's, else filler's
    sa.Column("authority", sa.Text, nullable=False, default=""),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("patient_value", sa.Text, nullable=False),
    sa.Column("patient_authority", sa.Text, nullable=False, default=""),
    sa.Column("mapped", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),  # of what was ordered: same order again, or another
    sa.Column("changed_digest", sa.Text, nullable=False, default=""),  # of what a change made of it
    sa.Column("standing", sa.Text, nullable=False, default="active"),
    sa.Column("ordered", sa.Boolean, nullable=False, default=True),  # false until the order itself has come
    sa.Column("sent_at", sa.BigInteger, nullable=True),  # MSH-7 of what was done last
    sa.Column("visit", sa.Text, nullable=False, default=""),
    sa.Column("replaced_by", _ID, nullable=True),  # the order that came in its place
    sa.Column("withdrawn_by", _ID, nullable=True, index=True),  # the message that cancelled or replaced it
    sa.Column("plan", sa.Text, nullable=False, default=""),  # JSON: when, where and by whom it is wanted
    sa.Column("due_at", sa.BigInteger, nullable=False, default=0),  # planned, or come where that is later; 0: never
    sa.UniqueConstraint("number", "authority"),
    sa.Index("ix_clinical_order_patient_value", "patient_value"),
    sa.Index("ix_clinical_order_message_id", "message_id"),  # from a number to its order
)
_STANDS = sa.text("standing = 'active'")
_DUE = (clinical_order.c.due_at, clinical_order.c.id)
sa.Index("ix_clinical_order_due", *_DUE, sqlite_where=_STANDS, postgresql_where=_STANDS)

number = sa.Table(
    "number",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("role", sa.Text, nullable=False),  # order | recording
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False, default=0),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("authority", sa.Text, nullable=False, default=""),
    sa.Index("ix_number_value", "value", "role"),
)

task = sa.Table(
    "task",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("order_id", _ID, sa.ForeignKey("clinical_order.id"), nullable=True, index=True),
    sa.Column("purpose", sa.Text, nullable=False),  # draft | recording
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False, default=1),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("sent", sa.Boolean, nullable=False, default=False),  # may have been sent: these bytes or none
    sa.Column("traces", sa.Text, nullable=False, default="[]"),
    sa.Column("intent_at", sa.BigInteger, nullable=False),
    sa.Column("settled_at", sa.BigInteger, nullable=True),
    sa.Column("task_ids", sa.Text, nullable=False, default=""),  # comma list: 64-bit, unsigned
    sa.Column("api_status", sa.Integer, nullable=True),
    sa.Column("api_text", sa.Text, nullable=False, default=""),
    sa.Column("watch_at", sa.BigInteger, nullable=True),  # when its status is asked for next; null: not any more
    sa.Column("watched", sa.Text, nullable=False, default=""),  # JSON: what its status said last
    sa.UniqueConstraint("key", "generation"),  # at most one task
    sa.Index("ix_task_task_ids", "task_ids"),
)
_WATCHED = sa.text("watch_at IS NOT NULL")
sa.Index("ix_task_watch_at", task.c.watch_at, task.c.id, sqlite_where=_WATCHED, postgresql_where=_WATCHED)
_DOUBT = sa.text(f"state = '{State.IN_DOUBT}'")
sa.Index("ix_task_in_doubt", task.c.message_id, sqlite_where=_DOUBT, postgresql_where=_DOUBT)

destination = sa.Table(
    "destination",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("down", sa.Boolean, nullable=False, default=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("since", sa.BigInteger, nullable=False),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),  # who
    sa.Column("action", sa.Text, nullable=False),  # release | replay | discard | resolve | reveal | …
    sa.Column("outcome", sa.Text, nullable=False),  # done | refused
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=True, index=True),
    sa.Column("detail", sa.Text, nullable=False),  # JSON, without a patient's value
    sa.Column("previous", sa.Text, nullable=False, unique=True),  # hash of the row before: the chain has no fork
    sa.Column("hash", sa.Text, nullable=False, unique=True),
)

mark = sa.Table(
    "mark",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),  # epoch | …
    sa.Column("value", sa.Text, nullable=False),
)

person = sa.Table(
    "person",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),  # who signs in, and who the audit trail says it was
    sa.Column("role", sa.Text, nullable=False),  # viewer | operator | admin
    sa.Column("password", sa.Text, nullable=False, default=""),  # an Argon2id hash; none: by OpenID Connect alone
    sa.Column("subject", sa.Text, nullable=True, unique=True),  # issuer and sub of an OpenID Connect identity
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("failures", sa.Integer, nullable=False, default=0),  # wrong passwords in a row
    sa.Column("locked_until", sa.BigInteger, nullable=False, default=0),
)

session = sa.Table(
    "session",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("secret", sa.Text, nullable=False, unique=True),  # SHA-256 of what the browser or the script holds
    sa.Column("kind", sa.Text, nullable=False),  # browser | token
    sa.Column("person_id", _ID, sa.ForeignKey("person.id"), nullable=False, index=True),
    sa.Column("label", sa.Text, nullable=False, default=""),  # what a token is for
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, nullable=True),
)

alarm = sa.Table(
    "alarm",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("rule", sa.Text, nullable=False),  # feed_silent | queue_old | destination_down | …
    sa.Column("subject", sa.Text, nullable=False),  # what it is about: a listener, a destination, a message's id
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("over_at", sa.BigInteger, nullable=True),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),  # JSON, without a patient's value
)
_ON = sa.text("over_at IS NULL")
sa.Index("uq_alarm_on", alarm.c.rule, alarm.c.subject, unique=True, sqlite_where=_ON, postgresql_where=_ON)

notice = sa.Table(
    "notice",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("alarm_id", _ID, sa.ForeignKey("alarm.id"), nullable=False, index=True),
    sa.Column("edge", sa.Text, nullable=False),  # on | over
    sa.Column("channel", sa.Text, nullable=False),  # webhook | mail
    sa.Column("state", sa.Text, nullable=False),  # WAITING | SENT | DROPPED
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
)
sa.Index("ix_notice_waiting", notice.c.next_at, notice.c.id, sqlite_where=_WAITING, postgresql_where=_WAITING)

_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # compared by code points, as SQLite does
term = sa.Table(
    "term",
    metadata,
    sa.Column("message_id", _ID, sa.ForeignKey("message.id"), primary_key=True, autoincrement=False),
    sa.Column("value", _WORD, primary_key=True),  # as people type it, without case and, in a name, accents
    sa.Column("kind", sa.Text, primary_key=True),  # a letter: bridge.store.terms.Kind
    sa.Index("ix_term_value", "value", "message_id"),
    sqlite_with_rowid=False,
)

worker = sa.Table(
    "worker",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),  # the owner of what it has in hand
    sa.Column("place", sa.Text, nullable=False, default=""),  # which process of which machine: bridge.store.place
    sa.Column("roles", sa.Text, nullable=False, default=""),
    sa.Column("version", sa.Text, nullable=False, default=""),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("commits", sa.BigInteger, nullable=False, default=0),  # its sign of life, and how a lost COMMIT ended
    sa.Column("gone_at", sa.BigInteger, nullable=True),  # from then on it can write nothing any more
    sa.Column("reason", sa.Text, nullable=False, default=""),
)

duty = sa.Table(
    "duty",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, nullable=False),
)


def among(states: Collection[State]) -> sa.ColumnElement[bool]:
    """That a message is open (`OPEN`) or settled, in the very words of the partial index: none serves otherwise."""
    return message.c.state.in_([sa.literal_column(f"'{state}'", sa.Text) for state in sorted(states)])


def millis(moment: datetime) -> int:
    """A stored time."""
    return round(moment.timestamp() * 1000)


def moment(stored: int) -> datetime:
    """A stored time as an aware one, UTC."""
    return datetime.fromtimestamp(stored / 1000, UTC)


@functools.cache
def insert_new(dialect_name: str, table: sa.Table, returning: str) -> Prepared:
    """An INSERT that leaves an existing row (by any unique index) as it is; no row comes back then."""
    dialect = sqlite if dialect_name == "sqlite" else postgresql
    return Prepared(dialect.insert(table).on_conflict_do_nothing().returning(table.c[returning]))
