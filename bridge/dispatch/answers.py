"""What HL7 senders are told: in the transaction that commits the outcome (failures.md §3.2)."""

import secrets
from collections.abc import Mapping
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.concluding import Told
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, OrderReply, Verdict
from bridge.formats.hl7 import answer
from bridge.formats.hl7.limits import limits_of
from bridge.formats.hl7.modes import mode_of, wanted
from bridge.formats.hl7.reader import Message, read
from bridge.settings import Hl7Settings, ListenerSettings
from bridge.store import book, inbox, line, outbound
from bridge.store.port import Connection, Transaction

HELD = Verdict(AckCode.AA, "accepted, held for a person")
APART = outbound.APPLICATION_ANSWER
_NO = frozenset({"AE", "AR", "CE", "CR"})
TOLD_LATER = {"NA": "NA"}
"""ORC-1 of a message of ours: a number that was asked for is assigned (NA); else the status changed (SC)."""


class Answers:
    """Answers by the rules of the listener and the sender, and what is told to a return address later."""

    def __init__(self, settings: Hl7Settings, clock: Clock) -> None:
        self._listeners: Mapping[str, ListenerSettings] = settings.all()
        self._first = settings
        self._clock = clock

    def rules(self, listener: str, sender: str) -> ListenerSettings:
        """What counts for this sender; a listener that is no longer configured is answered as the first one."""
        return self._listeners.get(listener, self._first).of_sender(sender)

    def read(self, claimed: line.Claimed) -> tuple[Message, ListenerSettings]:
        """A kept message, and the rules for its sender."""
        rules = self.rules(claimed.listener, claimed.sender)
        return read(claimed.raw or b"", fallback_charset=rules.fallback_charset, most=limits_of(rules)), rules

    def build(
        self, message: Message, verdict: Verdict, rules: ListenerSettings, control_id: str = "", *, apart: bool = False
    ) -> bytes:
        """The bytes to send; MSH-10 is our own and unique (HL7 v2.5.1 §2.9.2.2)."""
        return answer.build(
            message,
            verdict,
            control_id=control_id or new_control_id(),
            now=self._clock.now(),
            order_response=rules.order_response,
            apart=apart,
        )

    def settled(self, tx: Transaction, claimed: line.Claimed, message: Message, verdict: Verdict) -> dict[str, Any]:
        """The columns of a message that is settled, with its answer; what is told elsewhere goes to its queue.

        A sender that was told "task pending" gets the ids: by the stored answer at a resend, and by a message of ours
        where there is a return address. What was said before in other words stays said; so does an application
        answer, of which there is one for each message: what comes of it later is told as ids.
        """
        rules = self.rules(claimed.listener, claimed.sender)
        mode = mode_of(message.header, rules.ack_mode, return_address=bool(rules.return_address))
        if mode.apart:
            if wanted(mode.application, verdict.code) and not outbound.was_answered_apart(tx.conn, claimed.id):
                control_id = new_control_id()
                body = self.build(message, verdict, rules, control_id, apart=True)
                self._send(tx, claimed, rules, APART, control_id, body)
            elif verdict.task_ids:
                self._tell_ids(tx, claimed, message, verdict, rules)
            return {}
        said = tx.known.get(("said", claimed.id))  # known where the message was kept in this very transaction
        if said is None:
            said = inbox.answer_code_of(tx.conn, claimed.id)
        if said not in {"", verdict.code.value}:
            return {}
        if said and verdict.task_ids:
            self._tell_ids(tx, claimed, message, verdict, rules)
        return {"answer": self.build(message, verdict, rules), "answer_code": verdict.code.value}

    def told_no(self, conn: Connection, message_id: int, kind: str, answer_code: str) -> bool:
        """Whether the sender was told that nothing comes of the message, so that he sends it again: AE, AR, CE or CR,
        or a status other than 0000.
        """
        if kind != "hl7":
            return answer_code not in {"", "0000"}
        if answer_code in _NO:
            return True
        return any(_code_of(o.body) in _NO for o in outbound.of_message(conn, message_id) if o.kind == APART)

    def held(self, tx: Transaction, claimed: line.Claimed) -> dict[str, Any]:
        """The columns of an HL7 message that a person must look at: its sender is told that it is kept."""
        if claimed.kind != "hl7" or claimed.answer is not None:
            return {}
        message, _ = self.read(claimed)
        return self.settled(tx, claimed, message, HELD)

    def follow(self, tx: Transaction, claimed: line.Claimed, task_row: int, told: Told) -> None:
        """A recording's task is made: the sender of its order hears its id, where he has a return address."""
        if told.state is not State.CREATED or not told.reply.task_ids:
            return
        order = book.order_of_task(tx.conn, task_row)
        if order is None:
            return
        source = inbox.source_of(tx.conn, order.message_id)
        rules = self.rules(source.listener, source.sender)
        if source.kind != "hl7" or not rules.return_address:
            return
        message = read(source.raw or b"", fallback_charset=rules.fallback_charset)
        control_id = new_control_id()
        reply = OrderReply("SC", told.reply.task_ids, status="IP")
        body = answer.build_order_message(
            message, [(order.position, reply)], control_id=control_id, now=self._clock.now()
        )
        self._send(tx, claimed, rules, "task_ids", control_id, body, listener=source.listener)

    def _tell_ids(
        self, tx: Transaction, claimed: line.Claimed, message: Message, verdict: Verdict, rules: ListenerSettings
    ) -> None:
        if not rules.return_address:
            return
        made = [
            (position, OrderReply(TOLD_LATER.get(reply.control, "SC"), reply.task_ids))
            for position, reply in enumerate(verdict.orders, 1)
            if reply.task_ids
        ]
        control_id = new_control_id()
        body = answer.build_order_message(message, made, control_id=control_id, now=self._clock.now())
        self._send(tx, claimed, rules, "task_ids", control_id, body)

    def _send(
        self,
        tx: Transaction,
        claimed: line.Claimed,
        rules: ListenerSettings,
        kind: str,
        control_id: str,
        body: bytes,
        *,
        listener: str = "",
    ) -> None:
        outbound.add(
            tx,
            message_id=claimed.id,
            kind=kind,
            listener=listener or claimed.listener,
            address=rules.return_address,
            order_key=claimed.order_key,
            control_id=control_id,
            body=body,
            at=self._clock.now(),
        )


def new_control_id() -> str:
    """An MSH-10 of ours: 18 characters, never used twice."""
    return f"CB{secrets.token_hex(8).upper()}"


def _code_of(body: bytes) -> str:
    """MSA-1 of an answer that we built."""
    return next((f.value for f in read(body).find("MSA-1")), "")
