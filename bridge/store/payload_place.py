"""What is asked of a place where kept payloads are: a folder, or a bucket. `payloads` knows no more of it than this."""

import contextlib
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge.errors import StoreError, StoreFull
from bridge.store.ballast import FULL

NAMED = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\.dcm")
"""A payload's name: its content's SHA-256 in hex, below a folder of its first two digits."""


def name_of(digest: str) -> str:
    """The name of the content that has this SHA-256, in hex."""
    return f"{digest[:2]}/{digest}.dcm"


class Damaged(OSError):
    """What is kept under a name is not what the name says."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "its content is not what its name says")


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole object in a file of the spool, open as `fd`, and the name that it is to have."""

    path: Path
    fd: int
    name: str
    size: int


class Place(Protocol):
    """Payloads by their names. For any thread; `str` is what people call it.

    Whatever a disk or a service says comes out as StoreError (nothing was kept), StoreFull, or CommitUnknown where it
    cannot be known. What is not there is FileNotFoundError, and what is there and damaged another OSError, Damaged
    where the place sees it itself: whoever reads needs to know of no place.
    """

    def open(self) -> None:
        """Find out at the start, and not by the first object, whether it can be used. Raises StoreError."""

    def take(self, whole: Spooled) -> bool:
        """Its content is there under its name. False where it was before: then that stays, unless it is damaged."""

    def settle(self, name: str) -> None:
        """What `take` put there outlives a power cut from here on (A1)."""

    def has(self, name: str) -> bool:
        """Whether there is something under this name."""

    def where(self, name: str) -> Path | None:
        """The file itself, whether it is there or not; None where a payload has to be fetched to be read."""

    def copy(self, name: str, into: Path) -> None:
        """The same content as a file that is not there yet, in the spool."""

    def remove(self, name: str) -> bool:
        """Nothing is under this name, also after a power cut. Whether something was."""

    def kept(self) -> Iterator[tuple[str, float]]:
        """Every name, and for how many seconds it has been there by the place's own clock."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors of the disk in the store's words."""
    try:
        yield
    except OSError as cause:
        if cause.errno in FULL:
            raise StoreFull("the payload store is full") from cause
        raise StoreError(f"the payload store refused a file: {cause.strerror}") from cause
