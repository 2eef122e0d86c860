"""Who signs in, alarms and whom they are told to, and the words by which a message is found."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ON = sa.text("over_at IS NULL")
_WAITING = sa.text("state = 'WAITING'")
_DOUBT = sa.text("state = 'IN_DOUBT'")
_SETTLED = sa.text("state IN ('CANCELLED', 'CREATED', 'DONE', 'FILTERED', 'HELD', 'IN_DOUBT', 'REJECTED')")
_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _people()
    _alarms()
    op.create_index(
        "ix_task_in_doubt", "task", ["message_id"], unique=False, sqlite_where=_DOUBT, postgresql_where=_DOUBT
    )
    _words()


def _words() -> None:
    """The words of what is there already are written step by step behind the start: `bridge.store.earlier`."""
    op.create_index(
        "ix_message_settled",
        "message",
        ["state", "id"],
        unique=False,
        sqlite_where=_SETTLED,
        postgresql_where=_SETTLED,
    )
    op.create_table(
        "term",
        sa.Column("message_id", _ID, sa.ForeignKey("message.id"), primary_key=True, autoincrement=False),
        sa.Column("value", _WORD, primary_key=True),
        sa.Column("kind", sa.Text(), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_term_value", "term", ["value", "message_id"], unique=False)
    newest = "SELECT 'earlier', CAST(max(id) AS TEXT) FROM message HAVING max(id) IS NOT NULL"
    op.execute(f"INSERT INTO mark (name, value) {newest}")


def _people() -> None:
    op.create_table(
        "person",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("name", name="uq_person_name"),
        sa.UniqueConstraint("subject", name="uq_person_subject"),
    )
    op.create_table(
        "session",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person_id", _ID, sa.ForeignKey("person.id"), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("secret", name="uq_session_secret"),
    )
    op.create_index("ix_session_person_id", "session", ["person_id"], unique=False)


def _alarms() -> None:
    op.create_table(
        "alarm",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("over_at", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
    )
    op.create_index("uq_alarm_on", "alarm", ["rule", "subject"], unique=True, sqlite_where=_ON, postgresql_where=_ON)
    op.create_table(
        "notice",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("alarm_id", _ID, sa.ForeignKey("alarm.id"), nullable=False),
        sa.Column("edge", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_index("ix_notice_alarm_id", "notice", ["alarm_id"], unique=False)
    op.create_index(
        "ix_notice_waiting",
        "notice",
        ["next_at", "id"],
        unique=False,
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )
