"""A consistent copy of the database, made beside running services, and a copy put back into an empty place.

The copy holds rows, and so the HL7 messages; recordings are files. Whoever copies the payload folder after it has every
file that its rows name, but those of messages that were pruned in between.

What became of a copy's messages since it was made is not known to it: a copy that was put back is in quarantine, and
the mark of that is written in the transaction that puts it back.
"""

import contextlib
import errno
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from bridge.errors import StoreError, StoreFull, StoreRefused
from bridge.store import marks, quarantine, soundness
from bridge.store.ballast import FULL
from bridge.store.durable import make_folder, sync_folder
from bridge.store.migrate import require_known, upgrade
from bridge.store.sqlite import SqliteStore

RESTORED = "it was restored from a backup"
"""Why a store is in quarantine that was put back by `bridge db restore`."""


def copy(database: Path, target: Path) -> int:
    """Write a copy that nobody but its owner can read, durable when this returns. Returns its size in bytes.

    Never replaces a file. All of it is read in one transaction: work goes on meanwhile, and is not in it. Raises
    StoreRefused, StoreFull or StoreError; then there is no copy.
    """
    if not database.exists():
        raise StoreRefused(f"store.url: there is no store at {database} yet; `bridge run` makes it on its first start")
    with whole(target, f"{database} cannot be copied to {target}") as growing:
        _copy(database, growing)
    return target.stat().st_size
