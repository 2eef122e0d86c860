"""Objects that carts and PACS send: in custody before the status goes back. DICOM only carries what is decided here."""

from enum import IntEnum
from pathlib import Path

import structlog

from bridge.clock import Clock
from bridge.domain.states import State
from bridge.errors import BadInput, CannotScale, CommitUnknown, StoreError, StoreFull
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, check_identity, read_object, require_scalable
from bridge.store import inbox
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()


class Status(IntEnum):
    """C-STORE statuses that we give (PS3.4 B.2.3)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class DicomIntake:
    """Takes spooled DICOM objects into custody. Called from the association's thread."""

    def __init__(self, store: Store, payloads: Payloads, clock: Clock) -> None:
        self._store = store
        self._payloads = payloads
        self._clock = clock

    def has_room(self) -> bool:
        """Whether new objects can be taken; below the watermark associations are refused."""
        return self._payloads.free() >= 0

    def accept(
        self, spooled: Path, *, sop_class_uid: str, sop_instance_uid: str, calling_ae: str, peer: str
    ) -> Status | None:
        """Keep one object; the C-STORE status, None where nothing may be said (A3)."""
        if not self.has_room():
            return Status.OUT_OF_RESOURCES
        state, reason, status = self._checked(spooled, sop_class_uid, sop_instance_uid)
        try:
            name, digest = self._payloads.take(spooled)
        except StoreFull:
            return Status.OUT_OF_RESOURCES
        except StoreError as problem:
            log.error("object.not_kept", error=str(problem))
            return Status.OUT_OF_RESOURCES
        refused = state is State.REJECTED
        arrival = inbox.Arrival(
            kind="dicom",
            type=ECG_SOP_CLASSES.get(sop_class_uid, sop_class_uid),
            received_at=self._clock.now(),
            listener="dicom",
            peer=peer,
            sender=calling_ae,
            sop_instance_uid=sop_instance_uid,
            identity=f"{'refused' if refused else 'sop'}:{sop_instance_uid}:{digest}",
            digest=digest,
            payload=name,
            size=self._payloads.path(name).stat().st_size,
        )

        def work(tx: Transaction) -> inbox.Kept:
            conflict = not refused and inbox.uid_conflict(tx.conn, arrival)
            own = (State.HELD, "uid_conflict") if conflict else (state, reason)
            code = f"{status:04X}"
            return inbox.keep(tx, arrival, state=own[0], reason=own[1], answer=b"", answer_code=code, at_hand=True)

        try:
            kept = self._store.write_from_thread(work)
        except CommitUnknown:
            return None
        except StoreError:
            return Status.OUT_OF_RESOURCES
        log.info("object.kept", message=kept.id, known=kept.known, state=str(kept.state), reason=reason)
        return status

    @staticmethod
    def _checked(spooled: Path, sop_class_uid: str, sop_instance_uid: str) -> tuple[State, str, Status]:
        """The bounded structural check before the answer (A2, F5)."""
        try:
            found = read_object(spooled)
            check_identity(found, sop_class_uid, sop_instance_uid)
        except BadInput as problem:
            status = Status.DOES_NOT_MATCH if problem.code == Status.DOES_NOT_MATCH else Status.CANNOT_UNDERSTAND
            return State.REJECTED, "corrupt" if status is Status.CANNOT_UNDERSTAND else "not_what_it_says", status
        try:
            require_scalable(found.recording.rhythm())
        except CannotScale:
            return State.HELD, "cannot_scale", Status.SUCCESS
        return State.RECEIVED, "", Status.SUCCESS
