"""Books in memory, for a dry run: the same tables, gone with the process."""

import sqlalchemy as sa

from bridge.store.schema import metadata


def books() -> sa.Engine:
    """A new, empty store in memory. What SQLite sorts beside its tables stays there too: a message of megabytes would
    be written to a temporary file (sqlite.org/tempfiles.html, "transient indices").
    """
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA temp_store = MEMORY")
    metadata.create_all(engine)
    return engine
