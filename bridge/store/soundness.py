"""Whether a database file can be worked on, found out before anything is taken in (F27).

SQLite's quick check reads every page and sees damage to its structure: a torn page, a lost one, an index that is none.
It knows no checksum of contents, so a flipped bit inside a value goes unseen; the digest beside each raw message is
what tells of that. A damaged write-ahead log is cut short by SQLite itself at the first frame that is not whole, which
loses commits without a word: `marks` notices that.
"""

import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa

from bridge.errors import StoreRefused
from bridge.store.schema import metadata

Raw = sqlite3.Connection
"""The driver's own connection."""
AFTER_A_GOOD_END = 5.0
AFTER_A_BAD_END = 60.0
"""Seconds that the check may take. 1.6 GB took 2 s from memory and 52 s from a cold disk: a start that waits for all of
a large store would keep its senders out for longer than they resend. What is cut short has found nothing so far."""
_EVERY = 20_000
"""Steps of SQLite's machine between two looks at the time."""
_ALEMBIC = "alembic_version"


def way_out(path: Path) -> str:
    """What a person can do about a database that cannot be used."""
    return (
        f"Nothing was changed. Keep a copy of {path.parent} for a look, put the newest `bridge db backup` in the "
        "database's place, without the -wal and -shm files beside it, and start: what may have been sent since then is "
        "held for a person. Recordings are files of their own and stay where they are"
    )


def require_sound(raw: sqlite3.Connection, path: Path, seconds: float) -> bool:
    """Check the structure of every page. False where the time was over first.

    Raises StoreRefused that names the file and the way out.
    """
    by = time.monotonic() + seconds
    cut_short = False

    def watch() -> int:
        nonlocal cut_short
        cut_short = time.monotonic() > by
        return int(cut_short)

    raw.set_progress_handler(watch, _EVERY)
    try:
        found = raw.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as cause:
        if cut_short:
            return False
        raise StoreRefused(f"store.url: {path} is damaged ({cause}). {way_out(path)}") from cause
    finally:
        raw.set_progress_handler(None, 0)
    if found != "ok":
        raise StoreRefused(f"store.url: {path} is damaged ({' '.join(found.split())}). {way_out(path)}")
    return True


def require_ours(conn: sa.Connection, path: Path) -> None:
    """Raises StoreRefused where the tables are another program's."""
    names = set(sa.inspect(conn).get_table_names())
    if names and _ALEMBIC not in names:
        raise StoreRefused(
            f"store.url: {path} holds the tables of another program. Nothing was changed; name another file"
        )


def require_schema(conn: sa.Connection, path: Path) -> None:
    """Raises StoreRefused where a table or a column of this version's schema is missing."""
    found = sa.inspect(conn)
    there = set(found.get_table_names())
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)} if table.name in there else set()
        missing = [column.name for column in table.columns if column.name not in columns]
        if missing:
            raise StoreRefused(
                f"store.url: {path} has this version's number and not its schema: {table.name}.{missing[0]} is "
                f"missing. {way_out(path)}"
            )
