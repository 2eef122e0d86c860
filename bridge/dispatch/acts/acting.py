"""What a person may do with a message: release, replay, discard, resolve. Each is one transaction, and audited.

The rules of who may do what stand in `ways`; what was answered AE or AR is looked at and discarded, never released.
"""

from collections.abc import Mapping
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.acts.audited import Acted, Asked, Audited, Still, as_claimed, refusal
from bridge.dispatch.acts.resolving import Resolving, StatusOf
from bridge.dispatch.acts.sides import Compared, sides
from bridge.dispatch.acts.ways import Action, Case, Way
from bridge.dispatch.answers import Answers
from bridge.dispatch.booking import Booking, canonical
from bridge.dispatch.decisions import Word, appearance
from bridge.dispatch.identities import Identities
from bridge.dispatch.understand import Understood, understand_message
from bridge.domain.states import State
from bridge.errors import ActionRefused, BadInput
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store import anomalies, book, inbox, listing, tasks, untold
from bridge.store.port import Store, Transaction
from bridge.store.quarantine import REASON as QUARANTINE
from bridge.store.untold import Queue

_FRESH = {"attempts": 0, "next_at": None, "owner": None}
"""Columns of a message that sets out again: what was tried before does not count."""


class Acting:
    """The actions, for the console and the command line. `by` is who acts; every refusal is an ActionRefused.

    `still` says whether what he saw is what is there: a form of a page that is stale by now is refused.
    """

    def __init__(
        self,
        store: Store,
        answers: Answers,
        rules: Mapping[str, Rules],
        settings: Settings,
        clock: Clock,
        status_of: StatusOf,
    ) -> None:
        self._store = store
        self._answers = answers
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._authority = settings.site.assigning_authority
        self._audited = Audited(store, answers, clock)
        self._identities = Identities(settings, clock, Booking(settings, clock))
        self._resolving = Resolving(store, self._audited, answers, settings, clock, status_of)
        self.resolve_found = self._resolving.found
        self.resolve_resend = self._resolving.resend
        self.resolve_give_up = self._resolving.give_up

    # --- release --------------------------------------------------------------------------------------------

    async def release(
        self,
        message_id: int,
        *,
        by: str,
        reason: str = "",
        order: str | None = None,
        without_order: bool = False,
        still: Still | None = None,
    ) -> Acted:
        """Let a held message go on. What the match held needs a word: an `order` (a number, or `id:N`, of a listed
        candidate), or `without_order`.
        """
        asked = Asked(by, "release", message_id, reason, {"without_order": True} if without_order else {}, still)
        understood = await self._moved(message_id)

        def work(tx: Transaction) -> Acted:
            row, case = self._audited.allowed(tx.conn, Action.RELEASE, message_id)
            way = case.held().way
            if case.reason == QUARANTINE:
                _need_reason(case, asked)
            if way is not Way.CHOOSE and (order is not None or without_order):
                raise refusal(case, "release", "it is not held for want of an order; release it without naming one")
            match way:
                case Way.CHOOSE:
                    chosen, columns = self._choice(tx, row, case, order, without_order=without_order)
                    return self._ready(tx, asked, case, chosen, **columns)
                case Way.AS_SAID:
                    return self._ready(tx, asked, case, decision=Word(as_said=True).as_text())
                case Way.CARRY_OUT:
                    return self._carried_out(tx, asked, case, understood)
                case Way.AGAIN:
                    return self._ready(tx, asked, case)
                case _:
                    return self._anew(tx, asked, row, case)

        return await self._audited.write(asked, work)

    def _choice(
        self, tx: Transaction, row: Any, case: Case, order: str | None, *, without_order: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is noted of a person's choice, and the columns that keep it. An order counts as it stands now: should
        it change, he looks again.
        """
        if (order is None) == (not without_order):
            raise refusal(case, "release", "say which order it belongs to, --order ORDER, or --without-order")
        if without_order:
            if case.reason == "no_patient_id":
                raise refusal(case, "release", "without an order nobody could tell whose task it is; name one")
            return {}, {"decision": Word().as_text()}
        found = sides(tx.conn, row.understood, site_authority=self._authority)
        chosen = self._named(case, found.candidates if found is not None else (), order or "")
        booked = book.order_by_id(tx.conn, chosen.order_id)
        if booked is None:
            raise LookupError(f"order {chosen.order_id} is not in the book")
        now = canonical(tx, booked.patient, self._authority)
        # In the line, and for what is listed later, it is the order's patient's from now on.
        word = Word(booked.id, appearance(booked, now))
        return {"order": str(booked.id)}, {"decision": word.as_text(), "order_key": now.value}

    @staticmethod
    def _named(case: Case, candidates: tuple[Compared, ...], order: str) -> Compared:
        """The one listed candidate that is meant. Never the likeliest of several."""
        prefix, _, number = order.partition(":")
        if prefix == "id" and number:
            meant = [c for c in candidates if str(c.order_id) == number]
        else:
            meant = [c for c in candidates if order in c.side.numbers]
        if len(meant) == 1:
            return meant[0]
        if meant:
            ids = ", ".join(f"id:{c.order_id}" for c in meant)
            raise refusal(case, "release", f"several candidates have this number; say which one: {ids}")
        raise refusal(
            case, "release", f"this order is no candidate; bridge messages show {case.message_id} lists those that are"
        )

    def _ready(
        self, tx: Transaction, asked: Asked, case: Case, chosen: Mapping[str, Any] | None = None, **columns: Any
    ) -> Acted:
        noted = {**asked.named, **(chosen or {})}
        detail = {"why": asked.why, **noted}
        self._move(tx, asked, case, State.READY, reason="released", detail=detail, **_FRESH, **columns)
        return Acted(case.message_id, State.READY, f"message {case.message_id} is released; its task is due", noted)

    # --- moves of identifiers -------------------------------------------------------------------------------

    async def _moved(self, message_id: int) -> Understood | None:
        """What a held move asks for, read anew; None where the message is none. Reading stays out of transactions."""
        row = await self._store.read(lambda conn: listing.row_of(conn, message_id))
        if row is None or row.state != State.HELD or row.kind != "hl7" or not row.type.startswith("ADT"):
            return None
        try:
            message, listener = self._answers.read(as_claimed(row))
        except BadInput:
            return None
        rules = self._rules.get(row.listener) or self._rules["hl7"]
        return understand_message(message, row.sender, rules, self._settings, self._clock.now(), listener)

    def _carried_out(self, tx: Transaction, asked: Asked, case: Case, understood: Understood | None) -> Acted:
        if understood is None or not understood.persons:
            raise refusal(case, "release", "it cannot be read as a move any more; discard it")
        entered = self._identities.carry_out(tx, case.message_id, understood)
        if entered.problem is not None:
            where = f"{entered.problem.where}: " if entered.problem.where else ""
            raise refusal(
                case, "release", f"{where}{entered.problem.text}; discard it, or have its sender put it right"
            )
        self._move(tx, asked, case, State.DONE, reason=entered.reason, detail={"why": asked.why})
        return Acted(
            case.message_id, State.DONE, f"message {case.message_id} is carried out; what waited for it goes on"
        )

    # --- replay and discard ---------------------------------------------------------------------------------

    async def replay(self, message_id: int, *, by: str, reason: str = "", still: Still | None = None) -> Acted:
        """Understand a message anew, by the mapping in force now. What the API refused is sent as a new generation."""
        asked = Asked(by, "replay", message_id, reason, still=still)

        def work(tx: Transaction) -> Acted:
            row, case = self._audited.allowed(tx.conn, Action.REPLAY, message_id)
            return self._anew(tx, asked, row, case)

        return await self._audited.write(asked, work)

    def _anew(self, tx: Transaction, asked: Asked, row: Any, case: Case) -> Acted:
        """Back to where it had just been kept. A refusal that the API documents was not applied: its row stays."""
        generations = []
        for one in tasks.newest(tx.conn, case.message_id):
            if State(one.state) is not State.REJECTED:
                continue
            last = tasks.last_generation(tx.conn, one.key)
            if last is not None and last.id != one.id:
                raise refusal(
                    case, asked.action, f"its order was sent again by message {last.message_id}; that one counts"
                )
            generations.append(tasks.repeat(tx, one))
        if row.kind == "dicom":
            book.forget_numbers(tx, "recording", case.message_id, 0)
        detail = {"why": asked.why, **({"generations": generations} if generations else {})}
        moved = "replayed" if asked.action == Action.REPLAY else "released"
        self._move(tx, asked, case, State.RECEIVED, reason=moved, detail=detail, **_FRESH, decision=None)
        tx.notify("received", case.message_id)
        return Acted(case.message_id, State.RECEIVED, f"message {case.message_id} is {moved}; it is understood anew")

    async def discard(self, message_id: int, *, by: str, reason: str, still: Still | None = None) -> Acted:
        """It never becomes a task. What waited behind it goes on."""
        asked = Asked(by, "discard", message_id, reason, still=still)

        def work(tx: Transaction) -> Acted:
            _, case = self._audited.allowed(tx.conn, Action.DISCARD, message_id)
            _need_reason(case, asked)
            tasks.drop_unsent(tx, message_id, at=self._clock.now(), reason="discarded")
            self._move(tx, asked, case, State.CANCELLED, reason="discarded", detail={"why": reason, "was": case.reason})
            if case.is_stranded():
                tx.notify("ready")  # it stood in line: its patient's later work goes on
            return Acted(message_id, State.CANCELLED, f"message {message_id} is discarded")

        return await self._audited.write(asked, work)

    def _move(self, tx: Transaction, asked: Asked, case: Case, after: State, **columns: Any) -> None:
        now = self._clock.now()
        if not inbox.move(tx, case.message_id, case.state, after, at=now, actor=asked.by, **columns):
            raise refusal(case, asked.action, "somebody else was quicker; look again")

    async def shown(self, message_id: int, *, by: str) -> Acted:
        """Somebody looked at a message with a patient's values: noted, and nothing else."""

        def work(tx: Transaction) -> Acted:
            _, case = self._audited.look(tx.conn, message_id)
            return Acted(message_id, case.state, "")

        return await self._audited.write(Asked(by, "show", message_id), work)

    # --- what is listed besides messages --------------------------------------------------------------------

    async def settle_anomaly(self, message_id: int, anomaly_id: int, *, by: str, reason: str) -> Acted:
        """A task that was made before a change is put right, or was seen: the reason says which."""
        asked = Asked(by, "settle_anomaly", message_id, reason, {"anomaly": str(anomaly_id)})

        def work(tx: Transaction) -> Acted:
            row, case = self._audited.look(tx.conn, message_id)
            _need_reason(case, asked)
            listed = anomalies.one(tx.conn, anomaly_id)
            if listed is None or message_id not in {listed.message_id, listed.task_message_id}:
                raise refusal(case, "settling", f"it has no anomaly {anomaly_id}; bridge messages show lists them")
            if not anomalies.settle(tx, anomaly_id, at=self._clock.now()):
                raise refusal(case, "settling", f"anomaly {anomaly_id} is settled already")
            inbox.record(
                tx,
                message_id,
                State(row.state),
                at=self._clock.now(),
                reason="anomaly_settled",
                detail={"why": reason, "anomaly": anomaly_id, "of": listed.reason},
                actor=by,
            )
            return Acted(message_id, row.state, f"anomaly {anomaly_id} ({listed.reason}) is settled")

        return await self._audited.write(asked, work)

    async def release_untold(self, queue: Queue, row_id: int, *, by: str, reason: str = "") -> Acted:
        """A message or report of ours that its receiver would not take goes out again, now."""
        return await self._untold(queue, row_id, Asked(by, "release", None, reason, {queue.value: str(row_id)}))

    async def discard_untold(self, queue: Queue, row_id: int, *, by: str, reason: str) -> Acted:
        """It is never told."""
        return await self._untold(queue, row_id, Asked(by, "discard", None, reason, {queue.value: str(row_id)}))

    async def _untold(self, queue: Queue, row_id: int, asked: Asked) -> Acted:
        def work(tx: Transaction) -> Acted:
            found = untold.one(tx.conn, queue, row_id)
            if found is None:
                raise ActionRefused(f"there is no {queue}:{row_id}; see bridge messages list --untold")
            if asked.action == Action.DISCARD and not asked.why:
                raise ActionRefused(f"{queue}:{row_id}: no discard without a reason: --reason TEXT")
            does = untold.release if asked.action == Action.RELEASE else untold.drop
            if not does(tx, queue, row_id, at=self._clock.now()):
                raise ActionRefused(f"{queue}:{row_id} is {found.state}, not held: no {asked.action}; look again")
            after = untold.WAITING if asked.action == Action.RELEASE else untold.DROPPED
            return Acted(int(found.message) if found.message else None, after, f"{queue}:{row_id} is {after}")

        return await self._audited.write(asked, work)


def _need_reason(case: Case, asked: Asked) -> None:
    if not asked.why.strip():
        raise refusal(case, asked.action, "it needs a reason: --reason TEXT")
