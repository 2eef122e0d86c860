"""What is to be sent, decided from the books as they stand, inside the transaction that writes the intention.

Nothing here waits or talks to the network: every function is a piece of a store transaction.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.booking import cancelled, canonical, duplicate, recordings_with
from bridge.dispatch.concluding import Told, told_from_json, told_of
from bridge.dispatch.decisions import CHANGED_SINCE, Word, word_of
from bridge.dispatch.key import tagged, task_key
from bridge.dispatch.understand import UnderstoodOrder, order_from_json
from bridge.domain.order import WITHDRAWN, Standing
from bridge.domain.patient import Demographics, Identifier
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.domain.verdict import OrderReply
from bridge.mapping.compose import compose_draft, compose_recording
from bridge.mapping.matching import Held, HoldReason, Matched, NoOrder, OrderFacts, RecordingFacts, compare, match
from bridge.mapping.patients import demographics
from bridge.settings import DestinationSettings, Settings
from bridge.store import book, destinations, line, patients, tasks
from bridge.store.port import Transaction


@dataclass(frozen=True, slots=True)
class Post:
    """A body to send; its intention is in the store."""

    task_row: int
    body: bytes


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
class WaitForRelease:
    """The order is on hold: what is not sent of it waits for its release (ORC-1 RL)."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The group is the same as an earlier one of its object, which has its task row already: nothing is sent."""

    position: int  # of the earlier one


@dataclass(frozen=True, slots=True)
class Attach:
    """A recording may be sent, alone or with the order that it belongs to."""

    order: book.BookedOrder | None
    patient: Demographics | None
    identifier: Identifier
    renamed: bool = False  # since the order: the patient record, which agrees with the recording, speaks before it


class Deciding:
    """The rules of DESIGN.md, "Drafts and recordings", over the store."""

    def __init__(self, settings: Settings, site_key: bytes, clock: Clock) -> None:
        self._settings = settings
        self._site_key = site_key
        self._clock = clock
        self._authority = settings.site.assigning_authority
        self._destinations = settings.cardio.all()

    def _goes_to(self, tx: Transaction, message_id: int) -> DestinationSettings:
        """The settings of a message's destination, which stands in its row since it was understood (F42)."""
        name = destinations.of_message(tx.conn, message_id) if len(self._destinations) > 1 else ""
        return self._destinations[name] if name else self._settings.cardio

    def _key(self, goes_to: DestinationSettings, purpose: str, *parts: str) -> str:
        return task_key(
            self._site_key,
            destination=goes_to.base_url,
            organization=goes_to.organization_path,
            purpose=purpose,
            parts=parts,
        )

    # --- orders ---------------------------------------------------------------------------------------------

    def draft(self, tx: Transaction, message_id: int, order: UnderstoodOrder) -> Post | Told | Hold | WaitForRelease:
        """The draft of one order, unless there is an answer already: its own, its twin's, its recording's."""
        control = order.asked.done if order.asked is not None else "OK"
        fresh: book.BookedOrder | None = tx.known.get(("fresh", message_id, order.position))
        if fresh is not None:  # booked in this very transaction: nothing can have become of it
            return self._unrecorded(tx, order, fresh, fresh.mapped, control) or self._intend_draft(
                tx, message_id, order, fresh, fresh.mapped, 1
            )
        mine = [row for row in tasks.of_message(tx.conn, message_id) if row.position == order.position]
        if mine and State(mine[-1].state) is not State.RETRY:
            return told_of(mine[-1], control)
        step = self._due(tx, message_id, order, mine, control)
        if mine and isinstance(step, Told):
            now = self._clock.now()
            tasks.drop_unsent(tx, message_id, at=now, reason=step.reason or "not_needed", position=order.position)
        return step

    def _due(
        self, tx: Transaction, message_id: int, order: UnderstoodOrder, mine: list[Any], control: str
    ) -> Post | Told | Hold | WaitForRelease:
        """The draft of an order that is not settled. `mine` are its own task rows, the last of which goes out again."""
        if mine and mine[-1].sent:
            return Post(mine[-1].id, tasks.intend_again(tx, mine[-1].id, at=self._clock.now()))
        booked = book.order_by_number(tx.conn, order.own_number) if order.own_number is not None else None
        if booked is None:
            raise LookupError(f"order of message {message_id} is not in the book")
        earlier = book.draft_of(tx.conn, booked.id)
        mapped = booked.mapped  # as it stands now: changes that came in the meantime count
        if (booked.message_id, booked.position) != (message_id, order.position):
            told = self._twin(tx, booked, earlier, order, control)
            if told is not None:
                return told
            mapped = self._stand_for(tx, message_id, order, booked, refused=earlier is not None)
        elif booked.standing in WITHDRAWN:
            return cancelled("order_cancelled")
        elif booked.standing is Standing.ON_HOLD:
            return WaitForRelease()
        generation = mine[-1].generation if mine else earlier.generation + 1 if earlier is not None else 1
        return self._unrecorded(tx, order, booked, mapped, control) or self._intend_draft(
            tx, message_id, order, booked, mapped, generation
        )

    def _stand_for(
        self, tx: Transaction, message_id: int, order: UnderstoodOrder, booked: book.BookedOrder, *, refused: bool
    ) -> Mapped:
        """What is ordered, now that this message stands for the order.

        After a refusal by the API it is what this message says. Else the first message is held, or the recording came
        first: the same order again says nothing new, and changes that came in the meantime stand.
        """
        if not refused:
            book.take_over(tx, booked, message_id, order.position)
            return booked.mapped
        book.replace_order(
            tx,
            booked.id,
            message_id,
            order.position,
            order.mapped,
            order.digest,
            patient_id=order.patient,
            plan=order.plan.said_by(message_id),
        )
        return order.mapped

    def _unrecorded(
        self, tx: Transaction, order: UnderstoodOrder, booked: book.BookedOrder, mapped: Mapped, control: str
    ) -> Told | None:
        """None: no recording of this order has a task; else its ids are the order's."""
        recorded = self._recorded(tx, order, booked, mapped)
        return Told(OrderReply(control, recorded), State.CREATED, reason="recording_came_first") if recorded else None

    def _intend_draft(
        self,
        tx: Transaction,
        message_id: int,
        order: UnderstoodOrder,
        booked: book.BookedOrder,
        mapped: Mapped,
        generation: int,
    ) -> Post | Hold:
        identifier = self.canonical(tx, order.patient)
        known = patients.find_patient(tx.conn, identifier, site_authority=self._authority)
        reused = self._reused(order.patient, identifier, mapped, known)
        if reused is not None:
            word = word_of(tx, message_id)
            if word is None or not word.as_said:
                return reused
            identifier, known = _identifier(mapped), None
        key = self._key(self._goes_to(tx, message_id), "draft", booked.number.value, booked.number.authority)
        request, traces = compose_draft(
            mapped, patient=known, tags=(tagged(key, generation),), merged=_merged(_identifier(mapped), identifier)
        )
        row = tasks.intend(
            tx,
            again=generation > 1 or ("fresh", message_id, order.position) not in tx.known,
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
    def _reused(said: Identifier, now: Identifier, ordered: Mapped, known: Demographics | None) -> Hold | None:
        """An order under a retired identifier that may be somebody else's by now (F34)."""
        told_apart = compare(demographics(ordered), known) if now != said and known is not None else None
        if told_apart is None or not told_apart.contradict:
            return None
        detail = {"agree": list(told_apart.agree), "contradict": list(told_apart.contradict)}
        return Hold("retired_identifier_reused", detail)

    def canonical(self, tx: Transaction, identifier: Identifier) -> Identifier:
        """The identifier that counts now: merges followed."""
        return canonical(tx, identifier, self._authority)

    def _twin(
        self,
        tx: Transaction,
        booked: book.BookedOrder,
        earlier: Any,
        order: UnderstoodOrder,
        control: str,
    ) -> Told | WaitForRelease | None:
        """The order number is known (F32). None: the earlier one was refused, so this is a new attempt; what was
        cancelled or put on hold while it waited is none (F33).
        """
        if earlier is not None and State(earlier.state) in {State.REJECTED, State.CANCELLED}:
            if booked.standing in WITHDRAWN:
                return cancelled("order_cancelled")
            return WaitForRelease() if booked.standing is Standing.ON_HOLD else None
        identifier = self.canonical(tx, order.patient)
        same = self.canonical(tx, booked.patient).agrees(identifier, site_authority=self._authority)
        if not same or order.digest not in {booked.digest, booked.changed_digest}:
            return duplicate()
        if booked.standing in WITHDRAWN:
            return cancelled("order_cancelled")
        if booked.standing is Standing.ON_HOLD:
            return Told(OrderReply(control), State.DONE, reason="order_on_hold")
        if earlier is None:
            return None
        if State(earlier.state) is State.CREATED:
            return told_of(earlier, control)
        return Told(OrderReply(control), State.DONE, reason="same_order_unsettled")

    def _recorded(
        self, tx: Transaction, order: UnderstoodOrder, booked: book.BookedOrder, mapped: Mapped
    ) -> tuple[int, ...]:
        """The ids of the tasks that the order's recordings have already: by the same match, and the order's since."""
        made: list[int] = []
        facts = OrderFacts(0, mapped.numbers, self.canonical(tx, order.patient), demographics(mapped))
        for message_id in recordings_with(tx, (n.value for n in mapped.numbers)):
            for row in tasks.recording_tasks(tx.conn, message_id):
                if State(row.state) is not State.CREATED:
                    continue
                if row.order_id is None:
                    recording = book.mapped_from_json(json.loads(row.understood)["recording"])
                    if isinstance(match(self._facts(tx, recording), [facts], site_authority=self._authority), Matched):
                        tasks.belong(tx, row.id, booked.id)
                        made.extend(tasks.ids(row))
                elif row.order_id == booked.id:
                    made.extend(tasks.ids(row))
        return tuple(made)

    # --- recordings -----------------------------------------------------------------------------------------

    def attach(
        self, tx: Transaction, claimed: line.Claimed, recording: Mapped
    ) -> Attach | Hold | WaitForOrder | WaitForRelease:
        """The order that the recording belongs to, none, or a reason for a person to look (promise 3).

        Identifiers count as they stand after every merge; an order that was cancelled is no candidate.
        """
        facts = self._facts(tx, recording)
        word = word_of(tx, claimed.id)
        if word is not None:
            return self._as_decided(tx, recording, facts, word)
        found = book.orders_with(tx.conn, (n.value for n in recording.numbers))
        booked = {o.id: o for o in found if o.standing not in WITHDRAWN}
        outcome, renamed = self._matched(tx, facts, list(booked.values()))
        if isinstance(outcome, Held):
            detail = {
                "orders": list(outcome.order_ids),
                "agree": list(outcome.agreements),
                "contradict": list(outcome.contradictions),
            }
            return Hold(outcome.reason.value, detail)
        record = patients.find_patient(tx.conn, facts.identifier, site_authority=self._authority)
        if isinstance(outcome, Matched):
            order = booked[outcome.order_id]
            against = self._reused(order.patient, facts.identifier, order.mapped, record) or self._elsewhere(
                tx, claimed, order
            )
            if against is not None:
                return against
            if order.standing is Standing.ON_HOLD:
                return WaitForRelease()
            return Attach(order, record, facts.identifier, renamed)
        until = self._waits_until(claimed)
        if until is not None:
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
        return Attach(None, record, facts.identifier)

    def _waits_until(self, claimed: line.Claimed) -> int | None:
        """Until when a recording waits for its order, as a stored time; None where it has waited.

        One that was received in the future shows that the clock was set back: it waits once, from now on (F25).
        """
        now = round(self._clock.now().timestamp() * 1000)
        began = claimed.received_at
        if began > now:
            began = 0 if claimed.reason == line.AWAITING_ORDER else now
        until = began + round(self._settings.recordings.order_wait * 1000)
        return until if until > now else None

    def _elsewhere(self, tx: Transaction, claimed: line.Claimed, order: book.BookedOrder) -> Hold | None:
        """A recording whose order has its draft at another destination: one of the two routes is wrong."""
        draft = book.draft_of(tx.conn, order.id) if len(self._destinations) > 1 else None
        if draft is None:
            return None
        first = self._settings.cardio.name
        mine, theirs = (destinations.of_message(tx.conn, n) or first for n in (claimed.id, draft.message_id))
        if mine == theirs:
            return None
        return Hold("order_elsewhere", {"orders": [order.id], "destination": mine, "order_destination": theirs})

    def _as_decided(
        self, tx: Transaction, recording: Mapped, facts: RecordingFacts, word: Word
    ) -> Attach | Hold | WaitForRelease:
        """What a person said of this recording goes before the match, as long as the order is what it was then."""
        if word.order is None:
            record = patients.find_patient(tx.conn, facts.identifier, site_authority=self._authority)
            if self._reused(_identifier(recording), facts.identifier, recording, record) is not None:
                return Attach(None, None, _identifier(recording))
            return Attach(None, record, facts.identifier)
        order = book.order_by_id(tx.conn, word.order)
        identifier = self.canonical(tx, order.patient) if order is not None else facts.identifier
        if order is None or not word.still_fits(order, identifier):
            return Hold(CHANGED_SINCE, {"orders": [word.order]})
        if order.standing is Standing.ON_HOLD:
            return WaitForRelease()
        record = patients.find_patient(tx.conn, identifier, site_authority=self._authority)
        if self._reused(order.patient, identifier, order.mapped, record) is not None:
            return Attach(order, None, _identifier(order.mapped))
        return Attach(order, record, identifier)

    def recording(
        self,
        tx: Transaction,
        claimed: line.Claimed,
        recording: Mapped,
        upload_id: str,
        content: str,
        *,
        position: int = 0,
        twins: Collection[int] = (),
    ) -> Post | Hold | WaitForOrder | WaitForRelease | Repeated:
        """The task of one group, serialised now: patient and order count as they stand in this transaction.

        `content` is the hash of its samples. `twins` are the positions of groups that say the same of themselves:
        with the same samples too they are one group that stands twice. Without, such samples (a flat line, a
        simulator's loop) were recorded again, and have a task and a key of their own.
        """
        decided = self.attach(tx, claimed, recording)
        if not isinstance(decided, Attach):
            return decided
        order = decided.order
        draft = book.draft_of(tx.conn, order.id) if order else None
        draft_ids = tasks.ids(draft) if draft is not None else ()
        goes_to = self._goes_to(tx, claimed.id)
        key = self._key(goes_to, "recording", claimed.sop_instance_uid, content)
        same = [r.position for r in tasks.of_message(tx.conn, claimed.id) if r.key == key and r.position != position]
        if same and same[0] in twins:
            return Repeated(same[0])
        if same:
            key = self._key(goes_to, "recording", claimed.sop_instance_uid, content, str(position))
        earlier = tasks.last_generation(tx.conn, key)
        over = earlier is not None and State(earlier.state) in {State.REJECTED, State.CANCELLED}
        if earlier is not None and earlier.message_id != claimed.id and not over:
            return Hold("same_recording", {"message": earlier.message_id})
        generation = earlier.generation + over if earlier is not None else 1
        request, traces = compose_recording(
            recording,
            order=order.mapped if order else None,
            patient=decided.patient,
            tags=(tagged(key, generation),),
            draft_task_id=draft_ids[0] if draft_ids else None,
            upload_id=upload_id,
            auto_complete=goes_to.auto_complete,
            merged=_merged(_identifier(order.mapped if order else recording), decided.identifier),
            renamed=decided.renamed,
        )
        row = tasks.intend(
            tx,
            message_id=claimed.id,
            position=position,
            order_id=order.id if order else None,
            purpose="recording",
            key=key,
            generation=generation,
            body=request.body(),
            traces=traces,
            at=self._clock.now(),
        )
        return Post(row, request.body())

    def _matched(
        self, tx: Transaction, facts: RecordingFacts, orders: list[book.BookedOrder]
    ) -> tuple[Matched | Held | NoOrder, bool]:
        """What the match says; and whether it rests on what the patient is called since the order."""
        candidates = [self._order_facts(tx, o) for o in orders]
        outcome = match(facts, candidates, site_authority=self._authority)
        if isinstance(outcome, Held) and outcome.reason is HoldReason.CONTRADICTION:
            since = [self._order_facts(tx, o, as_known=True) for o in orders]
            again = match(facts, since, site_authority=self._authority) if since != candidates else outcome
            if isinstance(again, Matched):
                return again, True
        return outcome, False

    def _facts(self, tx: Transaction, recording: Mapped) -> RecordingFacts:
        """What the match looks at."""
        identifier = self.canonical(tx, _identifier(recording))
        return RecordingFacts(recording.numbers, identifier, demographics(recording))

    def _order_facts(self, tx: Transaction, order: book.BookedOrder, *, as_known: bool = False) -> OrderFacts:
        """What the match looks at: the order's own words. `as_known`: the patient record's, where it is the newer one.

        A patient may be renamed between order and recording (a newborn, a marriage), and the cart is told the new name.
        """
        identifier = self.canonical(tx, order.patient)
        said = demographics(order.mapped)
        record = patients.record_of(tx.conn, identifier, site_authority=self._authority)
        known = said.over(record.known) if record else said
        if as_known and record and record.message_id > order.message_id:
            known = record.known.over(said)
        return OrderFacts(order.id, order.mapped.numbers, identifier, known)


def _identifier(mapped: Mapped) -> Identifier:
    return Identifier(str(mapped.fields.get("patient_id", "")), mapped.patient_authority)


def _merged(said: Identifier, now: Identifier) -> Identifier | None:
    return now if now.value != said.value else None


def orders_of(document: dict[str, Any]) -> list[tuple[UnderstoodOrder, Told | None]]:
    """The orders of a message as they were understood, each with what it was told when it was entered."""
    return [
        (order_from_json(o, book.mapped_from_json(o["mapped"])), told_from_json(o.get("told")))
        for o in document.get("orders", ())
    ]
