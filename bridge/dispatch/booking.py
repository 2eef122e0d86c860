"""What each order of a message does to the order book, in order of arrival (hl7.md §4.1, failures.md F32, F33).

Everything that needs no POST is decided here, inside the transaction that enters the message. A new order is booked,
and its draft is decided when its turn to be sent comes.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.concluding import Told
from bridge.dispatch.understand import UnderstoodOrder
from bridge.domain.order import OVER, WITHDRAWN, Action, Asked, Standing
from bridge.domain.patient import Identifier
from bridge.domain.plan import Plan
from bridge.domain.states import State
from bridge.domain.task import NumberKind
from bridge.domain.verdict import Condition, OrderReply, Problem
from bridge.formats.hl7.answer import NAMESPACE
from bridge.settings import Settings
from bridge.store import anomalies, book, line, patients, tasks
from bridge.store.port import Transaction

_STEPS = (NumberKind.PLACER, NumberKind.FILLER, NumberKind.ACCESSION, NumberKind.PROCEDURE)
"""A cancel names its order by ORC-2 first, then ORC-3, OBR-2 and OBR-3, then the accession number."""


class Booking:
    """The rules of ORC-1 over the order book."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._authority = settings.site.assigning_authority

    def enter(self, tx: Transaction, message_id: int, order: UnderstoodOrder, sent_at: datetime | None) -> Told | None:
        """Do what one order asks for. None: it is booked, and its draft is due."""
        wanted = order.asked
        if order.refusal is not None or wanted is None:
            reply = OrderReply(wanted.unable if wanted else "UA", reason=order.refusal.text if order.refusal else "")
            why = order.refusal.condition.name.lower() if order.refusal else ""
            return Told(reply, State.REJECTED, order.refusal, why)
        if order.passed_over:
            return Told(OrderReply("OK"), State.FILTERED, reason="not_ours", note=order.passed_over)
        if wanted.action is Action.CREATE:
            return self._create(tx, message_id, order, wanted, sent_at)
        for key in [k for k in tx.known if k[0] == "fresh"]:
            del tx.known[key]  # this order may act on one that its own message booked
        found = self._find(tx, order)
        if found is None or isinstance(found, Problem):
            return self._unknown(tx, message_id, order, wanted, sent_at, found)
        does: dict[Action, Callable[[], Told | None]] = {
            Action.CHANGE: lambda: self._change(tx, message_id, order, wanted, found, sent_at),
            Action.STATUS: lambda: self._change(tx, message_id, order, wanted, found, sent_at),
            Action.CANCEL: lambda: self._withdraw(tx, message_id, wanted, found, Standing.CANCELLED, sent_at),
            Action.REPLACE: lambda: self._withdraw(tx, message_id, wanted, found, Standing.REPLACED, sent_at),
            Action.HOLD: lambda: self._hold(tx, wanted, found),
            Action.RELEASE: lambda: self._release(tx, wanted, found),
            Action.ASK: lambda: self._status(tx, wanted, found),
        }
        return does[wanted.action]()

    # --- finding --------------------------------------------------------------------------------------------

    def _find(self, tx: Transaction, order: UnderstoodOrder) -> book.BookedOrder | Problem | None:
        """The order that is meant, by its numbers and its patient; a Problem where the patient is another."""
        booked = book.orders_with(tx.conn, (n.value for n in order.mapped.numbers))
        for kind in _STEPS:
            mine = [n for n in order.mapped.numbers if n.kind is kind]
            theirs = [
                b
                for b in booked
                if any(
                    n.kind is kind and n.value == m.value and _agree(n.authority, m.authority)
                    for n in b.mapped.numbers
                    for m in mine
                )
            ]
            if theirs:
                return self._of_patient(tx, theirs, order.patient)
        for number in order.mapped.numbers:
            if number.kind is NumberKind.FILLER and _agree(number.authority, NAMESPACE):
                ours = book.order_by_task(tx.conn, number.value)
                if ours is not None:
                    return self._of_patient(tx, [ours], order.patient)
        return None

    def _of_patient(
        self, tx: Transaction, found: list[book.BookedOrder], patient: Identifier
    ) -> book.BookedOrder | Problem:
        wanted = self.canonical(tx, patient)
        own = [b for b in found if self.canonical(tx, b.patient).agrees(wanted, site_authority=self._authority)]
        if len(own) == 1:
            return own[0]
        text = "several orders have this number" if own else "the order is another patient's"
        return Problem(Condition.UNKNOWN_KEY_IDENTIFIER, text, "ORC-2" if own else "PID-3")

    def canonical(self, tx: Transaction, identifier: Identifier) -> Identifier:
        """The identifier that counts now."""
        return canonical(tx, identifier, self._authority)

    # --- new orders -----------------------------------------------------------------------------------------

    def _create(
        self,
        tx: Transaction,
        message_id: int,
        order: UnderstoodOrder,
        wanted: Asked,
        sent_at: datetime | None,
    ) -> Told | None:
        new = self._book(tx, message_id, order, sent_at)
        if new:
            tx.known["fresh", message_id, order.position] = new
        else:
            told = self._tombstone(tx, message_id, order, sent_at)
            if told is not None:
                return told
        if wanted.control == "RO":
            self._link_replaced(tx, message_id, order)
        if self._settings.orders.create == "on_recording":
            return self._on_recording(tx, order, wanted, new=new is not None)
        return None

    def _book(
        self,
        tx: Transaction,
        message_id: int,
        order: UnderstoodOrder,
        sent_at: datetime | None,
        *,
        ordered: bool = True,
        standing: Standing = Standing.ACTIVE,
    ) -> book.BookedOrder | None:
        if order.own_number is None:
            raise ValueError("an order without a number cannot be booked")
        now = self._clock.now()
        return book.book_order(
            tx,
            message_id=message_id,
            position=order.position,
            own_number=order.own_number,
            patient_id=order.patient,
            mapped=order.mapped,
            digest=order.digest,
            ordered=ordered,
            standing=standing,
            sent_at=sent_at,
            visit=order.visit,
            plan=order.plan.said_by(message_id),
            due_at=max(now, order.plan.scheduled_at or now),
        )

    def _tombstone(
        self, tx: Transaction, message_id: int, order: UnderstoodOrder, sent_at: datetime | None
    ) -> Told | None:
        """An order that something came before: a cancel, a change, or itself (F33). None: go on as a new order."""
        booked = book.order_by_number(tx.conn, order.own_number) if order.own_number else None
        if booked is None:
            return None
        if booked.message_id == message_id:
            if booked.position == order.position and not booked.changed_digest:  # it is understood a second time
                book.understood_anew(tx, booked, order.mapped, order.digest, order.patient)
            return None
        same = self._same_patient(tx, booked, order)
        if booked.standing is Standing.UNSEEN and (not same or _later(sent_at, booked.sent_at)):
            # Whoever was meant by the cancel, it was not this order.
            book.replace_order(
                tx,
                booked.id,
                message_id,
                order.position,
                order.mapped,
                order.digest,
                patient_id=order.patient,
                sent_at=sent_at,
                plan=order.plan.said_by(message_id),
            )
            return None
        if not same:
            return None  # told as a duplicate number when its draft is decided
        if booked.standing is Standing.UNSEEN:
            book.stand(tx, booked.id, Standing.CANCELLED, digest=order.digest, ordered=True)
            return cancelled("cancelled_before_new")
        if not booked.ordered:  # a change made it; now the order itself has come, and says what was there before
            changed = booked.changed_digest or booked.digest
            book.stand(tx, booked.id, booked.standing, digest=order.digest, changed_digest=changed, ordered=True)
        known = {order.digest if not booked.ordered else booked.digest, booked.changed_digest}
        if booked.standing in WITHDRAWN and order.digest in known:
            return cancelled("order_cancelled")
        return None

    def _same_patient(self, tx: Transaction, booked: book.BookedOrder, order: UnderstoodOrder) -> bool:
        mine = self.canonical(tx, order.patient)
        return self.canonical(tx, booked.patient).agrees(mine, site_authority=self._authority)

    def _link_replaced(self, tx: Transaction, message_id: int, order: UnderstoodOrder) -> None:
        """RO: the orders that this message replaces name the one that came (HL7 v2.5.1 §4.2.2.1)."""
        booked = book.order_by_number(tx.conn, order.own_number) if order.own_number else None
        if booked is not None:
            book.link_replaced(tx, message_id, booked.id)

    def _on_recording(self, tx: Transaction, order: UnderstoodOrder, wanted: Asked, *, new: bool) -> Told:
        """No draft: the ids follow the recording. An order number that was used for another order is refused."""
        booked = book.order_by_number(tx.conn, order.own_number) if order.own_number else None
        if booked is not None and not new:
            same = self._same_patient(tx, booked, order)
            if not same or order.digest not in {booked.digest, booked.changed_digest}:
                return duplicate()
        ids = [i for row in book.under_way(tx.conn, booked.id) for i in tasks.ids(row)] if booked is not None else []
        if ids:
            return Told(OrderReply(wanted.done, tuple(ids)), State.CREATED)
        return Told(OrderReply(wanted.done), State.DONE, reason="waits_for_recording")

    # --- what changes an order ------------------------------------------------------------------------------

    def _unknown(
        self,
        tx: Transaction,
        message_id: int,
        order: UnderstoodOrder,
        wanted: Asked,
        sent_at: datetime | None,
        problem: Problem | None,
    ) -> Told | None:
        """No such order, or another patient's: never acted on, and a cancel is remembered for when it comes."""
        if problem is None and wanted.action in {Action.CHANGE, Action.STATUS}:
            if wanted.action is Action.STATUS and (wanted.status in OVER or order.own_number is None):
                return Told(OrderReply(wanted.done), State.DONE, reason="status_noted")
            if self._settings.orders.unknown_change == "create" and order.own_number is not None:
                self._book(tx, message_id, order, sent_at, ordered=False)
                if self._settings.orders.create == "on_recording":
                    return Told(OrderReply(wanted.done), State.DONE, reason="waits_for_recording")
                return None
        if problem is None and wanted.action in {Action.CANCEL, Action.REPLACE} and order.own_number is not None:
            self._book(tx, message_id, order, sent_at, ordered=False, standing=Standing.UNSEEN)
        problem = problem or Problem(Condition.UNKNOWN_KEY_IDENTIFIER, "no such order is known here", "ORC-2")
        return Told(OrderReply(wanted.unable, reason=problem.text), State.REJECTED, problem, "unknown_order")

    def _change(
        self,
        tx: Transaction,
        message_id: int,
        order: UnderstoodOrder,
        wanted: Asked,
        found: book.BookedOrder,
        sent_at: datetime | None,
    ) -> Told | None:
        """What is not sent yet goes out changed; a task that is made cannot be changed, and is listed."""
        if found.standing in WITHDRAWN:
            return self._unable(wanted, "the order is cancelled")
        made = book.under_way(tx.conn, found.id)
        ids = tuple(i for row in made for i in tasks.ids(row))
        older = sent_at is not None and found.sent_at is not None and sent_at.timestamp() * 1000 < found.sent_at
        unchanged = order.digest == (found.changed_digest or found.digest)
        if not older:  # another time or ward is no change of what is ordered, and counts all the same
            due_at = None if wanted.status in OVER else self._clock.now()
            book.plan_anew(tx, found.id, order.plan.said_by(message_id), due_at=due_at)
        if unchanged and not older and anomalies.is_listed(tx.conn, (r.message_id for r in made), "changed_after_task"):
            return self._too_late(wanted, ids)
        due = not older and self._draft_is_due(tx, message_id, order, found)
        if older or (unchanged and not due):
            return Told(OrderReply(wanted.done, ids), State.DONE, reason="no_change")
        if not unchanged:
            book.change_order(tx, found, order.mapped, order.digest, sent_at=sent_at)
        if due:
            return None
        if not made:
            return Told(OrderReply(wanted.done), State.DONE, reason="order_changed")
        self._list(tx, message_id, made, "changed_after_task")
        return self._too_late(wanted, ids)

    def _draft_is_due(self, tx: Transaction, message_id: int, order: UnderstoodOrder, found: book.BookedOrder) -> bool:
        """Whether a change makes a draft: of what the API refused, as it stands now, and, where this message is
        understood a second time, of what it booked itself or is to send again.
        """
        if self._settings.orders.create != "draft":
            return False
        draft = book.draft_of(tx.conn, found.id)
        if draft is None:
            return (found.message_id, found.position) == (message_id, order.position)
        again = State(draft.state) is State.RETRY and not draft.sent and draft.message_id == message_id
        return again or State(draft.state) is State.REJECTED

    @staticmethod
    def _too_late(wanted: Asked, ids: tuple[int, ...]) -> Told:
        """A change that a task does not have."""
        if wanted.action is Action.STATUS:
            return Told(OrderReply(wanted.done, ids), State.DONE, reason="changed_after_task")
        reply = OrderReply(wanted.unable, ids, "its task is made already, and the service cannot change one")
        return Told(reply, State.DONE, reason="changed_after_task", note="the task is made already")

    def _withdraw(
        self,
        tx: Transaction,
        message_id: int,
        wanted: Asked,
        found: book.BookedOrder,
        standing: Standing,
        sent_at: datetime | None,
    ) -> Told:
        """Cancel, stop or replace: in time where nothing was sent; else it is listed, and no recording matches it."""
        made = book.under_way(tx.conn, found.id)
        if found.standing not in WITHDRAWN or found.standing is Standing.UNSEEN:
            kept = found.standing if found.standing is Standing.UNSEEN else standing
            book.stand(tx, found.id, kept, sent_at=_stored(sent_at) or found.sent_at, withdrawn_by=message_id)
            line.wake_on_hold(tx, at=self._clock.now())
        if found.standing is Standing.UNSEEN:
            problem = Problem(Condition.UNKNOWN_KEY_IDENTIFIER, "no such order is known here", "ORC-2")
            return Told(OrderReply(wanted.unable, reason=problem.text), State.REJECTED, problem, "unknown_order")
        if not made:
            return Told(OrderReply(wanted.done), State.DONE, reason="order_cancelled")
        self._list(tx, message_id, made, "cancelled_after_task")
        ids = tuple(i for row in made for i in tasks.ids(row))
        reply = OrderReply(wanted.unable, ids, "its task is made already, and the service cannot cancel one")
        return Told(reply, State.DONE, reason="cancelled_after_task")

    def _hold(self, tx: Transaction, wanted: Asked, found: book.BookedOrder) -> Told:
        if found.standing in WITHDRAWN:
            return self._unable(wanted, "the order is cancelled")
        if any(row.purpose == "recording" for row in book.under_way(tx.conn, found.id)):
            return self._unable(wanted, "its recording's task is made already")
        book.stand(tx, found.id, Standing.ON_HOLD)
        return Told(OrderReply(wanted.done), State.DONE, reason="order_on_hold")

    def _release(self, tx: Transaction, wanted: Asked, found: book.BookedOrder) -> Told:
        if found.standing in WITHDRAWN:
            return self._unable(wanted, "the order is cancelled")
        book.stand(tx, found.id, Standing.ACTIVE)
        book.plan_anew(tx, found.id, Plan(), due_at=self._clock.now())
        line.wake_on_hold(tx, at=self._clock.now())
        return Told(OrderReply(wanted.done), State.DONE, reason="order_released")

    def _status(self, tx: Transaction, wanted: Asked, found: book.BookedOrder) -> Told:
        made = book.under_way(tx.conn, found.id)
        ids = tuple(i for row in made for i in tasks.ids(row))
        if found.standing in WITHDRAWN:
            status = "CA"
        elif found.standing is Standing.ON_HOLD:
            status = "HD"
        else:
            status = "IP" if any(row.purpose == "recording" for row in made) else "SC"
        return Told(OrderReply(wanted.done, ids, status=status), State.DONE, reason="status_told")

    def _list(self, tx: Transaction, message_id: int, made: list[Any], reason: str) -> None:
        for row in made:
            anomalies.note(
                tx,
                message_id=message_id,
                task_message_id=row.message_id,
                reason=reason,
                task_ids=tasks.ids(row),
                at=self._clock.now(),
            )

    @staticmethod
    def _unable(wanted: Asked, why: str) -> Told:
        return Told(OrderReply(wanted.unable, reason=why), State.DONE, reason="unable", note=why)

    def cancel_visit(self, tx: Transaction, message_id: int, patient: Identifier, visit: str) -> list[int]:
        """The orders of a visit that never was, where nothing was sent of them. Returns their ids."""
        cancelled = []
        for order in book.orders_of_visit(tx.conn, patient.value, visit):
            if not book.under_way(tx.conn, order.id):
                book.stand(tx, order.id, Standing.CANCELLED, withdrawn_by=message_id)
                cancelled.append(order.id)
        if cancelled:
            line.wake_on_hold(tx, at=self._clock.now())
        return cancelled


def canonical(tx: Transaction, identifier: Identifier, site_authority: str) -> Identifier:
    """The identifier that counts now, looked up once a transaction."""
    key = ("canonical", identifier)
    if key not in tx.known:
        tx.known[key] = patients.canonical(tx.conn, identifier, site_authority=site_authority)
    found: Identifier = tx.known[key]
    return found


def recordings_with(tx: Transaction, values: Iterable[str]) -> list[int]:
    """The recordings with one of these numbers, looked up once a transaction."""
    key = ("recordings", frozenset(values))
    if key not in tx.known:
        tx.known[key] = book.recordings_with(tx.conn, key[1])
    found: list[int] = tx.known[key]
    return found


def duplicate() -> Told:
    """The number was used for another order (hl7.md §3.2)."""
    problem = Problem(Condition.DUPLICATE_KEY_IDENTIFIER, "this order number was used for another order", "ORC-2")
    return Told(OrderReply("UA", reason=problem.text), State.REJECTED, problem, "duplicate_order")


def cancelled(reason: str) -> Told:
    """An order that was withdrawn before anything of it was sent."""
    why = "the order is cancelled"
    return Told(OrderReply("OC", reason=why), State.CANCELLED, reason=reason, note=why)


def _agree(a: str, b: str) -> bool:
    return not a or not b or a.casefold() == b.casefold()


def _later(sent_at: datetime | None, stored: int | None) -> bool:
    """Sent after it; where one of the two says no time, it is not."""
    return sent_at is not None and stored is not None and sent_at.timestamp() * 1000 > stored


def _stored(sent_at: datetime | None) -> int | None:
    return round(sent_at.timestamp() * 1000) if sent_at else None
