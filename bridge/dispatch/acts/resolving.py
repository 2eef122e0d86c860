"""A task POST in doubt, settled by a person (failures.md §3.4): it is there; or it is not, and sent again or given up.

Never by guessing: what is found is checked against the API, and "not found" counts after the quiet time alone, since
the first request may still be running.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.acts.audited import Acted, Asked, Audited, as_claimed, refusal
from bridge.dispatch.acts.ways import Action, Case
from bridge.dispatch.answers import Answers
from bridge.dispatch.cardio.response import TaskStatus
from bridge.dispatch.concluding import Told, concluded, told_of
from bridge.dispatch.deciding import orders_of
from bridge.dispatch.key import tagged
from bridge.dispatch.understand import doubts_from_json
from bridge.domain.order import WITHDRAWN
from bridge.domain.outcome import Outcome, Refused
from bridge.domain.states import State, allowed
from bridge.domain.task import UINT64_MAX
from bridge.domain.verdict import OrderReply
from bridge.settings import Settings
from bridge.store import book, inbox, listing, tasks
from bridge.store.port import Connection, Store, Transaction
from bridge.store.schema import millis, moment

StatusOf = Callable[[str, int], Awaitable[TaskStatus | Outcome]]
"""The status of a task at a destination, by the destination's name."""

SLACK = timedelta(minutes=5)
"""What the API's clock and ours may differ by (failures.md §3.4)."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One task that may exist, as a person needs to see it. Times are stored milliseconds; `tag` is what to search."""

    task_row: int
    position: int
    tag: str
    destination: str
    begun_at: int
    ended_at: int
    quiet_until: int
    masked: str

    def window(self) -> tuple[str, str]:
        """Between when and when the task was created, if it was."""
        slack = round(SLACK.total_seconds() * 1000)
        return moment(self.begun_at - slack).isoformat(), moment(self.ended_at + slack).isoformat()


def doubts_of(conn: Connection, row: Any, settings: Settings) -> list[Doubt]:
    """What is in doubt of a message."""
    quiet = _quiet_time(settings, row.destination)
    found = []
    for one in tasks.newest(conn, row.id):
        if State(one.state) is State.IN_DOUBT:
            ended = one.settled_at if one.settled_at is not None else listing.last_event_at(conn, row.id)
            found.append(
                Doubt(
                    task_row=one.id,
                    position=one.position,
                    tag=tagged(one.key, one.generation),
                    destination=row.destination,
                    begun_at=one.intent_at,
                    ended_at=ended,
                    quiet_until=ended + round(quiet * 1000),
                    masked=masked(json.loads(one.body)),
                )
            )
    return found


def _quiet_time(settings: Settings, destination: str) -> float:
    known = settings.cardio.all().get(destination, settings.cardio)
    return known.quiet_time


def masked(body: dict[str, Any]) -> str:
    """Whose task it is, as far as it helps to tell it from others and no further."""
    initials = " ".join(f"{body[key][0]}…" for key in ("patient_last_name", "patient_first_name") if body.get(key))
    born = str(body.get("patient_birth_date", ""))[:4]
    number = str(body.get("patient_id", ""))
    ends = number[-3:] if len(number) > 5 else number[-1:]
    said = (initials, f"born {born}" if born else "", f"id …{ends}" if number else "")
    return ", ".join(part for part in said if part)


class Resolving:
    """The three ways out of a doubt."""

    def __init__(
        self,
        store: Store,
        audited: Audited,
        answers: Answers,
        settings: Settings,
        clock: Clock,
        status_of: StatusOf,
    ) -> None:
        self._store = store
        self._audited = audited
        self._answers = answers
        self._settings = settings
        self._clock = clock
        self._status_of = status_of

    async def found(self, message_id: int, task_id: str, *, by: str, reason: str = "", tag: str = "") -> Acted:
        """The task is there under this id. Taken where the API knows it, created in the window of the POST, and where
        no other message has it. Its order's sender is told.
        """
        asked = Asked(by, "resolve_found", message_id, reason, {"task": task_id[:20], "tag": tag[:40]})

        def known(conn: Connection) -> Doubt:
            row, case = self._audited.allowed(conn, Action.RESOLVE, message_id)
            number = int(task_id) if task_id.isascii() and task_id.isdigit() and len(task_id) <= 20 else -1
            if not 0 <= number <= UINT64_MAX:
                raise refusal(case, "resolve", "a task id is a number of at most 64 bits")
            held_by = tasks.holder_of(conn, number)
            if held_by is not None:
                raise refusal(case, "resolve", f"task {number} is message {held_by.message_id}'s already")
            return self._meant(conn, row, case, tag)

        doubt = await self._audited.read(asked, known)
        said = await self._status_of(doubt.destination, int(task_id))
        status = await self._audited.read(asked, lambda conn: self._fits(conn, message_id, doubt, said))

        def work(tx: Transaction) -> Acted:
            again = known(tx.conn)
            row, case = self._audited.look(tx.conn, message_id)
            now = self._clock.now()
            if again != doubt or not tasks.found(tx, doubt.task_row, int(task_id), at=now):
                raise refusal(case, "resolve", "somebody else was quicker; look again")
            if row.kind == "dicom":
                told = Told(OrderReply("OK", (int(task_id),)), State.CREATED)
                self._answers.follow(tx, as_claimed(row), doubt.task_row, told)
            detail = {"task": task_id, "why": reason, "created": status.creation_time.isoformat()}
            state = self._conclude(tx, asked, row, case, "found", detail)
            return Acted(message_id, state, f"message {message_id} has task {int(task_id)}; it is {state}")

        return await self._audited.write(asked, work)

    def _fits(self, conn: Connection, message_id: int, doubt: Doubt, status: TaskStatus | Outcome) -> TaskStatus:
        """The status of a task that can be the one. Raises ActionRefused where it is not, or where nobody knows."""
        _, case = self._audited.look(conn, message_id)
        if isinstance(status, Refused) and status.status in {400, 404}:
            raise refusal(case, "resolve", "the API knows no such task in this organization")
        if not isinstance(status, TaskStatus):
            why = f"it answered {status.status}" if isinstance(status, Refused) else "it did not answer"
            raise refusal(case, "resolve", f"the API could not be asked, {why}; try again")
        slack = round(SLACK.total_seconds() * 1000)
        if not doubt.begun_at - slack <= millis(status.creation_time) <= doubt.ended_at + slack:
            between = " and ".join(doubt.window())
            raise refusal(
                case, "resolve", f"that task was created at {status.creation_time.isoformat()}, not between {between}"
            )
        return status

    async def resend(self, message_id: int, *, by: str, reason: str, confirm: str = "") -> Acted:
        """The task is not there: it is sent again, as a new generation of its key, by the ordinary path.

        Needs a reason, and the tag again in `confirm`: a first call without it tells the tag.
        """
        asked = Asked(by, "resolve_resend", message_id, reason, {"confirm": confirm[:40]})

        def work(tx: Transaction) -> Acted:
            row, case = self._audited.allowed(tx.conn, Action.RESOLVE, message_id)
            if case.told_no:
                raise refusal(case, "re-send", "its sender was told no, and sends it again: --give-up ends the doubt")
            doubt = self._not_found(tx.conn, row, case, asked, confirm, "--resend")
            (one,) = [t for t in tasks.newest(tx.conn, message_id) if t.id == doubt.task_row]
            order = book.order_by_id(tx.conn, one.order_id) if one.purpose == "draft" and one.order_id else None
            if order is not None and order.standing in WITHDRAWN:
                raise refusal(case, "re-send", "its order was cancelled in the meantime: --give-up ends the doubt")
            now = self._clock.now()
            tasks.given_up(tx, one.id, at=now, reason="not_found")
            tag = tagged(one.key, tasks.repeat(tx, one))
            detail = {"why": reason, "position": one.position, "given_up": doubt.tag, "tag": tag}
            fresh = {"attempts": 0, "next_at": None, "owner": None}
            self._move(tx, asked, case, State.READY, reason="resend", detail=detail, **fresh)
            text = f"message {message_id} is sent again, with the tag {tag}"
            return Acted(message_id, State.READY, text, {"tag": tag})

        return await self._audited.write(asked, work)

    async def give_up(self, message_id: int, *, by: str, reason: str, confirm: str = "") -> Acted:
        """The task is not there, and none is wanted any more. As `resend`, in two steps and after the quiet time."""
        asked = Asked(by, "resolve_give_up", message_id, reason, {"confirm": confirm[:40]})

        def work(tx: Transaction) -> Acted:
            row, case = self._audited.allowed(tx.conn, Action.RESOLVE, message_id)
            doubt = self._not_found(tx.conn, row, case, asked, confirm, "--give-up")
            tasks.given_up(tx, doubt.task_row, at=self._clock.now(), reason="given_up")
            detail = {"why": reason, "position": doubt.position, "given_up": doubt.tag}
            state = self._conclude(tx, asked, row, case, "given_up", detail)
            return Acted(message_id, state, f"message {message_id}: its doubt is over, nothing is sent; it is {state}")

        return await self._audited.write(asked, work)

    # --- which doubt, and whether it may be settled -----------------------------------------------------------

    def _meant(self, conn: Connection, row: Any, case: Case, tag: str) -> Doubt:
        """The doubt that is meant: the only one, or the one with this tag."""
        doubts = doubts_of(conn, row, self._settings)
        meant = [d for d in doubts if tag in {"", d.tag}]
        if len(meant) == 1:
            return meant[0]
        tags = ", ".join(d.tag for d in doubts)
        raise refusal(case, "resolve", f"say which of its tasks is meant, by its tag: {tags}")

    def _not_found(self, conn: Connection, row: Any, case: Case, asked: Asked, confirm: str, option: str) -> Doubt:
        """The doubt of which a person says, twice, that no task is there. Raises ActionRefused before it may be."""
        if not asked.why.strip():
            raise refusal(case, "resolve", f"it needs a reason: {option} --reason TEXT")
        doubt = self._meant(conn, row, case, confirm)
        left = doubt.quiet_until - millis(self._clock.now())
        if left > 0:
            until = moment(doubt.quiet_until).isoformat(timespec="seconds")
            raise refusal(case, "resolve", f"the first request may still be running: not before {until}")
        if confirm != doubt.tag:
            raise refusal(
                case,
                "resolve",
                f"search this tag in Cardio.AI first; where no task has it, say so: {option} --reason TEXT "
                f"--confirm {doubt.tag}",
            )
        return doubt

    # --- what the message comes to ----------------------------------------------------------------------------

    def _conclude(
        self, tx: Transaction, asked: Asked, row: Any, case: Case, reason: str, detail: dict[str, Any]
    ) -> State:
        """Where the message stands without this doubt: told at once where everything of it is settled. Else its
        ordinary path finds what is left; what is in doubt besides stays in doubt.
        """
        newest = tasks.newest(tx.conn, case.message_id)
        now = self._clock.now()
        if any(State(t.state) is State.IN_DOUBT for t in newest):
            inbox.record(tx, case.message_id, State.IN_DOUBT, at=now, reason=reason, detail=detail, actor=asked.by)
            return State.IN_DOUBT
        after, columns = State.READY, {"attempts": 0}
        if row.kind == "hl7":
            after, columns = self._answered(tx, row, newest) or (after, columns)
        elif len(newest) == 1 and not listing.has_several_groups(tx.conn, case.message_id):
            after, columns = State(newest[0].state), {}
        self._move(tx, asked, case, after, reason=reason, detail=detail, **columns)
        return after

    def _answered(self, tx: Transaction, row: Any, newest: Sequence[Any]) -> tuple[State, dict[str, Any]] | None:
        """State and columns of a message of orders that are all settled: its sender gets what they came to."""
        document = json.loads(row.understood or "{}")
        by_position = {t.position: t for t in newest}
        told: list[Told] = []
        for order, settled in orders_of(document):
            own = by_position.get(order.position)
            if settled is None and (own is None or State(own.state) is State.RETRY):
                return None
            told.append(settled or told_of(own, order.asked.done if order.asked is not None else "OK"))
        if not told:
            return None
        claimed = as_claimed(row)
        message, rules = self._answers.read(claimed)
        after, _, verdict = concluded(told, doubts_from_json(document), rules.codes)
        if not allowed(State.IN_DOUBT, after):
            return None
        return after, self._answers.settled(tx, claimed, message, verdict)

    def _move(self, tx: Transaction, asked: Asked, case: Case, after: State, **columns: Any) -> None:
        if not inbox.move(tx, case.message_id, case.state, after, at=self._clock.now(), actor=asked.by, **columns):
            raise refusal(case, "resolve", "somebody else was quicker; look again")
