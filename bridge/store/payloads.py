"""Large payloads as files named by their content's hash: written, fsynced, named, folder fsynced, then the row (A1).

Names carry no patient value. Files are readable by the bridge's user alone.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bridge.errors import StoreError, StoreFull

_BLOCK = 1 << 20
_LOOK = 16 << 20
"""Bytes between two looks at the free space."""


class Payloads:
    """The payload store of one host. `spool` and the kept files share a file system: a file gets its name in place."""

    def __init__(self, root: Path, *, min_free: int) -> None:
        self.root = root
        self.spool = root / "spool"
        self._min_free = min_free

    def open(self) -> int:
        """Make the folders and sweep what an earlier process left in passing use. Returns how many files."""
        try:
            self.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            passing = [p for p in self.spool.iterdir() if p.is_file() and p.stat().st_nlink == 1]
            for file in passing:
                file.unlink()
        except OSError as cause:
            raise StoreError(
                f"store.payloads: {self.root} cannot be written: {cause.strerror}. "
                "The folder must belong to the user that runs the bridge"
            ) from cause
        return len(passing)

    def sweep(self, is_known: Callable[[str], bool]) -> int:
        """Settle what an earlier process had named and not let go of: what no row knows is removed (F6).

        Only where nothing comes in yet: an object whose row is on its way looks the same. Returns how many went.
        """
        gone = 0
        for spooled in [p for p in self.spool.iterdir() if p.is_file()]:
            with spooled.open("rb") as file:
                name = _name(hashlib.file_digest(file, "sha256").hexdigest())
            if not is_known(name):
                (self.root / name).unlink(missing_ok=True)
                gone += 1
            spooled.unlink()
        return gone

    def free(self) -> int:
        """Bytes free above the watermark; negative below it, and where the folder is gone."""
        try:
            return shutil.disk_usage(self.root).free - self._min_free
        except OSError:
            return -1

    def incoming(self) -> "Incoming":
        """A new file for an object on its way in. Raises StoreFull or StoreError."""
        return Incoming(self)

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


class Incoming:
    """A file that grows on the payload store's own file system from its first byte, and is hashed as it grows.

    `keep` gives it its name; the spooled name stays beside it until `close`, so that a start finds what has a name and
    may have no row (F6). For one thread at a time.
    """

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._spooled = payloads.spool / f"incoming-{secrets.token_hex(8)}"
        self._digest = hashlib.sha256()
        self._looked = 0
        self._kept = False
        self.size = 0
        with _told():
            self._fd = os.open(self._spooled, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append. Raises StoreFull where the disk, or the room above the watermark, is at its end."""
        view = memoryview(block)
        self._digest.update(view)
        with _told():
            while view:
                view = view[os.write(self._fd, view) :]
        self.size += len(block)
        if self.size - self._looked >= _LOOK:
            self._looked = self.size
            if self._payloads.free() < 0:
                raise StoreFull("the payload store is below its watermark")

    @property
    def path(self) -> Path:
        """The file, for whoever reads it before it is kept."""
        return self._spooled

    def keep(self) -> tuple[str, str]:
        """Make it durable under its content's name. Returns the name and the SHA-256 in hex.

        What is there already under that name is the same content, and stays. Raises StoreFull or StoreError.
        """
        digest = self._digest.hexdigest()
        name = _name(digest)
        target = self._payloads.root / name
        with _told():
            os.fsync(self._fd)
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True, mode=0o700)
                _fsync_folder(self._payloads.root)
            with contextlib.suppress(FileExistsError):
                os.link(self._spooled, target)
                self._kept = True
            _fsync_folder(target.parent)
        return name, digest

    def close(self, *, unsure: bool = False) -> None:
        """Let go of it. What was not kept is gone. `unsure`: it was kept, and its row may not be there.

        Then a start decides (F6): nobody can tell here whether another arrival of the same content rests on it.
        """
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if not (unsure and self._kept):
            with contextlib.suppress(OSError):
                self._spooled.unlink()


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}.dcm"


@contextlib.contextmanager
def _told() -> Iterator[Any]:
    """Errors of the disk in the store's words."""
    try:
        yield
    except OSError as cause:
        if cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StoreFull("the payload store is full") from cause
        raise StoreError(f"the payload store refused a file: {cause.strerror}") from cause


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
