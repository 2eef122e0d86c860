"""Payloads whose rows are emptied and whose files are still to be removed: noted in the transaction that empties.

A row goes before its file, never the other way round. Where the process ends in between, the note stays, and the next
prune removes what it names.
"""

import json
from collections.abc import Iterable

import sqlalchemy as sa

from bridge.store import marks
from bridge.store.port import Transaction
from bridge.store.prune import Going

MARK = "going"


def left(conn: sa.Connection) -> list[Going]:
    """What is to be removed."""
    value = marks.value_of(conn, MARK)
    return [Going(*one) for one in json.loads(value)] if value else []


def add(tx: Transaction, fresh: Iterable[Going]) -> None:
    """Their files are to be removed once this is committed."""
    _put(tx, [*left(tx.conn), *fresh])


def done(tx: Transaction, gone: Iterable[Going]) -> None:
    """Their files are gone, or somebody needs them after all."""
    over = set(gone)
    _put(tx, [one for one in left(tx.conn) if one not in over])


def _put(tx: Transaction, all_of_them: list[Going]) -> None:
    told = [[one.payload, one.sop_instance_uid] for one in dict.fromkeys(all_of_them)]
    marks.put(tx.conn, MARK, json.dumps(told) if told else "")
