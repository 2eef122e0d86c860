"""Large payloads by their content's hash: written, fsynced, named, folder fsynced, then the row (A1).

Where they are kept is a `Place`: a folder of this host, one that is mounted on several, or a bucket. What comes in
grows in the spool, a folder of this host's bridge, or of the mounted file system. Names carry no patient value. Files
are readable by the bridge's user alone.

What no row knows is waste, unless its row is on its way. One process alone can tell: nothing comes in before its start
is over (`sweep`), and it counts what it has in hand (`let_go`). Of several each sees its own work alone, so there only
age tells: `waste` takes what has been there for an hour. A payload that is not new to an arrival may be as old as that;
therefore whoever removes one keeps its content until he has looked for a row once more, and whoever found one there
looks once more behind its row's commit, its own copy at hand. Whichever of the two comes last sees the other.
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

import structlog

from bridge.errors import CommitUnknown, SettingsError, StoreError, StoreFull, StoreRefused
from bridge.store.ballast import Ballast
from bridge.store.durable import make_folder
from bridge.store.payload_folder import Folder, clock_of
from bridge.store.payload_place import Damaged, Place, Spooled, name_of, told
from bridge.store_settings import StoreSettings

log = structlog.get_logger()

_LOOK = 16 << 20
"""Bytes between two looks at the free space."""
OLD = 3600.0
"""Seconds after which a file of passing use is nobody's any more, and a payload without a row is waste."""
_ASIDE = "aside-"


class Payloads:
    """The payloads of one process. `root` is its folder: of the spool, and of the payloads where no `place` is given.

    `shared`: other processes keep theirs in the same place. One that is given always is.
    """

    def __init__(
        self,
        root: Path,
        *,
        min_free: int,
        ballast: Ballast | None = None,
        shared: bool = False,
        place: Place | None = None,
    ) -> None:
        self.root = root
        self.spool = root / "spool"
        self.place: Place = place or Folder(root, self.spool)
        self.on_fatal: Callable[[], object] = lambda: None
        self._ballast = ballast
        self._shared = shared or place is not None
        self._min_free = min_free
        self._naming = threading.Lock()
        self._in_hand: Counter[str] = Counter()  # arrivals of this process, by the name they will have or have

    def open(self) -> int:
        """Make the place ready, and sweep what an earlier process left in passing use, where it was the only one.

        Returns how many files. Raises StoreError or SettingsError that names the setting and the way out.
        """
        try:
            make_folder(self.spool)
        except OSError as cause:
            raise StoreError(
                f"store.payloads: {self.spool} cannot be made: {cause.strerror}. The folder must belong to the user "
                "that runs the bridge"
            ) from cause
        self.place.open()
        gone = 0
        for file in [] if self._shared else self._passing():
            if file.stat().st_nlink == 1 and not file.name.startswith(_ASIDE):
                file.unlink()
                gone += 1
        return gone

    def _passing(self) -> list[Path]:
        """What is in the spool and nobody's: where there are several processes, what is old enough."""
        with told():
            before = clock_of(self.spool) - OLD if self._shared else float("inf")
            found: list[Path] = []
            for one in self.spool.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if one.is_file() and one.stat().st_mtime < before:
                        found.append(one)
            return found

    def require_none(self, database: Path) -> None:
        """Raises StoreRefused where recordings are kept here already: a database that knows none of them is new, and
        theirs is missing. What no row knows is never taken for waste on the word of an empty database (F27).
        """
        if next(self.place.kept(), None) is not None:
            raise StoreRefused(
                f"store.url: {database} is new, and {self.place} holds recordings already: their database is missing. "
                "Put it, or the newest backup of it, in its place and start again; where the recordings are of no more "
                f"use, move {self.place} away"
            )

    def sweep(self, is_known: Callable[[str], bool], *, keep: bool = False) -> int:
        """Settle what an earlier process had named and not let go of: what no row knows is removed (F6).

        Only where nothing comes in yet: an object whose row is on its way looks the same. That can be said of one
        process alone; where there are several, nothing is removed but what is old in the spool. `keep`: the rows may be
        an older copy's, so whatever has a name stays. What a row knows and is not there gets its name again. Returns
        how many went.
        """
        gone = 0
        for spooled in self._passing():
            with contextlib.suppress(FileNotFoundError):  # another process sweeps as well
                name = _name_by_content(spooled)
                if is_known(name):
                    if not self.place.has(name):
                        self._put_back(spooled, name)
                elif not keep and not self._shared:
                    self.place.remove(name)
                    gone += 1
                spooled.unlink(missing_ok=True)
        return gone

    def waste(self, is_known: Callable[[str], bool], *, older: float = OLD) -> int:
        """Remove what no row knows and is older than so many seconds: kept, and then its row did not come. How many.

        Beside running processes. Raises StoreRefused, and removes nothing, where no payload at all has a row: then it
        is the database that is the wrong one (F27).
        """
        if self._shared:  # of one process alone a start does it, and what is there now is its own
            self.sweep(is_known)
        unknown: list[str] = []
        any_known = False
        for name, age in self.place.kept():
            if is_known(name):
                any_known = True
            elif age > older:
                unknown.append(name)
        if unknown and not any_known:
            raise StoreRefused(
                f"store.payloads: the database knows none of the {len(unknown)} old recordings in {self.place}: it is "
                "not theirs, or new. Nothing was removed"
            )
        return sum(self.remove(name, is_known) for name in unknown)

    def remove(self, name: str, is_known: Callable[[str], bool]) -> bool:
        """Remove a payload that no row knows any more, beside running processes. Whether it was there, and is gone.

        Gone is the name, and what can be read by it. That is no erasure: a file system that journals or copies on write
        (ext4's journal, Btrfs, ZFS, snapshots), an SSD that moves its blocks, backups, and a bucket with versions each
        may hold the content for longer. Where that matters the disk is encrypted and its key destroyed, or the bucket
        has a rule that ends old versions.
        """
        if self._in_hand[name] > 0 or is_known(name):
            return False
        aside = self.spool / f"{_ASIDE}{secrets.token_hex(8)}"
        try:
            whole = self._set_aside(name, aside)
        except FileNotFoundError:
            return False
        gone = self.place.remove(name)
        needed = True
        try:
            needed = is_known(name)
        finally:
            if needed and whole:
                self._put_back(aside, name)
        aside.unlink(missing_ok=True)
        return gone and not needed

    def _set_aside(self, name: str, aside: Path) -> bool:
        """A copy of it. False where it is damaged: then there is nothing that could be put back."""
        try:
            self.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.place.copy(name, aside)
        except Damaged:
            aside.unlink(missing_ok=True)
            return False
        except (OSError, StoreError) as cause:
            aside.unlink(missing_ok=True)
            if isinstance(cause, (FileNotFoundError, StoreError)):
                raise
            raise StoreError(f"the payload store cannot set a payload aside: {cause.strerror}") from cause
        return True

    def _put_back(self, file: Path, name: str) -> None:
        """What a row knows gets its name again. Where that fails the file stays for a `sweep`."""
        with told(), file.open("rb") as opened:
            whole = Spooled(file, opened.fileno(), name, os.fstat(opened.fileno()).st_size)
            self.place.take(whole)
            self.place.settle(name)
        log.warning("payload.put_back")

    def free(self) -> int:
        """Bytes free above the watermark, here and beside the database; negative below it, and where a folder is gone.

        What the ballast lacks is not free: it was given for the work in hand (F24). Of a bucket nothing is known: what
        counts is the room that the spool has on this host.
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

    def expect(self, name: str) -> None:
        """An arrival of that content is about to rest on what is there under its name."""
        with self._naming:
            self._in_hand[name] += 1

    def let_go(self, name: str, needless: Callable[[str], bool] | None) -> bool:
        """An arrival of that content is over. Whether its payload was removed: nobody needs it, by `needless`.

        Never where another process may rest on it as well: then `waste` finds it.
        """
        with self._naming:
            self._in_hand[name] -= 1
            if self._in_hand[name] > 0:
                return False
            del self._in_hand[name]
            if needless is None or self._shared or not needless(name):
                return False
            with contextlib.suppress(OSError, StoreError):
                self.place.remove(name)
            return True

    def see_again(self, file: Path, name: str) -> bool:
        """Behind the row of an arrival that found its content there: it is there still, if need be by the arrival's own
        copy. False where that could not be seen to: then the copy must stay.
        """
        try:
            if not self.place.has(name):
                self._put_back(file, name)
        except (StoreError, CommitUnknown) as problem:
            log.error("payload.not_seen_again", error=type(problem).__name__)
            if isinstance(problem, CommitUnknown):
                self.on_fatal()
            return False
        return True

    def incoming(self) -> "Incoming":
        """A new file for an object on its way in. Raises StoreFull or StoreError."""
        return Incoming(self)

    @contextlib.contextmanager
    def at_hand(self, name: str) -> Iterator[Path]:
        """A kept payload as a file of this host, for as long as the context is open.

        Raises OSError where it is not there or is damaged: from a folder when the file is read, by which its content is
        not proven; from a bucket here, where it is proven by its name. Raises StoreError where the place does not
        answer, and StoreFull where there is no room for a copy.
        """
        here = self.place.where(name)
        if here is not None:
            yield here
            return
        copy = self.spool / f"fetched-{secrets.token_hex(8)}"
        try:
            self.place.copy(name, copy)
            yield copy
        finally:
            copy.unlink(missing_ok=True)


class Incoming:
    """A file that grows in the spool from its first byte, and is hashed as it grows.

    `keep` gives it its name; the spooled name stays beside it until `close`, so that a start finds what has a name and
    may have no row (F6). For one thread at a time.
    """

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._spooled = payloads.spool / f"incoming-{secrets.token_hex(8)}"
        self._digest = hashlib.sha256()
        self._looked = 0
        self._kept = False
        self._found = False
        self._name = ""
        self.size = 0
        with told():
            self._fd = os.open(self._spooled, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append. Raises StoreFull where the disk, or the room above the watermark, is at its end."""
        view = memoryview(block)
        self._digest.update(view)
        with told():
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
        name = name_of(digest)
        self._payloads.expect(name)
        self._name = name
        try:
            self._kept = self._payloads.place.take(Spooled(self._spooled, self._fd, name, self.size))
            self._payloads.place.settle(name)
        except CommitUnknown:
            self._payloads.on_fatal()
            raise
        self._found = not self._kept
        return name, digest

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
        stays = False
        if self._name:
            rests = self._found and needless is None
            stays = rests and not self._payloads.see_again(self._spooled, self._name)
            gone = self._payloads.let_go(self._name, needless if self._kept else None)
            stays = stays or (unsure and self._kept and not gone)
        if not stays:
            with contextlib.suppress(OSError):
                self._spooled.unlink()


def payloads_for(settings: StoreSettings, *, ballast: Ballast | None = None) -> Payloads:
    """The payload store that the settings name. Raises SettingsError where a bucket's cannot be used."""
    shared = not settings.is_sqlite
    place: Place | None = None
    if settings.bucket is not None:
        try:
            from bridge.store.payload_bucket import Bucket  # noqa: PLC0415  only who has a bucket has its client
        except ModuleNotFoundError as cause:
            raise SettingsError(
                f"store.payloads: a bucket needs {cause.name}: install the bridge with its extra, cardio-bridge[s3]"
            ) from cause
        place = Bucket(settings)
    return Payloads(settings.payload_folder, min_free=settings.min_free, ballast=ballast, shared=shared, place=place)


def _name_by_content(file: Path) -> str:
    with file.open("rb") as opened:
        return name_of(hashlib.file_digest(opened, "sha256").hexdigest())
