"""One thread that writes, whichever engine is behind it: what waits is committed as a group, each work in a savepoint.

An engine says how a transaction begins, how it ends, and what its driver's errors mean.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from bridge.errors import BridgeError, CommitUnknown, StoreFull
from bridge.store.crew import Crew
from bridge.store.port import Listener, Notice, Transaction, Work
from bridge.store.waiting import Waiting

T = TypeVar("T")
log = structlog.get_logger()

LOOKING = 8
"""Reads at once. They have threads of their own: those of the loop may all be converting Holters."""
GROUP = 128
"""Works in one commit at the most: bounds how long the first of them waits."""


@dataclass(slots=True)
class Job:
    """A work that waits for its commit, and how it ended."""

    work: Work[Any]
    future: "Future[Any] | asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class GroupedStore:
    """The half of a store that is the same on every engine.

    `on_full` is called where a write finds no room, `on_fatal` where the service must end: both in the writer's thread.
    """

    driver_error: type[Exception]
    """What the engine's driver raises by itself."""
    longest: float
    """Seconds after which a group takes in no more: whoever comes now, a cart with an object, waits for its commit."""

    def __init__(self, engine: sa.Engine, readers: sa.Engine) -> None:
        self.is_fresh = False
        self.quarantine = ""
        self.worker = secrets.token_hex(6)
        self.crew: Crew | None = None
        self.alone = True
        self.on_full: Callable[[], object] = lambda: None
        self.on_fatal: Callable[[], object] = lambda: None
        self._engine = engine
        self._readers = readers
        self._looking = ThreadPoolExecutor(LOOKING, thread_name_prefix="store-reader")
        self._jobs: Waiting[Job] = Waiting()
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._broken: BridgeError | None = None

    # --- what an engine says ------------------------------------------------------------------------------------

    def _begin(self, conn: sa.Connection) -> None:
        """Begin a transaction that nobody writes beside."""
        raise NotImplementedError

    def _mark(self, conn: sa.Connection, *, alone: bool) -> None:
        """What the next work does can be undone."""
        raise NotImplementedError

    def _undo(self, conn: sa.Connection, *, alone: bool) -> None:
        """The work is not there, and its neighbours' is."""
        raise NotImplementedError

    def _end(self, conn: sa.Connection, reached: int, notices: Sequence[Notice]) -> None:
        """Commit what is to be announced; `reached` is the newest event in it, 0 where there is none.

        Raises CommitUnknown where it is not known whether it took.
        """
        raise NotImplementedError

    def _committed(self, reached: int) -> None:
        """It took; `reached` as in `_end`. Before anybody hears of it."""
        raise NotImplementedError

    def _goes_on(self, conn: sa.Connection) -> bool:
        """Whether the transaction stands after a statement of it failed."""
        raise NotImplementedError

    def _reset(self, conn: sa.Connection) -> None:
        """Whatever failed, the next group begins anew."""
        raise NotImplementedError

    def _mapped(self, error: Exception) -> BridgeError:
        """An error of the driver's in our words."""
        raise NotImplementedError

    # --- the port -----------------------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(Job(work, future), urgent=False)
        return future

    async def write(self, work: Work[T]) -> T:
        return await self.submit(work)

    def write_from_thread(self, work: Work[T]) -> T:
        future: Future[T] = Future()
        self._jobs.put(Job(work, future), urgent=True)
        return future.result()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._looking, self.read_from_thread, work)

    def read_from_thread(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self._readers.connect() as conn, conn.begin():
                return work(conn)
        except (sa.exc.DBAPIError, self.driver_error) as cause:
            raise self._mapped(cause) from cause

    def recover(self, tx: Transaction, *, at: datetime) -> dict[str, int]:
        """What a start finds: see `line.recover`, by whose words it goes."""
        raise NotImplementedError

    async def on_duty(self, name: str) -> None:
        """Until this process has the duty of that name, which one process has at a time. Alone it has every one."""

    def dispatchers(self) -> int:
        """How many processes send, this one included. Alone it is one."""
        return 1

    def may_send(self) -> bool:
        """Whether what this process has in hand is surely its own still. Alone it is."""
        return True

    # --- the writer ---------------------------------------------------------------------------------------------

    def _start_writing(self) -> None:
        conn = self._engine.connect()  # here, so that whoever opens the store hears of it
        self._thread = threading.Thread(target=self._write_all, args=(conn,), name="store-writer", daemon=True)
        self._thread.start()

    def _stop_writing(self) -> None:
        """Commit what waits, then end."""
        if self._thread is not None:
            self._jobs.close()
            self._thread.join()
            self._thread = None

    def _write_all(self, conn: sa.Connection) -> None:
        with conn:
            while group := self._jobs.group(GROUP):
                self._commit(conn, group)

    def _commit(self, conn: sa.Connection, group: list[Job]) -> None:
        notices: list[Notice] = []
        reached = 0
        try:
            if self._broken is not None:
                raise self._broken  # noqa: TRY301  every job of the group hears of it, as of what fails here
            self._begin(conn)
            self._join(group)
            alone, by = len(group) == 1, time.monotonic() + self.longest
            for number, job in enumerate(group):
                if number and time.monotonic() > by:
                    left = group[number:]
                    self._jobs.put_back(left, urgent=sum(isinstance(one.future, Future) for one in left))
                    del group[number:]
                    break
                reached = max(reached, self._run(conn, job, notices, alone=alone))
            self._end(conn, reached, notices)
            self._committed(reached)
        except Exception as problem:  # noqa: BLE001  edge of the writer's loop: every job of the group is told
            cause = self._mapped(problem) if isinstance(problem, (sa.exc.DBAPIError, self.driver_error)) else problem
            notices = []
            for job in group:
                job.error = job.error or cause
            if isinstance(cause, CommitUnknown) and self._broken is None:
                self._break(cause, "store.commit_unknown", type(cause.__cause__).__name__)
            self._reset(conn)
        if any(isinstance(job.error, StoreFull) for job in group):
            self.on_full()
        self._tell(group, notices)

    def _join(self, group: list[Job]) -> None:
        """Whoever came while this process waited for its turn goes along: the longer the turn takes, the larger the
        group, so that more processes do not come to more transactions. Those of threads stay first.
        """
        if later := self._jobs.more(GROUP - len(group)):
            group.extend(later)
            group.sort(key=lambda job: not isinstance(job.future, Future))

    def _break(self, problem: BridgeError, event: str, error: str) -> None:
        """Nothing is written any more, and the service ends."""
        self._broken = problem
        log.critical(event, error=error)
        self.on_fatal()

    def _run(self, conn: sa.Connection, job: Job, notices: list[Notice], *, alone: bool) -> int:
        """One work; its newest event. What fails in it leaves its neighbours' work as it is."""
        transaction = Transaction(conn)
        self._mark(conn, alone=alone)
        try:
            job.result = job.work(transaction)
        except (sa.exc.DBAPIError, self.driver_error) as cause:
            job.error = self._mapped(cause)
            if not self._goes_on(conn):
                raise job.error from cause
            self._undo(conn, alone=alone)
        except Exception as error:  # noqa: BLE001  handed to the caller as it is
            job.error = error
            self._undo(conn, alone=alone)
        else:
            notices.extend(transaction.notices)
            return transaction.reached
        return 0

    def _tell(self, group: list[Job], notices: Sequence[Notice]) -> None:
        """Results to those who wait: threads at once, the loop in one call for the whole group."""
        for job in group:
            if isinstance(job.future, Future):
                _resolve(job)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell_loop, group, notices)

    def _tell_loop(self, group: list[Job], notices: Sequence[Notice]) -> None:
        for job in group:
            if isinstance(job.future, asyncio.Future) and not job.future.done():
                _resolve(job)
        self._announce(notices)

    def _announce(self, notices: Sequence[Notice]) -> None:
        if notices:
            for listener in self._listeners:
                listener(notices)


def _resolve(job: Job) -> None:
    if job.error is not None:
        job.future.set_exception(job.error)
    else:
        job.future.set_result(job.result)
