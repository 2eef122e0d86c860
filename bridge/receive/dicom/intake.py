"""Objects that carts and PACS send: in custody before the status goes back. DICOM only carries what is decided here."""

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import structlog

from bridge.clock import Clock
from bridge.dicom_settings import DicomSettings
from bridge.domain.states import State
from bridge.errors import BadInput, CommitUnknown, StoreError, StoreFull
from bridge.formats.dicom.file_meta import file_head
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, read_object
from bridge.formats.dicom.sameness import Digests, digests
from bridge.formats.dicom.structure import check_structure
from bridge.receive.dicom.documents import DOCUMENT_SOP_CLASSES
from bridge.receive.dicom.pdus import AbortReason, Breach
from bridge.receive.dicom.session import Session
from bridge.store import inbox
from bridge.store.payloads import Incoming, Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

RESTING_ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"
_LOOK = 0.1
"""Seconds that a look at the free space holds for."""
_MOMENT = 0.03
"""Seconds between two objects that a sender has at hand."""
_NO_END = 16 << 20
"""Bytes that are passed over beyond twice the longest data set, before a sender is taken for a broken one."""


class Status(IntEnum):
    """C-STORE statuses that we give (PS3.4 B.2.3)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


Answer = tuple[Status, str]
"""A status and its Error Comment: at most 64 characters, no patient value (PS3.7 C.4.1)."""

NO_ROOM: Answer = (Status.OUT_OF_RESOURCES, "no room in the payload store")
NOT_KEPT: Answer = (Status.OUT_OF_RESOURCES, "it could not be kept")
MOST_VARIANTS = 8
"""Of one UID: beyond them an object is not compared with each, but held."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the association and the C-STORE command say of an object before it comes."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    session: Session


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the bounded structural check before the answer found (A2, F5)."""

    state: State
    reason: str
    answer: Answer


class DicomIntake:
    """Takes DICOM objects into custody. Called from the associations' threads."""

    def __init__(self, store: Store, payloads: Payloads, clock: Clock, settings: DicomSettings) -> None:
        self._store = store
        self._payloads = payloads
        self._clock = clock
        self._settings = settings
        self._under_way: set[Reception] = set()
        self._over_at = float("-inf")
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._room = False

    def has_room(self) -> bool:
        """Whether new objects can be taken; below the watermark associations are refused."""
        with self._looking:
            now = self._clock.monotonic()
            if not self._looked_at <= now < self._looked_at + _LOOK:
                self._looked_at = now
                self._room = self._payloads.free() >= 0
            return self._room

    def busy(self) -> bool:
        """Whether objects are coming in: one at this moment, or one a moment ago."""
        return bool(self._under_way) or self._clock.monotonic() - self._over_at < _MOMENT

    def most(self, sop_class_uid: str) -> int:
        """The longest data set of a SOP class, bytes."""
        return self._settings.max_resting if sop_class_uid == RESTING_ECG else self._settings.max_object

    def begin(self, announced: Announced) -> "Reception":
        """Room for one data set. It may have failed already: then its answer is known, and nothing is kept."""
        most = self.most(announced.sop_class_uid)
        if not self.has_room():
            return Reception(self._keep, announced, None, most, NO_ROOM)
        try:
            file = self._payloads.incoming()
        except StoreError as problem:
            log.error("object.not_kept", error=type(problem).__name__)
            return Reception(self._keep, announced, None, most, _refusal(problem))
        reception = Reception(self._keep, announced, file, most, None)
        self._under_way.add(reception)
        reception.over = self._note_over
        return reception

    def _note_over(self, reception: "Reception") -> None:
        self._under_way.discard(reception)
        self._over_at = self._clock.monotonic()

    def _keep(self, announced: Announced, file: Incoming) -> Answer | None:
        """Keep a whole object: its answer, None where nothing may be said (A3). The file is let go of."""
        unsure = True
        try:
            checked = _checked(file.path, announced)
            name, digest = file.keep()
            kept = self._write(announced, checked, name, digest, file)
            unsure = False
        except CommitUnknown:
            return None
        except StoreError as problem:
            log.error("object.not_kept", error=type(problem).__name__)
            file.close(unsure=True, needless=self._is_needless)
            return _refusal(problem)
        finally:
            file.close(unsure=unsure)
        log.info("object.kept", message=kept.id, known=kept.known, state=str(kept.state), reason=checked.reason)
        return checked.answer

    def _is_needless(self, payload: str) -> bool:
        """Whether no row has this payload. Where the store cannot say so, a start will."""
        try:
            return not self._store.read_from_thread(lambda conn: inbox.refers_to(conn, payload))
        except StoreError:
            return False

    def note_document(self, announced: Announced, digest: str, size: int) -> Answer | None:
        """A document that came beside a waveform: noted, not kept. None where nothing may be said (A3)."""
        arrival = self._arrival(announced, "document", digest, size)
        try:
            kept = self._store.write_from_thread(
                lambda tx: inbox.keep(
                    tx, arrival, state=State.FILTERED, reason="document_discarded", answer=b"", answer_code="0000"
                )
            )
        except CommitUnknown:
            return None
        except StoreError as problem:
            log.error("document.not_noted", error=type(problem).__name__)
            return (Status.OUT_OF_RESOURCES, "it could not be noted")
        log.info("document.discarded", message=kept.id, known=kept.known)
        return (Status.SUCCESS, "")

    def _arrival(
        self, announced: Announced, role: str, digest: str, size: int, payload: str | None = None
    ) -> inbox.Arrival:
        """The row's facts. `role` keeps apart what must not be taken for a resend of one another."""
        uid, called = announced.sop_class_uid, announced.session.called_ae
        return inbox.Arrival(
            kind="dicom",
            type=ECG_SOP_CLASSES.get(uid) or DOCUMENT_SOP_CLASSES.get(uid, uid),
            received_at=self._clock.now(),
            listener=f"dicom.{called}" if called in self._settings.other_ae_titles else "dicom",
            peer=announced.session.peer,
            sender=announced.session.calling_ae,
            sop_instance_uid=announced.sop_instance_uid,
            identity=f"{role}:{announced.sop_instance_uid}:{digest}",
            digest=digest,
            payload=payload,
            size=size,
        )

    def _write(self, announced: Announced, checked: _Checked, name: str, digest: str, file: Incoming) -> inbox.Kept:
        """The row. What is there under this UID with other bytes is compared first (F29)."""
        refused = checked.state is State.REJECTED
        uid = announced.sop_instance_uid
        arrival = self._arrival(announced, "refused" if refused else "sop", digest, file.size, payload=name)
        own = (checked.state, checked.reason)
        compared: tuple[inbox.OtherObject, ...] = ()

        def work(tx: Transaction) -> inbox.Kept | tuple[inbox.OtherObject, ...]:
            others = () if refused else inbox.others_of_uid(tx.conn, uid, digest)
            if others != compared and not inbox.is_known(tx.conn, arrival.identity):
                return others
            code = f"{checked.answer[0]:04X}"
            return inbox.keep(tx, arrival, state=own[0], reason=own[1], answer=b"", answer_code=code, at_hand=True)

        while not isinstance(kept := self._store.write_from_thread(work), inbox.Kept):
            compared = kept  # reading them takes as long as they are: not inside a transaction
            own = self._compared(file.path, compared) if compared else (checked.state, checked.reason)
        return kept

    @staticmethod
    def _digests(at_hand: AbstractContextManager[Path]) -> Digests | None:
        """Of an object at hand; None where it cannot be read sample by sample. Raises StoreError."""
        try:
            with at_hand as path:
                return digests(read_object(path))
        except (BadInput, OSError):
            return None

    def _compared(self, path: Path, others: tuple[inbox.OtherObject, ...]) -> tuple[State, str]:
        """What becomes of an object whose UID was here with other bytes: never a second task (F29)."""
        reason = "uid_conflict"
        mine = self._digests(contextlib.nullcontext(path)) if len(others) <= MOST_VARIANTS else None
        for other in others if mine is not None else ():
            theirs = self._digests(self._payloads.at_hand(other.payload))
            if theirs is None or mine is None:
                continue
            if theirs == mine:  # in another transfer syntax, or with something that concerns nobody
                return State.DONE, "same_recording"
            if theirs.waveform == mine.waveform:
                reason = "identity_update"
        log.warning("object.differs", reason=reason)
        return State.HELD, reason


class Reception:
    """One data set on its way in. What fails is known at once, and the rest is passed over up to its end."""

    def __init__(
        self,
        keep: Callable[[Announced, Incoming], Answer | None],
        announced: Announced,
        file: Incoming | None,
        most: int,
        failed: Answer | None,
    ) -> None:
        self._keep = keep
        self._announced = announced
        self._file = file
        self._failed = failed
        self._most = most
        self._size = 0
        self.over: Callable[[Reception], object] = lambda _: None
        if file is not None:
            self._append(file_head(announced.sop_class_uid, announced.sop_instance_uid, announced.transfer_syntax_uid))

    def write(self, fragment: bytes | bytearray | memoryview) -> None:
        """The next bytes of the data set. Raises Breach where it goes on long after it was too long."""
        self._size += len(fragment)
        if self._size > 2 * self._most + _NO_END:
            raise Breach("a data set without an end", AbortReason.NOT_SPECIFIED)
        if self._failed is None and self._size > self._most:
            self._fail((Status.OUT_OF_RESOURCES, "larger than dicom.max_object or dicom.max_resting"))
        if self._failed is None:
            self._append(fragment)

    def finish(self) -> Answer | None:
        """The data set is whole: its answer; None where nothing may be said, so that the peer sends again (A3)."""
        file, self._file = self._file, None
        try:
            if self._failed is not None or file is None:
                return self._failed or NO_ROOM
            return self._keep(self._announced, file)
        finally:
            self.over(self)

    def abandon(self) -> None:
        """The association ended before the last fragment: nothing is kept (F4)."""
        file, self._file = self._file, None
        self.over(self)
        if file is not None:
            file.close()

    def _append(self, block: bytes | bytearray | memoryview) -> None:
        if self._file is None:
            return
        try:
            self._file.write(block)
        except StoreError as problem:
            log.error("object.not_kept", error=type(problem).__name__)
            self._fail(_refusal(problem))

    def _fail(self, answer: Answer) -> None:
        self._failed = answer
        self.abandon()  # the room is wanted now


def _refusal(problem: StoreError) -> Answer:
    return NO_ROOM if isinstance(problem, StoreFull) else NOT_KEPT


def _checked(path: Path, announced: Announced) -> _Checked:
    """The bounded look before the answer: is it whole, and is it what the request says. The rest is the reader's."""
    try:
        found = check_structure(path)
    except BadInput as problem:
        return _Checked(State.REJECTED, "corrupt", (Status.CANNOT_UNDERSTAND, _comment(problem)))
    except OSError as cause:
        raise StoreError(f"the payload store cannot be read: {cause.strerror}") from cause
    for keyword, inside, said in (
        ("SOPClassUID", found.sop_class_uid, announced.sop_class_uid),
        ("SOPInstanceUID", found.sop_instance_uid, announced.sop_instance_uid),
    ):
        if inside != said:
            text = f"{keyword}: the object is not what the request announced"
            return _Checked(State.REJECTED, "not_what_it_says", (Status.DOES_NOT_MATCH, text))
    return _Checked(State.RECEIVED, "", (Status.SUCCESS, ""))


def _comment(problem: BadInput) -> str:
    """Where it is and what is wrong with it, in 64 characters."""
    return f"{problem.where}: {problem}"[:64] if problem.where else str(problem)[:64]
