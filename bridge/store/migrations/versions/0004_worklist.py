"""Orders as a worklist: what is planned, and when it is due."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clinical_order", sa.Column("plan", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("clinical_order", sa.Column("due_at", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    # What was ordered before is due since it came; what was planned for it was not kept.
    op.execute(
        "UPDATE clinical_order SET due_at = "
        "(SELECT received_at FROM message WHERE message.id = clinical_order.message_id)"
    )
    op.create_index("ix_clinical_order_message_id", "clinical_order", ["message_id"], unique=False)
    op.create_index(
        "ix_clinical_order_due",
        "clinical_order",
        ["due_at", "id"],
        unique=False,
        sqlite_where=sa.text("standing = 'active'"),
        postgresql_where=sa.text("standing = 'active'"),
    )
