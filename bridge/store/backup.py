"""A consistent copy of the database, made beside a running service (SQLite's online backup).

The copy holds rows, and so the HL7 messages; recordings are files. Whoever copies the payload folder after it has every
file that its rows name, since a kept file is never changed nor taken away.
"""

import contextlib
import errno
import os
import secrets
import sqlite3
from pathlib import Path

from bridge.errors import StoreError, StoreFull, StoreRefused
from bridge.store.ballast import FULL
from bridge.store.durable import sync_folder


def copy(database: Path, target: Path) -> int:
    """Write a copy that nobody but its owner can read, durable when this returns. Returns its size in bytes.

    Never replaces a file. All of it is read in one transaction: work goes on meanwhile, and is not in it. Raises
    StoreRefused, StoreFull or StoreError; then there is no copy.
    """
    if not database.exists():
        raise StoreRefused(f"store.url: there is no store at {database} yet; `bridge run` makes it on its first start")
    growing = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        os.close(os.open(growing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(database, growing)
        with growing.open("rb+") as file:
            os.fsync(file.fileno())
        os.link(growing, target)  # fails where there is one already
        sync_folder(target.parent)
        return target.stat().st_size
    except FileExistsError as cause:
        raise StoreRefused(f"{target} is there already; name another file") from cause
    except sqlite3.Error as cause:
        full = getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        raise (StoreFull if full else StoreError)(f"{database} cannot be copied to {target}: {cause}") from cause
    except OSError as cause:
        hint = ", which knows no hard links" if cause.errno in {errno.EPERM, errno.ENOTSUP} else ""
        kind = StoreFull if cause.errno in FULL else StoreError
        raise kind(f"{target} cannot be written: {cause.strerror}{hint}") from cause
    finally:
        for left in (growing, growing.with_name(f"{growing.name}-journal")):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


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
