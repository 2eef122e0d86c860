"""Words of messages that were kept before there were any: written behind a start, some at a time, the newest first.

In the migration itself they would keep the doors shut for minutes. So it leaves a mark with the newest id (1,000,000
messages: 4 s), and each step writes the words of a few messages and sets the mark down in the same transaction: a stop
in between costs nothing, and nothing is done twice. Half an hour later every message is found. An admission keeps no
more of what it said than the patient's identifier, so its names are those that the patient record has now.
"""

import json
from typing import Any

import sqlalchemy as sa
import structlog

from bridge.clock import Clock
from bridge.errors import StoreError
from bridge.store import marks, terms
from bridge.store.port import Store, Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import message, patient, task

log = structlog.get_logger()

MARK = "earlier"
STEP = 20
"""Messages in one transaction: about 4 ms of the writer, as long as it takes works into a group."""
AGAIN = 60.0
"""Seconds until the next try, where the store took nothing."""
PAUSE = 0.02
"""Seconds between two steps: four fifths of the writer's time are for what comes in."""

_OF_ARRIVAL = ("sender", "peer", "control_id", "sop_instance_uid")


def upto(conn: sa.Connection) -> int:
    """The newest message that is not found by its words yet; 0 where every message is."""
    return int(marks.value_of(conn, MARK) or 0)


_ROWS = Prepared(
    sa.select(*(message.c[name] for name in (*_OF_ARRIVAL, "id", "order_key", "understood")))
    .where(message.c.id <= sa.bindparam("top"))
    .order_by(message.c.id.desc())
    .limit(sa.bindparam("most"))
)
_MADE = Prepared(
    sa.select(task.c.message_id, task.c.task_ids).where(
        task.c.message_id >= sa.bindparam("low"), task.c.message_id <= sa.bindparam("top")
    )
)
_NAMES = Prepared(
    sa.select(patient.c.last_name, patient.c.first_name).where(patient.c.value == sa.bindparam("own_value"))
)


def step(tx: Transaction) -> int:
    """Write the words of the next few. Returns `upto` as it is now."""
    top = upto(tx.conn)
    rows = _ROWS.run(tx.conn, {"top": top, "most": STEP}).all()
    words: dict[int, list[terms.Word]] = {}
    for row in rows:
        words[row.id] = terms.of_arrival(*(getattr(row, name) for name in _OF_ARRIVAL))
        try:
            words[row.id] += _understood(tx, row)
        except (LookupError, TypeError, ValueError) as problem:  # written by a version that nobody remembers
            log.warning("words.not_made", message=row.id, error=type(problem).__name__)
    if rows:
        for made in _MADE.run(tx.conn, {"low": rows[-1].id, "top": top}).all():
            words[made.message_id] += terms.of_tasks(int(one) for one in made.task_ids.split(",") if one)
    terms.note_all(tx, words)
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
        known = _NAMES.run(tx.conn, {"own_value": row.order_key}).all()
        words += terms.of_patient([row.order_key], [name for names in known for name in names])
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
