"""Books in memory, for a dry run: the same tables, gone with the process."""

import sqlalchemy as sa

from bridge.store.schema import metadata


def books() -> sa.Engine:
    """A new, empty store in memory."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    metadata.create_all(engine)
    return engine
