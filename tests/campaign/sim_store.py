"""The bridge's own SQLite store in memory, with a disk that fills, a commit that is not answered, and a process that
dies before or behind it.

The statements, the savepoints and the groups are the product's. What is replaced is its thread, its files and time.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from bridge.errors import CommitUnknown, StoreFull
from bridge.store.grouped import GROUP, Job
from bridge.store.port import Notice, Work
from bridge.store.schema import metadata
from bridge.store.sqlite import SqliteStore, writer_engine
from tests.campaign.sim_loop import Life

T = TypeVar("T")


class Crash(BaseException):
    """The process is gone, in the midst of a call."""


class Disk:
    """One database that outlives its processes. `reset` empties it: no seed sees another's rows."""

    def __init__(self) -> None:
        self.engine = writer_engine(Path(":memory:"))
        metadata.create_all(self.engine)
        self.conn = self.engine.connect()  # one for all lives: a second one, collected, would roll back for the first
        self.driver: Any = self.conn.connection.driver_connection
        self._empty: bytes = self.driver.serialize()

    def reset(self) -> None:
        self.driver.deserialize(self._empty)

    def rows(self, query: str) -> list[Any]:
        """What is committed."""
        found: list[Any] = self.driver.execute(query).fetchall()
        return found


class Mishaps:
    """What may happen at a commit, each with its share of commits; nothing once it is `quiet`."""

    def __init__(self, dice: random.Random, *, dies: float, unknown: float) -> None:
        self.dice = dice
        self.dies, self.unknown = dies, unknown
        self.full = False
        self.quiet = False

    def draw(self) -> str:
        """`before` or `behind` the commit the process dies; or the disk does not say whether it took it."""
        if self.quiet:
            return ""
        chance = self.dice.random()
        if chance < self.dies:
            return self.dice.choice(("before", "behind"))
        return self.dice.choice(("lost", "taken")) if chance < self.dies + self.unknown else ""


class SimStore(SqliteStore):
    """A store of one process's life on a disk."""

    longest = 1e9  # no look at real time

    def __init__(self, disk: Disk, life: Life, mishaps: Mishaps, die: Callable[[], None]) -> None:
        super().__init__(Path(":memory:"))
        self._epoch: Any = self
        self._loop = asyncio.get_running_loop()
        self._life, self._mishaps, self._die = life, mishaps, die
        self._conn = disk.conn
        self._waits: list[Job] = []
        self._fate = ""

    def note(self, reached: int) -> None:
        """The epoch file, which a simulation has none of."""

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._life.dead:
            if not self._waits:
                self._loop.call_later(self._mishaps.dice.random() * 0.02, self._flush)
            self._waits.append(Job(work, future))
        return future

    def _flush(self) -> None:
        group, self._waits = self._waits[:GROUP], self._waits[GROUP:]
        if self._waits:
            self._loop.call_soon(self._flush)
        if not self._life.dead:
            self._written(group)

    def _written(self, group: list[Job]) -> None:
        self._fate = self._mishaps.draw()
        if self._fate == "before":
            self._die()
            return
        self._commit(self._conn, group)

    def write_from_thread(self, work: Work[T]) -> T:
        if self._life.dead:
            raise Crash
        future: Future[T] = Future()
        self._written([Job(work, future)])
        if self._life.dead:
            raise Crash
        return future.result()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        await asyncio.sleep(self._mishaps.dice.random() * 0.005)
        return self.read_from_thread(work)

    def read_from_thread(self, work: Callable[[sa.Connection], T]) -> T:
        if self._life.dead:
            raise Crash
        with self._engine.connect() as conn:
            return work(conn)

    def _end(self, conn: sa.Connection, reached: int, notices: Sequence[Notice]) -> None:
        """The commit, as the product takes it; the mishaps are the disk's."""
        if self._mishaps.full and not self._mishaps.quiet:
            conn.rollback()
            raise StoreFull("the store's disk is full")
        if self._fate == "lost":
            conn.rollback()
            raise CommitUnknown("the store did not say whether the commit took")
        super()._end(conn, reached, notices)
        if self._fate == "taken":
            raise CommitUnknown("the store did not say whether the commit took")

    def _tell(self, group: Any, notices: Any) -> None:
        """Whoever died behind the commit hears nothing of it."""
        if self._fate == "behind":
            self._die()
            return
        super()._tell(group, notices)
