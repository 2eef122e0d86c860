"""What a test hears of a store, and when it has heard enough."""

import asyncio
from collections.abc import Callable, Sequence

from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice

PATIENCE = 60.0
"""Seconds after which a test is over that waits for what does not come."""


class Ears:
    """A listener. `until` waits for what it is told, however late."""

    def __init__(self, store: GroupedStore) -> None:
        self.notices: list[Notice] = []
        self._more = asyncio.Event()
        store.subscribe(self._listen)

    def _listen(self, notices: Sequence[Notice]) -> None:
        self.notices.extend(notices)
        self._more.set()

    def of(self, topic: str) -> list[int]:
        """The messages of a topic, in the order in which they were told."""
        return [one.message_id for one in self.notices if one.topic == topic and one.message_id]

    async def until(self, enough: Callable[[], object]) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while not enough():
                await self._more.wait()
                self._more.clear()
