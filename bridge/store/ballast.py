"""A file of real blocks beside the store, given up on a full disk so that states can still be written (F24).

On a full disk SQLite keeps what is committed and cannot write the smallest thing more: not even that a POST came to
its task. The file is written for real, since a sparse one frees nothing. What it frees is for the work in hand alone:
while it is away new work needs the room for it as well (`Payloads.free`), and when there is room it is made anew.
"""

import contextlib
import errno
import os
import secrets
import shutil
import threading
from pathlib import Path

import structlog

log = structlog.get_logger()

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk without room says: no blocks or inodes left, the quota used up, a file as long as it may get."""


class Ballast:
    """`size` bytes beside the store; 0: none. For any thread."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._lock = threading.Lock()

    @property
    def missing(self) -> int:
        """Bytes of it that are not on the disk."""
        try:
            found = self.path.stat()
        except OSError:
            return self.size
        return max(self.size - min(found.st_blocks * 512, found.st_size), 0)

    def make(self, keep_free: int) -> bool:
        """Whether it stands, if need be made anew; only where `keep_free` bytes are left beside it."""
        with self._lock:
            lacking = self.missing
            if not lacking:
                return True
            try:
                if shutil.disk_usage(self.path.parent).free < lacking + keep_free:
                    return False
                self._write()
            except OSError as problem:
                log.warning("ballast.not_made", error=type(problem).__name__)
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
                return False
        log.info("ballast.made", number=self.size)
        return True

    def _write(self) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, self.size)
            os.posix_fallocate(fd, 0, self.size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def give(self) -> bool:
        """Give its room to the store. Whether there was any to give."""
        with self._lock:
            try:
                given = self.path.stat().st_blocks > 0
                self.path.unlink()
            except OSError:
                return False
        log.error("ballast.given", number=self.size)
        return given


def is_full(beside: Path, reach: int) -> bool:
    """Whether the disk, the quota or the longest file allowed is what keeps `beside` from growing.

    Found out by writing a page of another file at `reach` bytes: SQLite tells all of that as one I/O error, and only
    a fault of the disk itself may end the service (A4).
    """
    probe = beside.with_name(f".{beside.name}-{secrets.token_hex(4)}")
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        return problem.errno in FULL
    try:
        os.pwrite(fd, bytes(8192), reach)
        os.fsync(fd)
    except OSError as problem:
        return problem.errno in FULL
    finally:
        os.close(fd)
        with contextlib.suppress(OSError):
            probe.unlink()
    return False
