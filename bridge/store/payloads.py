"""Large payloads as files named by their content's hash: written, fsynced, renamed, folder fsynced, then the row (A1).

Names carry no patient value. Files are readable by the bridge's user alone.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import StoreError, StoreFull

_BLOCK = 1 << 20


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Payloads:
    """The payload store of one host. `spool` and the kept files share a file system, so that rename is atomic."""

    def __init__(self, root: Path, *, min_free: int) -> None:
        self.root = root
        self.spool = root / "spool"
        self._min_free = min_free

    def open(self) -> int:
        """Make the folders and sweep what an earlier process left half received (F4). Returns how many."""
        try:
            self.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            orphans = [p for p in self.spool.iterdir() if p.is_file()]
            for orphan in orphans:
                orphan.unlink()
        except OSError as cause:
            raise StoreError(
                f"store.payloads: {self.root} cannot be written: {cause.strerror}. "
                "The folder must belong to the user that runs the bridge"
            ) from cause
        return len(orphans)

    def free(self) -> int:
        """Bytes free above the watermark; negative below it, and where the folder is gone."""
        try:
            return shutil.disk_usage(self.root).free - self._min_free
        except OSError:
            return -1

    def take(self, spooled: Path) -> tuple[str, str]:
        """Make a spooled file durable under its content's name. Returns the name and the SHA-256 in hex.

        Raises StoreFull where the disk has no room, StoreError for another fault of the disk.
        """
        digest = hashlib.sha256()
        try:
            with spooled.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                os.fsync(file.fileno())
            name = f"{digest.hexdigest()[:2]}/{digest.hexdigest()}.dcm"
            target = self.root / name
            if target.exists():
                spooled.unlink()
            else:
                if not target.parent.exists():
                    target.parent.mkdir(exist_ok=True, mode=0o700)
                    _fsync_folder(self.root)
                spooled.chmod(0o600)
                spooled.rename(target)
            _fsync_folder(target.parent)
        except OSError as cause:
            if cause.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StoreFull("the payload store is full") from cause
            raise StoreError("the payload store refused a file") from cause
        return name, digest.hexdigest()

    def path(self, name: str) -> Path:
        """Where a kept payload is."""
        return self.root / name

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A file of passing use on the same file system, gone at the end."""
        path = self.spool / f"scratch-{secrets.token_hex(8)}"
        path.touch(mode=0o600)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
