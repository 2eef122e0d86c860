"""Tasks made: claim, upload, intention, POST, outcome. Every step is committed before the next one begins.

Each destination has its own places and its own health, so that what one of them does holds up nobody of another's,
but for the messages of one patient, which stay in order.
"""

import asyncio
import functools
import json
from collections.abc import Sequence
from dataclasses import replace

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.claiming import Claiming
from bridge.dispatch.concluding import Told, concluded
from bridge.dispatch.deciding import Deciding, Hold, Post, orders_of
from bridge.dispatch.destination import Destination, Room
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.entering import Entered
from bridge.dispatch.grouping import Grouping
from bridge.dispatch.in_hand import UNTIL_TOLD, InHand, Moves, Taken
from bridge.dispatch.insisting import insist
from bridge.dispatch.objects import Objects
from bridge.dispatch.recordings import CANNOT_CONVERT, Recordings, why
from bridge.dispatch.routing import Routed, Routing
from bridge.dispatch.sending import Sending
from bridge.dispatch.understand import doubts_from_json
from bridge.dispatch.uploading import Uploading
from bridge.domain.states import MOVES, State
from bridge.errors import BadInput, CannotScale, CommitUnknown, StoreError
from bridge.formats.hl7.reader import Message
from bridge.settings import Settings
from bridge.store import book, destinations, line
from bridge.store.payloads import Payloads
from bridge.store.port import Notice, Store, Transaction

log = structlog.get_logger()


class Delivering:
    """Takes what is ready, in order within each patient, and makes its tasks."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        objects: Objects,
        destinations: Destinations,
        deciding: Deciding,
        settings: Settings,
        clock: Clock,
        answers: Answers,
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._deciding = deciding
        self._clock = clock
        self._answers = answers
        self._routing = Routing(settings)
        self._moves = Moves(store, clock, answers)
        self._sending = Sending(destinations, self._moves, clock)
        self._recordings = Recordings(
            objects,
            destinations,
            Grouping(deciding, self._moves, answers, clock),
            self._sending,
            self._moves,
            {name: Uploading(one, payloads, clock, destinations.note) for name, one in destinations.items()},
            settings.recordings,
        )
        self._owner = store.worker
        self._claiming = Claiming(store, destinations, settings.recordings.order_wait, clock, self._first)
        self._active: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[bool] | None = None
        self._broken: BaseException | None = None
        self._stopping = False
        self.wake = asyncio.Event()

    def hear(self, notices: Sequence[Notice]) -> None:
        """What a commit announced: something is ready to go somewhere, or it is not known where to."""
        for notice in notices:
            if notice.topic != "ready":
                continue
            one = self._destinations.get(notice.value or "")
            if one is None:
                self._claiming.astray = self._claiming.astray or notice.message_id != 0
                self.wake.set()
            elif one.paused_until is None:  # else it is looked at when its pause is over
                self.wake.set()

    async def run(self) -> None:
        """Until cancelled; `drain` waits for what is in flight."""
        await self._destinations.begin()
        look = functools.partial(self._store.read, lambda conn: line.astray(conn, list(self._destinations)))
        for name, count in (await insist(self._clock, "line.not_looked", look)).items():
            if name:
                log.error("destination.gone", destination=name, number=count)
        while True:
            self.wake.clear()
            if self._broken is not None:
                raise self._broken
            if not await self._take():
                await self._clock.wait(self.wake, self._claiming.quiet())

    async def _take(self) -> bool:
        """Take in hand what can be done now. False: there is nothing more for the moment."""
        offers = self._claiming.offers()
        if not offers and not self._claiming.astray:
            return False
        self._taking = asyncio.create_task(self._take_in_hand(offers), name="claim")
        return await asyncio.shield(self._taking)  # the loop may end meanwhile: what is claimed is begun even so

    async def _take_in_hand(self, offers: dict[str, Room]) -> bool:
        claimed = await self._claiming.claim(offers)
        if claimed is None:
            return True
        for taken in claimed:
            if taken.step is not None or not (taken.is_begun or self._stopping):  # a start finds what is not begun
                self._start(taken.work, taken.step)
        return bool(claimed)

    def _start(self, work: InHand, step: Post | None, *, paced: bool = False) -> None:
        destination = self._destinations.get(work.claimed.destination)
        if destination is not None:
            destination.begin(work.claimed, paced=paced)
        task = asyncio.create_task(self._deliver(destination, work, step), name=f"deliver-{work.claimed.id}")
        self._active.add(task)
        task.add_done_callback(functools.partial(self._done, destination, work))

    def _done(self, destination: Destination | None, work: InHand, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        if destination is not None:
            destination.end(work.claimed)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
        if self._claiming.waits() or work.state is State.RETRY or self._broken is not None:
            self.wake.set()

    # --- a message that is sent in the breath that enters it ---------------------------------------------------

    @property
    def _reserved(self) -> int:
        """Places that are kept for messages which are about to be entered."""
        return sum(one.reserved for one in self._destinations.values())

    @property
    def _is_taking(self) -> bool:
        return self._taking is not None and not self._taking.done()

    def reserve(self, name: str) -> bool:
        """Keep a place there for a message that is about to be entered. Whoever gets one gives it back by `begin`."""
        destination = self._destinations.get(name)
        return destination is not None and not self._stopping and destination.reserve()

    def take(self, tx: Transaction, claimed: line.Claimed, entered: Entered, message: Message) -> Taken | None:
        """Claim a message in the transaction that enters it, and write its first intention: one commit, not three.

        None where something of its patient stands before it: it waits in line.
        """
        if not line.claim_one(tx, self._owner, claimed.id):
            return None
        tx.notices[:] = [n for n in tx.notices if (n.topic, n.message_id) != ("ready", claimed.id)]
        tx.notify("taken", claimed.id, entered.destination)
        orders = list(zip(entered.understood.orders, entered.told, strict=True))
        mine = replace(
            claimed,
            state=State.READY,
            order_key=entered.order_key,
            attempts=claimed.attempts + 1,
            destination=entered.destination,
        )
        work = InHand(mine, State.READY, orders, message=message)
        work.doubts = entered.understood.doubts
        return Taken(work, self._advance(tx, work))

    def begin(self, name: str, taken: Taken | None) -> None:
        """The place that was kept is used, or given back."""
        used = taken is not None and taken.step is not None
        self._destinations[name].give_up(used=used)
        if taken is not None and taken.step is not None:
            self._start(taken.work, taken.step, paced=True)
        else:
            self.wake.set()

    async def drain(self, seconds: float) -> None:
        """Let what is in flight come to its outcome (F43); nothing more is taken in hand."""
        self._stopping = self._claiming.is_over = True
        self._destinations.stop()
        deadline = self._clock.monotonic() + seconds
        while (self._active or self._reserved or self._is_taking) and (left := deadline - self._clock.monotonic()) > 0:
            if self._active:
                await asyncio.wait(self._active, timeout=left)
            else:
                await self._clock.sleep(0.01)  # a message is being entered, or claimed, whose intention goes with it

    # --- one message ----------------------------------------------------------------------------------------

    async def _deliver(self, destination: Destination | None, work: InHand, step: Post | None) -> None:
        claimed = work.claimed
        try:
            if destination is None:
                await self._moves.write(work, lambda tx: self._find_way(tx, work))
            elif claimed.kind == "hl7":
                await self._orders(destination, work, step)
            else:
                await self._recordings.deliver(destination, work)
        except (CannotScale, BadInput) as problem:
            log.warning("message.held", message=claimed.id, reason=CANNOT_CONVERT, error=type(problem).__name__)
            await self._moves.hold(work, CANNOT_CONVERT, {"why": why(problem)})
        except StoreError as problem:
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
            await self._moves.insist(work, lambda tx: line.release(tx, claimed.id, at=self._clock.now()))
        except CommitUnknown as problem:
            # The service ends; what is committed stands: a start calls an INTENT in doubt, anything else goes on.
            log.error("message.interrupted", message=claimed.id, error=type(problem).__name__)
        except Exception as problem:  # noqa: BLE001  edge of the loop: it is held, and its neighbours flow
            log.error("message.held", message=claimed.id, reason="poison", error=type(problem).__name__)
            await self._moves.hold(work, "poison", {"error": type(problem).__name__})

    def _find_way(self, tx: Transaction, work: InHand) -> None:
        """A message without a destination: routed now, where a person released it; else it waits for its own (F42)."""
        gone = work.claimed.destination
        if gone:
            out = f"name a destination {gone} in cardio.destinations again and start anew, or discard the message"
            self._moves.put_back(tx, work, line.GONE, UNTIL_TOLD, detail={"destination": gone, "way_out": out})
            return
        routed = self._routed(work.claimed)
        if routed.name:
            destinations.assign(tx, work.claimed.id, routed.name)
        else:
            self._moves.set_aside(tx, work, Hold(routed.reason, dict(routed.detail or {})))

    def _routed(self, claimed: line.Claimed) -> Routed:
        document = json.loads(claimed.understood or "{}")
        if claimed.kind != "hl7":
            recording = book.mapped_from_json(document["recording"])
            return self._routing.of_recording(claimed.listener, claimed.sender, recording)
        message, _ = self._answers.read(claimed)
        due = [order.mapped for order, told in orders_of(document) if told is None]
        return self._routing.of_orders(claimed.listener, message, due)

    async def _orders(self, destination: Destination, work: InHand, step: Post | None) -> None:
        """The drafts of a message, one after the other; its answer is written with what the last one came to."""
        if step is None:
            step = await self._moves.write(work, lambda tx: self._first(tx, work))

        def then(tx: Transaction, told: Told) -> Post | None:
            work.told.append(told)
            following = self._advance(tx, work)
            if following is not None:
                destination.pace.take(self._clock.monotonic())
            return following

        while step is not None:
            step = await self._sending.post(destination, work, step, then)

    def _first(self, tx: Transaction, work: InHand) -> Post | None:
        """The first intention of a message that was read before."""
        document = json.loads(work.claimed.understood or "{}")
        work.orders = orders_of(document)
        work.doubts = doubts_from_json(document)
        return self._advance(tx, work)

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
