"""What messages would come to, told by the bridge's own rules over books that exist in memory only.

Several files in one run count one after the other, as they would if they came in: a cancel finds its order.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.concluding import Told, concluded
from bridge.dispatch.deciding import Deciding, Hold, Post, orders_of
from bridge.dispatch.entering import Entering
from bridge.dispatch.understand import Understood, understand_message
from bridge.domain.states import State
from bridge.domain.verdict import OrderReply
from bridge.errors import BadInput
from bridge.formats.hl7.reader import read
from bridge.mapping.rules import Rules
from bridge.receive.intake import unsupported
from bridge.settings import Settings
from bridge.store import dry, inbox, line, listing, tasks
from bridge.store.port import Transaction

PLACEHOLDER = 4711
"""The first task id that a dry run shows."""


class DryRun:
    """One run over books in memory. Opens no network and writes nothing."""

    def __init__(self, rules: Rules, settings: Settings, clock: Clock) -> None:
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._answers = Answers(settings.hl7, clock)
        self._entering = Entering(settings, clock, self._answers)
        self._deciding = Deciding(settings, b"dry run", clock)
        self._books = dry.books()
        self._next_id = PLACEHOLDER

    def message(self, content: bytes) -> dict[str, Any]:
        """The state, the tasks with their traces, and the exact answer of one HL7 message."""
        try:
            message = read(content, fallback_charset=self._settings.hl7.fallback_charset)
        except BadInput as problem:
            return {"state": "REJECTED", "error": f"{problem.where}: {problem}"}
        header = message.header
        sender = f"{header.sending_application}|{header.sending_facility}"
        listener = self._settings.hl7.of_sender(sender)
        message = read(content, fallback_charset=listener.fallback_charset)
        refused = unsupported(message, listener)
        if refused is not None:
            answer = self._answers.build(message, refused, listener)
            return {"state": "REJECTED", "error": refused.text, "answer": _text(answer)}
        now = self._clock.now()
        understood = understand_message(message, sender, self._rules, self._settings, now, listener)
        with self._transaction() as tx:
            claimed = self._keep(tx, content, sender, now)
            entered = self._entering.enter(tx, claimed, understood, message)
            self._settle(tx, claimed.id, entered.understood)
            came_to = listing.whole(tx.conn, claimed.id) or {}
        return {
            "state": came_to["state"],
            "reason": came_to["reason"],
            "tasks": [{"task": t["body"], "traces": t["traces"]} for t in came_to["tasks"]],
            "patient": [{"id": p.update.identifier.value, **p.update.said} for p in understood.persons],
            "warnings": list(understood.warnings),
            "answer": came_to["answer"] or "",
            "told_later": [o["body"] for o in came_to["told_later"]],
        }

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
                listener="hl7",
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
        """The drafts that are due, each made with an invented id."""
        if entered.state is not State.READY:
            return
        (claimed,) = line.claim(tx, "dry run", 1, at=self._clock.now())
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
                inbox.move(tx, message_id, State.READY, State.HELD, at=self._clock.now(), reason=step.reason)
                return
        message, rules = self._answers.read(claimed)
        state, reason, verdict = concluded(told, entered.doubts, rules.codes)
        columns = self._answers.settled(tx, claimed, message, verdict)
        inbox.move(tx, message_id, State.READY, state, at=self._clock.now(), reason=reason, **columns)


def _text(answer: bytes) -> str:
    return answer.decode("utf-8", "replace")
