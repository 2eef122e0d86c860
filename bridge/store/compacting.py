"""The file of a store on SQLite made as small as what is in it, while the service is stopped.

A row that became shorter leaves its room inside its page, where only its neighbours could use it: measured, what was
pruned of 77 MB left 7 MB free for others, and 10 MB were all that was needed. PostgreSQL's vacuum gives such room to
any row.
"""

import contextlib
import sqlite3
from pathlib import Path

from bridge.store.backup import locked, told
from bridge.store.sqlite import require_there


def compact(database: Path) -> tuple[int, int]:
    """Write the file anew (SQLite's VACUUM). Returns its bytes before and after.

    A stop in between leaves it as it was. For the time being the disk needs room for a second one. Raises StoreRefused
    where a service runs or there is no store, StoreFull and StoreError.
    """
    require_there(database)
    before = database.stat().st_size
    with (
        told(f"store.url: {database} cannot be written anew"),
        locked(database),
        contextlib.closing(sqlite3.connect(database, isolation_level=None)) as raw,
    ):
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("VACUUM")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return before, database.stat().st_size
