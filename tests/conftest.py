"""Shared by every floor of tests: a missing peer skips at home and fails in CI; a store of one's own."""

import asyncio
import gc
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy as sa

from bridge.store import sqlite
from bridge.store.sqlite import SqliteStore
from tests import fresh_store, postgres_server
from tests.postgres_server import Server


def pytest_collection_finish() -> None:
    """Thousands of tests and what they import stay to the end: no look at the garbage goes through them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def copied_tables() -> Iterator[None]:
    """New stores of this process get their tables as a copy. Services of their own walk the migrations as ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "upgrade", fresh_store.upgrade)
        yield


def missing(what: str) -> NoReturn:
    """Somebody else's program is not there. Under CI=true that is a failure, never a skip."""
    message = f"{what} is not installed here"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def peer() -> Callable[[str], str]:
    """The path of somebody else's program."""

    def find(program: str) -> str:
        return shutil.which(program) or missing(program)

    return find


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL for all tests of this process, to the end of them. None of them stops it: `postgres_server.running`
    is for those.
    """
    if postgres_server.programs() is None:
        missing("PostgreSQL")
    with postgres_server.running() as server:
        yield server


@pytest.fixture
def database(postgres: Server) -> Iterator[sa.URL]:
    """A new database with this version's schema, of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres.database(name)
    postgres.drop(name)


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An open store in a folder of the test."""
    opened = SqliteStore(tmp_path / "bridge.db")
    opened.open(asyncio.get_running_loop())
    yield opened
    opened.close()


@pytest.fixture
def store(sqlite_store: SqliteStore) -> SqliteStore:
    """A store that nothing more is asked of than to be one."""
    return sqlite_store
