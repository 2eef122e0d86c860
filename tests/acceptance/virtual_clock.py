"""A clock under a test's control: real time goes on, and the test may jump ahead."""

import asyncio
import time
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """What waits by this clock goes on at once where a jump has passed its time."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._jumped = asyncio.Event()

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        deadline = self.monotonic() + seconds
        while not event.is_set() and (left := deadline - self.monotonic()) > 0:
            waiting = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._jumped.wait())]
            try:
                await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()

    def jump(self, seconds: float) -> None:
        """So much time has passed."""
        self._ahead += seconds
        jumped, self._jumped = self._jumped, asyncio.Event()
        jumped.set()
