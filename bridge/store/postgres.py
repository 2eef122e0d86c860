"""The engine for several processes and hosts: PostgreSQL, where one transaction writes at a time in the whole database.

`FOR UPDATE SKIP LOCKED` alone lets two processes claim two messages of one patient side by side, since each skips what
the other has locked; two receivers could each find that an order is new, or that nothing stands before a message. So
every group of works begins with one advisory lock (`pg_advisory_xact_lock`), which PostgreSQL frees when the commit is
durable. Whatever holds on SQLite for one writer holds here for all of them: order within a patient, one row for one
arrival, ids that are committed in order. What it costs is in the README; reading takes no part in it.

A transaction begins with this process's own row of `worker`. That is its fence (whose row was taken away writes nothing
any more), its sign of life, and the key by which the outcome of a commit is looked up that nobody answered: `commits`
counts what took. A frozen process cannot keep the lock: a session that is idle inside a transaction is ended by the
server after `postgres_turn.IDLE`.
"""

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psycopg
import sqlalchemy as sa
import structlog
from psycopg import errors

from bridge.clock import Clock
from bridge.errors import (
    BridgeError,
    CommitUnknown,
    Fenced,
    StoreConflict,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnfit,
)
from bridge.store import marks, migrate, postgres_facts, postgres_turn, quarantine, workers
from bridge.store.crew import Crew
from bridge.store.durable import make_folder
from bridge.store.follower import TOPICS, Follower
from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice, Transaction, Work
from bridge.store.postgres_engine import reader_engine, turns_engine

T = TypeVar("T")
log = structlog.get_logger()

_OUTCOME = "UPDATE worker SET commits = commits WHERE name = %s RETURNING commits"
_UNFIT = (psycopg.DataError, errors.ProgramLimitExceeded)
"""What a value brings about by itself. An entry of an index holds about 2,700 bytes (PostgreSQL, "B-Tree Indexes")."""
_INTERVENTION = "57"
"""Class of SQLSTATE: the server ends the session (PostgreSQL, Appendix A, "Operator Intervention")."""
_QUEUE_FILLS = "asyncQueueFillWarning"
"""The server's function that warns of a queue of NOTIFY which fills (PostgreSQL, src/backend/commands/async.c); the
words of the warning are in the server's language."""
AGAIN = 0.25
"""Seconds between two tries to reach a server that is away."""
GIVE_UP = 5.0
"""Seconds for which the end of a commit is still looked up when the service is to end."""


class PostgresStore(GroupedStore):
    """A process's place in a store on PostgreSQL. `folder` is what it keeps of its own on its host."""

    driver_error = psycopg.Error
    longest = 0.1  # a turn among other processes is rare, and is used: 0.02 made four transactions of one

    def __init__(
        self,
        address: sa.URL,
        folder: Path,
        clock: Clock,
        *,
        roles: Collection[str] = (),
        prepare: bool = True,
        lease: float = 120.0,
        poll: float = 1.0,
        epoch_file: Path | None = None,
        keep_waiting: Collection[str] = (),
    ) -> None:
        """`keep_waiting` as for `line.recover`."""
        super().__init__(turns_engine(address, prepare=prepare), reader_engine(address, prepare=prepare))
        self.alone = False
        self.folder = folder
        self.lease = lease
        self._clock = clock
        self._roles = roles
        self._epoch = marks.EpochFile(epoch_file or folder / "bridge.epoch")
        self._follower = Follower(address, poll, self.worker, self._heard)
        self._keep_waiting = keep_waiting
        self._commits = 0
        self._newest_before = 0
        self._marked = False  # whether the next work can be undone as it is
        self._alive_at = self._turn_at = 0.0
        self._warned = False
        self._closing_at: float | None = None
        self._reads = 0
        self._readers_at_work = threading.Condition()
        self._lock_fd = -1
        self._registered = False
        self._crew = self.crew = Crew(self, clock, keep_waiting)
        self.subscribe(self._crew.hear)

    # --- opening and closing ------------------------------------------------------------------------------------

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take a place in the store. `quarantine` says afterwards why it may be an older copy.

        Raises StoreRefused where the server cannot be reached, its schema is not this version's, or the folder is
        another process's.
        """
        self._loop = loop
        try:
            self._take_folder()
            self._enter()
            self._start_writing()
            self._follower.start()
        except BaseException:
            self.close()
            raise

    def _take_folder(self) -> None:
        path = self.folder / "bridge.lock"
        try:
            make_folder(self.folder)
            self._lock_fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise StoreRefused(
                f"store.folder: {self.folder} is another running bridge's; give each process a folder of its own"
            ) from cause
        except OSError as cause:
            raise StoreRefused(f"store.folder: {self.folder} cannot be written: {cause.strerror}") from cause

    def _enter(self) -> None:
        """Our schema, the newest of its line, and a row of our own."""
        outside = self._epoch.read()
        with postgres_facts.told(), self._engine.connect() as conn:
            postgres_facts.require_usable(conn)
            migrate.require_newest(conn)
            conn.rollback()
            postgres_turn.take(conn)
            self._judge(conn, outside)
            workers.sign_on(conn, self.worker, self._roles, at=self._clock.now())
            self._newest_before = marks.newest(conn)
            self._crew.count(workers.there(conn))
            postgres_turn.end(conn, self._word([Notice("duty")]))
        self._registered = True
        self._alive_at = _since_boot()
        self._follower.begin(self._newest_before)

    def _judge(self, conn: sa.Connection, outside: marks.Epoch | None) -> None:
        """An older copy stands in quarantine until a person releases it."""
        home = postgres_facts.home(conn)
        found = quarantine.reason(conn)
        if not found and (found := marks.why_not_shared(conn, outside, home)):
            quarantine.begin(conn, found)
        self.quarantine = found
        if found:
            return
        line_now = marks.value_of(conn, marks.LINE)
        if not line_now:
            line_now = marks.fresh_line()
            marks.put(conn, marks.LINE, line_now)
        marks.put(conn, marks.HOME, home)
        self._epoch.begin(marks.Epoch(marks.newest(conn), line_now))

    async def release_quarantine(self, work: Work[T]) -> T:
        """A person's word, written by `work`. Every process ends then, and starts as ever."""

        def write(tx: Transaction) -> T:
            done = work(tx)
            marks.put(tx.conn, marks.HOME, postgres_facts.home(tx.conn))
            return done

        done = await self.write(write)
        reached, line_now = await self.read(lambda conn: (marks.newest(conn), marks.value_of(conn, marks.LINE)))
        self._epoch.begin(marks.Epoch(reached, line_now))
        return done

    def close(self) -> None:
        """Commit what waits, give back what is in hand, and go."""
        self._closing_at = time.monotonic()
        self._follower.end()
        if self._thread is not None and self._broken is None and self._registered:
            self._sign_off()
        self._stop_writing()
        self._follower.stop()
        with self._readers_at_work:  # a connection that is in use would be left open
            self._readers_at_work.wait_for(lambda: not self._reads, GIVE_UP)
        self._readers.dispose()
        self._engine.dispose()
        self._epoch.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _sign_off(self) -> None:
        def leave(tx: Transaction) -> None:
            tx.notify("duty")
            workers.sign_off(tx, [self.worker], at=self._clock.now(), reason="ended")
            workers.take_over(tx, at=self._clock.now(), keep_waiting=self._keep_waiting)

        self._registered = False
        try:
            self.write_from_thread(leave)
        except BridgeError as problem:  # others notice it by themselves, a lease later
            log.warning("worker.not_signed_off", error=type(problem).__name__)

    # --- one transaction ----------------------------------------------------------------------------------------

    def _begin(self, conn: sa.Connection) -> None:
        began = _since_boot()
        own = self._take_turn(conn)
        if own is None:
            self._fence(conn)
        if own.commits != self._commits + 1:
            if own.commits <= self._commits:
                self._shut(conn)
            self._break(
                Fenced("the database went back: what was committed is not in it. It is not the newest of its line"),
                "store.history_lost",
                f"{self._commits + 1 - own.commits} commits",
            )
        elif own.is_shut != bool(self.quarantine):
            self._break(Fenced("the quarantine began or is over: this process starts anew"), "store.quarantine", "")
        if self._broken is not None:
            raise self._broken
        self._newest_before = own.newest
        self._turn_at = began
        self._marked = True

    def _shut(self, conn: sa.Connection) -> None:
        """The others may have lost nothing of their own, and gone on: they hear of it at their next turn, and a start
        at once, however new the database has become since.
        """
        if not quarantine.reason(conn):
            quarantine.begin(conn, "what a process had committed is not in it any more")
        postgres_turn.end(conn, "")

    def _take_turn(self, conn: sa.Connection) -> postgres_turn.Own | None:
        """A session that ended since the last commit is replaced: nothing was begun in it, and nobody need know."""
        try:
            return postgres_turn.take_with_own(conn, self.worker)
        except (sa.exc.DBAPIError, psycopg.Error):
            if self._goes_on(conn):
                raise
            conn.invalidate()
            conn.rollback()
            return postgres_turn.take_with_own(conn, self.worker)

    def _mark(self, conn: sa.Connection, *, alone: bool) -> None:  # noqa: ARG002  the first mark comes with the turn
        if not self._marked:
            postgres_turn.mark(conn)
        self._marked = False

    def _undo(self, conn: sa.Connection, *, alone: bool) -> None:  # noqa: ARG002
        postgres_turn.undo(conn)
        self._marked = True

    def _fence(self, conn: sa.Connection) -> NoReturn:
        row = conn.connection.cursor().execute(_OUTCOME, (self.worker,)).fetchone()
        if row is None:
            problem = Fenced("the database does not know this process: it is not the newest of its line")
            self._break(problem, "store.history_lost", "no row")
        else:
            problem = Fenced("this process was silent for its lease, and its work is another's now")
            self._break(problem, "store.fenced", "gone")
        raise problem

    def _end(self, conn: sa.Connection, reached: int, notices: Sequence[Notice]) -> None:
        raw: Any = conn.connection.driver_connection
        self._follower.skip(self._newest_before, reached)  # before it can see them
        try:
            with self._warnings(conn):
                postgres_turn.end(conn, self._word(notices))
        except (sa.exc.DBAPIError, psycopg.Error) as cause:
            if not (raw.closed or raw.broken):
                raise  # the server itself says that nothing took
            self._resolve_lost(conn, cause)
        self._commits += 1
        if self._warned:
            raise CommitUnknown("the commit took here, and its standby did not say so")

    def _word(self, notices: Sequence[Notice]) -> str:
        """What the others are told; empty: nothing."""
        topics = sorted({n.topic for n in notices if n.topic in TOPICS and (n.topic != "ready" or not n.message_id)})
        return f"{self.worker} {','.join(topics)}" if notices else ""

    @contextlib.contextmanager
    def _warnings(self, conn: sa.Connection) -> Iterator[None]:
        raw: Any = conn.connection.driver_connection
        self._warned = False
        raw.add_notice_handler(self._on_notice)
        try:
            yield
        finally:
            raw.remove_notice_handler(self._on_notice)

    def _on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """The only word of a commit that did not wait for its standby (a person cancelled it) is a warning. A server
        that is stopped says farewell by one, too: behind an answer that says nothing, and without an answer the commit
        is looked up. A third one is of what is told to others.
        """
        if notice.severity_nonlocalized != "WARNING" or (notice.sqlstate or "").startswith(_INTERVENTION):
            return
        if notice.source_function == _QUEUE_FILLS:
            log.warning("store.words_pile_up")
            return
        self._warned = True

    def _resolve_lost(self, conn: sa.Connection, cause: Exception) -> None:
        """A COMMIT that nobody answered: looked up by its key, however long that takes; nothing is said until then."""
        log.warning("store.commit_lost", error=type(cause).__name__)
        while True:
            conn.invalidate()
            conn.rollback()
            try:
                found = self._looked_up(conn)
            except (sa.exc.DBAPIError, psycopg.Error):
                if self._closing_at is not None and time.monotonic() - self._closing_at > GIVE_UP:
                    raise CommitUnknown("the store did not say whether the commit took") from cause
                time.sleep(AGAIN)
                continue
            log.info("store.commit_found", took=found == self._commits + 1)
            if found == self._commits:
                raise StoreError("the connection was lost, and the commit did not take") from cause
            if found != self._commits + 1:
                problem = Fenced("the database went back: what was committed is not in it")
                gone = "no row" if found < 0 else f"{self._commits - found} commits"
                self._break(problem, "store.history_lost", gone)
                raise problem from cause
            return

    def _looked_up(self, conn: sa.Connection) -> int:
        """What `commits` came to; -1 where our row is not there. It is read in a commit of its own: where that one is
        on the standby, so is all that was before it, and a commit that was cut off while it waited is not.
        """
        postgres_turn.take(conn)  # whoever still commits for us holds it
        row = conn.connection.cursor().execute(_OUTCOME, (self.worker,)).fetchone()
        with self._warnings(conn):
            postgres_turn.end(conn, "")
        return -1 if row is None else int(row[0])

    def _committed(self, reached: int) -> None:
        self._alive_at = self._turn_at
        self._newest_before = max(reached, self._newest_before)
        self._epoch.note(self._newest_before)  # of all processes: one that only looks must notice, too, what is lost

    def _goes_on(self, conn: sa.Connection) -> bool:
        if conn.invalidated:  # the library saw that it is cut, and raises at whoever looks at it again
            return False
        raw: Any = conn.connection.driver_connection
        return not (raw.closed or raw.broken)

    def _reset(self, conn: sa.Connection) -> None:
        self._follower.unskip(self._newest_before)
        with contextlib.suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            conn.rollback()
            if conn.invalidated:
                return  # the next group connects
            raw: Any = conn.connection.driver_connection
            if not (raw.closed or raw.broken):
                raw.rollback()
                return
        conn.invalidate()
        conn.rollback()

    def _mapped(self, error: Exception) -> BridgeError:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, errors.IntegrityError):
            return StoreConflict("a row that must be alone has a twin already")
        if isinstance(cause, _UNFIT):
            return StoreUnfit(f"the store cannot keep a value: {type(cause).__name__}")
        if isinstance(cause, (errors.DiskFull, errors.ConfigurationLimitExceeded)):
            return StoreFull("the store's disk is full")
        return StoreError(f"the store refused a statement: {type(cause).__name__}")

    def read_from_thread(self, work: Callable[[sa.Connection], T]) -> T:
        """A connection that a restart of the server cut is replaced: a read can be done again."""
        with self._readers_at_work:
            if self._closing_at is not None:
                raise StoreError("the store is closed")
            self._reads += 1
        try:
            return self._read(work)
        finally:
            with self._readers_at_work:
                self._reads -= 1
                self._readers_at_work.notify_all()

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        for last in (False, True):
            with self._reading() as conn:
                try:
                    with conn.begin():
                        return work(conn)
                except (sa.exc.DBAPIError, psycopg.Error) as cause:
                    raw: Any = conn.connection.driver_connection if not conn.invalidated else None
                    cut = raw is None or raw.closed or raw.broken
                    if raw is not None and cut:
                        conn.invalidate()
                    if last or not cut:
                        raise self._mapped(cause) from cause
        raise AssertionError("a read is done or raises")

    def _reading(self) -> sa.Connection:
        """A connection that reads. Raises StoreError while the server is away, or all of them are in use for long."""
        try:
            return self._readers.connect()
        except sa.exc.TimeoutError as cause:
            raise StoreError("the connections that read are all in use") from cause
        except (sa.exc.DBAPIError, psycopg.Error) as cause:
            raise self._mapped(cause) from cause

    # --- the others ---------------------------------------------------------------------------------------------

    def recover(self, tx: Transaction, *, at: datetime) -> dict[str, int]:
        gone = workers.surely_gone(workers.there(tx.conn))
        if gone:
            workers.sign_off(tx, gone, at=at, reason="ended without a word")
        return workers.take_over(tx, at=at, keep_waiting=self._keep_waiting)

    async def on_duty(self, name: str) -> None:
        await self._crew.on_duty(name)

    def dispatchers(self) -> int:
        return self._crew.dispatchers

    def may_send(self) -> bool:
        return _since_boot() - self._alive_at < self.lease / 2

    def _heard(self, notices: Sequence[Notice]) -> None:
        """From the follower's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._announce, notices)


def _since_boot() -> float:
    """Seconds, those included in which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
