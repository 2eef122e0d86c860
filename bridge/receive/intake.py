"""Keep first, understand later: what arrives is on stable storage before a positive answer goes out.

The return value is the answer, in the form of its protocol; MLLP and DICOM only carry it.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import structlog

from bridge.clock import Clock
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, Problem, Verdict
from bridge.errors import BadInput, CannotScale, CommitUnknown, StoreError, StoreFull
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, check_identity, read_object, require_scalable
from bridge.formats.hl7 import answer, batch
from bridge.formats.hl7.reader import Header, Message, read, read_header
from bridge.receive.replies import Replies
from bridge.settings import Hl7Settings
from bridge.store import inbox
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

ORDERS = frozenset({("ORM", "O01"), ("OMG", "O19"), ("OMI", "O23")})
ADMISSIONS = frozenset({("ADT", event) for event in ("A01", "A04", "A05", "A08", "A28", "A31")})
HANDLED = ORDERS | ADMISSIONS
PENDING = "accepted, task pending"


class Status(IntEnum):
    """C-STORE statuses that we give (PS3.4 B.2.3)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Envelope:
    """Bytes of one HL7 message or batch, and who brought them."""

    body: bytes
    peer: str
    listener: str = "hl7"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `body` None: nothing is said. `close`: the connection ends after it."""

    body: bytes | None = None
    close: bool = False


class Hl7Intake:
    """Takes HL7 messages of one listener into custody and waits for their answers."""

    def __init__(self, store: Store, payloads: Payloads, replies: Replies, clock: Clock, settings: Hl7Settings) -> None:
        self._store = store
        self._payloads = payloads
        self._replies = replies
        self._clock = clock
        self._settings = settings

    async def accept(self, envelope: Envelope) -> Answer:
        """The answer to what a frame held: a message's, a batch's, or none for an acknowledgement."""
        if not batch.is_batch(envelope.body):
            return await self._accept_message(envelope)
        whole = batch.split(envelope.body)
        answers: list[bytes] = []
        for body in whole.messages:
            one = await self._accept_message(Envelope(body, envelope.peer, envelope.listener))
            if one.close and one.body is None:
                return one
            if one.body is not None:
                answers.append(one.body)
        return Answer(batch.batch_answer(whole, answers, self._control_id(), self._clock.now()))

    def too_long(self) -> Answer:
        """The answer to a frame over the limit; nothing of it was kept, so the sender is told so."""
        text = f"message over {self._settings.max_frame} bytes"
        return Answer(
            answer.build_without_header(text, control_id=self._control_id(), now=self._clock.now()), close=True
        )

    async def _accept_message(self, envelope: Envelope) -> Answer:
        try:
            header = read_header(envelope.body)
        except BadInput as problem:
            return await self._refuse_unreadable(envelope, problem)
        try:
            message: Message | Header = read(envelope.body, fallback_charset=self._settings.fallback_charset)
        except BadInput as problem:
            refusal = Verdict(AckCode.AR, str(problem), (), (_problem(problem),))
            return await self._refuse(envelope, header, header, refusal)
        if isinstance(message, Message) and any(s.name == "MSA" for s in message.segments):
            await self._note_acknowledgement(envelope, header)
            return Answer()
        refused = unsupported(message, self._settings)
        if refused is not None:
            return await self._refuse(envelope, header, message, refused)
        return await self._keep(envelope, header, message)

    async def _keep(self, envelope: Envelope, header: Header, message: Message | Header) -> Answer:
        deadline = self._clock.monotonic() + self._settings.reply_budget
        arrival = self._arrival(envelope, header)
        if self._payloads.free() < 0:
            return self._cannot_take(message, "no room")
        ticket = self._replies.ticket()
        try:
            kept = await self._store.write(lambda tx: self._custody(tx, arrival, ticket))
        except CommitUnknown:
            return Answer(close=True)  # A3: say nothing, the resend is absorbed
        except StoreError as problem:
            log.warning("message.refused", reason=type(problem).__name__, listener=envelope.listener)
            return self._cannot_take(message, "the store cannot take it now")
        try:
            if kept.answer is not None:
                return Answer(kept.answer)
            ready = await self._replies.wait(ticket, deadline - self._clock.monotonic())
            if ready is not None:
                return Answer(ready)
            return await self._answer_late(kept.id, message)
        except (StoreError, CommitUnknown):
            return Answer(close=True)  # kept, but its answer is not: the resend gets it
        finally:
            self._replies.forget(ticket)

    async def _answer_late(self, message_id: int, message: Message | Header) -> Answer:
        """The task is not there in time: accepted, and the ids follow; or silence until the resend (§3.5)."""
        if self._settings.reply_late == "hold":
            return Answer(close=True)
        pending = self._build(message, Verdict(AckCode.AA, PENDING))
        stands = await self._store.write(lambda tx: inbox.answer_once(tx, message_id, pending, AckCode.AA.value))
        return Answer(stands)

    def _custody(self, tx: Transaction, arrival: inbox.Arrival, ticket: int) -> inbox.Kept:
        kept = inbox.keep(tx, arrival)
        self._replies.expect(tx, ticket, kept)
        if not kept.known and arrival.control_id and inbox.same_control_id(tx.conn, arrival, kept.id):
            inbox.record(tx, kept.id, kept.state, at=arrival.received_at, reason="control_id_reuse")
        return kept

    async def _refuse(self, envelope: Envelope, header: Header, message: Message | Header, verdict: Verdict) -> Answer:
        """Say no, and keep the message to be looked at; it never becomes a task."""
        arrival = self._arrival(envelope, header)
        body = self._build(message, verdict)
        reason = verdict.problems[0].condition.name.lower()
        try:
            kept = await self._store.write(
                lambda tx: inbox.keep(
                    tx, arrival, state=State.REJECTED, reason=reason, answer=body, answer_code=verdict.code.value
                )
            )
        except (StoreError, CommitUnknown):
            return Answer(body)  # a refusal promises nothing
        log.info("message.refused", message=kept.id, reason=reason, listener=envelope.listener)
        return Answer(kept.answer or body)

    async def _refuse_unreadable(self, envelope: Envelope, problem: BadInput) -> Answer:
        body = answer.build_without_header(str(problem), control_id=self._control_id(), now=self._clock.now())
        arrival = inbox.Arrival(
            kind="hl7",
            type="",
            received_at=self._clock.now(),
            listener=envelope.listener,
            peer=envelope.peer,
            sender="",
            identity=None,
            digest=hashlib.sha256(envelope.body).hexdigest(),
            raw=envelope.body,
        )
        try:
            kept = await self._store.write(
                lambda tx: inbox.keep(
                    tx, arrival, state=State.REJECTED, reason="unreadable", answer=body, answer_code="AR"
                )
            )
        except (StoreError, CommitUnknown):
            return Answer(body)
        log.info("message.refused", message=kept.id, reason="unreadable", listener=envelope.listener)
        return Answer(body)

    async def _note_acknowledgement(self, envelope: Envelope, header: Header) -> None:
        """An answer is noted and never answered (hl7.md §3.1)."""
        arrival = self._arrival(envelope, header)
        try:
            await self._store.write(lambda tx: inbox.keep(tx, arrival, state=State.DONE, reason="acknowledgement"))
        except (StoreError, CommitUnknown):
            log.warning("acknowledgement.not_noted", listener=envelope.listener)

    def _cannot_take(self, message: Message | Header, text: str) -> Answer:
        problem = Problem(Condition.APPLICATION_INTERNAL_ERROR, text)
        return Answer(self._build(message, Verdict(AckCode.AR, text, (), (problem,))))

    def _build(self, message: Message | Header, verdict: Verdict) -> bytes:
        return answer.build(
            message,
            verdict,
            control_id=self._control_id(),
            now=self._clock.now(),
            order_response=self._settings.order_response,
        )

    def _arrival(self, envelope: Envelope, header: Header) -> inbox.Arrival:
        sender = f"{header.sending_application}|{header.sending_facility}"
        digest = _content_digest(envelope.body, header)
        identity = None
        if header.control_id:
            identity = hashlib.sha256(f"hl7\x1f{sender}\x1f{header.control_id}\x1f{digest}".encode()).hexdigest()
        return inbox.Arrival(
            kind="hl7",
            type=f"{header.type}^{header.trigger}" if header.trigger else header.type,
            received_at=self._clock.now(),
            listener=envelope.listener,
            peer=envelope.peer,
            sender=sender,
            control_id=header.control_id,
            identity=identity,
            digest=digest,
            raw=envelope.body,
        )

    @staticmethod
    def _control_id() -> str:
        return f"CB{secrets.token_hex(8).upper()}"


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
            return inbox.keep(tx, arrival, state=own[0], reason=own[1], answer=b"", answer_code=code)

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


def unsupported(message: Message | Header, settings: Hl7Settings) -> Verdict | None:
    """The refusals that type, trigger and processing id decide (HL7 v2.5.1 §2.9.2)."""
    header = message.header if isinstance(message, Message) else message
    if (header.type, message.trigger) not in HANDLED:
        known = {t for t, _ in HANDLED}
        condition = Condition.UNSUPPORTED_EVENT_CODE if header.type in known else Condition.UNSUPPORTED_MESSAGE_TYPE
        text = "taken here: ORM O01, OMG O19, OMI O23, ADT A01 A04 A05 A08 A28 A31"
        where = "MSH-9.2" if header.type in known else "MSH-9.1"
        return Verdict(AckCode.AR, text, (), (Problem(condition, text, where),))
    if header.processing_id not in settings.processing_ids:
        text = f"this listener takes processing id {', '.join(settings.processing_ids)}"
        return Verdict(AckCode.AR, text, (), (Problem(Condition.UNSUPPORTED_PROCESSING_ID, text, "MSH-11"),))
    return None


def _problem(problem: BadInput) -> Problem:
    known: Sequence[int] = [c.value for c in Condition]
    condition = Condition(problem.code) if problem.code in known else Condition.APPLICATION_INTERNAL_ERROR
    return Problem(condition, str(problem), problem.where)


def _content_digest(body: bytes, header: Header) -> str:
    """Of the content alone: MSH-7 and line ends do not make another message (F30)."""
    head, _, rest = body.partition(b"\r")
    separator = header.field_separator.encode("latin-1", "replace")
    fields = head.split(separator)
    if len(fields) > 6:
        fields[6] = b""
    return hashlib.sha256(separator.join(fields) + b"\r" + rest.strip(b"\r\n")).hexdigest()
