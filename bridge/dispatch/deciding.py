"""What is to be sent, decided from the books as they stand, inside the transaction that writes the intention.

Nothing here waits or talks to the network: every function is a piece of a store transaction.
"""

import json
from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.key import tagged, task_key
from bridge.dispatch.understand import UnderstoodOrder, order_from_json
from bridge.domain.patient import Demographics, Identifier
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.domain.verdict import AckCode, Condition, OrderReply, Problem
from bridge.mapping.compose import compose_draft, compose_recording
from bridge.mapping.matching import Held, Matched, OrderFacts, RecordingFacts, compare, match
from bridge.mapping.patients import demographics
from bridge.settings import Settings
from bridge.store import book, line, tasks
from bridge.store.port import Transaction

PENDING = "accepted, task pending"


@dataclass(frozen=True, slots=True)
class Post:
    """A body to send; its intention is in the store."""

    task_row: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """An order that needs no POST (any more), with what its sender is told and the state that it is in."""

    reply: OrderReply
    state: State
    problem: Problem | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A person must look."""

    reason: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WaitForOrder:
    """The recording waits for its order until then (stored milliseconds)."""

    until: int


@dataclass(frozen=True, slots=True)
class Attach:
    """A recording may be sent, alone or with the order that it belongs to."""

    order: book.BookedOrder | None
    patient: Demographics | None


class Deciding:
    """The rules of DESIGN.md, "Drafts and recordings", over the store."""

    def __init__(self, settings: Settings, site_key: bytes, clock: Clock) -> None:
        self._settings = settings
        self._site_key = site_key
        self._clock = clock
        self._authority = settings.site.assigning_authority

    def _key(self, purpose: str, *parts: str) -> str:
        cardio = self._settings.cardio
        return task_key(
            self._site_key,
            destination=cardio.base_url,
            organization=cardio.organization_path,
            purpose=purpose,
            parts=parts,
        )

    # --- orders ---------------------------------------------------------------------------------------------

    def draft(self, tx: Transaction, message_id: int, order: UnderstoodOrder) -> Post | Told:
        """The draft of one order, unless there is an answer already: its own, its twin's, its recording's."""
        if order.refusal is not None:
            return Told(OrderReply("UA", reason=order.refusal.text), State.REJECTED, order.refusal)
        own_number = order.own_number
        if order.passed_over or own_number is None or self._settings.orders.create == "on_recording":
            return Told(OrderReply("OK"), State.DONE)
        mine = [row for row in tasks.of_message(tx.conn, message_id) if row.position == order.position]
        if mine and State(mine[-1].state) is not State.RETRY:
            return told_of(mine[-1])
        if mine and mine[-1].sent:
            return Post(mine[-1].id, tasks.intend_again(tx, mine[-1].id, at=self._clock.now()))
        booked = book.order_by_number(tx.conn, own_number)
        if booked is None:
            raise LookupError(f"order of message {message_id} is not in the book")
        earlier = book.draft_of(tx.conn, booked.id)
        if (booked.message_id, booked.position) != (message_id, order.position):
            told = self._twin(booked, earlier, order)
            if told is not None:
                return told
            book.replace_order(tx, booked.id, message_id, order.position, order.mapped, order.digest)
        recorded = self._recorded(tx, order)
        if recorded:
            return Told(OrderReply("OK", recorded), State.CREATED, reason="recording_came_first")
        generation = mine[-1].generation if mine else earlier.generation + 1 if earlier is not None else 1
        key = self._key("draft", own_number.value, own_number.authority)
        known = book.find_patient(tx.conn, order.patient, site_authority=self._authority)
        request, traces = compose_draft(order.mapped, patient=known, tags=(tagged(key, generation),))
        row = tasks.intend(
            tx,
            message_id=message_id,
            position=order.position,
            order_id=booked.id,
            purpose="draft",
            key=key,
            generation=generation,
            body=request.body(),
            traces=traces,
            at=self._clock.now(),
        )
        return Post(row, request.body())

    @staticmethod
    def _twin(booked: book.BookedOrder, earlier: Any, order: UnderstoodOrder) -> Told | None:
        """The order number is known (F32). None: the earlier one was refused, so this is a new attempt."""
        if earlier is not None and State(earlier.state) is State.REJECTED:
            return None
        if booked.digest != order.digest:
            problem = Problem(
                Condition.DUPLICATE_KEY_IDENTIFIER, "this order number was used for another order", "ORC-2"
            )
            return Told(OrderReply("UA", reason=problem.text), State.REJECTED, problem, "duplicate_order")
        if earlier is None:
            return None
        if State(earlier.state) is State.CREATED:
            return told_of(earlier)
        return Told(OrderReply("OK"), State.DONE, reason="same_order_unsettled")

    def _recorded(self, tx: Transaction, order: UnderstoodOrder) -> tuple[int, ...]:
        """The ids of a task that the order's recording has already, matched by the same rule."""
        facts = OrderFacts(0, order.mapped.numbers, order.patient, demographics(order.mapped))
        for message_id in book.recordings_with(tx.conn, (n.value for n in order.mapped.numbers)):
            found = tasks.recording_task(tx.conn, message_id)
            if found is None or State(found[0].state) is not State.CREATED or found[0].order_id is not None:
                continue
            recording = book.mapped_from_json(json.loads(found[1])["recording"])
            if isinstance(match(recording_facts(recording), [facts], site_authority=self._authority), Matched):
                return tasks.ids(found[0])
        return ()

    # --- recordings -----------------------------------------------------------------------------------------

    def attach(self, tx: Transaction, claimed: line.Claimed, recording: Mapped) -> Attach | Hold | WaitForOrder:
        """The order that the recording belongs to, none, or a reason for a person to look (promise 3)."""
        facts = recording_facts(recording)
        booked = {o.id: o for o in book.orders_with(tx.conn, (n.value for n in recording.numbers))}
        candidates = [
            OrderFacts(o.id, o.mapped.numbers, o.patient, self._known(tx, o.patient, demographics(o.mapped)))
            for o in booked.values()
        ]
        outcome = match(facts, candidates, site_authority=self._authority)
        if isinstance(outcome, Held):
            detail = {
                "orders": list(outcome.order_ids),
                "agree": list(outcome.agreements),
                "contradict": list(outcome.contradictions),
            }
            return Hold(outcome.reason.value, detail)
        record = book.find_patient(tx.conn, facts.identifier, site_authority=self._authority)
        if isinstance(outcome, Matched):
            return Attach(booked[outcome.order_id], record)
        until = claimed.received_at + round(self._settings.recordings.order_wait * 1000)
        if until > round(self._clock.now().timestamp() * 1000):
            return WaitForOrder(until)
        if self._settings.recordings.without_order == "hold":
            return Hold("no_order", {})
        if record is not None:
            comparison = compare(facts.demographics, record)
            if comparison.contradict:
                return Hold(
                    "contradicts_patient_record",
                    {"agree": list(comparison.agree), "contradict": list(comparison.contradict)},
                )
        return Attach(None, record)

    def recording(
        self, tx: Transaction, claimed: line.Claimed, recording: Mapped, upload_id: str, content: str
    ) -> Post | Hold | WaitForOrder:
        """The recording's task, serialised now: patient and order count as they stand in this transaction."""
        decided = self.attach(tx, claimed, recording)
        if not isinstance(decided, Attach):
            return decided
        order = decided.order
        draft = book.draft_of(tx.conn, order.id) if order else None
        draft_ids = tasks.ids(draft) if draft is not None else ()
        key = self._key("recording", claimed.sop_instance_uid, content)
        earlier = tasks.last_generation(tx.conn, key)
        if earlier is not None and earlier.message_id != claimed.id:
            return Hold("same_recording", {"message": earlier.message_id})
        request, traces = compose_recording(
            recording,
            order=order.mapped if order else None,
            patient=decided.patient,
            tags=(tagged(key, 1),),
            draft_task_id=draft_ids[0] if draft_ids else None,
            upload_id=upload_id,
            auto_complete=self._settings.cardio.auto_complete,
        )
        row = tasks.intend(
            tx,
            message_id=claimed.id,
            position=0,
            order_id=order.id if order else None,
            purpose="recording",
            key=key,
            generation=1,
            body=request.body(),
            traces=traces,
            at=self._clock.now(),
        )
        return Post(row, request.body())

    def _known(self, tx: Transaction, patient: Identifier, said: Demographics) -> Demographics:
        record = book.find_patient(tx.conn, patient, site_authority=self._authority)
        return said.over(record) if record else said


def recording_facts(recording: Mapped) -> RecordingFacts:
    """What the match looks at."""
    identifier = Identifier(str(recording.fields.get("patient_id", "")), recording.patient_authority)
    return RecordingFacts(recording.numbers, identifier, demographics(recording))


def orders_of(claimed: line.Claimed) -> list[UnderstoodOrder]:
    """The orders of a message, as they were understood."""
    document = json.loads(claimed.understood or "{}")
    return [order_from_json(o, book.mapped_from_json(o["mapped"])) for o in document.get("orders", ())]


def told_of(row: Any) -> Told:
    """What the sender of an order is told of a task row that has an outcome."""
    state = State(row.state)
    if state is State.CREATED:
        return Told(OrderReply("OK", tasks.ids(row)), state)
    if state is State.REJECTED:
        problem = refusal(row.api_text)
        return Told(OrderReply("UA", reason=problem.text), state, problem, row.reason)
    return Told(OrderReply("OK"), State.IN_DOUBT, reason=row.reason)  # pending, as far as the sender is told


def refusal(api_text: str) -> Problem:
    """The API said no (hl7.md §3.2): its words go to ERR-7."""
    return Problem(Condition.APPLICATION_INTERNAL_ERROR, "the Cardio API refused the order", diagnostic=api_text)


def code_for(told: list[Told]) -> AckCode:
    """MSA-1 of a message: one refused order makes it AE (hl7.md §3.5)."""
    return AckCode.AE if any(t.problem is not None for t in told) else AckCode.AA
