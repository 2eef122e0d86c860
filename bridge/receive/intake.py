"""Keep first, understand later: what arrives is on stable storage before a positive answer goes out.

The return value is the answer; MLLP only carries it.
"""

import asyncio
import functools
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from bridge.clock import Clock
from bridge.domain.admission import EVENTS
from bridge.domain.codes import judged
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, Problem, Verdict
from bridge.errors import BadInput, CommitUnknown, StoreError, StoreUnfit
from bridge.formats.hl7 import answer, batch
from bridge.formats.hl7.limits import limits_of
from bridge.formats.hl7.modes import ACCEPT_CODE, Mode, mode_of, wanted
from bridge.formats.hl7.reader import Header, Message, read, read_header
from bridge.receive.replies import Replies
from bridge.settings import AnswerCodes, ListenerSettings
from bridge.store import inbox, outbound
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

ORDERS = frozenset({("ORM", "O01"), ("OMG", "O19"), ("OMI", "O23")})
HANDLED = ORDERS | {("ADT", event) for event in EVENTS}
PENDING = "accepted, task pending"
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Bytes of one HL7 message or batch, who brought them, and what was tolerated in their framing."""

    body: bytes
    peer: str
    listener: str = "hl7"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `body` None: nothing is said. `close`: the connection ends after it."""

    body: bytes | None = None
    close: bool = False


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A message with a header, and what counts for its sender."""

    envelope: Envelope
    header: Header
    message: Message | Header
    rules: ListenerSettings
    mode: Mode


class Entrance(Protocol):
    """Whoever makes something of a message in the transaction that keeps it, where nothing stands before it."""

    def begin(self, arrival: inbox.Arrival, message: Message) -> Any | None:
        """What it will make of it, or None: it is kept first. Whatever is given goes to `end`."""

    def enter(self, tx: Transaction, arrival: inbox.Arrival, kept: inbox.Kept, breath: Any) -> inbox.Kept | None:
        """Where the message stands after it; None where it must wait for older ones. May raise."""

    def end(self, breath: Any, *, kept: bool) -> None:
        """The transaction is over; called once, in the loop, before whoever waits for it goes on."""


class Hl7Intake:
    """Takes HL7 messages of one listener into custody and waits for their answers."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        replies: Replies,
        clock: Clock,
        settings: ListenerSettings,
        entrance: Entrance,
    ) -> None:
        self._entrance = entrance
        self._store = store
        self._payloads = payloads
        self._replies = replies
        self._clock = clock
        self._settings = settings
        self._room = True
        self._room_until = 0.0

    async def accept(self, envelope: Envelope) -> Answer:
        """The answer to what a frame held: a message's, a batch's, or none for an acknowledgement."""
        if not batch.is_batch(envelope.body):
            return await self._accept_message(envelope)
        whole = batch.split(envelope.body)
        answers: list[bytes] = []
        for body in whole.messages:
            one = await self._accept_message(
                Envelope(body, envelope.peer, envelope.listener, (*envelope.notes, *whole.notes))
            )
            if one.close and one.body is None:
                return one
            if one.body is not None:
                answers.append(one.body)
        if not answers:
            return Answer()  # acknowledgements alone: an answer is never answered
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
        rules = self._settings.of_sender(_sender(header))
        mode = mode_of(header, rules.ack_mode, return_address=bool(rules.return_address))
        arrived = _Arrived(envelope, header, header, rules, mode)
        try:
            message = read(envelope.body, fallback_charset=rules.fallback_charset, most=limits_of(rules))
        except BadInput as problem:
            return await self._refuse(arrived, Verdict(AckCode.AR, str(problem), (), (_problem(problem),)))
        arrived = _Arrived(envelope, header, message, rules, mode)
        if any(s.name == "MSA" for s in message.segments):
            await self._note_acknowledgement(envelope, header)
            return Answer()
        refused = unsupported(message, rules)
        if refused is not None:
            return await self._refuse(arrived, refused)
        return await self._keep(arrived)

    async def _keep(self, arrived: _Arrived) -> Answer:
        deadline = self._clock.monotonic() + arrived.rules.reply_budget
        if not self._has_room():
            return self._cannot_take(arrived, "no room")
        arrival = self._arrival(arrived.envelope, arrived.header)
        ticket = self._replies.ticket()
        accepted = self._accept_answer(arrived)
        try:
            kept = await self._take_in(arrival, ticket, accepted, arrived.message)
            return await self._answer(arrived, kept, ticket, deadline)
        except CommitUnknown:
            return Answer(close=True)  # A3: say nothing, the resend is absorbed
        except (StoreError, StoreUnfit) as problem:
            log.warning("message.refused", reason=type(problem).__name__, listener=arrived.envelope.listener)
            return self._cannot_take(arrived, "the store cannot take it now")
        finally:
            self._replies.forget(ticket)

    async def _answer(self, arrived: _Arrived, kept: inbox.Kept, ticket: int, deadline: float) -> Answer:
        """The answer of a message that is in custody."""
        if arrived.mode.apart:
            return Answer(kept.answer)
        if kept.answer is not None:
            return self._by_condition(arrived, kept.answer, kept.answer_code)
        ready = await self._replies.wait(ticket, deadline - self._clock.monotonic())
        if ready is not None:
            return self._by_condition(arrived, ready, _code_in(ready))
        try:
            return await self._answer_late(kept.id, arrived)
        except (StoreError, CommitUnknown):
            return Answer(close=True)  # kept, but its answer is not: the resend gets it

    def _has_room(self) -> bool:
        """Whether the disk is above its watermark; looked at ten times a second at the most."""
        now = self._clock.monotonic()
        if now >= self._room_until:
            self._room = self._payloads.free() >= 0
            self._room_until = now + 0.1
        return self._room

    def _accept_answer(self, arrived: _Arrived) -> bytes | None:
        """The CA of enhanced mode, stored with the message: a resend gets the very same (A5)."""
        mode = arrived.mode
        if not mode.apart:
            return None
        if mode.accept == "NE" and mode.application == "NE":
            log.warning("answer.none_asked", listener=arrived.envelope.listener)
        return self._build(arrived, Verdict(AckCode.CA)) if wanted(mode.accept, AckCode.CA) else None

    @staticmethod
    def _by_condition(arrived: _Arrived, body: bytes, code: str) -> Answer:
        """The answer, unless MSH-16 asks for it in other cases only."""
        known = AckCode(code) if code in list(AckCode) else AckCode.AA
        return Answer(body if wanted(arrived.mode.application, known) else None)

    async def _answer_late(self, message_id: int, arrived: _Arrived) -> Answer:
        """The task is not there in time: accepted, and the ids follow; or silence until the resend (§3.5)."""
        if arrived.rules.reply_late == "hold":
            return Answer(close=True)
        pending = self._build(arrived, Verdict(AckCode.AA, PENDING))
        stands = await self._store.write(lambda tx: inbox.answer_once(tx, message_id, pending, AckCode.AA.value))
        return self._by_condition(arrived, stands, _code_in(stands))

    async def _take_in(
        self, arrival: inbox.Arrival, ticket: int, accepted: bytes | None, message: Message | Header
    ) -> inbox.Kept:
        """Custody, and what comes of the message where that can be said at once. Raises StoreError, CommitUnknown."""
        breath = self._entrance.begin(arrival, message) if isinstance(message, Message) else None
        if breath is not None:
            writing = self._store.submit(lambda tx: self._custody(tx, arrival, ticket, accepted, message, breath))
            # Not after the wait: a commit counts, whatever becomes of whoever waits for it.
            writing.add_done_callback(functools.partial(self._ended, breath))
            try:
                return await asyncio.shield(writing)
            except (StoreError, CommitUnknown):
                raise
            except Exception as problem:  # noqa: BLE001  it is kept alone, and its reader holds it (F28)
                log.error("message.not_entered_at_once", error=type(problem).__name__)
        return await self._store.write(lambda tx: self._custody(tx, arrival, ticket, accepted, message, None))

    def _ended(self, breath: Any, writing: asyncio.Future[inbox.Kept]) -> None:
        self._entrance.end(breath, kept=not writing.cancelled() and writing.exception() is None)

    def _custody(
        self,
        tx: Transaction,
        arrival: inbox.Arrival,
        ticket: int,
        accepted: bytes | None,
        message: Message | Header,
        breath: Any | None,
    ) -> inbox.Kept:
        code = AckCode.CA.value if accepted is not None else ""
        kept = inbox.keep(tx, arrival, answer=accepted, answer_code=code, announce=False)
        self._replies.expect(tx, ticket, kept)
        if kept.known:
            return kept
        if arrival.control_id and inbox.same_control_id(tx.conn, arrival, kept.id):
            inbox.record(tx, kept.id, kept.state, at=arrival.received_at, reason="control_id_reuse")
        entered = self._entrance.enter(tx, arrival, kept, breath) if breath is not None else None
        if entered is None:
            inbox.announce_late(tx, kept, arrival, message)
        return entered or kept

    async def _refuse(self, arrived: _Arrived, verdict: Verdict) -> Answer:
        """Say no, and keep the message to be looked at; it never becomes a task. A site may want a yes: passed over."""
        envelope = arrived.envelope
        arrival = self._arrival(envelope, arrived.header)
        reason = verdict.problems[0].condition.name.lower()
        if verdict.code is AckCode.AA:
            state, reason = State.FILTERED, "ignored"
        else:
            state = State.REJECTED
        mode = arrived.mode
        told = replace(verdict, code=ACCEPT_CODE[verdict.code]) if mode.apart else verdict
        body = self._build(arrived, told)
        said = wanted(mode.accept if mode.apart else mode.application, told.code)

        def keep(tx: Transaction) -> inbox.Kept:
            kept = inbox.keep(tx, arrival, state=state, reason=reason, answer=body, answer_code=told.code.value)
            if mode.apart and not said and not kept.known and wanted(mode.application, verdict.code):
                self._send_apart(tx, kept.id, arrived, verdict)
            return kept

        try:
            kept = await self._store.write(keep)
        except (StoreError, StoreUnfit, CommitUnknown):
            return Answer(body if said else None)  # a refusal promises nothing
        log.info("message.refused", message=kept.id, reason=reason, listener=envelope.listener)
        return Answer((kept.answer or body) if said else None)

    def _send_apart(self, tx: Transaction, message_id: int, arrived: _Arrived, verdict: Verdict) -> None:
        """A refusal of a sender that wants no accept answer, but an application answer at his own address."""
        control_id = self._control_id()
        outbound.add(
            tx,
            message_id=message_id,
            kind="application_answer",
            listener=arrived.envelope.listener,
            address=arrived.rules.return_address,
            order_key=None,
            control_id=control_id,
            body=self._build(arrived, verdict, control_id, apart=True),
            at=self._clock.now(),
        )

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
            notes=envelope.notes,
        )
        try:
            kept = await self._store.write(
                lambda tx: inbox.keep(
                    tx, arrival, state=State.REJECTED, reason=UNREADABLE, answer=body, answer_code="AR"
                )
            )
        except (StoreError, StoreUnfit, CommitUnknown):
            return Answer(body)
        log.info("message.refused", message=kept.id, reason=UNREADABLE, listener=envelope.listener)
        return Answer(body)

    async def _note_acknowledgement(self, envelope: Envelope, header: Header) -> None:
        """An answer is noted and never answered (hl7.md §3.1)."""
        arrival = self._arrival(envelope, header)
        try:
            await self._store.write(lambda tx: inbox.keep(tx, arrival, state=State.DONE, reason="acknowledgement"))
        except (StoreError, StoreUnfit, CommitUnknown):
            log.warning("acknowledgement.not_noted", listener=envelope.listener)

    def _cannot_take(self, arrived: _Arrived, text: str) -> Answer:
        problem = Problem(Condition.APPLICATION_INTERNAL_ERROR, text)
        code = AckCode(arrived.rules.codes.not_kept)
        if arrived.mode.apart:
            code = AckCode.CE  # nothing is kept, so no application answer can follow
        said = wanted(arrived.mode.accept if arrived.mode.apart else arrived.mode.application, code)
        return Answer(self._build(arrived, Verdict(code, text, (), (problem,))) if said else None)

    def _build(self, arrived: _Arrived, verdict: Verdict, control_id: str = "", *, apart: bool = False) -> bytes:
        return answer.build(
            arrived.message,
            verdict,
            control_id=control_id or self._control_id(),
            now=self._clock.now(),
            order_response=arrived.rules.order_response,
            apart=apart,
        )

    def _arrival(self, envelope: Envelope, header: Header) -> inbox.Arrival:
        sender = _sender(header)
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
            notes=envelope.notes,
        )

    @staticmethod
    def _control_id() -> str:
        return f"CB{secrets.token_hex(8).upper()}"


def unsupported(message: Message, rules: ListenerSettings) -> Verdict | None:
    """The refusal that type, trigger and processing id decide (HL7 v2.5.1 §2.9.2), with the code of the listener."""
    header = message.header
    if (header.type, message.trigger) not in HANDLED:
        known = {t for t, _ in HANDLED}
        condition = Condition.UNSUPPORTED_EVENT_CODE if header.type in known else Condition.UNSUPPORTED_MESSAGE_TYPE
        text = "taken: ORM O01, OMG O19, OMI O23, ADT (events: interface description)"
        where = "MSH-9.2" if header.type in known else "MSH-9.1"
        return _told(Problem(condition, text, where), rules.codes)
    if header.processing_id not in rules.processing_ids:
        text = f"this listener takes processing id {', '.join(rules.processing_ids)}"
        return _told(Problem(Condition.UNSUPPORTED_PROCESSING_ID, text, "MSH-11"), rules.codes)
    return None


def _told(problem: Problem, codes: AnswerCodes) -> Verdict:
    code, problems = judged((problem,), codes)
    text = problem.text if code is not AckCode.AA else "not processed: this event is passed over here"
    return Verdict(code, text, (), problems)


def _sender(header: Header) -> str:
    return f"{header.sending_application}|{header.sending_facility}"


def _code_in(answer_bytes: bytes) -> str:
    """MSA-1 of an answer of ours: the segment behind MSH."""
    _, _, msa = answer_bytes.partition(b"\rMSA")
    return msa[1:3].decode("ascii", "replace")


def _problem(problem: BadInput) -> Problem:
    known: Sequence[int] = [c.value for c in Condition]
    condition = Condition(problem.code) if problem.code in known else Condition.APPLICATION_INTERNAL_ERROR
    return Problem(condition, str(problem), problem.where)


def _content_digest(body: bytes, header: Header) -> str:
    """Of the content alone: MSH-7 and line ends do not make another message (F30)."""
    end = body.find(b"\r")
    end = len(body) if end < 0 else end
    separator = header.field_separator.encode("latin-1", "replace")
    fields = body[:end].split(separator)
    if len(fields) > 6:
        fields[6] = b""
    begin, last = end, len(body)
    while begin < last and body[begin] in b"\r\n":
        begin += 1
    while last > begin and body[last - 1] in b"\r\n":
        last -= 1
    digest = hashlib.sha256(separator.join(fields) + b"\r")
    digest.update(memoryview(body)[begin:last])
    return digest.hexdigest()
