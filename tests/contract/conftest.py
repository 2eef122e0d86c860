"""A store of each engine, and what the tests of one engine alone start from."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import writer_engine
from tests.contract.payload_scenes import KINDS, Scene, service
from tests.postgres_server import Server, empty

_SHARED = "contract"
Join = Callable[..., PostgresStore]


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
async def postgres_store(emptied: sa.URL, tmp_path: Path) -> AsyncIterator[PostgresStore]:
    """An open store on PostgreSQL, alone in its database."""
    opened = PostgresStore(emptied, tmp_path / "host", SystemClock())
    opened.open(asyncio.get_running_loop())
    yield opened
    opened.close()


@pytest.fixture
async def join(emptied: sa.URL, tmp_path: Path) -> AsyncIterator[Join]:
    """Opens a store of one more process on that database, in a folder of its own."""
    opened: list[PostgresStore] = []

    def one_more(address: sa.URL = emptied, folder: Path | None = None, **options: Any) -> PostgresStore:
        store = PostgresStore(address, folder or tmp_path / f"host{len(opened)}", SystemClock(), **options)
        store.open(asyncio.get_running_loop())
        opened.append(store)
        return store

    yield one_more
    for store in opened:
        await asyncio.to_thread(store.close)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> GroupedStore:
    """An open store of each engine in turn: what a test with it says is the port's promise."""
    opened = request.getfixturevalue("sqlite_store" if request.param == "sqlite" else "postgres_store")
    assert isinstance(opened, GroupedStore)
    return opened


@pytest.fixture
async def heard(store: GroupedStore) -> list[Notice]:
    """What the store announces from now on. On PostgreSQL a process first hears of whatever it may have missed."""
    told: list[Notice] = []
    begun = asyncio.Event()

    def listen(notices: Sequence[Notice]) -> None:
        told.extend(notices)
        begun.set()

    store.subscribe(listen)
    if isinstance(store, PostgresStore):
        await asyncio.wait_for(begun.wait(), 60)
        told.clear()
    return told


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A service that speaks S3."""
    with service() as address:
        yield address


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """Each place of payloads in turn."""
    kind = request.param
    return Scene(kind, tmp_path, request.getfixturevalue("endpoint") if kind == "bucket" else "")
