"""Consoles to open, each on the test's own store."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.store.sqlite import SqliteStore
from tests.protocol.console_front import Front, OpenFront, StillClock, opened


@pytest.fixture
async def front(store: SqliteStore) -> AsyncIterator[OpenFront]:
    """Opens a console with settings of the test's own, such as `idle_timeout=60`."""
    made: list[Front] = []

    async def open_one(clock: StillClock | None = None, **console: Any) -> Front:
        made.append(await opened(store, console, clock))
        return made[-1]

    yield open_one
    for one in made:
        await one.aclose()
