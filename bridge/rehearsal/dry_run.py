"""What messages would come to, told by the bridge's own rules over books that exist in memory only.

Several files in one run count one after the other, as they would if they came in: a cancel finds its order.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.answers import Answers, new_control_id
from bridge.dispatch.concluding import PENDING, Told, concluded
from bridge.dispatch.deciding import Deciding, Hold, Post, orders_of
from bridge.dispatch.entering import Entering
from bridge.dispatch.understand import Understood, understand_message
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, OrderReply, Problem, Verdict
from bridge.errors import BadInput
from bridge.formats.hl7 import answer, batch, charset
from bridge.formats.hl7.limits import limits_of
from bridge.formats.hl7.modes import ACCEPT_CODE, Mode, mode_of, wanted
from bridge.formats.hl7.reader import Header, Message, read, read_header
from bridge.mapping.rules import Rules
from bridge.receive.intake import unsupported
from bridge.rehearsal.dry_object import DryObject
from bridge.settings import ListenerSettings, Settings
from bridge.store import dry, inbox, line, listing, tasks
from bridge.store.port import Transaction

PLACEHOLDER = 4711
"""The first task id that a dry run shows."""
_FRAMING = b"\x0b\x1c\r"
_MARK = re.compile(rb"[\x0b\x1c]")


def is_object(content: bytes) -> bool:
    """Whether this is DICOM, with PS3.10's preamble or without: a data set begins with binary tags, HL7 with text."""
    return content[128:132] == b"DICM" or any(byte < 0x09 for byte in content[:64])


def unframed(content: bytes) -> bytes:
    """A message without the bytes that MLLP puts around it (HL7 v2.5.1 appendix C.4)."""
    body = content.lstrip(b"\x0b\x1c")
    end = _MARK.search(body, len(body.rstrip(b"\x0b\x1c\r\n")))
    return body[: end.start()] if end else body


class DryRun:
    """One run over books in memory. Opens no network and writes nothing.

    `rules` are those in force, by listener; messages come in by `listener`, objects by the DICOM door.
    """

    def __init__(self, rules: Mapping[str, Rules], settings: Settings, clock: Clock, listener: str = "hl7") -> None:
        self._rules = rules[listener]
        self._settings = settings
        self._listener = listener
        self._taken = settings.hl7.all()[listener]
        self._clock = clock
        self._answers = Answers(settings.hl7, clock)
        self._entering = Entering(settings, clock, self._answers)
        self._deciding = Deciding(settings, b"dry run", clock)
        self._object = DryObject(rules["hl7"], settings, clock, self._deciding)
        self._books = dry.books()
        self._next_id = PLACEHOLDER

    def of(self, path: Path, calling_ae: str) -> dict[str, Any]:
        """What a file comes to: an object that this AE title brings, or a frame, with MLLP's bytes or without."""
        with path.open("rb") as file:
            content = file.read(self._taken.max_frame + len(_FRAMING) + 1)
        if is_object(content):
            return self.object(path, calling_ae)
        return self.file(unframed(content))

    def object(self, path: Path, calling_ae: str) -> dict[str, Any]:
        """What a DICOM object comes to that this AE title brings, behind the messages of this run."""
        with self._transaction() as tx:
            came_to = self._object.comes_to(tx, path, calling_ae, self._next_id)
        self._next_id += len(came_to.get("tasks", ()))
        return came_to

    def file(self, content: bytes) -> dict[str, Any]:
        """What a frame with this content comes to: a message, or a batch whose answers are one."""
        if len(content) > self._taken.max_frame:
            return self._unreadable(f"message over {self._taken.max_frame} bytes")
        if not batch.is_batch(content):
            return self.message(content)
        whole = batch.split(content)
        parts = [self.message(body) for body in whole.messages]
        answers = [part["answer"].encode() for part in parts if part["answer"]]
        together = batch.batch_answer(whole, answers, new_control_id(), self._clock.now()) if answers else b""
        return {"batch": parts, "answer": charset.readable(together)}

    def message(self, content: bytes) -> dict[str, Any]:
        """The state, the tasks with their traces, and the exact answer of one message, as the listener takes it.

        The answer is text here; on the wire it is of the sender's character set. Empty: nothing would come back.
        """
        try:
            header = read_header(content)
        except BadInput as problem:
            return self._unreadable(str(problem))
        rules = self._taken.of_sender(f"{header.sending_application}|{header.sending_facility}")
        mode = mode_of(header, rules.ack_mode, return_address=bool(rules.return_address))
        try:
            message = read(content, fallback_charset=rules.fallback_charset, most=limits_of(rules))
        except BadInput as problem:
            told = Problem(Condition(problem.code), str(problem), problem.where)
            return self._refused(header, Verdict(AckCode.AR, str(problem), (), (told,)), rules, mode)
        if any(segment.name == "MSA" for segment in message.segments):
            return {"state": "DONE", "reason": "acknowledgement", "answer": ""}
        refused = unsupported(message, rules)
        if refused is not None:
            return self._refused(message, refused, rules, mode)
        return self._entered(message, content, rules, mode)

    def _unreadable(self, why: str) -> dict[str, Any]:
        told = answer.build_without_header(why, control_id=new_control_id(), now=self._clock.now())
        return {"state": "REJECTED", "reason": "unreadable", "error": why, "answer": told.decode()}

    def _refused(
        self, message: Message | Header, verdict: Verdict, rules: ListenerSettings, mode: Mode
    ) -> dict[str, Any]:
        told = replace(verdict, code=ACCEPT_CODE[verdict.code]) if mode.apart else verdict
        said = wanted(mode.accept if mode.apart else mode.application, told.code)
        passed_over = verdict.code is AckCode.AA
        return {
            "state": "FILTERED" if passed_over else "REJECTED",
            "reason": "ignored" if passed_over else verdict.problems[0].condition.name.lower(),
            "error": verdict.text,
            "answer": _text(self._build(message, told, rules), message) if said else "",
        }

    def _entered(self, message: Message, content: bytes, rules: ListenerSettings, mode: Mode) -> dict[str, Any]:
        header = message.header
        sender = f"{header.sending_application}|{header.sending_facility}"
        now = self._clock.now()
        understood = understand_message(message, sender, self._rules, self._settings, now, rules)
        accept = b""
        if mode.apart and wanted(mode.accept, AckCode.CA):
            accept = self._build(message, Verdict(AckCode.CA), rules)
        with self._transaction() as tx:
            claimed = self._keep(tx, content, sender, now)
            entered = self._entering.enter(tx, claimed, understood, message)
            self._settle(tx, claimed.id, entered.understood)
            came_to = listing.whole(tx.conn, claimed.id) or {}
        told = accept
        code = AckCode(came_to["answer_code"] or AckCode.AA)
        if not mode.apart and wanted(mode.application, code):
            late = rules.reply_late == "accept" and came_to["state"] == State.READY
            pending = self._build(message, Verdict(AckCode.AA, PENDING), rules) if late else b""
            told = came_to["answer"].encode("latin-1") if came_to["answer"] else pending
        return {
            "state": came_to["state"],
            "reason": came_to["reason"],
            "tasks": [{"task": t["body"], "traces": t["traces"]} for t in came_to["tasks"]],
            "patient": [{"id": p.update.identifier.value, **p.update.said} for p in understood.persons],
            "destination": entered.destination if len(self._settings.cardio.all()) > 1 else "",
            "warnings": list(understood.warnings),
            "answer": _text(told, message),
            "told_later": [_text(later["body"].encode("latin-1"), message) for later in came_to["told_later"]],
        }

    def _build(self, message: Message | Header, verdict: Verdict, rules: ListenerSettings) -> bytes:
        return answer.build(
            message,
            verdict,
            control_id=new_control_id(),
            now=self._clock.now(),
            order_response=rules.order_response,
        )

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with self._books.begin() as conn:
            yield Transaction(conn)

    def _keep(self, tx: Transaction, content: bytes, sender: str, now: datetime) -> line.Claimed:
        inbox.keep(
            tx,
            inbox.Arrival(
                kind="hl7",
                type="",
                received_at=now,
                listener=self._listener,
                peer="",
                sender=sender,
                identity=None,
                digest="",
                raw=content,
            ),
        )
        (claimed,) = line.next_received(tx, 1)
        return claimed

    def _settle(self, tx: Transaction, message_id: int, entered: Understood) -> None:
        """The drafts that are due, each made with an invented id. None is where a held message stands before it."""
        ready = entered.state is State.READY
        claimed = next(iter(line.claim(tx, "dry run", 1, at=self._clock.now())), None) if ready else None
        if claimed is None:
            return
        told: list[Told] = []
        for order, before in orders_of(json.loads(claimed.understood or "{}")):
            step = before or self._deciding.draft(tx, message_id, order)
            if isinstance(step, Post):
                made = (self._next_id,)
                self._next_id += 1
                tasks.settle(tx, step.task_row, State.CREATED, at=self._clock.now(), task_ids=made)
                step = Told(OrderReply(order.asked.done if order.asked else "OK", made), State.CREATED)
            if isinstance(step, Told):
                told.append(step)
            elif isinstance(step, Hold):
                told_held = self._answers.held(tx, claimed)
                inbox.move(
                    tx, message_id, State.READY, State.HELD, at=self._clock.now(), reason=step.reason, **told_held
                )
                return
        message, rules = self._answers.read(claimed)
        state, reason, verdict = concluded(told, entered.doubts, rules.codes)
        columns = self._answers.settled(tx, claimed, message, verdict)
        inbox.move(tx, message_id, State.READY, state, at=self._clock.now(), reason=reason, **columns)


def _text(told: bytes, message: Message | Header) -> str:
    """An answer as text, read as its receiver reads it: in the set of his own message."""
    header = message if isinstance(message, Header) else message.header
    fallback = "utf-8" if isinstance(message, Header) else message.text_encoding
    if header.charsets or fallback.startswith("iso2022"):
        return charset.decode(told, header.charsets).text
    return told.decode(fallback, "replace")
