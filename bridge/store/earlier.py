"""Words of messages that were kept before there were any: written behind a start, some at a time, the newest first.

In the migration itself they would keep the doors shut: 1,000,000 messages take minutes. So it leaves a mark with the
newest id, and each step writes the words of a few messages and sets the mark down in the same transaction: a stop in
between costs nothing, and nothing is done twice. An admission keeps no more of what it said than the patient's
identifier, so its names are those that the patient record has now.
"""

import json
from typing import Any

import sqlalchemy as sa
import structlog

from bridge.clock import Clock
from bridge.errors import StoreError
from bridge.store import marks, terms
from bridge.store.port import Store, Transaction
from bridge.store.schema import message, patient, task

log = structlog.get_logger()

MARK = "earlier"
STEP = 20
"""Messages in one transaction: about 4 ms of the writer, as long as it takes works into a group."""
AGAIN = 60.0
"""Seconds until the next try, where the store took nothing."""
PAUSE = 0.02
"""Seconds between two steps: four fifths of the writer's time are for what comes in."""


def upto(conn: sa.Connection) -> int:
    """The newest message that is not found by its words yet; 0 where every message is."""
    return int(marks.value_of(conn, MARK) or 0)


def step(tx: Transaction) -> int:
    """Write the words of the next few. Returns `upto` as it is now."""
    top = upto(tx.conn)
    columns = ("id", "sender", "peer", "control_id", "sop_instance_uid", "order_key", "understood")
    query = sa.select(*(message.c[name] for name in columns)).where(message.c.id <= top)
    rows = tx.conn.execute(query.order_by(message.c.id.desc()).limit(STEP)).all()
    for row in rows:
        words = terms.of_arrival(row.sender, row.peer, row.control_id, row.sop_instance_uid)
        try:
            words += _understood(tx, row)
        except (LookupError, TypeError, ValueError) as problem:  # written by a version that nobody remembers
            log.warning("words.not_made", message=row.id, error=type(problem).__name__)
        made = tx.conn.execute(sa.select(task.c.task_ids).where(task.c.message_id == row.id)).scalars()
        ids = [int(one) for task_ids in made for one in task_ids.split(",") if one]
        terms.note(tx, row.id, [*words, *terms.of_tasks(ids)])
    left = rows[-1].id - 1 if len(rows) == STEP else 0
    if top:
        marks.put(tx.conn, MARK, str(left) if left else "")
    return left


def _understood(tx: Transaction, row: Any) -> list[terms.Word]:
    """What the rules found in a message when it was understood."""
    document = json.loads(row.understood) if row.understood else {}
    mapped = [order["mapped"] for order in document.get("orders", ())]
    mapped += [document["recording"]] if document.get("recording") else []
    words = terms.of_orders(o["own_number"][0] for o in document.get("orders", ()) if o["own_number"])
    for one in mapped:
        said = {name: str(one["fields"].get(f"patient_{name}", "")) for name in ("id", "last_name", "first_name")}
        words += terms.of_patient([said.pop("id")], said.values())
        words += terms.of_orders(number["value"] for number in one["numbers"])
    if not mapped and row.order_key:
        query = sa.select(patient.c.last_name, patient.c.first_name).where(patient.c.value == row.order_key)
        words += terms.of_patient([row.order_key], [name for known in tx.conn.execute(query) for name in known])
    return words


async def catch_up(store: Store, clock: Clock) -> None:
    """Until every message has its words. A store that cannot be written is tried again. Raises CommitUnknown."""
    left = await store.read(upto)
    if left:
        log.info("words.started", number=left)
    while left:
        try:
            left = await store.write(step)
        except StoreError as problem:
            log.warning("words.failed", error=type(problem).__name__)
            await clock.sleep(AGAIN)
        else:
            await clock.sleep(PAUSE)
            if not left:
                log.info("words.completed")
