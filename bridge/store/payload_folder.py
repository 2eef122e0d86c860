"""Payloads in a folder: of this host's disk, or mounted on every host that a bridge runs on.

What is asked of its file system, and NFS 3 and later have: hard links and rename within it; an fsync, of a file and of
a folder, that comes back once the server has it on stable storage (an export that is `sync`, as by default); one user
on all hosts, whose folders and files they are (0700, 0600). Locks and exact clocks are not needed.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import CommitUnknown, StoreError, StoreFull
from bridge.store.ballast import FULL
from bridge.store.durable import make_folder, sync_folder
from bridge.store.payload_place import NAMED, Spooled, told

_READ_AGAIN = 64 << 20
"""Bytes of a file that is read to see whether it is as it was."""


class Folder:
    """A place whose payloads are files. `spool` and they share a file system: a file gets its name in place."""

    def __init__(self, root: Path, spool: Path) -> None:
        self._root = root
        self._spool = spool

    def __str__(self) -> str:
        return str(self._root)

    def open(self) -> None:
        """Make the folders, all of them durable. Raises StoreError that names the setting and the way out."""
        try:
            make_folder(self._spool)
            for number in range(256):
                (self._root / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
            sync_folder(self._root)
            self._try_a_name()
        except OSError as cause:
            raise StoreError(
                f"store.payloads: {self._root} cannot be written: {cause.strerror}. The folder must belong to the user "
                "that runs the bridge, on a file system that knows hard links"
            ) from cause

    def _try_a_name(self) -> None:
        """Whether a file can get a second name here."""
        one = self._spool / f"scratch-{secrets.token_hex(8)}"
        other = one.with_name(f"{one.name}-named")
        one.touch(mode=0o600)
        try:
            os.link(one, other)
            other.unlink()
        finally:
            one.unlink()

    def take(self, whole: Spooled) -> bool:
        target = self._root / whole.name
        self._synced(whole.fd)
        with told():
            try:
                os.link(whole.path, target)
            except FileExistsError:
                if _is_whole(target, whole.size):
                    return False
                fresh = whole.path.with_name(f"{whole.path.name}-whole")  # what stands there is damaged
                os.link(whole.path, fresh)
                fresh.replace(target)
        return True

    def settle(self, name: str) -> None:
        with told():
            folder = os.open((self._root / name).parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._synced(folder)
        finally:
            os.close(folder)

    def _synced(self, fd: int) -> None:
        """Never tried again: what the first failure dropped from memory, a second one would call written (A4)."""
        try:
            os.fsync(fd)
        except OSError as cause:
            if cause.errno in FULL:
                raise StoreFull("the payload store is full") from cause
            raise CommitUnknown("the payload store did not say whether a file is written") from cause

    def has(self, name: str) -> bool:
        with told():
            try:
                (self._root / name).stat()
            except FileNotFoundError:
                return False
        return True

    def where(self, name: str) -> Path:
        return self._root / name

    def copy(self, name: str, into: Path) -> None:
        os.link(self._root / name, into)

    def remove(self, name: str) -> bool:
        """The name is gone, and the blocks are free. That erases nothing: `Payloads.remove` says more."""
        target = self._root / name
        with told():
            try:
                target.unlink()
            except FileNotFoundError:
                return False
            sync_folder(target.parent)
        return True

    def kept(self) -> Iterator[tuple[str, float]]:
        now = 0.0
        with told():
            for number in range(256):
                for one in _files(self._root / f"{number:02x}"):
                    name = f"{number:02x}/{one.name}"
                    if not NAMED.fullmatch(name):
                        continue
                    now = now or clock_of(self._root)
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        yield name, now - one.stat().st_mtime


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        yield from found


def clock_of(folder: Path) -> float:
    """What time it is for the file system: with it the age of a file is right, whatever this host's clock says."""
    probe = folder / f"scratch-{secrets.token_hex(8)}"
    probe.touch(mode=0o600)
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _is_whole(file: Path, size: int) -> bool:
    """Whether a kept file still is what its name says. A long one is told by its length alone."""
    try:
        if file.stat().st_size != size:
            return False
        with file.open("rb") as opened:
            return size > _READ_AGAIN or hashlib.file_digest(opened, "sha256").hexdigest() == file.stem
    except OSError:
        return False
