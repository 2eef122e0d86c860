"""Faults put into the bridge on purpose: a campaign that does not see them has no teeth.

Each function is called in the bridge's process before its command (`Stage.before`).
"""

import os
import stat
from pathlib import Path

import sqlalchemy as sa

from bridge.store import sqlite
from bridge.store.payload_folder import Folder


def normal() -> None:
    """Commits that are not synced: `synchronous=NORMAL` (failures.md §1: 1,112 of 36,332 acknowledged rows gone)."""
    honest = sqlite.writer_engine

    def spoiled(path: Path) -> sa.Engine:
        engine = honest(path)
        sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=NORMAL"))
        return engine

    sqlite.writer_engine = spoiled


def no_folder_fsync() -> None:
    """Payloads whose names are not synced."""
    _without(stat.S_ISDIR)


def no_file_fsync() -> None:
    """Payloads whose content is not synced."""
    _without(stat.S_ISREG)


def _without(spared: object) -> None:
    honest = Folder._synced

    def spoiled(self: Folder, fd: int) -> None:
        if not spared(os.fstat(fd).st_mode):  # type: ignore[operator]
            honest(self, fd)

    Folder._synced = spoiled  # type: ignore[method-assign]
