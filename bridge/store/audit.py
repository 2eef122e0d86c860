"""Who did what to which message, and when: rows that are chained by hash, so that none can be changed unseen.

Each row's `hash` covers the row and the hash before it. A row that was changed, taken out or put between is found by
`verify`; a chain that was cut off at its end is not, so the service's log has each new hash as well, and is kept
elsewhere. What the doors refuse (associations, peers that are not on the list) is in the log alone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.store.port import Transaction
from bridge.store.schema import audit, message, millis, moment

DONE, REFUSED = "done", "refused"
BEGINNING = "0" * 64
"""What stands for the hash before the first row."""

_LAST = sa.select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
_CHAIN = sa.select(audit).order_by(audit.c.id)
_ACTS = (
    sa.select(audit, message.c.kind, message.c.type, message.c.sop_instance_uid)
    .join(message, message.c.id == audit.c.message_id, isouter=True)
    .order_by(audit.c.id)
)


@dataclass(frozen=True, slots=True)
class Act:
    """One row, with what kind of message it concerns. `detail` holds no patient value but what a person typed."""

    id: int
    at: datetime
    actor: str
    action: str
    outcome: str
    message_id: int | None
    kind: str  # hl7 | dicom, empty where it concerns no message
    type: str
    sop_instance_uid: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is not what was written."""

    id: int
    why: str


def note(
    tx: Transaction,
    *,
    at: datetime,
    actor: str,
    action: str,
    outcome: str = DONE,
    message_id: int | None = None,
    detail: Mapping[str, Any] | None = None,
) -> str:
    """Append a row, in the transaction of what it tells. Returns its hash.

    Raises StoreConflict where somebody else appended at the same moment: the chain has no fork.
    """
    previous = newest_hash(tx.conn)
    row = {
        "at": millis(at),
        "actor": actor,
        "action": action,
        "outcome": outcome,
        "message_id": message_id,
        "detail": json.dumps(detail or {}, ensure_ascii=False, sort_keys=True),
    }
    made = _hashed(previous, row)
    tx.conn.execute(audit.insert(), {**row, "previous": previous, "hash": made})
    return made


def _hashed(previous: str, row: Mapping[str, Any]) -> str:
    """SHA-256 over a JSON array: no two rows read the same, since JSON quotes what is text."""
    said = [previous, *(row[name] for name in ("at", "actor", "action", "outcome", "message_id", "detail"))]
    return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode("ascii")).hexdigest()


def verify(conn: sa.Connection) -> Broken | None:
    """The first row that was changed, or that lacks the one before it; None where the chain is whole."""
    previous = BEGINNING
    for row in map(dict, conn.execute(_CHAIN).yield_per(500).mappings()):
        if row["previous"] != previous:
            return Broken(row["id"], "the row before it is missing, or is not the one that was there")
        if row["hash"] != _hashed(previous, row):
            return Broken(row["id"], "it was changed after it was written")
        previous = row["hash"]
    return None


def acts(conn: sa.Connection, *, since: int = 0) -> Iterator[Act]:
    """The rows with an id above `since`, oldest first."""
    for row in conn.execute(_ACTS.where(audit.c.id > since)).yield_per(500):
        yield Act(
            id=row.id,
            at=moment(row.at),
            actor=row.actor,
            action=row.action,
            outcome=row.outcome,
            message_id=row.message_id,
            kind=row.kind or "",
            type=row.type or "",
            sop_instance_uid=row.sop_instance_uid or "",
            detail=json.loads(row.detail),
            hash=row.hash,
        )


def newest_hash(conn: sa.Connection) -> str:
    """The hash of the newest row: noted elsewhere, it shows whether the end of the chain is still there."""
    return str(conn.execute(_LAST).scalar() or BEGINNING)
