"""Tasks made: claim, upload, intention, POST, outcome. Every step is committed before the next one begins."""

import asyncio
import functools
import json
import random
import secrets
from dataclasses import dataclass, field
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.concluding import Told, concluded, refusal
from bridge.dispatch.deciding import Attach, Deciding, Hold, Post, WaitForOrder, WaitForRelease, orders_of
from bridge.dispatch.health import Health
from bridge.dispatch.policy import Created, Decision, InDoubt, PauseDestination, Reject, Retry, Step, decide
from bridge.dispatch.understand import UnderstoodOrder, doubts_from_json
from bridge.dispatch.uploading import Uploaded, Uploading
from bridge.domain.outcome import NotSent
from bridge.domain.recording import Recording
from bridge.domain.states import SETTLED, State
from bridge.domain.task import Mapped
from bridge.domain.verdict import OrderReply
from bridge.errors import BadInput, BridgeError, CannotScale, CommitUnknown, StoreConflict, StoreError
from bridge.formats.dicom.reader import read_object
from bridge.settings import Settings
from bridge.store import book, destinations, inbox, line, tasks
from bridge.store.payloads import Payloads
from bridge.store.port import Store, T, Transaction, Work

log = structlog.get_logger()

UNTIL_TOLD = 10 * 365 * 86400.0
"""Seconds that a message on hold waits for itself: the release wakes it."""


@dataclass(slots=True)
class _Work:
    """One message in hand, and the state that it is in right now."""

    claimed: line.Claimed
    state: State
    told: list[Told] = field(default_factory=list)


class Delivering:
    """Takes what is ready, in order within each patient, and makes its tasks."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        client: CardioClient,
        deciding: Deciding,
        settings: Settings,
        clock: Clock,
        answers: Answers,
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._client = client
        self._deciding = deciding
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self._uploading = Uploading(client, payloads, settings.cardio.chunk_size)
        self._owner = secrets.token_hex(6)
        self._active: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311  jitter, not a secret
        self.health = Health()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; `drain` waits for what is in flight."""
        while True:
            self.wake.clear()
            pause = self.health.may_send(self._clock.monotonic())
            room = (1 if self.health.known_down else self._settings.cardio.in_flight) - len(self._active)
            claimed: list[line.Claimed] = []
            due: int | None = None
            if pause <= 0 and room > 0:
                try:
                    claimed, due = await self._store.write(functools.partial(self._claim, room=room))
                except StoreError as problem:  # a full disk: nothing is lost, and it is tried again
                    log.error("line.not_claimed", error=type(problem).__name__)
                    pause = 1.0
                for one in claimed:
                    task = asyncio.create_task(self._deliver(one), name=f"deliver-{one.id}")
                    self._active.add(task)
                    task.add_done_callback(self._done)
            if not claimed:
                await self._clock.wait(self.wake, pause if pause > 0 else self._until(due))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        self.wake.set()

    def _claim(self, tx: Transaction, room: int) -> tuple[list[line.Claimed], int | None]:
        """What can be done now; where there is nothing, when something will be."""
        claimed = line.claim(tx, self._owner, room, at=self._clock.now())
        return claimed, None if claimed else line.next_due(tx.conn)

    def _until(self, due: int | None) -> float:
        if due is None:
            return 30.0
        return min(max(due / 1000 - self._clock.now().timestamp(), 0.01), 30.0)

    async def drain(self, seconds: float) -> None:
        """Let what is in flight come to its outcome (F43)."""
        if self._active:
            await asyncio.wait(self._active, timeout=seconds)

    # --- one message ----------------------------------------------------------------------------------------

    async def _deliver(self, claimed: line.Claimed) -> None:
        work = _Work(claimed, claimed.state)
        try:
            if claimed.kind == "hl7":
                await self._orders(work)
            else:
                await self._recording(work)
        except (CannotScale, BadInput) as problem:
            log.warning("message.held", message=claimed.id, reason="cannot_convert", error=type(problem).__name__)
            await self._hold(work, "cannot_convert", {"why": str(problem)})
        except StoreError as problem:
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
            await self._insist(work, lambda tx: line.release(tx, claimed.id, at=self._clock.now()))
        except CommitUnknown as problem:
            # The service ends; what is committed stands: a start calls an INTENT in doubt, anything else goes on.
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
        except (BridgeError, OSError, LookupError, ValueError, TypeError) as problem:
            log.error("message.held", message=claimed.id, reason="poison", error=type(problem).__name__)
            await self._hold(work, "poison", {"error": type(problem).__name__})

    async def _orders(self, work: _Work) -> None:
        """The drafts of a message, one after the other; then its answer."""
        orders = orders_of(work.claimed)
        for number, (order, told) in enumerate(orders, 1):
            if told is not None:  # settled when it came in
                work.told.append(told)
                continue
            step = await self._write(work, lambda tx, o=order: self._intend_draft(tx, work, o))  # type: ignore[misc]
            if step is None:
                return
            if isinstance(step, Told):
                continue
            control = order.asked.done if order.asked is not None else "OK"
            if not await self._post(work, step, control, last=number == len(orders)):
                return
        if work.state not in SETTLED:
            await self._write(work, lambda tx: self._settle_message(tx, work))

    def _intend_draft(self, tx: Transaction, work: _Work, order: UnderstoodOrder) -> Post | Told | None:
        """The intention of one draft. None: held, or put back to wait for its release."""
        step = self._deciding.draft(tx, work.claimed.id, order)
        if isinstance(step, Post):
            self._move(tx, work, State.INTENT)
        elif isinstance(step, Told):
            work.told.append(step)
        else:
            self._set_aside(tx, work, step)
            return None
        return step

    def _move(self, tx: Transaction, work: _Work, after: State, **columns: Any) -> None:
        """The message goes on. Raises StoreConflict where somebody else moved it: nothing of this is kept then."""
        if not inbox.move(tx, work.claimed.id, work.state, after, at=self._clock.now(), **columns):
            raise StoreConflict(f"message {work.claimed.id} is not in {work.state} any more")
        work.state = after

    def _settle_message(self, tx: Transaction, work: _Work) -> None:
        """Nothing more to send: the state, the answer and the event in one transaction."""
        message, rules = self._answers.read(work.claimed)
        doubts = doubts_from_json(json.loads(work.claimed.understood or "{}"))
        after, reason, verdict = concluded(work.told, doubts, rules.codes)
        if work.state is State.RETRY:  # resumed, and nothing was left to send
            self._move(tx, work, State.READY)
        columns = self._answers.settled(tx, work.claimed, message, verdict)
        self._move(tx, work, after, reason=reason, **columns)

    # --- the POST -------------------------------------------------------------------------------------------

    async def _post(self, work: _Work, post: Post, control: str = "OK", *, last: bool = True) -> bool:
        """Send an intention. False: it was not applied, and the message waits for its next time.

        With the last order's outcome its message is settled as well, in the same transaction.
        """
        outcome = await self._client.create_tasks(post.body)
        decision = decide(
            Step.CREATE,
            outcome,
            attempt=work.claimed.attempts,
            jitter=self._random.random(),
            unavailable_is_not_applied=self._settings.cardio.unavailable_is_not_applied,
        )
        await self._note_health(decision)
        sent = not isinstance(outcome, NotSent)

        def settle(tx: Transaction) -> bool:
            told = self._settle_post(tx, work, post, decision, control, sent=sent)
            if told is None:
                return False
            work.told.append(told)
            if work.claimed.kind == "dicom":
                self._move(tx, work, told.state, reason=told.reason)
                self._answers.follow(tx, work.claimed, post.task_row, told)
            elif last:
                self._settle_message(tx, work)
            else:
                self._move(tx, work, State.READY, reason="order_settled")
            return True

        return await self._insist(work, settle)

    async def _write(self, work: _Work, write: Work[T]) -> T:
        """Write, or leave the work in hand as it was: what is rolled back has not happened."""
        before, told = work.state, len(work.told)
        try:
            return await self._store.write(write)
        except BaseException:
            work.state = before
            del work.told[told:]
            raise

    async def _insist(self, work: _Work, write: Work[T]) -> T:
        """Write until it is kept: a full disk is waited out, since what a POST came to stands nowhere else."""
        while True:
            try:
                return await self._write(work, write)
            except StoreError as problem:
                log.error("message.not_settled", error=type(problem).__name__)
                await self._clock.sleep(1.0)

    def _settle_post(
        self, tx: Transaction, work: _Work, post: Post, decision: Decision, control: str, *, sent: bool
    ) -> Told | None:
        now = self._clock.now()
        match decision:
            case Created(task_ids):
                tasks.settle(tx, post.task_row, State.CREATED, at=now, task_ids=task_ids)
                told = Told(OrderReply(control, tuple(task_ids)), State.CREATED)
            case Reject(reason=reason, api_text=text, status=status):
                tasks.settle(tx, post.task_row, State.REJECTED, at=now, reason=reason, api_status=status, api_text=text)
                told = Told(OrderReply("UA", reason="the Cardio API refused it"), State.REJECTED, refusal(text), reason)
            case InDoubt(reason=reason):
                tasks.settle(tx, post.task_row, State.IN_DOUBT, at=now, reason=reason)
                told = Told(OrderReply(control), State.IN_DOUBT, reason=reason)
            case _:
                why, after = _waiting(decision)
                tasks.settle(tx, post.task_row, State.RETRY, at=now, reason=why, sent=sent)
                self._put_back(tx, work, why, after)
                return None
        return told

    def _put_back(self, tx: Transaction, work: _Work, reason: str, seconds: float) -> None:
        due = round((self._clock.now().timestamp() + seconds) * 1000)
        self._move(tx, work, State.RETRY, reason=reason, next_at=due, owner=None)

    async def _note_health(self, decision: Decision) -> None:
        before = self.health
        self.health = before.after(decision, self._clock.monotonic())
        if self.health.known_down != before.known_down:
            down = self.health.known_down
            log.warning("destination.down" if down else "destination.up")
            try:
                await self._store.write(lambda tx: destinations.note(tx, "cardio", down=down, at=self._clock.now()))
            except StoreError as problem:  # the outcome of a POST is in hand: this must not come between
                log.error("destination.not_noted", error=type(problem).__name__)

    # --- recordings -----------------------------------------------------------------------------------------

    async def _recording(self, work: _Work) -> None:
        """Match first, so that nothing is uploaded in vain; match again when the intention is written."""
        claimed = work.claimed
        mapped = book.mapped_from_json(json.loads(claimed.understood or "{}")["recording"])
        begun = await self._write(work, lambda tx: self._begin(tx, work, mapped))
        if isinstance(begun, Post):
            await self._post(work, begun)
            return
        if begun is None:
            return
        found = await asyncio.to_thread(read_object, self._payloads.path(claimed.payload or ""))
        uploaded = await self._upload(work, found.recording)
        if uploaded is None:
            return
        step = await self._write(work, lambda tx: self._intend_recording(tx, work, mapped, uploaded))
        if step is not None:
            await self._post(work, step)

    def _begin(self, tx: Transaction, work: _Work, mapped: Mapped) -> Post | Attach | None:
        """Whether there is something to upload. None: held, or put back to wait for the order."""
        rows = tasks.of_message(tx.conn, work.claimed.id)
        if rows and rows[-1].sent:  # its bytes may have been sent: these bytes or none
            body = tasks.intend_again(tx, rows[-1].id, at=self._clock.now())
            self._move(tx, work, State.INTENT)
            return Post(rows[-1].id, body)
        decided = self._deciding.attach(tx, work.claimed, mapped)
        if not isinstance(decided, Attach):
            self._set_aside(tx, work, decided)
            return None
        self._move(tx, work, State.UPLOADING)
        return decided

    def _set_aside(self, tx: Transaction, work: _Work, decided: Hold | WaitForOrder | WaitForRelease | Post) -> None:
        """A person must look, or it waits for what is to come."""
        if isinstance(decided, Hold):
            columns = self._answers.held(tx, work.claimed)
            self._move(tx, work, State.HELD, reason=decided.reason, detail=decided.detail, **columns)
        elif isinstance(decided, WaitForOrder):
            seconds = decided.until / 1000 - self._clock.now().timestamp()
            self._put_back(tx, work, line.AWAITING_ORDER, max(seconds, 0.0))
        elif isinstance(decided, WaitForRelease):
            self._put_back(tx, work, line.ON_HOLD, UNTIL_TOLD)

    async def _upload(self, work: _Work, recording: Recording) -> Uploaded | None:
        """The upload, whole; None where it failed and the message waits, or is refused."""
        result = await self._uploading.upload(recording, self._payloads.path(work.claimed.payload or ""))
        if isinstance(result, Uploaded):
            return result
        decision, outcome_step = result
        await self._note_health(decision)

        def settle(tx: Transaction) -> None:
            if isinstance(decision, Reject):
                detail = {"step": outcome_step.value, "api": decision.api_text, "status": decision.status}
                self._move(tx, work, State.REJECTED, reason=decision.reason, detail=detail)
            else:
                reason, after = _waiting(decision)
                self._put_back(tx, work, reason, after)

        await self._write(work, settle)
        return None

    def _intend_recording(self, tx: Transaction, work: _Work, mapped: Mapped, uploaded: Uploaded) -> Post | None:
        step = self._deciding.recording(tx, work.claimed, mapped, uploaded.upload_id, uploaded.samples_sha256)
        if not isinstance(step, Post):
            self._set_aside(tx, work, step)
            return None
        self._move(tx, work, State.INTENT, detail={"proof": uploaded.proof})
        return step

    async def _hold(self, work: _Work, reason: str, detail: dict[str, Any]) -> None:
        """A person must look; what was sent already stays as it is."""
        if work.state is State.INTENT:
            return

        def settle(tx: Transaction) -> None:
            columns = self._answers.held(tx, work.claimed)
            self._move(tx, work, State.HELD, reason=reason, detail=detail, **columns)

        await self._insist(work, settle)


def _waiting(decision: Decision) -> tuple[str, float]:
    """Why a message waits, and for how many seconds."""
    match decision:
        case Retry(after=after, reason=reason):
            return reason, after
        case PauseDestination(reason=reason, probe_after=after):
            return reason, after
        case _:
            return "upload_failed", 5.0
