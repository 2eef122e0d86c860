"""Several destinations, what persons decide and its audit trail, tasks that are watched, and the epoch."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("state IN ('INTENT', 'READY', 'RECEIVED', 'RETRY', 'UPLOADING')")
_WATCHED = sa.text("watch_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("message", sa.Column("destination", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.create_index(
        "ix_message_destination",
        "message",
        ["destination", "state", "id"],
        unique=False,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.add_column("message", sa.Column("decision", sa.Text(), nullable=True))
    op.add_column("task", sa.Column("watch_at", sa.BigInteger(), nullable=True))
    op.add_column("task", sa.Column("watched", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.create_index(
        "ix_task_watch_at",
        "task",
        ["watch_at", "id"],
        unique=False,
        sqlite_where=_WATCHED,
        postgresql_where=_WATCHED,
    )
    op.create_table(
        "audit",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("message_id", _ID, sa.ForeignKey("message.id"), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.UniqueConstraint("hash", name="uq_audit_hash"),
        sa.UniqueConstraint("previous", name="uq_audit_previous"),
    )
    op.create_index("ix_audit_message_id", "audit", ["message_id"], unique=False)
    op.create_table(
        "mark",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
