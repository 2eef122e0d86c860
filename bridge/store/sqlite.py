"""The embedded engine: SQLite in WAL mode with synchronous=FULL, one writer thread that commits in groups.

With synchronous=NORMAL acknowledged rows are gone after a power cut (measured: 1,112 of 36,332; failures.md §1).
One writer also keeps clear of the WAL defect of SQLite before 3.51.3, which needs two connections that write.
"""

import asyncio
import fcntl
import os
import pwd
import sqlite3
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
import structlog

from bridge.errors import CommitUnknown, StoreConflict, StoreError, StoreFull, StoreRefused
from bridge.store import line, marks, quarantine, soundness
from bridge.store.ballast import is_full
from bridge.store.durable import make_folder, sync_folder
from bridge.store.grouped import GroupedStore
from bridge.store.migrate import upgrade
from bridge.store.port import Notice, Transaction, Work

T = TypeVar("T")
log = structlog.get_logger()

PATIENCE = 1.0
"""Seconds that a start waits for the lock of a service that was killed."""
READER_CACHE = 256
"""KiB of pages that a reader's connection keeps. It loses them with the next commit in any case, and the allocator
keeps the room for each thread that ever read: 2 MB with SQLite's own 2,000, 12 MB in all (measured, six threads).
"""


_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_TRUNCATE})
"""I/O errors that a quota, or a file as long as it may get, brings about too (measured: RLIMIT_FSIZE, the first)."""


class SqliteStore(GroupedStore):
    """A store in one file. `open` takes the lock, looks whether the file is sound and the newest of its line, brings
    the schema up and starts the writer.
    """

    driver_error = sqlite3.Error
    longest = 0.004

    def __init__(self, path: Path, epoch_file: Path | None = None, keep_waiting: Collection[str] = ()) -> None:
        """`keep_waiting` as for `line.recover`."""
        super().__init__(writer_engine(path), reader_engine(path))
        self.path = path
        self._epoch = marks.EpochFile(epoch_file or path.with_suffix(".epoch"))
        self._lock_fd = -1
        self._marked = False  # whether a savepoint is set
        self._keep_waiting = keep_waiting

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the store for this process. `quarantine` says afterwards why it may be an older copy, `is_fresh` whether
        it was made just now.

        Raises StoreRefused where another service holds it, where it cannot be written, where it is damaged, another
        program's or another user's, or its schema is newer.
        """
        self._loop = loop
        try:
            self._take()
            self._look()
        except BaseException:
            self.close()
            raise
        self._start_writing()

    def _lock(self) -> None:
        """A child that a killed service had just begun may hold its lock a moment longer. Raises BlockingIOError."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _require_own(self) -> None:
        """Root can write everywhere, and what it makes beside another's database locks that one's service out."""
        if os.geteuid() != 0 or not self.path.exists() or not (owner := self.path.stat().st_uid):
            return
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = str(owner)
        raise StoreRefused(
            f"store.url: {self.path} belongs to {name}, and root would write files beside it that {name} cannot read; "
            f"call it as that user: runuser -u {name} -- bridge ..."
        )

    def _take(self) -> None:
        """The lock and the file."""
        self._require_own()
        try:
            make_folder(self.path.parent)
            self._lock_fd = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self._lock()
        except BlockingIOError as cause:
            raise StoreRefused(
                f"store.url: {self.path} is held by another running bridge; stop it, or give this one its own store"
            ) from cause
        except OSError as cause:
            raise StoreRefused(
                f"store.url: {self.path} cannot be written: {cause.strerror}. "
                "The folder must belong to the user that runs the bridge"
            ) from cause
        try:
            self.is_fresh = not (self.path.exists() and self.path.stat().st_size)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            sync_folder(self.path.parent)
        except OSError as cause:
            raise StoreRefused(
                f"store.url: {self.path} cannot be written: {cause.strerror}. "
                "The file must belong to the user that runs the bridge"
            ) from cause

    def _look(self) -> None:
        """Whether it is sound, ours and the newest of its line; then its schema is this version's."""
        outside = self._epoch.read()
        unclean = outside is not None and outside.running
        try:
            with self._engine.connect() as conn:
                raw = cast("sqlite3.Connection", conn.connection.driver_connection)
                most = soundness.AFTER_A_BAD_END if unclean else soundness.AFTER_A_GOOD_END
                if not soundness.require_sound(raw, self.path, most):
                    log.warning("store.check_cut_short", seconds=most)
                soundness.require_ours(conn, self.path)
            upgrade(self._engine)
            with self._engine.connect() as conn:
                soundness.require_schema(conn, self.path)
                self._judge(conn, outside)
                conn.commit()
        except (sa.exc.DBAPIError, sqlite3.Error) as cause:
            what = cause.orig if isinstance(cause, sa.exc.DBAPIError) else cause
            raise StoreRefused(
                f"store.url: {self.path} cannot be used as a store: {what}. {soundness.way_out(self.path)}"
            ) from cause

    def _judge(self, conn: sa.Connection, outside: marks.Epoch | None) -> None:
        """An older copy stands in quarantine until a person releases it; then it begins a line of its own."""
        machine = marks.this_machine()
        found = quarantine.reason(conn)
        if not found and (found := marks.why_not_trusted(conn, outside, machine)):
            quarantine.begin(conn, found)
        self.quarantine = found
        if found:
            return  # the epoch file stays as it is: it knows more than this database
        line = marks.value_of(conn, marks.LINE)
        if not line:
            line = marks.fresh_line()
            marks.put(conn, marks.LINE, line)
        conn.commit()
        self._epoch.begin(marks.Epoch(marks.newest(conn), line, machine))

    async def release_quarantine(self, work: Work[T]) -> T:
        """A person's word, written by `work`: the epoch file begins anew behind it, and the next start is one as ever.

        Where the process ends in between, the store is in quarantine still.
        """
        done = await self.write(work)
        reached, line = await self.read(lambda conn: (marks.newest(conn), marks.value_of(conn, marks.LINE)))
        self._epoch.begin(marks.Epoch(reached, line, marks.this_machine()))
        return done

    def close(self) -> None:
        """Commit what waits, then let go of the file."""
        self._stop_writing()
        self._readers.dispose()
        self._engine.dispose()
        self._epoch.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def recover(self, tx: Transaction, *, at: datetime) -> dict[str, int]:
        return line.recover(tx, at=at, keep_waiting=self._keep_waiting)

    def _begin(self, conn: sa.Connection) -> None:
        conn.begin()
        self._marked = False

    def _mark(self, conn: sa.Connection, *, alone: bool) -> None:
        """Alone it needs no savepoint."""
        if alone:
            return
        cursor = conn.connection.cursor()
        if self._marked:
            cursor.execute("RELEASE work")
        cursor.execute("SAVEPOINT work")
        self._marked = True

    def _undo(self, conn: sa.Connection, *, alone: bool) -> None:
        if alone:
            conn.rollback()
            self._begin(conn)
        else:
            conn.connection.cursor().execute("ROLLBACK TO work")

    def _end(self, conn: sa.Connection, reached: int, notices: Sequence[Notice]) -> None:  # noqa: ARG002  nobody else hears
        try:
            conn.commit()
        except sa.exc.DBAPIError as cause:
            mapped = self._mapped(cause)
            if isinstance(mapped, StoreFull):
                raise mapped from cause
            raise CommitUnknown("the store did not say whether the commit took") from cause

    def _committed(self, reached: int) -> None:
        if reached:
            self._epoch.note(reached)

    def _goes_on(self, conn: sa.Connection) -> bool:
        """SQLite itself rolls the whole transaction back where the disk is full, or fails."""
        return cast("sqlite3.Connection", conn.connection.driver_connection).in_transaction

    def _reset(self, conn: sa.Connection) -> None:
        """SQLAlchemy keeps the transaction of a failed commit until it is told, and then sends no ROLLBACK of its
        own.
        """
        try:
            conn.rollback()
            cast("sqlite3.Connection", conn.connection.driver_connection).rollback()
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as problem:
            unknown = self._broken or CommitUnknown("the store cannot be rolled back")
            self._break(unknown, "store.not_rolled_back", type(problem).__name__)

    def _mapped(self, error: Exception) -> StoreError | StoreConflict:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, sqlite3.IntegrityError):
            return StoreConflict("a row that must be alone has a twin already")
        code = getattr(cause, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_FULL or (code in _NO_ROOM and self._is_full()):
            return StoreFull("the store's disk is full")
        return StoreError(f"the store refused a statement: {type(cause).__name__}")

    def _is_full(self) -> bool:
        longest = max((file.stat().st_size for file in self.path.parent.glob(f"{self.path.name}*")), default=0)
        return is_full(self.path, longest)


def require_there(path: Path) -> None:
    """Raises StoreRefused where there is no store."""
    if not path.exists():
        raise StoreRefused(f"store.url: there is no store at {path} yet; `bridge run` makes it on its first start")


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
    """Connections that can only read; also from another process, beside a running service.

    A transaction sees one moment: the driver begins none of its own for reading.
    """
    engine = sa.create_engine(
        f"sqlite:///file:{path}?mode=ro&uri=true",
        poolclass=sa.pool.QueuePool,
        pool_size=2,
        connect_args={"check_same_thread": False, "timeout": 5.0},
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(raw: sqlite3.Connection, _: Any) -> None:
        raw.isolation_level = None
        raw.execute(f"PRAGMA cache_size=-{READER_CACHE}")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        cast("sqlite3.Connection", conn.connection.driver_connection).execute("BEGIN")

    return engine
