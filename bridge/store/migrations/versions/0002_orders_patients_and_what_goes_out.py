"""Orders that change, identities that merge, and what goes out."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alias",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("retired_value", sa.Text(), nullable=False),
        sa.Column("retired_authority", sa.Text(), nullable=False),
        sa.Column("survivor_value", sa.Text(), nullable=False),
        sa.Column("survivor_authority", sa.Text(), nullable=False),
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_alias_retired_value", "alias", ["retired_value"], unique=False)
    op.create_index("ix_alias_survivor_value", "alias", ["survivor_value"], unique=False)
    op.create_table(
        "anomaly",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task_message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("task_ids", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["message.id"],
        ),
        sa.ForeignKeyConstraint(
            ["task_message_id"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "message_id", "task_message_id", "reason", name=op.f("uq_anomaly_message_id_task_message_id_reason")
        ),
    )
    op.create_index(op.f("ix_anomaly_message_id"), "anomaly", ["message_id"], unique=False)
    op.create_table(
        "barrier",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_barrier_message_id"), "barrier", ["message_id"], unique=False)
    op.create_index(op.f("ix_barrier_order_key"), "barrier", ["order_key"], unique=False)
    op.create_table(
        "outbound",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("listener", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("control_id", name=op.f("uq_outbound_control_id")),
    )
    op.create_index(op.f("ix_outbound_message_id"), "outbound", ["message_id"], unique=False)
    op.create_index(
        "ix_outbound_waiting",
        "outbound",
        ["address", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'WAITING'"),
        postgresql_where=sa.text("state = 'WAITING'"),
    )
    op.add_column(
        "clinical_order", sa.Column("changed_digest", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    op.add_column(
        "clinical_order", sa.Column("standing", sa.Text(), nullable=False, server_default=sa.text("'active'"))
    )
    op.add_column("clinical_order", sa.Column("ordered", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("clinical_order", sa.Column("sent_at", sa.BigInteger(), nullable=True))
    op.add_column("clinical_order", sa.Column("visit", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column(
        "clinical_order", sa.Column("replaced_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
    )
    op.add_column(
        "clinical_order", sa.Column("withdrawn_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
    )
    op.create_index(op.f("ix_clinical_order_withdrawn_by"), "clinical_order", ["withdrawn_by"], unique=False)
    op.create_index("ix_clinical_order_patient_value", "clinical_order", ["patient_value"], unique=False)
    op.add_column("patient", sa.Column("inactive", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("patient", sa.Column("visit", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.create_index("ix_task_task_ids", "task", ["task_ids"], unique=False)
