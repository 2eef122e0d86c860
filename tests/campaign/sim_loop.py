"""Time and concurrency of a simulation: an event loop whose clock jumps to whatever is due next.

Nothing waits, nothing is asked of the system, and the same seed runs the same way. Work for threads is done in the
loop, a drawn moment later. Tasks belong to whoever started them: a process that is killed takes its own with it.
"""

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
_owner: contextvars.ContextVar["Life | None"] = contextvars.ContextVar("life", default=None)


MOST = 100_000
"""Rounds of the loop at one moment; a busy one has some dozens."""


class Stuck(Exception):
    """Everybody waits, and nothing will ever happen; or everybody is busy, and time does not pass."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready, then goes on to the time of the next timer."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._virtual = 0.0
        self._rounds = 0
        self._dice = dice
        self._selector = self
        self.set_task_factory(_belonging)
        self.set_exception_handler(lambda *_: None)  # what a killed process leaves behind is nobody's news

    def time(self) -> float:
        return self._virtual

    def select(self, timeout: float | None) -> tuple[()]:
        """What the base class asks before it runs what is due."""
        self._rounds = self._rounds + 1 if timeout == 0 else 0
        if timeout is None or self._rounds > MOST:
            raise Stuck
        self._virtual += timeout
        return ()

    def _process_events(self, _: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake it for."""

    def run_in_executor(self, _: Any, work: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A thread's work, done at once when its time has come."""
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(work(*given))
            except Exception as problem:  # noqa: BLE001  handed on, as a thread's is
                future.set_exception(problem)

        self.call_later(self._dice.random() * 0.01, run)
        return future


class Life:
    """One process: its tasks, and whether it is still there."""

    def __init__(self) -> None:
        self.dead = False
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process; what it begins is of this process too."""
        context = contextvars.copy_context()
        context.run(_owner.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def kill(self) -> None:
        """Nothing of it goes on. What its tasks still do on their way out meets a dead store and a dead network."""
        self.dead = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                task.cancel()

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks.append(task)
        if len(self._tasks) > 200:
            self._tasks = [one for one in self._tasks if not one.done()]


def _belonging(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
    context = more.get("context")
    life = context.get(_owner) if context is not None else _owner.get()
    if life is not None:
        life.add(task)
    return task


class SimClock:
    """The loop's time, and a wall clock that may be set wrong."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.skew = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self._loop.time() + self.skew)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
