"""What is known of each destination's health: the doors in read it, the door out writes it."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.schema import destination, insert_new, message, millis, moment


def note(tx: Transaction, name: str, *, down: bool, at: datetime, reason: str = "") -> None:
    """A destination went down or came back; `reason` says why. `since` stays where it was down before."""
    row = {"name": name, "down": down, "reason": reason, "since": millis(at)}
    made = insert_new(tx.conn.dialect.name, destination, "name").run(tx.conn, row).first()
    if made is None:
        same = sa.and_(destination.c.down == down, sa.literal(down))
        since = sa.case((same, destination.c.since), else_=millis(at))
        mine = destination.update().where(destination.c.name == name)
        tx.conn.execute(mine.values(down=down, reason=reason, since=since))
    tx.notify("destination", value=(name, down))


def begin(tx: Transaction, names: Collection[str], *, at: datetime) -> None:
    """Those that the settings name are taken to be up, until a call says otherwise; others are not known any more."""
    tx.conn.execute(destination.delete().where(destination.c.name.not_in(sorted(names))))
    for name in names:
        note(tx, name, down=False, at=at)


def is_down(conn: sa.Connection, name: str) -> bool:
    """Whether the destination was down when last heard of."""
    return bool(conn.execute(sa.select(destination.c.down).where(destination.c.name == name)).scalar())


def standing(conn: sa.Connection) -> dict[str, tuple[bool, str, datetime]]:
    """Each destination that is known: whether it is down, why, and since when it is as it is."""
    return {row.name: (row.down, row.reason, moment(row.since)) for row in conn.execute(sa.select(destination))}


def of_message(conn: sa.Connection, message_id: int) -> str:
    """Where a message goes; empty where that is not decided."""
    return str(conn.execute(sa.select(message.c.destination).where(message.c.id == message_id)).scalar() or "")


def assign(tx: Transaction, message_id: int, name: str) -> None:
    """A message in hand that was not routed yet goes there; whoever has it gives it back to the line."""
    tx.conn.execute(message.update().where(message.c.id == message_id), {"destination": name, "owner": None})
    tx.notify("ready", message_id, name)
