"""Shared by every floor of tests: a missing peer skips at home and fails in CI; a store of one's own."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.store.sqlite import SqliteStore


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
