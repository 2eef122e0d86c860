"""A store that is asked until it answers: on a full disk, say, nothing is lost by it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from bridge.clock import Clock
from bridge.errors import StoreError

T = TypeVar("T")
log = structlog.get_logger()

AGAIN = 1.0
"""Seconds between two tries."""


async def insist(clock: Clock, event: str, ask: Callable[[], Awaitable[T]]) -> T:
    """What it answers in the end. Each StoreError until then is logged as `event`; anything else is raised."""
    while True:
        try:
            return await ask()
        except StoreError as problem:
            log.error(event, error=type(problem).__name__)
            await clock.sleep(AGAIN)
