"""Tasks made: claim, upload, intention, POST, outcome. Every step is committed before the next one begins."""

import asyncio
import functools
import json
import random
import secrets
from dataclasses import replace

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.concluding import Told, concluded, refusal
from bridge.dispatch.deciding import Deciding, Post, orders_of
from bridge.dispatch.entering import Entered
from bridge.dispatch.grouping import Due, Grouping
from bridge.dispatch.health import Health
from bridge.dispatch.in_hand import InHand, Moves, Taken
from bridge.dispatch.objects import Objects
from bridge.dispatch.policy import (
    OF_DESTINATION,
    Created,
    Decision,
    InDoubt,
    NewUpload,
    PauseDestination,
    Reject,
    Retry,
    Step,
    backoff,
    decide,
)
from bridge.dispatch.understand import doubts_from_json
from bridge.dispatch.uploading import Uploaded, Uploading
from bridge.domain.outcome import NotSent
from bridge.domain.states import MOVES, State
from bridge.domain.task import Mapped
from bridge.domain.verdict import OrderReply
from bridge.errors import BadInput, CannotScale, CommitUnknown, StoreError
from bridge.formats.ecg.proof import Form
from bridge.formats.hl7.reader import Message
from bridge.settings import Settings
from bridge.store import book, destinations, line, tasks
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

UPLOADS = 4
"""Tries of a recording whose upload sessions all turn out to be unusable, before a person looks."""
CANNOT_CONVERT = "cannot_convert"


class Delivering:
    """Takes what is ready, in order within each patient, and makes its tasks."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        objects: Objects,
        client: CardioClient,
        deciding: Deciding,
        settings: Settings,
        clock: Clock,
        answers: Answers,
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._objects = objects
        self._client = client
        self._deciding = deciding
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self._moves = Moves(store, clock, answers)
        form = Form(settings.cardio.upload_format)
        self._grouping = Grouping(deciding, self._moves, answers, clock)
        self._uploading = Uploading(client, payloads, settings.cardio.chunk_size, form)
        self._owner = secrets.token_hex(6)
        self._active: set[asyncio.Task[None]] = set()
        self._reserved = 0
        self._backlog = True
        self._broken: BaseException | None = None
        self._noted_down = False
        self._stopping = False
        self._random = random.Random()  # noqa: S311  jitter, not a secret
        self.health = Health()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; `drain` waits for what is in flight."""
        while True:
            self.wake.clear()
            if self._broken is not None:
                raise self._broken
            pause, room = self._room()
            self._backlog = True
            claimed: list[line.Claimed] = []
            due: int | None = None
            if pause <= 0 and room > 0:
                try:
                    claimed, due, self._backlog = await self._store.write(functools.partial(self._claim, room=room))
                except StoreError as problem:  # a full disk: nothing is lost, and it is tried again
                    log.error("line.not_claimed", error=type(problem).__name__)
                    pause = 1.0
                for one in claimed:
                    self._start(InHand(one, one.state), None)
            if not claimed:
                await self._clock.wait(self.wake, pause if pause > 0 else self._until(due))

    def _room(self) -> tuple[float, int]:
        """Seconds until something may be sent, and how many messages may be taken in hand."""
        most = 1 if self.health.known_down else self._settings.cardio.in_flight
        return self.health.may_send(self._clock.monotonic()), most - len(self._active) - self._reserved

    def _start(self, work: InHand, step: Post | None) -> None:
        task = asyncio.create_task(self._deliver(work, step), name=f"deliver-{work.claimed.id}")
        self._active.add(task)
        task.add_done_callback(functools.partial(self._done, work))

    # --- a message that is sent in the breath that enters it ---------------------------------------------------

    def reserve(self) -> bool:
        """Keep a place for a message that is about to be entered. Whoever gets one gives it back by `begin`."""
        pause, room = self._room()
        if pause > 0 or room <= 0 or self._stopping:
            return False
        self._reserved += 1
        return True

    def take(self, tx: Transaction, claimed: line.Claimed, entered: Entered, message: Message) -> Taken | None:
        """Claim a message in the transaction that enters it, and write its first intention: one commit, not three.

        None where something of its patient stands before it: it waits in line.
        """
        if not line.claim_one(tx, self._owner, claimed.id):
            return None
        tx.notices[:] = [n for n in tx.notices if (n.topic, n.message_id) != ("ready", claimed.id)]
        tx.notify("taken", claimed.id)
        orders = list(zip(entered.understood.orders, entered.told, strict=True))
        mine = replace(claimed, state=State.READY, order_key=entered.order_key, attempts=claimed.attempts + 1)
        work = InHand(mine, State.READY, orders, message=message)
        work.doubts = entered.understood.doubts
        return Taken(work, self._advance(tx, work))

    def begin(self, taken: Taken | None) -> None:
        """The place that was kept is used, or given back."""
        self._reserved -= 1
        if taken is not None and taken.step is not None:
            self._start(taken.work, taken.step)
        else:
            self.wake.set()

    def _done(self, work: InHand, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
        if self._backlog or work.state is State.RETRY or self._broken is not None:
            self.wake.set()

    def _claim(self, tx: Transaction, room: int) -> tuple[list[line.Claimed], int | None, bool]:
        """What can be done now; where there is nothing, when something will be; and whether more waits in line."""
        claimed = line.claim(tx, self._owner, room, at=self._clock.now())
        return claimed, None if claimed else line.next_due(tx.conn), line.waits(tx.conn)

    def _until(self, due: int | None) -> float:
        if due is None:
            return 30.0
        return min(max(due / 1000 - self._clock.now().timestamp(), 0.01), 30.0)

    async def drain(self, seconds: float) -> None:
        """Let what is in flight come to its outcome (F43); nothing more is taken in hand."""
        self._stopping = True
        deadline = self._clock.monotonic() + seconds
        while (self._active or self._reserved) and (left := deadline - self._clock.monotonic()) > 0:
            if self._active:
                await asyncio.wait(self._active, timeout=left)
            else:
                await self._clock.sleep(0.01)  # a message is being entered whose intention goes with it

    # --- one message ----------------------------------------------------------------------------------------

    async def _deliver(self, work: InHand, step: Post | None) -> None:
        claimed = work.claimed
        try:
            if claimed.kind == "hl7":
                await self._orders(work, step)
            else:
                await self._recording(work)
        except (CannotScale, BadInput) as problem:
            log.warning("message.held", message=claimed.id, reason=CANNOT_CONVERT, error=type(problem).__name__)
            await self._moves.hold(work, CANNOT_CONVERT, {"why": _why(problem)})
        except StoreError as problem:
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
            await self._moves.insist(work, lambda tx: line.release(tx, claimed.id, at=self._clock.now()))
        except CommitUnknown as problem:
            # The service ends; what is committed stands: a start calls an INTENT in doubt, anything else goes on.
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
        except Exception as problem:  # noqa: BLE001  edge of the loop: it is held, and its neighbours flow
            log.error("message.held", message=claimed.id, reason="poison", error=type(problem).__name__)
            await self._moves.hold(work, "poison", {"error": type(problem).__name__})

    async def _orders(self, work: InHand, step: Post | None) -> None:
        """The drafts of a message, one after the other; its answer is written with what the last one came to."""
        if step is None:
            document = json.loads(work.claimed.understood or "{}")
            work.orders = orders_of(document)
            work.doubts = doubts_from_json(document)
            step = await self._moves.write(work, lambda tx: self._advance(tx, work))
        while step is not None:
            following = await self._post(work, step)
            step = following if isinstance(following, Post) else None

    def _advance(self, tx: Transaction, work: InHand) -> Post | None:
        """The next intention of the message. None: nothing is to be sent now, and the message stands as it should."""
        while work.position < len(work.orders):
            order, settled = work.orders[work.position]
            work.position += 1
            step = settled or self._deciding.draft(tx, work.claimed.id, order)
            if isinstance(step, Told):
                work.told.append(step)
                continue
            if work.state is State.INTENT:  # the order before it is settled
                self._moves.move(tx, work, State.READY, reason="order_settled")
            if not isinstance(step, Post):
                self._moves.set_aside(tx, work, step)
                return None
            self._moves.move(tx, work, State.INTENT)
            work.control = order.asked.done if order.asked is not None else "OK"
            return step
        self._settle_message(tx, work)
        return None

    def _settle_message(self, tx: Transaction, work: InHand) -> None:
        """Nothing more to send: the state, the answer and the event in one transaction."""
        message = work.message or self._answers.read(work.claimed)[0]
        rules = self._answers.rules(work.claimed.listener, work.claimed.sender)
        after, reason, verdict = concluded(work.told, work.doubts, rules.codes)
        if work.state is State.RETRY or (work.state is State.INTENT and after not in MOVES[State.INTENT]):
            self._moves.move(tx, work, State.READY)
        columns = self._answers.settled(tx, work.claimed, message, verdict)
        self._moves.move(tx, work, after, reason=reason, **columns)

    # --- the POST -------------------------------------------------------------------------------------------

    async def _post(self, work: InHand, post: Post, whole: Mapped | None = None) -> Post | Due | None:
        """Send an intention, write what it came to, and with it what is next of its message.

        `whole` is what was mapped of a recording; None: the message is one of orders.
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

        def settle(tx: Transaction) -> Post | Due | None:
            told = self._settle_post(tx, work, post, decision, work.control, sent=sent)
            if told is None:
                return None
            if whole is not None:
                return self._grouping.posted(tx, work, post, told, whole)
            work.told.append(told)
            return self._advance(tx, work)

        try:
            return await self._moves.insist(work, settle)
        except CommitUnknown:
            raise
        except Exception as problem:  # noqa: BLE001  what the POST came to must not go with what follows it
            log.error("message.held", message=work.claimed.id, reason="poison", error=type(problem).__name__)
            await self._moves.insist(work, lambda tx: self._outcome_alone(tx, work, post, decision, sent=sent))
            return None

    def _outcome_alone(self, tx: Transaction, work: InHand, post: Post, decision: Decision, *, sent: bool) -> None:
        """What the POST came to, where nothing else of the message can be settled: a person looks at the rest."""
        self._settle_post(tx, work, post, decision, work.control, sent=sent)
        self._moves.move(tx, work, State.HELD, reason="poison")

    def _settle_post(
        self, tx: Transaction, work: InHand, post: Post, decision: Decision, control: str, *, sent: bool
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
                self._moves.put_back(tx, work, why, after)
                return None
        return told

    async def _note_health(self, decision: Decision) -> None:
        self.health = self.health.after(decision, self._clock.monotonic())
        down = self.health.known_down
        if down == self._noted_down:
            return
        log.warning("destination.down" if down else "destination.up")
        try:
            await self._store.write(lambda tx: self._note(tx, down=down))
            self._noted_down = down
        except StoreError as problem:  # the outcome of a POST is in hand: this must not come between
            log.error("destination.not_noted", error=type(problem).__name__)

    def _note(self, tx: Transaction, *, down: bool) -> None:
        now = self._clock.now()
        destinations.note(tx, "cardio", down=down, at=now)
        if not down:  # what it kept waiting goes out with the rest, and not each at a time of its own
            line.hurry(tx, OF_DESTINATION, at=now)

    # --- recordings -----------------------------------------------------------------------------------------

    async def _recording(self, work: InHand) -> None:
        """Its groups, one after the other: each is matched, uploaded and sent before the next one begins."""
        claimed = work.claimed
        whole = book.mapped_from_json(json.loads(claimed.understood or "{}")["recording"])
        found = await self._objects.read(claimed.payload or "")
        work.recording = found.recording
        work.selection = found.recording.selected(self._settings.recordings.several_groups)
        step = await self._moves.write(work, lambda tx: self._grouping.next(tx, work, whole))
        while step is not None:
            step = await (self._post(work, step, whole) if isinstance(step, Post) else self._upload(work, step, whole))

    async def _upload(self, work: InHand, due: Due, whole: Mapped) -> Post | Due | None:
        """Upload a group; its intention. Where that failed the message waits, or goes on with the next group."""
        path = self._payloads.path(work.claimed.payload or "")
        jitter = self._random.random()
        try:
            result = await self._uploading.upload(due.group, path, attempt=work.claimed.attempts, jitter=jitter)
        except CannotScale as problem:
            if len(work.selection.groups) == 1:
                raise
            held = Told(OrderReply("UA"), State.HELD, reason=CANNOT_CONVERT)
            detail = {"group": due.group.number, "why": _why(problem)}
            return await self._moves.write(
                work, lambda tx: self._grouping.go_on(tx, work, held, whole, reason=CANNOT_CONVERT, detail=detail)
            )
        if isinstance(result, Uploaded):
            uploaded = result
            return await self._moves.write(work, lambda tx: self._grouping.intend(tx, work, due, uploaded, whole))
        decision, outcome_step = result
        await self._note_health(decision)

        def settle(tx: Transaction) -> Post | Due | None:
            if isinstance(decision, Reject):
                refused = Told(OrderReply("UA"), State.REJECTED, reason=decision.reason)
                detail = {"step": outcome_step.value, "api": decision.api_text, "status": decision.status}
                return self._grouping.go_on(tx, work, refused, whole, reason=decision.reason, detail=detail)
            if isinstance(decision, NewUpload) and work.claimed.attempts >= UPLOADS:
                self._moves.move(tx, work, State.HELD, reason="upload_failed", detail={"step": outcome_step.value})
            else:
                reason, after = _waiting(decision, backoff(work.claimed.attempts, jitter))
                self._moves.put_back(tx, work, reason, after)
            return None

        return await self._moves.write(work, settle)


def _why(problem: CannotScale | BadInput) -> str:
    """What a person is told: where it is, and what is wrong with it."""
    return f"{problem.where}: {problem}" if problem.where else str(problem)


def _waiting(decision: Decision, otherwise: float = 5.0) -> tuple[str, float]:
    """Why a message waits, and for how many seconds."""
    match decision:
        case Retry(after=after, reason=reason):
            return reason, after
        case PauseDestination(reason=reason, probe_after=after):
            return reason, after
        case _:
            return "upload_failed", otherwise
