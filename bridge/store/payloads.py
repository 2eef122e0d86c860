"""Large payloads as files named by their content's hash: written, fsynced, named, folder fsynced, then the row (A1).

Names carry no patient value. Files are readable by the bridge's user alone.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bridge.errors import CommitUnknown, StoreError, StoreFull, StoreRefused
from bridge.store.ballast import FULL, Ballast
from bridge.store.durable import make_folder, sync_folder

_BLOCK = 1 << 20
_LOOK = 16 << 20
"""Bytes between two looks at the free space."""
_READ_AGAIN = 64 << 20
"""Bytes of a file that is read to see whether it is as it was."""


class Payloads:
    """The payload store of one host. `spool` and the kept files share a file system: a file gets its name in place."""

    def __init__(self, root: Path, *, min_free: int, ballast: Ballast | None = None) -> None:
        self.root = root
        self._ballast = ballast
        self.spool = root / "spool"
        self.on_fatal: Callable[[], object] = lambda: None
        self._min_free = min_free
        self._naming = threading.Lock()
        self._in_hand: Counter[str] = Counter()  # arrivals of this process, by the name they will have or have

    def open(self) -> int:
        """Make the folders, all of them durable, and sweep what an earlier process left in passing use.

        Returns how many files. Raises StoreError that names the setting and the way out.
        """
        try:
            make_folder(self.spool)
            for number in range(256):
                (self.root / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
            sync_folder(self.root)
            passing = [p for p in self.spool.iterdir() if p.is_file() and p.stat().st_nlink == 1]
            for file in passing:
                file.unlink()
            self._try_a_name()
        except OSError as cause:
            raise StoreError(
                f"store.payloads: {self.root} cannot be written: {cause.strerror}. The folder must belong to the user "
                "that runs the bridge, on a file system that knows hard links"
            ) from cause
        return len(passing)

    def _try_a_name(self) -> None:
        """Whether a file can get a second name here: found out at the start, and not by the first object."""
        with self.scratch() as one:
            other = one.with_name(f"{one.name}-named")
            os.link(one, other)
            other.unlink()

    def require_none(self, database: Path) -> None:
        """Raises StoreRefused where recordings are kept here already: a database that knows none of them is new, and
        theirs is missing. What no row knows is never taken for waste on the word of an empty database (F27).
        """
        kept = next(self.root.glob("[0-9a-f][0-9a-f]/*.dcm"), None)
        if kept is not None:
            raise StoreRefused(
                f"store.url: {database} is new, and {self.root} holds recordings already: their database is missing. "
                "Put it, or the newest backup of it, in its place and start again; where the recordings are of no more "
                f"use, move {self.root} away"
            )

    def sweep(self, is_known: Callable[[str], bool], *, keep: bool = False) -> int:
        """Settle what an earlier process had named and not let go of: what no row knows is removed (F6).

        Only where nothing comes in yet: an object whose row is on its way looks the same. `keep`: the rows may be an
        older copy's, so whatever has a name stays. Returns how many went.
        """
        gone = 0
        for spooled in [p for p in self.spool.iterdir() if p.is_file()]:
            with spooled.open("rb") as file:
                name = _name(hashlib.file_digest(file, "sha256").hexdigest())
            if not keep and not is_known(name):
                (self.root / name).unlink(missing_ok=True)
                gone += 1
            spooled.unlink()
        return gone

    def free(self) -> int:
        """Bytes free above the watermark, here and beside the database; negative below it, and where a folder is gone.

        What the ballast lacks is not free: it was given for the work in hand (F24).
        """
        lacking = self.ballast_missing()
        folders = [self.root, *([self._ballast.path.parent] if self._ballast else [])]
        try:
            return min(shutil.disk_usage(folder).free for folder in folders) - self._min_free - lacking
        except OSError:
            return -1

    def ballast_missing(self) -> int:
        """Bytes of the ballast that were given up and not made anew."""
        return self._ballast.missing if self._ballast else 0

    def name(self, spooled: Path, target: Path, size: int) -> bool:
        """Give a whole file its name. False where the same content has it already. Raises OSError."""
        with self._naming:
            self._in_hand[f"{target.parent.name}/{target.name}"] += 1
            try:
                os.link(spooled, target)
            except FileExistsError:
                if _is_whole(target, size):
                    return False
                fresh = spooled.with_name(f"{spooled.name}-whole")  # what stands there is damaged
                os.link(spooled, fresh)
                fresh.replace(target)
        return True

    def let_go(self, name: str, needless: Callable[[str], bool] | None) -> bool:
        """An arrival of that content is over. Whether its file was removed: nobody needs it, by `needless`."""
        with self._naming:
            self._in_hand[name] -= 1
            if self._in_hand[name] > 0:
                return False
            del self._in_hand[name]
            if needless is None or not needless(name):
                return False
            with contextlib.suppress(OSError):
                (self.root / name).unlink(missing_ok=True)
            return True

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
        self._name = ""
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

        What is there already under that name is the same content, and stays, unless it is damaged. Raises StoreFull or
        StoreError, and CommitUnknown where the disk does not say whether it took it (A4): then the service ends.
        """
        digest = self._digest.hexdigest()
        name = _name(digest)
        target = self._payloads.root / name
        self._synced(self._fd)
        self._name = name
        with _told():
            self._kept = self._payloads.name(self._spooled, target, self.size)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._synced(folder)
        finally:
            os.close(folder)
        return name, digest

    def _synced(self, fd: int) -> None:
        """Never tried again: what the first failure dropped from memory, a second one would call written (A4)."""
        try:
            os.fsync(fd)
        except OSError as cause:
            if cause.errno in FULL:
                raise StoreFull("the payload store is full") from cause
            self._payloads.on_fatal()
            raise CommitUnknown("the payload store did not say whether a file is written") from cause

    def close(self, *, unsure: bool = False, needless: Callable[[str], bool] | None = None) -> None:
        """Let go of it; never raises. What was not kept is gone.

        `unsure`: its row may be there or not. Then a start decides (F6). `needless` says of a name that no row has it:
        then what was kept for nothing is gone too, unless another arrival of the same content rests on it.
        """
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1
        gone = self._payloads.let_go(self._name, needless if self._kept else None) if self._name else True
        if not (unsure and self._kept and not gone):
            with contextlib.suppress(OSError):
                self._spooled.unlink()


def _is_whole(file: Path, size: int) -> bool:
    """Whether a kept file still is what its name says. A long one is told by its length alone."""
    try:
        if file.stat().st_size != size:
            return False
        with file.open("rb") as opened:
            return size > _READ_AGAIN or hashlib.file_digest(opened, "sha256").hexdigest() == file.stem
    except OSError:
        return False


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}.dcm"


@contextlib.contextmanager
def _told() -> Iterator[Any]:
    """Errors of the disk in the store's words."""
    try:
        yield
    except OSError as cause:
        if cause.errno in FULL:
            raise StoreFull("the payload store is full") from cause
        raise StoreError(f"the payload store refused a file: {cause.strerror}") from cause
