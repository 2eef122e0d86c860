"""What a peer may ask for on an association, and what becomes of it (PS3.7 §9, §10).

An operation takes the data set of its request piece by piece and says at its end what is answered. No answer at all
means that nothing may be said, since nobody knows whether it was kept (A3): the association is aborted then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog

from bridge.dicom_settings import DicomSettings
from bridge.errors import BadInput, CommitUnknown, StoreError
from bridge.formats.dicom.commitment import INSTANCE as COMMITMENT_INSTANCE
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.receive.dicom.commands import Command, Field
from bridge.receive.dicom.commitment import Commitment
from bridge.receive.dicom.documents import DOCUMENT_SOP_CLASSES, Discarding
from bridge.receive.dicom.intake import Announced, DicomIntake, Reception
from bridge.receive.dicom.negotiation import Context
from bridge.receive.dicom.session import Session
from bridge.receive.dicom.worklist import Worklist

log = structlog.get_logger()

VERIFICATION = "1.2.840.10008.1.1"
MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
LITTLE_ENDIAN = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

MOST_GATHERED = 1 << 20
"""Bytes of an identifier or of action information; a commitment of a thousand objects is 0.2 MB."""

SUCCESS, CANCELLED = 0x0000, 0xFE00
PENDING, PENDING_WITH_WARNING = 0xFF00, 0xFF01
OUT_OF_RESOURCES, NOT_SUPPORTED, NO_SUCH_OPERATION = 0xA700, 0x0122, 0x0211
PROCESSING_FAILURE, MISTYPED = 0x0110, 0x0212
NO_SUCH_INSTANCE, RESOURCE_LIMITATION, INVALID_INSTANCE = 0x0112, 0x0213, 0x0117
LONGEST_UID = 64  # PS3.5 §9.1; the rest of its rules are broken by devices in use, and kept as they are


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: a status of the service (PS3.4) or of DIMSE (PS3.7 annex C). `comment` holds no patient value."""

    status: int
    comment: str = ""
    data_set: bytes | None = None


class Operation(Protocol):
    """A request under way."""

    def write(self, fragment: memoryview) -> None:
        """The next bytes of its data set."""

    def finish(self) -> Iterator[Response]:
        """Its data set is whole, or it has none: the answers, the last one final."""

    def abandon(self) -> None:
        """The association ended before: nothing of it is kept."""


class Answered:
    """An operation whose answer is known from its command; a data set that comes with it is passed over."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def write(self, fragment: memoryview) -> None:
        """Nothing of it is needed."""

    def finish(self) -> Iterator[Response]:
        yield self._response

    def abandon(self) -> None:
        """There is nothing to let go of."""


class Storing:
    """C-STORE: the data set goes to disk as it comes."""

    def __init__(self, reception: Reception | Discarding) -> None:
        self._reception = reception

    def write(self, fragment: memoryview) -> None:
        self._reception.write(fragment)

    def finish(self) -> Iterator[Response]:
        answer = self._reception.finish()
        if answer is not None:
            yield Response(*answer)

    def abandon(self) -> None:
        self._reception.abandon()


class Gathering:
    """An operation that needs its whole data set at hand, which is small."""

    def __init__(self, work: Callable[[bytes], Iterator[Response]], too_long: int) -> None:
        self._work = work
        self._status = too_long
        self._gathered = bytearray()
        self._too_long = False

    def write(self, fragment: memoryview) -> None:
        self._too_long = self._too_long or len(self._gathered) + len(fragment) > MOST_GATHERED
        if not self._too_long:
            self._gathered += fragment

    def finish(self) -> Iterator[Response]:
        if self._too_long:
            yield Response(self._status, f"a data set of more than {MOST_GATHERED} bytes")
            return
        try:
            yield from self._work(bytes(self._gathered))
        except BadInput as problem:
            text = f"{problem.where}: {problem}" if problem.where else str(problem)
            yield Response(problem.code or PROCESSING_FAILURE, text)
        except StoreError as problem:
            log.error("operation.failed", error=type(problem).__name__)
            yield Response(OUT_OF_RESOURCES, "the store cannot be reached now")

    def abandon(self) -> None:
        self._gathered = bytearray()


class Services:
    """The services of one listener. What is None is not offered."""

    def __init__(
        self,
        settings: DicomSettings,
        intake: DicomIntake,
        worklist: Worklist | None = None,
        commitment: Commitment | None = None,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._worklist = worklist
        self._commitment = commitment

    def offers(self) -> dict[str, tuple[str, ...]]:
        """Transfer syntaxes by abstract syntax, the one that we like best first."""
        offered = {VERIFICATION: LITTLE_ENDIAN, **dict.fromkeys(ECG_SOP_CLASSES, self._settings.transfer_syntaxes)}
        if self._settings.discard_documents:
            offered |= dict.fromkeys(DOCUMENT_SOP_CLASSES, LITTLE_ENDIAN)
        if self._worklist is not None:
            offered[MODALITY_WORKLIST] = LITTLE_ENDIAN
        if self._commitment is not None:
            offered[STORAGE_COMMITMENT] = LITTLE_ENDIAN
        return offered

    def has_room(self) -> bool:
        """Whether objects can be taken now."""
        return self._intake.has_room()

    @staticmethod
    def stores(abstract_syntax: str) -> bool:
        """Whether objects come under this abstract syntax that need room."""
        return abstract_syntax in ECG_SOP_CLASSES

    def begin(self, command: Command, context: Context, session: Session) -> Operation:
        """The operation that a request asks for."""
        if command.sop_class_uid != context.abstract_syntax:
            return Answered(Response(NOT_SUPPORTED, "not the SOP class of its presentation context"))
        match command.field, context.abstract_syntax:
            case Field.C_ECHO_RQ, _:
                return Answered(Response(SUCCESS))
            case Field.C_STORE_RQ, uid if uid in ECG_SOP_CLASSES or uid in DOCUMENT_SOP_CLASSES:
                return self._store(command, context, session)
            case Field.C_FIND_RQ, uid if uid == MODALITY_WORKLIST:
                if not command.has_data_set:
                    return Answered(Response(MISTYPED, "a C-FIND needs an identifier"))
                return Gathering(lambda value: self._find(value, context, session), OUT_OF_RESOURCES)
            case Field.N_ACTION_RQ, uid if uid == STORAGE_COMMITMENT:
                if not command.has_data_set:
                    return Answered(Response(MISTYPED, "a commitment needs its references"))
                if command.sop_instance_uid != COMMITMENT_INSTANCE:
                    return Answered(Response(NO_SUCH_INSTANCE, "not the well-known instance of PS3.4 J.3.5"))
                return Gathering(lambda value: self._commit(value, command, context, session), RESOURCE_LIMITATION)
        return Answered(Response(NO_SUCH_OPERATION, "not an operation of this SOP class"))

    def _store(self, command: Command, context: Context, session: Session) -> Operation:
        announced = Announced(command.sop_class_uid, command.sop_instance_uid, context.transfer_syntax, session)
        if not command.has_data_set or not command.sop_instance_uid:
            return Answered(Response(MISTYPED, "a C-STORE needs an instance UID and a data set"))
        if len(command.sop_instance_uid) > LONGEST_UID or not command.sop_instance_uid.isprintable():
            return Answered(Response(INVALID_INSTANCE, "SOPInstanceUID: no UID at all"))
        if command.sop_class_uid in DOCUMENT_SOP_CLASSES:
            return Storing(Discarding(self._intake, announced))
        return Storing(self._intake.begin(announced))

    def _find(self, identifier: bytes, context: Context, session: Session) -> Iterator[Response]:
        if self._worklist is None:  # not offered, so not to be asked for
            return
        for status, found in self._worklist.find(identifier, context.transfer_syntax, session):
            yield Response(status, data_set=found)
        yield Response(SUCCESS)

    def _commit(self, information: bytes, command: Command, context: Context, session: Session) -> Iterator[Response]:
        if self._commitment is None:
            return
        try:
            answer = self._commitment.action(information, command.action_type_id, context.transfer_syntax, session)
        except CommitUnknown:
            return
        yield Response(*answer)
