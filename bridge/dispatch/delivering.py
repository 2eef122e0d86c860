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
from bridge.dispatch.deciding import (
    PENDING,
    Attach,
    Deciding,
    Hold,
    Post,
    Told,
    WaitForOrder,
    code_for,
    orders_of,
    refusal,
)
from bridge.dispatch.health import Health
from bridge.dispatch.policy import Created, Decision, InDoubt, PauseDestination, Reject, Retry, Step, decide
from bridge.dispatch.uploading import Uploaded, Uploading
from bridge.domain.outcome import NotSent
from bridge.domain.recording import Recording
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.domain.verdict import AckCode, OrderReply, Verdict
from bridge.errors import BadInput, BridgeError, CannotScale, CommitUnknown, StoreError
from bridge.formats.dicom.reader import read_object
from bridge.formats.hl7.reader import read
from bridge.settings import Settings
from bridge.store import book, destinations, inbox, line, tasks
from bridge.store.payloads import Payloads
from bridge.store.port import Store, T, Transaction, Work

log = structlog.get_logger()


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
                claimed, due = await self._store.write(functools.partial(self._claim, room=room))
                for one in claimed:
                    task = asyncio.create_task(self._deliver(one), name=f"deliver-{one.id}")
                    self._active.add(task)
                    task.add_done_callback(self._done)
            if not claimed:
                await self._wait(pause if pause > 0 else self._until(due))

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

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.wake.wait(), seconds)
        except TimeoutError:
            return

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
            await self._insist(lambda tx: line.release(tx, claimed.id, at=self._clock.now()))
        except CommitUnknown as problem:
            # The service ends; what is committed stands: a start calls an INTENT in doubt, anything else goes on.
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
        except (BridgeError, OSError, LookupError, ValueError, TypeError) as problem:
            log.error("message.held", message=claimed.id, reason="poison", error=type(problem).__name__)
            await self._hold(work, "poison", {"error": type(problem).__name__})

    async def _orders(self, work: _Work) -> None:
        """The drafts of a message, one after the other; then its answer."""
        for order in orders_of(work.claimed):
            step = await self._store.write(lambda tx, o=order: self._intend_draft(tx, work, o))  # type: ignore[misc]
            if isinstance(step, Told):
                work.told.append(step)
                continue
            work.state = State.INTENT
            told = await self._post(work, step)
            if told is None:
                return
            work.told.append(told)
        await self._finish(work)

    def _intend_draft(self, tx: Transaction, work: _Work, order: Any) -> Post | Told:
        step = self._deciding.draft(tx, work.claimed.id, order)
        if isinstance(step, Post):
            inbox.move(tx, work.claimed.id, work.state, State.INTENT, at=self._clock.now())
        return step

    async def _finish(self, work: _Work) -> None:
        """Nothing more to send: the state, the answer and the event in one transaction."""
        states = {t.state for t in work.told}
        after = next((s for s in (State.IN_DOUBT, State.REJECTED, State.CREATED) if s in states), State.DONE)
        reason = next((t.reason for t in work.told if t.reason and t.state is after), "")
        text = "" if any(t.reply.task_ids for t in work.told) else PENDING if State.IN_DOUBT in states else ""
        verdict = Verdict(
            code_for(work.told),
            text,
            tuple(t.reply for t in work.told),
            tuple(t.problem for t in work.told if t.problem is not None),
        )
        if verdict.code is AckCode.AE and not verdict.task_ids:
            verdict = Verdict(verdict.code, verdict.problems[0].text, verdict.orders, verdict.problems)
        await self._store.write(lambda tx: self._settle_message(tx, work, after, reason, verdict))

    def _settle_message(self, tx: Transaction, work: _Work, after: State, reason: str, verdict: Verdict) -> None:
        if work.state is State.RETRY:  # resumed, and nothing was left to send
            inbox.move(tx, work.claimed.id, State.RETRY, State.READY, at=self._clock.now())
            work.state = State.READY
        message = read(work.claimed.raw or b"", fallback_charset=self._settings.hl7.fallback_charset)
        answered = work.claimed.answer_code not in {"", verdict.code.value}
        columns: dict[str, Any] = {}
        if not answered:  # a resend gets the ids; what was said before in other words stays said
            columns = {"answer": self._answers.build(message, verdict), "answer_code": verdict.code.value}
        inbox.move(tx, work.claimed.id, work.state, after, at=self._clock.now(), reason=reason, **columns)
        work.state = after

    # --- the POST -------------------------------------------------------------------------------------------

    async def _post(self, work: _Work, post: Post) -> Told | None:
        """Send an intention. None: it was not applied, and the message waits for its next time."""
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
        return await self._insist(lambda tx: self._settle_post(tx, work, post, decision, sent=sent))

    async def _insist(self, write: Work[T]) -> T:
        """Write until it is kept: a full disk is waited out, since what a POST came to stands nowhere else."""
        while True:
            try:
                return await self._store.write(write)
            except StoreError as problem:
                log.error("message.not_settled", error=type(problem).__name__)
                await self._clock.sleep(1.0)

    def _settle_post(self, tx: Transaction, work: _Work, post: Post, decision: Decision, *, sent: bool) -> Told | None:
        now = self._clock.now()
        work.state = State.INTENT  # also where an earlier try of this very write was rolled back
        match decision:
            case Created(task_ids):
                tasks.settle(tx, post.task_row, State.CREATED, at=now, task_ids=task_ids)
                told = Told(OrderReply("OK", tuple(task_ids)), State.CREATED)
            case Reject(reason=reason, api_text=text, status=status):
                tasks.settle(tx, post.task_row, State.REJECTED, at=now, reason=reason, api_status=status, api_text=text)
                told = Told(OrderReply("UA", reason="the Cardio API refused it"), State.REJECTED, refusal(text), reason)
            case InDoubt(reason=reason):
                tasks.settle(tx, post.task_row, State.IN_DOUBT, at=now, reason=reason)
                told = Told(OrderReply("OK"), State.IN_DOUBT, reason=reason)
            case _:
                why, after = _waiting(decision)
                tasks.settle(tx, post.task_row, State.RETRY, at=now, reason=why, sent=sent)
                self._put_back(tx, work, State.RETRY, why, after)
                return None
        if work.claimed.kind == "hl7":
            inbox.move(tx, work.claimed.id, State.INTENT, State.READY, at=now, reason="order_settled")
            work.state = State.READY
        else:
            inbox.move(tx, work.claimed.id, State.INTENT, told.state, at=now, reason=told.reason)
            work.state = told.state
        return told

    def _put_back(self, tx: Transaction, work: _Work, after: State, reason: str, seconds: float) -> None:
        due = round((self._clock.now().timestamp() + seconds) * 1000)
        inbox.move(tx, work.claimed.id, work.state, after, at=self._clock.now(), reason=reason, next_at=due, owner=None)
        work.state = after

    async def _note_health(self, decision: Decision) -> None:
        before = self.health
        self.health = before.after(decision, self._clock.monotonic())
        if self.health.known_down != before.known_down:
            down = self.health.known_down
            log.warning("destination.down" if down else "destination.up")
            await self._store.write(lambda tx: destinations.note(tx, "cardio", down=down, at=self._clock.now()))

    # --- recordings -----------------------------------------------------------------------------------------

    async def _recording(self, work: _Work) -> None:
        """Match first, so that nothing is uploaded in vain; match again when the intention is written."""
        claimed = work.claimed
        mapped = book.mapped_from_json(json.loads(claimed.understood or "{}")["recording"])
        begun = await self._store.write(lambda tx: self._begin(tx, work, mapped))
        if isinstance(begun, Post):
            await self._post(work, begun)
            return
        if begun is None:
            return
        found = await asyncio.to_thread(read_object, self._payloads.path(claimed.payload or ""))
        uploaded = await self._upload(work, found.recording)
        if uploaded is None:
            return
        step = await self._store.write(lambda tx: self._intend_recording(tx, work, mapped, uploaded))
        if step is not None:
            await self._post(work, step)

    def _begin(self, tx: Transaction, work: _Work, mapped: Mapped) -> Post | Attach | None:
        """Whether there is something to upload. None: held, or put back to wait for the order."""
        rows = tasks.of_message(tx.conn, work.claimed.id)
        if rows and rows[-1].sent:  # its bytes may have been sent: these bytes or none
            body = tasks.intend_again(tx, rows[-1].id, at=self._clock.now())
            inbox.move(tx, work.claimed.id, work.state, State.INTENT, at=self._clock.now())
            work.state = State.INTENT
            return Post(rows[-1].id, body)
        decided = self._deciding.attach(tx, work.claimed, mapped)
        if not isinstance(decided, Attach):
            self._set_aside(tx, work, decided)
            return None
        inbox.move(tx, work.claimed.id, work.state, State.UPLOADING, at=self._clock.now())
        work.state = State.UPLOADING
        return decided

    def _set_aside(self, tx: Transaction, work: _Work, decided: Hold | WaitForOrder | Post) -> None:
        if isinstance(decided, Hold):
            inbox.move(
                tx,
                work.claimed.id,
                work.state,
                State.HELD,
                at=self._clock.now(),
                reason=decided.reason,
                detail=decided.detail,
            )
            work.state = State.HELD
        elif isinstance(decided, WaitForOrder):
            seconds = decided.until / 1000 - self._clock.now().timestamp()
            self._put_back(tx, work, State.RETRY, line.AWAITING_ORDER, max(seconds, 0.0))

    async def _upload(self, work: _Work, recording: Recording) -> Uploaded | None:
        """The upload, whole; None where it failed and the message waits, or is refused."""
        result = await self._uploading.upload(recording, self._payloads.path(work.claimed.payload or ""))
        if isinstance(result, Uploaded):
            return result
        decision, outcome_step = result
        await self._note_health(decision)

        def settle(tx: Transaction) -> None:
            if isinstance(decision, Reject):
                inbox.move(
                    tx,
                    work.claimed.id,
                    State.UPLOADING,
                    State.REJECTED,
                    at=self._clock.now(),
                    reason=decision.reason,
                    detail={"step": outcome_step.value, "api": decision.api_text, "status": decision.status},
                )
                work.state = State.REJECTED
            else:
                reason, after = _waiting(decision)
                self._put_back(tx, work, State.RETRY, reason, after)

        await self._store.write(settle)
        return None

    def _intend_recording(self, tx: Transaction, work: _Work, mapped: Mapped, uploaded: Uploaded) -> Post | None:
        step = self._deciding.recording(tx, work.claimed, mapped, uploaded.upload_id, uploaded.samples_sha256)
        if not isinstance(step, Post):
            self._set_aside(tx, work, step)
            return None
        inbox.move(
            tx, work.claimed.id, State.UPLOADING, State.INTENT, at=self._clock.now(), detail={"proof": uploaded.proof}
        )
        work.state = State.INTENT
        return step

    async def _hold(self, work: _Work, reason: str, detail: dict[str, Any]) -> None:
        """A person must look; what was sent already stays as it is."""
        if work.state is State.INTENT:
            return

        def settle(tx: Transaction) -> None:
            columns: dict[str, Any] = {}
            if work.claimed.kind == "hl7" and work.claimed.answer is None:
                message = read(work.claimed.raw or b"", fallback_charset=self._settings.hl7.fallback_charset)
                verdict = Verdict(AckCode.AA, "accepted, held for a person")
                columns = {"answer": self._answers.build(message, verdict), "answer_code": AckCode.AA.value}
            inbox.move(
                tx,
                work.claimed.id,
                work.state,
                State.HELD,
                at=self._clock.now(),
                reason=reason,
                detail=detail,
                **columns,
            )

        await self._store.write(settle)


def _waiting(decision: Decision) -> tuple[str, float]:
    """Why a message waits, and for how many seconds."""
    match decision:
        case Retry(after=after, reason=reason):
            return reason, after
        case PauseDestination(reason=reason, probe_after=after):
            return reason, after
        case _:
            return "upload_failed", 5.0
