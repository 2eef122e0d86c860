"""A store of each engine, and what the tests of one engine alone start from."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.store.grouped import GroupedStore
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import writer_engine
from bridge.store.sqlite import SqliteStore
from tests.postgres_server import Server, empty

_SHARED = "contract"


@pytest.fixture(scope="session")
def shared_database(postgres: Server) -> Iterator[sa.Engine]:
    """One database for those tests that leave its tables as they are: a new one for each would take minutes."""
    engine = writer_engine(postgres.database(_SHARED))
    yield engine
    engine.dispose()


@pytest.fixture
def emptied(shared_database: sa.Engine) -> sa.URL:
    """That database, with nothing in it, however the test before ended."""
    with shared_database.begin() as conn:
        empty(conn)
    return shared_database.url


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An open store in a file."""
    opened = SqliteStore(tmp_path / "bridge.db")
    opened.open(asyncio.get_running_loop())
    yield opened
    opened.close()


@pytest.fixture
async def postgres_store(emptied: sa.URL, tmp_path: Path) -> AsyncIterator[PostgresStore]:
    """An open store on PostgreSQL, alone in its database."""
    opened = PostgresStore(emptied, tmp_path / "host", SystemClock())
    opened.open(asyncio.get_running_loop())
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> GroupedStore:
    """An open store of each engine in turn: what a test with it says is the port's promise."""
    opened = request.getfixturevalue("sqlite_store" if request.param == "sqlite" else "postgres_store")
    assert isinstance(opened, GroupedStore)
    return opened
