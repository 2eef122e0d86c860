"""One tree of errors. Each knows what becomes of the work that met it.

A library's own errors are turned into these where they enter (style.md: at the border), with the cause kept.
No text here may hold a patient's value: these messages reach logs and senders.
"""

from enum import StrEnum
from typing import ClassVar


class Disposition(StrEnum):
    """What becomes of the work."""

    RETRY = "retry"
    HOLD = "hold"
    REJECT = "reject"
    FATAL = "fatal"


class BridgeError(Exception):
    """Anything that the bridge knows how to name."""

    disposition: ClassVar[Disposition] = Disposition.HOLD


class SettingsError(BridgeError):
    """The configuration cannot be used; the text names the setting and the way out."""

    disposition = Disposition.FATAL


class BadInput(BridgeError):
    """What was received can never be used as it is. `where` names the place (`PID-3`, `WaveformData`).

    `code` is the HL7 table 0357 condition for HL7 input, and a DICOM status for an object; 0 where none is due.
    """

    disposition = Disposition.REJECT

    def __init__(self, message: str, *, where: str = "", code: int = 0) -> None:
        super().__init__(message)
        self.where = where
        self.code = code


class CannotScale(BridgeError):
    """A recording is whole, but its samples cannot be given a physical value; a person must look."""

    disposition = Disposition.HOLD

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class StoreError(BridgeError):
    """The store could not do what was asked, and it is known that nothing was kept."""

    disposition = Disposition.RETRY


class StoreFull(StoreError):
    """No room: the disk or its quota is full."""


class StoreUnfit(BridgeError):
    """A value that this store never keeps, however often it is tried: too long to be found by, or too large; nothing
    was kept.
    """

    disposition = Disposition.HOLD


class StoreConflict(BridgeError):
    """A row that must be alone has a twin already, such as a second intention of one task; nothing was kept."""

    disposition = Disposition.HOLD


class CommitUnknown(BridgeError):
    """It is not known whether the commit took. Say nothing to the sender: the resend is absorbed (A3)."""

    disposition = Disposition.FATAL


class Fenced(CommitUnknown):
    """This process lost its place in the store: another has its work now. Nothing was kept, and it must end."""


class StoreRefused(BridgeError):
    """The store cannot be opened: another service holds it, its schema is newer, it cannot be written."""

    disposition = Disposition.FATAL


class CannotListen(BridgeError):
    """A port cannot be opened."""

    disposition = Disposition.FATAL


class PeerUnreachable(BridgeError):
    """A receiver of ours did not answer: not there, silent, or not understood. The text names the kind of fault."""

    disposition = Disposition.RETRY


class ActionRefused(BridgeError):
    """A person asked for what cannot be done with this message: it names it, where it stands, why, and the way out."""

    disposition = Disposition.REJECT
