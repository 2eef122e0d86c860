"""A message that was understood goes into the books: one transaction for the books, its state, and its answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.answers import HELD, Answers
from bridge.dispatch.booking import Booking, canonical, recordings_with
from bridge.dispatch.concluding import Told, concluded, refuses, told_to_json
from bridge.dispatch.identities import Identities
from bridge.dispatch.routing import Routed, Routing
from bridge.dispatch.understand import Understood, doubts_to_json, order_to_json
from bridge.domain.codes import judged
from bridge.domain.patient import Identifier
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, OrderReply, Verdict
from bridge.errors import StoreConflict
from bridge.formats.hl7.reader import Message
from bridge.settings import ListenerSettings, Settings
from bridge.store import book, inbox, line, patients, tasks, terms
from bridge.store.port import Transaction


@dataclass(frozen=True, slots=True)
class Entered:
    """What a message came to when it was entered; `told` says what became of each order, None where a draft is due."""

    understood: Understood
    told: tuple[Told | None, ...]
    order_key: str | None
    answer: tuple[bytes, str] | None = None  # and its MSA-1, where it is known already
    destination: str = ""  # where its task goes


class Entering:
    """Enters what was understood, in order of arrival."""

    def __init__(self, settings: Settings, clock: Clock, answers: Answers) -> None:
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self._authority = settings.site.assigning_authority
        self._booking = Booking(settings, clock)
        self._identities = Identities(settings, clock, self._booking)
        self._routing = Routing(settings)
        self._several = len(settings.cardio.all()) > 1

    def goes_to(self, listener: str, sender: str, understood: Understood, message: Message | None) -> str:
        """Where the tasks of a message would go, before anything of it is entered; empty where that is not clear."""
        return self._routing.of(listener, sender, understood, message).name

    def enter(self, tx: Transaction, claimed: line.Claimed, understood: Understood, message: Message | None) -> Entered:
        """The books, the state and, where it is known already, the answer. Raises StoreConflict where the message is
        not waiting to be entered any more.
        """
        told: tuple[Told | None, ...] = ()
        rules = self._answers.rules(claimed.listener, claimed.sender)
        strict = refuses(understood.doubts, rules.codes) if understood.verdict is None else None
        if strict is not None:
            understood = _rejected(understood, strict)
        elif understood.state is State.DONE and understood.event:
            understood = self._admission(tx, claimed.id, understood, rules)
        elif understood.state is State.READY and understood.orders:
            understood, told = self._orders(tx, claimed.id, understood, rules)
        elif understood.verdict is not None:
            understood = _judged(understood, rules)
        routed = self._route(tx, claimed, understood, told, message) if understood.state is State.READY else None
        if routed is not None and not routed.name:
            understood = replace(understood, state=State.HELD, reason=routed.reason)
        columns = self._columns(tx, claimed.id, understood, told)
        if claimed.understood is not None:
            terms.forget(tx, claimed.id, terms.SAID)
        terms.note(tx, claimed.id, _words(understood))
        if routed is not None:
            columns["destination"] = routed.name
        if message is not None:
            self._answer(tx, claimed, understood, message, columns)
        moved = inbox.move(
            tx,
            claimed.id,
            State.RECEIVED,
            understood.state,
            at=self._clock.now(),
            reason=understood.reason,
            detail=self._detail(understood, routed),
            **columns,
        )
        if not moved:
            raise StoreConflict(f"message {claimed.id} was entered before")
        answer = (columns["answer"], columns["answer_code"]) if "answer" in columns else None
        return Entered(understood, told, columns.get("order_key"), answer, columns.get("destination", ""))

    def _route(
        self,
        tx: Transaction,
        claimed: line.Claimed,
        understood: Understood,
        told: Sequence[Told | None],
        message: Message | None,
    ) -> Routed:
        """Where its tasks go, frozen with its state (F42). What may have been sent of it already keeps its way."""
        if claimed.destination and any(_may_be_there(row) for row in tasks.of_message(tx.conn, claimed.id)):
            return Routed(claimed.destination)
        if message is None:
            return self._routing.of(claimed.listener, claimed.sender, understood, None)
        due = [order.mapped for order, one in zip(understood.orders, told, strict=True) if one is None]
        return self._routing.of_orders(claimed.listener, message, due)

    def _detail(self, understood: Understood, routed: Routed | None) -> dict[str, Any] | None:
        """What the message's history keeps: what was doubted, and which way it goes where there are several."""
        detail: dict[str, Any] = {"warnings": list(understood.warnings)} if understood.warnings else {}
        if routed is not None and (self._several or not routed.name):
            detail |= {**({"destination": routed.name} if routed.name else {}), **(routed.detail or {})}
        return detail or None

    def _admission(
        self, tx: Transaction, message_id: int, understood: Understood, rules: ListenerSettings
    ) -> Understood:
        entered = self._identities.enter(tx, message_id, understood)
        if entered.problem is not None:
            code, problems = judged((entered.problem,), rules.codes)
            verdict = Verdict(code, entered.problem.text, (), problems)
            state = State.DONE if code is AckCode.AA else State.REJECTED
            return replace(understood, state=state, reason=entered.reason, verdict=verdict)
        if entered.state is State.HELD:
            return replace(understood, state=State.HELD, reason=entered.reason)
        verdict = Verdict(AckCode.AA, problems=understood.doubts)
        return replace(understood, state=entered.state, reason=entered.reason, verdict=verdict)

    def _orders(
        self, tx: Transaction, message_id: int, understood: Understood, rules: ListenerSettings
    ) -> tuple[Understood, tuple[Told | None, ...]]:
        """Each order in turn; where none is due any more, the message is settled at once."""
        told = tuple(self._booking.enter(tx, message_id, o, understood.sent_at) for o in understood.orders)
        values = {n.value for o, t in zip(understood.orders, told, strict=True) if _counts(t) for n in o.mapped.numbers}
        if values and understood.patient is not None:
            identifier = self._canonical(tx, understood.patient)
            if identifier == understood.patient:  # what is said of a retired identifier fills no other's record
                patients.fill_patient(tx, identifier, understood.known, message_id, site_authority=self._authority)
            line.wake_waiting(tx, recordings_with(tx, values), at=self._clock.now())
        settled = [t for t in told if t is not None]
        if len(settled) < len(told):
            return understood, told
        state, reason, verdict = concluded(settled, understood.doubts, rules.codes)
        return replace(understood, state=state, reason=reason, verdict=verdict), told

    def _canonical(self, tx: Transaction, identifier: Identifier) -> Identifier:
        return canonical(tx, identifier, self._authority)

    def _columns(
        self, tx: Transaction, message_id: int, understood: Understood, told: Sequence[Told | None]
    ) -> dict[str, Any]:
        numbers = [o.own_number.value for o in understood.orders if o.own_number]
        if understood.recording is not None:
            numbers = [n.value for n in understood.recording.numbers[:1]]
            book.add_numbers(tx, "recording", message_id, 0, understood.recording.numbers)
        columns: dict[str, Any] = {"understood": json.dumps(_as_json(understood, told), ensure_ascii=False)}
        if understood.patient is not None:
            columns["order_key"] = self._canonical(tx, understood.patient).value
        if numbers:
            columns["order_number"] = ",".join(numbers)
        return columns

    def _answer(
        self,
        tx: Transaction,
        claimed: line.Claimed,
        understood: Understood,
        message: Message,
        columns: dict[str, Any],
    ) -> None:
        verdict = understood.verdict
        if verdict is None and understood.state is State.HELD:
            verdict = HELD
        if verdict is not None:
            keyed = replace(claimed, order_key=columns.get("order_key"))
            columns.update(self._answers.settled(tx, keyed, message, verdict))


def _may_be_there(row: Any) -> bool:
    """Whether the task of a row may have come about: a refusal of the API's shows that it has not."""
    return bool(row.sent) and State(row.state) is not State.REJECTED


def _counts(told: Told | None) -> bool:
    """Whether the order stands in the book for recordings to come."""
    return told is None or told.reason in {"waits_for_recording", "order_changed", "order_released"}


def _rejected(understood: Understood, verdict: Verdict) -> Understood:
    replies = tuple(OrderReply("UA", reason=verdict.text) for _ in understood.orders)
    return replace(
        understood,
        state=State.REJECTED,
        reason=verdict.problems[0].condition.name.lower(),
        verdict=replace(verdict, orders=replies),
    )


def _judged(understood: Understood, rules: ListenerSettings) -> Understood:
    """A refusal that was clear from the message alone, with the code that the listener gives it."""
    if understood.verdict is None or not understood.verdict.problems:
        return understood
    code, problems = judged(understood.verdict.problems, rules.codes)
    return _rejected(understood, replace(understood.verdict, code=code, problems=problems))


def _words(understood: Understood) -> list[terms.Word]:
    """By what the message is found once it is understood."""
    mapped = [o.mapped for o in understood.orders] + ([understood.recording] if understood.recording else [])
    identifiers = [one.value for one in (understood.patient, *(o.patient for o in understood.orders)) if one]
    names = [str(one.fields.get(name, "")) for one in mapped for name in ("patient_last_name", "patient_first_name")]
    for person in understood.persons:
        identifiers.append(person.update.identifier.value)
        identifiers += [i.value for merge in person.merges for i in (merge.retired, merge.survivor)]
        names += [person.known.last_name, person.known.first_name]
    numbers = [o.own_number.value for o in understood.orders if o.own_number]
    numbers += [n.value for one in mapped for n in one.numbers]
    words = terms.of_patient(dict.fromkeys(identifiers), dict.fromkeys(names))
    return words + terms.of_orders(dict.fromkeys(numbers))


def _as_json(understood: Understood, told: Sequence[Told | None]) -> dict[str, Any]:
    orders = [order_to_json(o, book.mapped_to_json(o.mapped)) for o in understood.orders]
    for order, one in zip(orders, told, strict=False):
        order["told"] = told_to_json(one)
    return {
        "orders": orders,
        "recording": book.mapped_to_json(understood.recording) if understood.recording else None,
        "warnings": list(understood.warnings),
        "doubts": doubts_to_json(understood.doubts),
    }
