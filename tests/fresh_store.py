"""The tables of a new store: made by the migrations once a process, copied page by page for every store after it.

A walk through all the migrations takes a tenth of a second and more, and over a thousand stores are opened.
"""

import sqlite3
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from bridge.store import migrate
from bridge.store.sqlite import writer_engine


@cache
def migrated() -> sqlite3.Connection:
    """A store in memory as the whole road of migrations leaves it."""
    made = sqlite3.connect(":memory:", check_same_thread=False)
    with TemporaryDirectory() as folder:
        engine = writer_engine(Path(folder) / "bridge.db")
        migrate.upgrade(engine)
        raw = engine.raw_connection()
        assert isinstance(raw.driver_connection, sqlite3.Connection)
        raw.driver_connection.backup(made)
        raw.close()
        engine.dispose()
    return made


def upgrade(engine: sa.Engine) -> None:
    """What `migrate.upgrade` does: a store that holds something walks the road itself."""
    raw = engine.raw_connection()
    try:
        assert isinstance(raw.driver_connection, sqlite3.Connection)
        is_new = not raw.driver_connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_new:
            migrated().backup(raw.driver_connection)
    finally:
        raw.close()
    if not is_new:
        migrate.upgrade(engine)
