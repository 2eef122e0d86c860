"""Shared by every floor of tests: a missing peer skips at home and fails in CI; a store of one's own."""

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from bridge.store import sqlite
from bridge.store.sqlite import SqliteStore
from tests import fresh_store


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


@pytest.fixture
def peer() -> Callable[[str], str]:
    """The path of somebody else's program. Under CI=true a missing one is a failure, never a skip."""

    def find(program: str) -> str:
        found = shutil.which(program)
        if found is None:
            message = f"{program} is not installed here"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        return found

    return find


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An open store in a folder of the test."""
    opened = SqliteStore(tmp_path / "bridge.db")
    opened.open(asyncio.get_running_loop())
    yield opened
    opened.close()
