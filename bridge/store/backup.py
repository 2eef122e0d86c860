"""A consistent copy of the database, made beside running services, and a copy put back into an empty place.

The copy holds rows, and so the HL7 messages; recordings are files. Whoever copies the payload folder after it has every
file that its rows name, but those of messages that were pruned in between: a kept file is never changed.

What was sent since a copy was made is not in it. So one that is put back here is in quarantine, and the mark of that
comes with it: there is no moment in which it is in its place without.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from bridge.errors import StoreError, StoreFull, StoreRefused
from bridge.store import migrate, quarantine, soundness
from bridge.store.ballast import FULL
from bridge.store.durable import make_folder, sync_folder
from bridge.store.sqlite import require_there, writer_engine

RESTORED = "it was restored from a backup"
"""Why a store is in quarantine that was put back."""

_MAGIC = b"SQLite format 3\0"
"""SQLite, "Database File Format", 1.3.1."""
_WAL = 2
"""1.3.3: the versions of the format by which a database with a write-ahead log is written and read."""


def copy(database: Path, target: Path) -> int:
    """Write a copy that nobody but its owner can read, durable when this returns. Returns its size in bytes.

    Never replaces a file. All of it is read in one transaction: work goes on meanwhile, and is not in it. Raises
    StoreRefused, StoreFull or StoreError; then there is no copy.
    """
    require_there(database)
    with whole(target) as growing, told(f"{database} cannot be copied to {target}"):
        _copy(database, growing)
    return target.stat().st_size


def is_of_sqlite(source: Path) -> bool:
    """Whether a copy is SQLite's. Raises StoreRefused where it cannot be read."""
    try:
        with source.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as cause:
        raise StoreRefused(f"{source} cannot be read: {cause.strerror}") from cause


def put_back(source: Path, database: Path) -> int:
    """A copy in the place of a database that is not there, in quarantine. Returns its size in bytes.

    Raises StoreRefused where something is there already, or the copy is damaged or another program's, and StoreFull or
    StoreError; then nothing is there.
    """
    for there in (database, *(database.with_name(database.name + end) for end in ("-wal", "-shm"))):
        if there.exists():
            raise StoreRefused(f"store.url: {there} is there already; move it away, or name another place")
    try:
        make_folder(database.parent)
        with locked(database), whole(database) as growing, told(f"{source} cannot be put back"):
            shutil.copyfile(source, growing)
            _require_whole(growing, source)
            _begin_quarantine(growing, source)
    except OSError as cause:
        raise StoreError(f"{source} cannot be put back: {cause.strerror}") from cause
    return database.stat().st_size


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A file for its owner alone that grows beside its place, and gets its name once it is whole and durable.

    Never replaces one. Where the context fails there is none. Raises StoreRefused, StoreFull or StoreError.
    """
    growing = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    if target.exists():
        raise StoreRefused(f"{target} is there already; name another file")
    try:
        os.close(os.open(growing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield growing
        with growing.open("rb+") as file:
            os.fsync(file.fileno())
        os.link(growing, target)  # fails where there is one by now
        sync_folder(target.parent)
    except FileExistsError as cause:
        raise StoreRefused(f"{target} is there already; name another file") from cause
    except OSError as cause:
        hint = ", which knows no hard links" if cause.errno in {errno.EPERM, errno.ENOTSUP} else ""
        kind = StoreFull if cause.errno in FULL else StoreError
        raise kind(f"{target} cannot be written: {cause.strerror}{hint}") from cause
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                growing.with_name(growing.name + end).unlink(missing_ok=True)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """SQLite's errors in the store's words."""
    try:
        yield
    except sa.exc.DBAPIError as problem:
        raise StoreError(f"{what}: {problem.orig}") from problem
    except sqlite3.Error as cause:
        full = getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        raise (StoreFull if full else StoreError)(f"{what}: {cause}") from cause


def _copy(database: Path, growing: Path) -> None:
    source = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5.0)
    copied = sqlite3.connect(growing)
    try:
        source.backup(copied)
        copied.execute("PRAGMA journal_mode=DELETE")  # one file, without a log of its own beside it
        if (found := copied.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise StoreError(f"the copy of {database} is damaged as the database is: {found}")
    finally:
        copied.close()
        source.close()


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """No service begins here meanwhile. Raises StoreRefused where one runs."""
    lock = os.open(database.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as cause:
        raise StoreRefused(f"store.url: {database} is held by a running bridge; stop it") from cause
    finally:
        os.close(lock)


def _require_whole(growing: Path, source: Path) -> None:
    """As long as its header says: SQLite reads zeros where a file ends early, and its check may take those for good."""
    with growing.open("rb") as file:
        head = file.read(100)
    if not head.startswith(_MAGIC):
        raise StoreRefused(f"{source} is no copy of a store on SQLite")
    if _WAL in head[18:20] or any(_beside(source, end) for end in ("-wal", "-journal")):
        raise StoreRefused(
            f"{source} is a database as it was in use, not a copy of one: its newest rows may be in a file beside it. "
            "Make a copy by bridge db backup, with the settings that name it"
        )
    page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
    if growing.stat().st_size != pages * (65536 if page == 1 else page):
        raise StoreRefused(f"{source} is not whole: it is shorter or longer than it says")


def _beside(source: Path, end: str) -> bool:
    beside = source.with_name(source.name + end)
    return beside.exists() and beside.stat().st_size > 0


def _begin_quarantine(growing: Path, source: Path) -> None:
    """Look at the copy as a start does, bring it to this version's schema, and set the mark."""
    engine = writer_engine(growing)
    try:
        with engine.connect() as conn:
            raw = conn.connection.driver_connection
            if not isinstance(raw, sqlite3.Connection):
                raise TypeError("SQLite has another driver than Python's own")
            soundness.require_sound(raw, source, float("inf"))
            soundness.require_ours(conn, source)
            if migrate.current(conn) is None:
                raise StoreRefused(f"{source} holds no store of the bridge")
        migrate.upgrade(engine)
        with engine.begin() as conn:
            quarantine.begin(conn, RESTORED)
    finally:
        engine.dispose()
    with contextlib.closing(sqlite3.connect(growing)) as copied:
        copied.execute("PRAGMA journal_mode=DELETE")
