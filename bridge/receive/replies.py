"""Answers that wait for their outcome: one ticket an arrival, woken by what the store commits."""

import asyncio
import itertools
from collections.abc import Sequence

from bridge.domain.states import SETTLED, UNDER_WAY, State
from bridge.store.inbox import Kept
from bridge.store.port import Notice, Transaction

REMEMBERED = 256
"""Messages that settled last: more than can settle while the notice of our own commit is on its way to the loop."""


class Replies:
    """Who waits for which message. Lives in the loop; `expect` is called in the store's thread.

    A message is late at once where its task is due and its destination is known to be down: a feed keeps its pace
    while the API does not (hl7.md §3.5).

    On PostgreSQL another process may settle a message, and its word come by the store's follower, before the loop has
    heard of our own commit that keeps it: so those that settled last are remembered, for a ticket that comes late.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}
        self._tickets: dict[int, set[int]] = {}  # message id → tickets
        self._messages: dict[int, int] = {}  # ticket → message id
        self._ready: dict[int, str | None] = {}  # message id → where its task goes, as far as that is known
        self._settled: dict[int, bytes | None] = {}  # message id → its answer; the one that settled last stands last
        self._down: set[str] = set()

    def ticket(self) -> int:
        """A place to wait at, taken before the message is kept, so that no outcome can slip by."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        return number

    def expect(self, tx: Transaction, ticket: int, kept: Kept) -> None:
        """Tie the ticket to its message, in the transaction that keeps it."""
        tx.notify("expected", kept.id, (ticket, kept.state, kept.destination))

    async def wait(self, ticket: int, seconds: float) -> bytes | None:
        """The stored answer, or None where it is late."""
        future = self._waiting[ticket]
        if future.done():
            return future.result()
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await future  # its own: nobody else waits for this ticket
        except TimeoutError:
            return None

    def forget(self, ticket: int) -> None:
        """Nobody waits here any more."""
        future = self._waiting.pop(ticket, None)
        if future is not None and not future.done():
            future.cancel()
        message_id = self._messages.pop(ticket, None)
        if message_id is not None:
            tickets = self._tickets.get(message_id, set())
            tickets.discard(ticket)
            if not tickets:
                self._tickets.pop(message_id, None)
                self._ready.pop(message_id, None)

    def hear(self, notices: Sequence[Notice]) -> None:
        """What a commit announced."""
        for notice in notices:
            match notice.topic:
                case "expected":
                    self._expected(notice.message_id, *notice.value)
                case "settled":
                    self._remember(notice.message_id, notice.value)
                    self._wake(notice.message_id, notice.value)
                case "received":
                    self._settled.pop(notice.message_id, None)  # to be understood anew
                case "ready" | "taken":
                    self._settled.pop(notice.message_id, None)  # a person let it go on: what it came to counts no more
                    if notice.message_id in self._tickets:
                        self._ready[notice.message_id] = notice.value
                        if notice.value in self._down:
                            self._wake(notice.message_id, None)
                case "destination":
                    self._changed(*notice.value)

    def _changed(self, destination: str, down: bool) -> None:
        if not down:
            self._down.discard(destination)
            return
        self._down.add(destination)
        for message_id in [number for number, name in self._ready.items() if name == destination]:
            self._wake(message_id, None)

    def _expected(self, message_id: int, ticket: int, state: State, destination: str) -> None:
        if ticket not in self._waiting:
            return
        self._tickets.setdefault(message_id, set()).add(ticket)
        self._messages[ticket] = message_id
        if state in UNDER_WAY:
            self._ready[message_id] = destination
        if message_id in self._settled:
            self._wake(message_id, self._settled[message_id])
        elif state in SETTLED or (state in UNDER_WAY and destination in self._down):
            self._wake(message_id, None)  # settled without an answer: nothing will come by itself

    def _remember(self, message_id: int, answer: bytes | None) -> None:
        self._settled.pop(message_id, None)
        self._settled[message_id] = answer
        if len(self._settled) > REMEMBERED:
            del self._settled[next(iter(self._settled))]

    def _wake(self, message_id: int, answer: bytes | None) -> None:
        for ticket in self._tickets.get(message_id, ()):
            future = self._waiting.get(ticket)
            if future is not None and not future.done():
                future.set_result(answer)
