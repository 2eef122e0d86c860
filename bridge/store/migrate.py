"""One road of migrations for both engines, walked by Alembic."""

import time
from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from bridge.errors import StoreRefused

log = structlog.get_logger()

WRITERS = 0x6361_7264_696F
"""PostgreSQL's advisory lock of whoever writes: "cardio"."""
LOCK = 0x6361_7264_696F_2B
"""Of whoever changes the schema."""
STANDS_STILL = 0.5
"""Seconds for which all others may wait, on PostgreSQL, until whoever reads a table is done with it. Below a second,
after which the server looks for deadlocks and ends one of the two."""
AGAIN = 2.0
"""Seconds for which they are let go on then."""
PATIENCE = 600.0
"""Seconds in which the schema is changed, or it is told that it cannot be."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def newest() -> str:
    """The revision that this version of the bridge works with."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(conn: sa.Connection) -> str | None:
    """The store's revision; None where it is new."""
    return MigrationContext.configure(conn).get_current_revision()


def require_known(found: str | None) -> None:
    """Raises StoreRefused where a store's revision is not known here."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise StoreRefused(
            f"store.url: the store's schema {found} is newer than this bridge knows ({newest()}); "
            "run the version that wrote it, or restore the backup made before the upgrade"
        )


def require_newest(conn: sa.Connection) -> None:
    """Raises StoreRefused where a store has not this version's schema, and is not brought to it by a start."""
    found = current(conn)
    if found == newest():
        return
    require_known(found)
    raise StoreRefused(
        f"store.url: the store's schema is {found or 'not there yet'}, and this version works with {newest()}; "
        "run `bridge db upgrade` once, beside running services"
    )


def upgrade(engine: sa.Engine) -> None:
    """Bring the store to the newest revision. Raises StoreRefused where its revision is not known here.

    On PostgreSQL services may write meanwhile. Who changes a table waits for whoever reads it, a backup for minutes,
    and all others would wait behind: so it gives up soon, and tries again.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _walk(engine)
        except sa.exc.OperationalError as problem:
            if getattr(problem.orig, "sqlstate", "") != _LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() > deadline:
                raise StoreRefused(
                    "store.url: somebody is reading a table all the time that is to be changed, such as a backup; run "
                    "`bridge db upgrade` again when that has ended"
                ) from problem
            log.warning("store.upgrade_waits", seconds=AGAIN)
        time.sleep(AGAIN)


_LOCK_NOT_AVAILABLE = "55P03"


def _walk(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        if engine.dialect.name == "postgresql":
            lock(conn)
            conn.exec_driver_sql(f"SET LOCAL lock_timeout = {round(STANDS_STILL * 1000)}")
        walk(conn)
        conn.commit()


def lock(conn: sa.Connection) -> None:
    """On PostgreSQL: of two that make or change the schema at once, the second waits, and sees what the first did."""
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")


def walk(conn: sa.Connection) -> None:
    """To the newest revision, in this connection's transaction. Raises StoreRefused where its own is not known here."""
    found = current(conn)
    if found == newest():
        return
    require_known(found)
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
