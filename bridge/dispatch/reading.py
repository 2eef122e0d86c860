"""Messages understood one after the other, in order of arrival: an ADT counts for the order behind it.

One reader a store keeps that order; it is quick, since it neither waits for the API nor reads samples.
"""

import asyncio
import functools
import json
from dataclasses import dataclass, replace
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.understand import Understood, order_to_json, understand_message, understand_recording
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, Problem, Verdict
from bridge.errors import BadInput, BridgeError, CommitUnknown, StoreError
from bridge.formats.dicom.reader import read_object
from bridge.formats.hl7.reader import Message, read
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store import book, inbox, line
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

BATCH = 64
ATTEMPTS = 3
"""A message that ends its reader this often is held (F28)."""


@dataclass(frozen=True, slots=True)
class _Read:
    claimed: line.Claimed
    understood: Understood
    message: Message | None = None


class Reading:
    """Turns RECEIVED into what it is: understood, refused, held, or ready for its task."""

    def __init__(
        self, store: Store, payloads: Payloads, rules: Rules, settings: Settings, clock: Clock, answers: Answers
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wake.clear()
            claimed = await self._store.write(lambda tx: line.next_received(tx, BATCH))
            done = [await self._read(one) for one in claimed]
            await asyncio.gather(*(self._keep_entering(one) for one in done))
            if len(claimed) < BATCH:
                await self.wake.wait()

    async def _keep_entering(self, one: _Read) -> None:
        """Enter one, alone: what fails in it leaves its neighbours as they are. A full disk is waited out."""
        while True:
            try:
                await self._store.write(functools.partial(self._enter, one=one))
            except StoreError:
                log.error("message.not_entered", message=one.claimed.id)
                await self._clock.sleep(1.0)
            except (CommitUnknown, asyncio.CancelledError):
                raise
            except Exception as problem:  # noqa: BLE001  edge of the loop: a poison message is held
                log.error("message.poison", message=one.claimed.id, error=type(problem).__name__)
                one = replace(one, understood=Understood(State.HELD, reason="poison"))
            else:
                return

    async def _read(self, claimed: line.Claimed) -> _Read:
        if claimed.attempts > ATTEMPTS:
            return _Read(claimed, Understood(State.HELD, reason="poison"))
        try:
            if claimed.kind == "hl7":
                message = read(claimed.raw or b"", fallback_charset=self._settings.hl7.fallback_charset)
                understood = understand_message(message, claimed.sender, self._rules, self._settings, self._clock.now())
                return _Read(claimed, understood, message)
            path = self._payloads.path(claimed.payload or "")
            found = await asyncio.to_thread(read_object, path)
            return _Read(claimed, understand_recording(found, claimed.sender, self._rules, self._settings))
        except BadInput as problem:
            log.info("message.unreadable", message=claimed.id)
            return _Read(claimed, _unreadable(problem))
        except (BridgeError, OSError) as problem:
            log.error("message.held", message=claimed.id, error=type(problem).__name__)
            return _Read(claimed, Understood(State.HELD, reason="unreadable"))
        except Exception as problem:  # noqa: BLE001  edge of the loop: a poison message is held, its neighbours flow
            log.error("message.poison", message=claimed.id, error=type(problem).__name__)
            return _Read(claimed, Understood(State.HELD, reason="poison"))

    def _enter(self, tx: Transaction, one: _Read) -> None:
        """The books, the state and, where it is known already, the answer: in one transaction."""
        understood, message_id = one.understood, one.claimed.id
        if understood.update is not None:
            book.update_patient(tx, understood.update, message_id)
        columns: dict[str, Any] = {
            "order_key": understood.patient.value if understood.patient else None,
            "understood": json.dumps(_as_json(understood), ensure_ascii=False),
        }
        numbers = [o.own_number.value for o in understood.orders if o.own_number]
        if understood.recording is not None:
            numbers = [n.value for n in understood.recording.numbers[:1]]
            book.add_numbers(tx, "recording", message_id, 0, understood.recording.numbers)
        if numbers:
            columns["order_number"] = ",".join(numbers)
        if understood.state in {State.READY, State.DONE}:
            self._book_orders(tx, understood, message_id)
        if understood.verdict is not None and one.claimed.answer is None and one.message is not None:
            columns["answer"] = self._answers.build(one.message, understood.verdict)
            columns["answer_code"] = understood.verdict.code.value
        elif understood.state is State.HELD and one.claimed.answer is None and one.message is not None:
            verdict = Verdict(AckCode.AA, "accepted, held for a person")
            columns["answer"] = self._answers.build(one.message, verdict)
            columns["answer_code"] = verdict.code.value
        inbox.move(
            tx,
            message_id,
            State.RECEIVED,
            understood.state,
            at=self._clock.now(),
            reason=understood.reason,
            detail={"warnings": list(understood.warnings)} if understood.warnings else None,
            **columns,
        )

    def _book_orders(self, tx: Transaction, understood: Understood, message_id: int) -> None:
        values: set[str] = set()
        for order in understood.orders:
            if order.due and order.own_number is not None:
                book.book_order(
                    tx,
                    message_id=message_id,
                    position=order.position,
                    own_number=order.own_number,
                    patient_id=order.patient,
                    mapped=order.mapped,
                    digest=order.digest,
                )
                values.update(n.value for n in order.mapped.numbers)
        if values and understood.patient is not None:
            book.fill_patient(tx, understood.patient, understood.known, message_id)
            line.wake_waiting(tx, book.recordings_with(tx.conn, values), at=self._clock.now())


def _as_json(understood: Understood) -> dict[str, Any]:
    return {
        "orders": [order_to_json(o, book.mapped_to_json(o.mapped)) for o in understood.orders],
        "recording": book.mapped_to_json(understood.recording) if understood.recording else None,
        "warnings": list(understood.warnings),
    }


def _unreadable(problem: BadInput) -> Understood:
    condition = Condition(problem.code) if problem.code in list(Condition) else Condition.SEGMENT_SEQUENCE
    told = Problem(condition, str(problem), problem.where)
    return Understood(
        State.REJECTED, reason=condition.name.lower(), verdict=Verdict(AckCode.AE, str(problem), (), (told,))
    )
