"""How many requests of one asker are worked at at once: the rest of his wait, and nobody else does.

Orders are answered by the same loop and read by the same threads. A page in a loop of somebody's script must not be
what an order waits for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

AT_ONCE = 3
"""Requests of one asker: the parts of a page that refresh together."""


@dataclass(slots=True)
class _Line:
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    many: int = 0


class Turns:
    """The askers that are here now, by their name or, before a sign-in, their address."""

    def __init__(self) -> None:
        self._of: dict[str, _Line] = {}

    @contextlib.asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """In line, and then at the work."""
        line = self._of.setdefault(who, _Line())
        line.many += 1
        try:
            async with line.gate:
                yield
        finally:
            line.many -= 1
            if not line.many:
                del self._of[who]
