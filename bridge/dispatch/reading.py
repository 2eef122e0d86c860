"""Messages understood one after the other, in order of arrival: an ADT counts for the order behind it.

One reader a store keeps that order, in whichever process has the duty; it is quick, since it neither waits for the API
nor reads samples.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.apart import survive
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.entering import Entering
from bridge.dispatch.in_hand import Taken
from bridge.dispatch.insisting import insist
from bridge.dispatch.objects import Objects
from bridge.dispatch.understand import Understood, understand_message, understand_recording
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, Problem, Verdict
from bridge.errors import BadInput, BridgeError, CommitUnknown, StoreError
from bridge.formats.dicom.reader import EcgObject
from bridge.formats.hl7.reader import Message
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store import inbox, line
from bridge.store.payloads import Payloads
from bridge.store.port import Connection, Notice, Store, T, Transaction

log = structlog.get_logger()

BATCH = 64
AT_HAND = 512
"""Messages that wait in memory; beyond that they are read from the store when their turn comes."""
GIVE_WAY, LONGEST_WAY = 0.01, 3.0
"""Seconds between two looks at whether objects are coming in, and how long they may go first."""
BEHIND = 0.1
"""Seconds until a message is tried again that came behind one whose commit failed."""
ATTEMPTS = 3
"""A message that ends its reader this often is held (F28)."""
PATIENCE = 60.0
"""Seconds that an object is waited for where the payload store does not answer; then a person must look."""


@dataclass(frozen=True, slots=True)
class _Read:
    claimed: line.Claimed
    understood: Understood
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is read together. `ids` are those that count for what came behind them: entered, or still to be."""

    first: int
    ids: set[int]


class _Behind(StoreError):
    """One that came before it is not entered, since its commit failed: an older word must not come to be the last."""


class Reading:
    """Turns RECEIVED into what it is: understood, refused, held, or ready for its task."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        objects: Objects,
        rules: Mapping[str, Rules],
        settings: Settings,
        clock: Clock,
        answers: Answers,
        delivering: Delivering,
        doors_are_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`doors_are_busy`: whether an object is coming in at this moment."""
        self._store = store
        self._payloads = payloads
        self._objects = objects
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self._delivering = delivering
        self._doors_are_busy = doors_are_busy
        self._entering = Entering(settings, clock, answers)
        self._hand: deque[tuple[int, inbox.AtHand]] = deque()
        self._behind = True
        self._reads = False
        self._last = 0
        self.wake = asyncio.Event()

    def _rules_of(self, listener: str) -> Rules:
        return self._rules.get(listener) or self._rules["hl7"]

    def hear(self, notices: Sequence[Notice]) -> None:
        """What was kept: at hand, or to be read from the store where it is not, or where much is at hand already.

        Where others keep messages as well, one of theirs may stand before it: only the store has them in order.
        """
        for notice in notices:
            if notice.topic != "received":
                continue
            keeps_up = self._reads and self._store.alone and not self._behind and len(self._hand) < AT_HAND
            if keeps_up and isinstance(notice.value, inbox.AtHand):
                self._hand.append((notice.message_id, notice.value))
            else:
                self._behind = True
            self.wake.set()

    async def run(self) -> None:
        """Until cancelled. What an earlier run left comes first."""
        self._reads = True
        await self._left_over()
        while True:
            self.wake.clear()
            await self._give_way()
            if self._hand and not self._behind:  # what is older and in the store goes first
                taken = [self._hand.popleft() for _ in range(min(BATCH, len(self._hand)))]
                # What was found in the store is here a second time where its notice came late.
                fresh = [
                    line.claimed_anew(number, at_hand.arrival, at_hand.answer, at_hand.answer_code)
                    for number, at_hand in taken
                    if number > self._last
                ]
                messages = {number: at_hand.message for number, at_hand in taken}
                await self._take_in(fresh, messages)
            elif self._behind:
                self._behind = False  # what is kept from here on is at hand, or asks for another look
                found = await self._counted(BATCH)
                self._behind = self._behind or len(found) == BATCH
                await self._take_in(found, {})
            else:
                await self.wake.wait()

    async def _give_way(self) -> None:
        """Objects that are coming in go first: a cart waits for its answer, and for this nobody does. Only for a while,
        and only where nothing else is at hand.
        """
        while self._hand and self._doors_are_busy() and all(h.arrival.kind == "dicom" for _, h in self._hand):
            waited = (self._clock.now() - self._hand[0][1].arrival.received_at).total_seconds()
            if not 0 <= waited < LONGEST_WAY or len(self._hand) >= AT_HAND:
                return
            await self._clock.sleep(GIVE_WAY)

    async def _left_over(self) -> None:
        """What an earlier run received and did not understand: tried apart, counted, then read (F28)."""
        newest = await self._looked(line.newest)
        stuck = 0
        while found := await self._looked(lambda conn: line.left_over(conn, newest, BATCH)):
            if found[0].id == stuck:  # it can neither be read nor held; those behind it must not wait for it
                log.critical("message.stuck", message=stuck)
                return
            stuck = found[0].id
            good = found
            if not await self._survive(found):
                good = [one for one in found if await self._survive([one])]
            poison = [one for one in found if one not in good]
            for one in poison:
                log.error("message.poison", message=one.id, error="TrialFailed")
                await self._keep_entering(_Read(one, Understood(State.HELD, reason="poison")), _Batch(one.id, set()))
            if good:
                await self._take_in(await self._counted(len(good)), {})

    async def _survive(self, claimed: Sequence[line.Claimed]) -> bool:
        """Whether they can be read. A payload store that does not answer says nothing of them: they are tried again."""
        return await insist(self._clock, "line.not_read", lambda: survive(claimed, self._payloads, self._settings))

    async def _looked(self, work: Callable[[Connection], T]) -> T:
        """A look into the store."""
        return await insist(self._clock, "line.not_read", lambda: self._store.read(work))

    async def _counted(self, most: int) -> list[line.Claimed]:
        """The oldest messages, their attempt counted before they are read, so that a poison one cannot hide.

        Where others write as well, a turn to do so is asked for only where there is something.
        """
        if not self._store.alone and not await self._looked(line.has_received):
            return []
        count = functools.partial(line.next_received, limit=most)
        return await insist(self._clock, "line.not_read", lambda: self._store.write(count))

    async def _take_in(self, claimed: Sequence[line.Claimed], messages: Mapping[int, Message]) -> None:
        if not claimed:
            return
        self._last = max(self._last, claimed[-1].id)
        done = [await self._read(one, messages.get(one.id)) for one in claimed]
        batch = _Batch(claimed[0].id, {one.id for one in claimed})
        await asyncio.gather(*(self._keep_entering(one, batch) for one in done))

    async def _keep_entering(self, one: _Read, batch: _Batch) -> None:
        """Enter one, alone: what fails in it leaves its neighbours as they are. A full disk is waited out.

        A message whose task is due is sent in the same breath, where there is room for it.
        """
        while True:
            due = self._place(one)
            taken: Taken | None = None
            try:
                taken = await self._store.write(functools.partial(self._entered, one=one, due=due, batch=batch))
            except _Behind:
                await self._clock.sleep(BEHIND)
            except StoreError:
                log.error("message.not_entered", message=one.claimed.id)
                await self._clock.sleep(1.0)
            except (CommitUnknown, asyncio.CancelledError):
                raise
            except Exception as problem:  # noqa: BLE001  edge of the loop: a poison message is held
                log.error("message.poison", message=one.claimed.id, error=type(problem).__name__)
                if one.understood.reason == "poison":
                    batch.ids.discard(one.claimed.id)
                    return  # it cannot even be held: it stands as it is, and a start finds it
                one = replace(one, understood=Understood(State.HELD, reason="poison"))
            else:
                return
            finally:
                if due:
                    self._delivering.begin(due, taken)

    def _place(self, one: _Read) -> str:
        """Where a place is kept to send it in the same breath; empty where it waits in line."""
        if one.understood.state is not State.READY or one.message is None:
            return ""
        claimed = one.claimed
        goes_to = self._entering.goes_to(claimed.listener, claimed.sender, one.understood, one.message)
        return goes_to if self._delivering.reserve(goes_to) else ""

    def _entered(self, tx: Transaction, one: _Read, *, due: str, batch: _Batch) -> Taken | None:
        if one.claimed.id != batch.first and batch.ids.intersection(
            line.unread_from(tx.conn, batch.first, one.claimed.id)
        ):
            raise _Behind("one that came before it is not entered yet")
        entered = self._entering.enter(tx, one.claimed, one.understood, one.message)
        if due and entered.destination == due and one.message is not None:
            return self._delivering.take(tx, one.claimed, entered, one.message)
        return None

    async def _read(self, claimed: line.Claimed, at_hand: Message | None = None) -> _Read:
        if claimed.attempts > ATTEMPTS:
            return _Read(claimed, Understood(State.HELD, reason="poison"))
        try:
            if claimed.kind == "hl7":
                listener = self._answers.rules(claimed.listener, claimed.sender)
                message = at_hand or self._answers.read(claimed)[0]
                rules = self._rules_of(claimed.listener)
                now = self._clock.now()
                understood = understand_message(message, claimed.sender, rules, self._settings, now, listener)
                return _Read(claimed, understood, message)
            found = await self._object(claimed.payload or "")
            rules = self._rules_of(claimed.listener)
            return _Read(claimed, understand_recording(found, claimed.sender, rules, self._settings))
        except BadInput as problem:
            log.info("message.unreadable", message=claimed.id)
            return _Read(claimed, _unreadable(problem) if claimed.kind == "hl7" else _unreadable_object(problem))
        except (BridgeError, OSError) as problem:
            log.error("message.held", message=claimed.id, error=type(problem).__name__)
            return _Read(claimed, Understood(State.HELD, reason="unreadable"))
        except Exception as problem:  # noqa: BLE001  edge of the loop: a poison message is held, its neighbours flow
            log.error("message.poison", message=claimed.id, error=type(problem).__name__)
            return _Read(claimed, Understood(State.HELD, reason="poison"))

    async def _object(self, payload: str) -> EcgObject:
        """A payload store that does not answer is waited for, since what it has is not unreadable; but not for ever."""
        until = self._clock.monotonic() + PATIENCE
        while True:
            try:
                return await self._objects.read(payload)
            except StoreError as problem:
                if self._clock.monotonic() >= until:
                    raise
                log.error("object.not_read", error=type(problem).__name__)
                await self._clock.sleep(1.0)


def _unreadable(problem: BadInput) -> Understood:
    condition = Condition(problem.code) if problem.code in list(Condition) else Condition.SEGMENT_SEQUENCE
    told = Problem(condition, str(problem), problem.where)
    return Understood(
        State.REJECTED, reason=condition.name.lower(), verdict=Verdict(AckCode.AE, str(problem), (), (told,))
    )


def _unreadable_object(problem: BadInput) -> Understood:
    """It was whole when it was answered 0000, so it is ours, and a person must look at what it says of its samples."""
    return Understood(State.HELD, reason="unreadable", warnings=(f"{problem.where}: {problem}",))
