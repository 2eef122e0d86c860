"""The tables. One message is one row of `message`; its history is its rows of `event`.

Times are whole milliseconds since 1970 UTC. JSON is text. Nothing here is particular to one engine.
"""

import functools
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bridge.domain.states import UNDER_WAY, State

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text(f"state IN ({', '.join(repr(str(s)) for s in sorted({State.RECEIVED, *UNDER_WAY}))})")

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
    sqlite_autoincrement=True,  # an id is never used twice
)
sa.Index("ix_message_open", message.c.state, message.c.id, sqlite_where=_OPEN, postgresql_where=_OPEN)
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
    sa.UniqueConstraint("value", "authority"),
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
    sa.UniqueConstraint("number", "authority"),
)

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
    sa.UniqueConstraint("key", "generation"),  # at most one task
)

destination = sa.Table(
    "destination",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("down", sa.Boolean, nullable=False, default=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("since", sa.BigInteger, nullable=False),
)


def millis(moment: datetime) -> int:
    """A stored time."""
    return round(moment.timestamp() * 1000)


def moment(stored: int) -> datetime:
    """A stored time as an aware one, UTC."""
    return datetime.fromtimestamp(stored / 1000, UTC)


@functools.cache
def insert_new(dialect_name: str, table: sa.Table, returning: str) -> Any:
    """An INSERT that leaves an existing row (by any unique index) as it is; no row comes back then."""
    dialect = sqlite if dialect_name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing().returning(table.c[returning])
