"""The check that a running service makes of itself when somebody asks for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bridge.clock import Clock
from bridge.errors import ActionRefused
from bridge.rehearsal.checks import Line, checked
from bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class Found:
    """What a check said, when, and who asked."""

    lines: tuple[Line, ...]
    at: datetime
    by: str


class Checks:
    """One at a time; what the last one said is kept to look at."""

    def __init__(self) -> None:
        self.last: Found | None = None
        self._under_way: asyncio.Task[None] | None = None

    async def run(self, settings: Settings, held: Mapping[str, str], clock: Clock, by: str) -> None:
        """All of it, in a thread; it goes on where who asked goes away. Raises ActionRefused where one is under way.

        `held` are the addresses that this service listens on, by name.
        """
        if self._under_way is not None and not self._under_way.done():
            raise ActionRefused("a check is under way; what it says will stand on the page of settings")
        self._under_way = asyncio.create_task(self._run(settings, dict(held), clock, by), name="check")
        await asyncio.shield(self._under_way)

    async def _run(self, settings: Settings, held: Mapping[str, str], clock: Clock, by: str) -> None:
        lines = await asyncio.to_thread(lambda: tuple(checked(settings, held)))
        self.last = Found(lines, clock.now(), by)
