"""One road of migrations for both engines, walked by Alembic."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from bridge.errors import StoreRefused

LOCK = 0x6361_7264_696F_2B
"""PostgreSQL's advisory lock of whoever changes the schema."""


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
    """Bring the store to the newest revision. Raises StoreRefused where its revision is not known here."""
    with engine.connect() as conn:
        if engine.dialect.name == "postgresql":  # of two that are started at once, the second finds it done
            conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        found = current(conn)
        if found == newest():
            return
        require_known(found)
        config = _config()
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        conn.commit()
