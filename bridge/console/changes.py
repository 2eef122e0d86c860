"""That something changed, for pages that are open: one signal, debounced, with what it is about."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from bridge.store.port import Notice

PAUSE = 0.5
"""Seconds between two signals to one page at the least."""
QUIET = 15.0
"""Seconds after which a line that says nothing keeps the connection open through proxies."""


MOST_OF_ONE = 32
"""Streams of one person; the pages that are open beyond these refresh when they are loaded anew."""


class Changes:
    """Hears what each commit announced, and tells those who watch."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()
        self._of: Counter[str] = Counter()
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

    def is_full(self, who: str) -> bool:
        """Whether somebody has as many streams as he may."""
        return self._of[who] >= MOST_OF_ONE

    async def watch(self, who: str) -> AsyncIterator[bytes]:
        """A server-sent event for each change (WHATWG HTML §9.2), until the service stops.

        The first comes at once: what changed between a page and its stream would be seen by nobody.
        """
        changed = asyncio.Event()
        changed.set()
        self._watchers.add(changed)
        self._of[who] += 1
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
            self._of[who] -= 1
            self._of += Counter()  # keeps what is more than none
