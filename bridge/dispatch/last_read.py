"""The messages that were in hand when the service ended, remembered across its end (F28).

What is read before it is kept leaves no row if it ends the process, and its sender would bring it again for ever. So
its digest stands in a small file first. Nothing is synced: the end of a process leaves what was written, and after a
power cut nobody is to blame.
"""

import contextlib
import os
from enum import IntEnum
from pathlib import Path

from bridge.errors import SettingsError

_SIZE = 32
_MOST = 64
"""Digests in the file: those in hand, and what was in hand at earlier ends, the newest first."""


class Step(IntEnum):
    """What is done with a message; one at a time each, so one place each."""

    UNDERSTOOD = 0
    ENTERED = 1


class LastRead:
    """Who is in hand, and who was when an earlier run ended. `digest` is the hexadecimal SHA-256 of the content."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError where the file can neither be read nor made."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            found = os.pread(self._file, _SIZE * _MOST, 0)
            cut = (found[at : at + _SIZE] for at in range(0, len(found), _SIZE))
            kept = [one for one in dict.fromkeys(cut) if len(one) == _SIZE and any(one)][: _MOST - len(Step)]
            self._suspects = frozenset(one.hex() for one in kept)
            whole = bytes(_SIZE * len(Step)) + b"".join(kept)
            os.pwrite(self._file, whole.ljust(_SIZE * _MOST, b"\0"), 0)
        except OSError as cause:
            raise SettingsError(f"store.url: {path} beside it cannot be written: {cause.strerror}") from cause

    def suspects(self, digest: str) -> bool:
        """Whether the message was in hand when an earlier run ended."""
        return digest in self._suspects

    def note(self, step: Step, digest: str) -> None:
        """Say who is in hand, before anything is done with it."""
        with contextlib.suppress(OSError):  # the file is as long as it gets: a full disk does not matter
            os.pwrite(self._file, bytes.fromhex(digest), step * _SIZE)

    def close(self) -> None:
        """Nobody is in hand any more: this run ends in good order."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file, bytes(_SIZE * len(Step)), 0)
        os.close(self._file)
        self._file = -1  # its number is another file's next
