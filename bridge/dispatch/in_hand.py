"""A message in hand: how it goes on in the store, and how it stays what it was where a write is rolled back."""

from dataclasses import dataclass, field
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.concluding import Told
from bridge.dispatch.deciding import Hold, Post, WaitForOrder, WaitForRelease
from bridge.dispatch.insisting import insist
from bridge.dispatch.understand import UnderstoodOrder
from bridge.domain.recording import Recording, Selection
from bridge.domain.states import State
from bridge.domain.verdict import Problem
from bridge.errors import StoreConflict
from bridge.formats.hl7.reader import Message
from bridge.store import inbox, line
from bridge.store.port import Store, T, Transaction
from bridge.store.port import Work as Writing

log = structlog.get_logger()

UNTIL_TOLD = 10 * 365 * 86400.0
"""Seconds that a message on hold waits for itself: the release wakes it."""


@dataclass(slots=True)
class InHand:
    """One message in hand, the state that it is in right now, and how far its orders, or its groups, have come."""

    claimed: line.Claimed
    state: State
    orders: list[tuple[UnderstoodOrder, Told | None]] = field(default_factory=list)
    recording: Recording | None = None
    selection: Selection = field(default_factory=lambda: Selection(()))  # its groups: a task each
    position: int = 0  # of the next order, or the next group
    control: str = "OK"  # ORC-1 of the order that is being sent, when it is done
    told: list[Told] = field(default_factory=list)
    doubts: tuple[Problem, ...] = ()
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was claimed, and its first intention; None where nothing is to be sent, or it is not begun yet."""

    work: InHand
    step: Post | None
    is_begun: bool = True


class Steps:
    """What can become of a message in hand, each within a transaction."""

    def __init__(self, clock: Clock, answers: Answers) -> None:
        self._clock = clock
        self._answers = answers

    def move(self, tx: Transaction, work: InHand, after: State, **columns: Any) -> None:
        """The message goes on. Raises StoreConflict where somebody else moved it: nothing of this is kept then."""
        if not inbox.move(tx, work.claimed.id, work.state, after, at=self._clock.now(), **columns):
            raise StoreConflict(f"message {work.claimed.id} is not in {work.state} any more")
        work.state = after

    def put_back(
        self, tx: Transaction, work: InHand, reason: str, seconds: float, detail: dict[str, Any] | None = None
    ) -> None:
        due = round((self._clock.now().timestamp() + seconds) * 1000)
        self.move(tx, work, State.RETRY, reason=reason, detail=detail, next_at=due, owner=None)

    def set_aside(self, tx: Transaction, work: InHand, decided: Hold | WaitForOrder | WaitForRelease | Post) -> None:
        """A person must look, or it waits for what is to come."""
        if isinstance(decided, Hold):
            columns = self._answers.held(tx, work.claimed)
            self.move(tx, work, State.HELD, reason=decided.reason, detail=decided.detail, **columns)
        elif isinstance(decided, WaitForOrder):
            seconds = decided.until / 1000 - self._clock.now().timestamp()
            self.put_back(tx, work, line.AWAITING_ORDER, max(seconds, 0.0))
        elif isinstance(decided, WaitForRelease):
            self.put_back(tx, work, line.ON_HOLD, UNTIL_TOLD)


class Moves(Steps):
    """Steps that are written: kept together, or as if they had not been."""

    def __init__(self, store: Store, clock: Clock, answers: Answers) -> None:
        super().__init__(clock, answers)
        self._store = store

    def may_send(self) -> bool:
        """Whether what is in hand is surely this process's own still."""
        return self._store.may_send()

    async def write(self, work: InHand, write: Writing[T]) -> T:
        """Write, or leave the work in hand as it was: what is rolled back has not happened."""
        before = (work.state, work.position, work.control, len(work.told))
        try:
            return await self._store.write(write)
        except BaseException:
            work.state, work.position, work.control, told = before
            del work.told[told:]
            raise

    async def insist(self, work: InHand, write: Writing[T]) -> T:
        """Write until it is kept: a full disk is waited out, since what a POST came to stands nowhere else."""
        return await insist(self._clock, "message.not_settled", lambda: self.write(work, write))

    async def hold(self, work: InHand, reason: str, detail: dict[str, Any]) -> None:
        """A person must look; what was sent already stays as it is."""
        if work.state is State.INTENT:
            return

        def settle(tx: Transaction) -> None:
            columns = self._answers.held(tx, work.claimed)
            self.move(tx, work, State.HELD, reason=reason, detail=detail, **columns)

        await self.insist(work, settle)
