"""What is known of each destination's health: the doors in read it, the door out writes it."""

from datetime import datetime

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.schema import destination, insert_new, millis


def note(tx: Transaction, name: str, *, down: bool, at: datetime, reason: str = "") -> None:
    """A destination went down or came back."""
    row = {"name": name, "down": down, "reason": reason, "since": millis(at)}
    made = insert_new(tx.conn.dialect.name, destination, "name").run(tx.conn, row).first()
    if made is None:
        tx.conn.execute(destination.update().where(destination.c.name == name), row)
    tx.notify("destination", value=down)


def is_down(conn: sa.Connection, name: str) -> bool:
    """Whether the destination was down when last heard of."""
    return bool(conn.execute(sa.select(destination.c.down).where(destination.c.name == name)).scalar())
