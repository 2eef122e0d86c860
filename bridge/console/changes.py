"""That something changed, for pages that are open: one signal, debounced, with what it is about."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from bridge.store.port import Notice

PAUSE = 0.5
"""Seconds between two signals to one page at the least."""
QUIET = 15.0
"""Seconds after which a line that says nothing keeps the connection open through proxies."""


class Changes:
    """Hears what each commit announced, and tells those who watch."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()
        self._over = False

    def hear(self, notices: Sequence[Notice]) -> None:
        """In the loop, behind a commit."""
        if notices:
            self.tell()

    def tell(self) -> None:
        """Something that no commit announces changed."""
        for one in self._watchers:
            one.set()

    def end(self) -> None:
        """The service stops: every watcher's stream ends."""
        self._over = True
        self.tell()

    async def watch(self) -> AsyncIterator[bytes]:
        """A server-sent event for each change (WHATWG HTML §9.2), until the service stops."""
        changed = asyncio.Event()
        if self._over:
            changed.set()
        self._watchers.add(changed)
        try:
            yield b"retry: 3000\n\n"
            while True:
                try:
                    async with asyncio.timeout(QUIET):
                        await changed.wait()
                except TimeoutError:
                    yield b": quiet\n\n"
                    continue
                if self._over:
                    return
                changed.clear()
                yield b"event: changed\ndata: \n\n"
                await asyncio.sleep(PAUSE)
        finally:
            self._watchers.discard(changed)
