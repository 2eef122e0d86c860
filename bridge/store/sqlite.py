"""The embedded engine: SQLite in WAL mode with synchronous=FULL, one writer thread that commits in groups.

With synchronous=NORMAL acknowledged rows are gone after a power cut (measured: 1,112 of 36,332; failures.md §1).
One writer also keeps clear of the WAL defect of SQLite before 3.51.3, which needs two connections that write.
"""

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
import structlog

from bridge.errors import CommitUnknown, StoreConflict, StoreError, StoreFull, StoreRefused
from bridge.store.migrate import upgrade
from bridge.store.port import Listener, Notice, Transaction, Work
from bridge.store.waiting import Waiting

T = TypeVar("T")
log = structlog.get_logger()

GROUP = 128
"""Works in one commit at the most: bounds how long the first of them waits."""
LONGEST = 0.004
"""Seconds after which a group takes in no more: whoever comes now, a cart with an object, waits for its commit."""


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: "Future[Any] | asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class SqliteStore:
    """A store in one file. `open` takes the lock, brings the schema up and starts the writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: Waiting[_Job] = Waiting()
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock_fd = -1
        self._broken: CommitUnknown | None = None
        self.on_fatal: Callable[[], object] = lambda: None
        self._engine = writer_engine(path)
        self._readers = reader_engine(path)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the store for this process.

        Raises StoreRefused where another service holds it, where it cannot be written, where its schema is newer.
        """
        self._loop = loop
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise StoreRefused(
                f"store.url: {self.path} is held by another running bridge; stop it, or give this one its own store"
            ) from cause
        except OSError as cause:
            raise StoreRefused(
                f"store.url: {self.path} cannot be written: {cause.strerror}. "
                "The folder must belong to the user that runs the bridge"
            ) from cause
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            upgrade(self._engine)
        except sa.exc.DBAPIError as cause:
            raise StoreRefused(f"store.url: {self.path} cannot be used as a store: {cause.orig}") from cause
        self._thread = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, then let go of the file."""
        if self._thread is not None:
            self._jobs.close()
            self._thread.join()
            self._thread = None
        self._readers.dispose()
        self._engine.dispose()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, future), urgent=False)
        return future

    async def write(self, work: Work[T]) -> T:
        return await self.submit(work)

    def write_from_thread(self, work: Work[T]) -> T:
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future), urgent=True)
        return future.result()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.to_thread(self.read_from_thread, work)

    def read_from_thread(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self._readers.connect() as conn:
                return work(conn)
        except (sa.exc.DBAPIError, sqlite3.Error) as cause:
            raise _mapped(cause) from cause

    def _write_all(self) -> None:
        with self._engine.connect() as conn:
            while group := self._jobs.group(GROUP):
                self._commit(conn, group)

    def _commit(self, conn: sa.Connection, group: list[_Job]) -> None:
        notices: list[Notice] = []
        try:
            self._begin(conn)
            alone, by = len(group) == 1, time.monotonic() + LONGEST
            for number, job in enumerate(group):
                if number and time.monotonic() > by:
                    left = group[number:]
                    self._jobs.put_back(left, urgent=sum(isinstance(one.future, Future) for one in left))
                    del group[number:]
                    break
                self._run(conn, job, notices, alone=alone)
            self._end(conn)
        except Exception as problem:  # noqa: BLE001  edge of the writer's loop: every job of the group is told
            cause = _mapped(problem) if isinstance(problem, (sa.exc.DBAPIError, sqlite3.Error)) else problem
            notices = []
            for job in group:
                job.error = job.error or cause
            if isinstance(cause, CommitUnknown) and self._broken is None:
                self._broken = cause
                log.critical("store.commit_unknown", error=type(cause.__cause__).__name__)
                self.on_fatal()
            self._roll_back(conn)
        self._tell(group, notices)

    def _roll_back(self, conn: sa.Connection) -> None:
        """Whatever failed, the next group begins anew. SQLAlchemy keeps the transaction of a failed commit until it is
        told, and then sends no ROLLBACK of its own.
        """
        try:
            conn.rollback()
            cast("sqlite3.Connection", conn.connection.driver_connection).rollback()
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as problem:
            self._broken = self._broken or CommitUnknown("the store cannot be rolled back")
            log.critical("store.not_rolled_back", error=type(problem).__name__)
            self.on_fatal()

    def _begin(self, conn: sa.Connection) -> None:
        if self._broken is not None:
            raise self._broken
        conn.begin()

    @staticmethod
    def _run(conn: sa.Connection, job: _Job, notices: list[Notice], *, alone: bool) -> None:
        """One work in its savepoint: what fails in it leaves its neighbours' work as it is. Alone it needs none."""
        transaction = Transaction(conn)
        cursor = conn.connection.cursor()
        if not alone:
            cursor.execute("SAVEPOINT work")
        try:
            job.result = job.work(transaction)
        except (sa.exc.DBAPIError, sqlite3.Error) as cause:
            job.error = _mapped(cause)
            if not cast("sqlite3.Connection", conn.connection.driver_connection).in_transaction:
                raise job.error from cause  # SQLite itself rolled the whole transaction back (disk full, I/O error)
            _undo(conn, cursor, alone=alone)
        except Exception as error:  # noqa: BLE001  handed to the caller as it is
            job.error = error
            _undo(conn, cursor, alone=alone)
        else:
            notices.extend(transaction.notices)
        if not alone:
            cursor.execute("RELEASE work")

    @staticmethod
    def _end(conn: sa.Connection) -> None:
        try:
            conn.commit()
        except sa.exc.DBAPIError as cause:
            mapped = _mapped(cause)
            if isinstance(mapped, StoreFull):
                raise mapped from cause
            raise CommitUnknown("the store did not say whether the commit took") from cause

    def _tell(self, group: list[_Job], notices: Sequence[Notice]) -> None:
        """Results to those who wait: threads at once, the loop in one call for the whole group."""
        for job in group:
            if isinstance(job.future, Future):
                _resolve(job)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell_loop, group, notices)

    def _tell_loop(self, group: list[_Job], notices: Sequence[Notice]) -> None:
        for job in group:
            if isinstance(job.future, asyncio.Future) and not job.future.done():
                _resolve(job)
        if notices:
            for listener in self._listeners:
                listener(notices)


def _undo(conn: sa.Connection, cursor: Any, *, alone: bool) -> None:
    if alone:
        conn.rollback()
        conn.begin()
    else:
        cursor.execute("ROLLBACK TO work")


def _resolve(job: _Job) -> None:
    if job.error is not None:
        job.future.set_exception(job.error)
    else:
        job.future.set_result(job.result)


def _mapped(error: sa.exc.DBAPIError | sqlite3.Error) -> StoreError | StoreConflict:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(cause, sqlite3.IntegrityError):
        return StoreConflict("a row that must be alone has a twin already")
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull("the store's disk is full")
    return StoreError(f"the store refused a statement: {type(cause).__name__}")


def writer_engine(path: Path) -> sa.Engine:
    """The one connection that writes. Transactions are BEGIN IMMEDIATE, by us, not by the driver."""
    engine = sa.create_engine(
        f"sqlite:///{path}", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(raw: sqlite3.Connection, _: Any) -> None:
        raw.isolation_level = None
        # A lock of somebody else's is waited out by the group under way and by the next: both within an answer's
        # budget of 4 s (A6, F26).
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=1500"):
            raw.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(path: Path) -> sa.Engine:
    """Connections that can only read; also from another process, beside a running service."""
    return sa.create_engine(
        f"sqlite:///file:{path}?mode=ro&uri=true",
        poolclass=sa.pool.QueuePool,
        pool_size=2,
        connect_args={"check_same_thread": False, "timeout": 5.0},
    )
