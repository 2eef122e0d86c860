"""What the house asks of a store, whichever engine is behind it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
Connection = sa.Connection


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was committed and that somebody may wait for.

    Topics: `received` (work for the reader; the value is the message itself, where it is at hand), `ready` (work for
    the dispatcher; the message is understood), `taken` (as `ready`, and in hand already), `outbound` (work for the
    queue that goes out), `settled` (an answer can go out), `destination` (its health changed), `commitment` (a peer is
    to be told of its objects), `alarm` (one began or is over, or what became of its notices).
    """

    topic: str
    message_id: int = 0
    value: Any = None


@dataclass(slots=True)
class Transaction:
    """One piece of work inside a transaction. Notices go out after the commit, or not at all."""

    conn: sa.Connection
    notices: list[Notice] = field(default_factory=list)
    known: dict[Any, Any] = field(default_factory=dict)  # what was found out in this very transaction
    reached: int = 0  # the newest event of its own

    def notify(self, topic: str, message_id: int = 0, value: Any = None) -> None:
        """Tell those who wait, once this is committed."""
        self.notices.append(Notice(topic, message_id, value))


Work = Callable[[Transaction], T]
Listener = Callable[[Sequence[Notice]], None]


class Store(Protocol):
    """Durable work. When `write` returns, it is on stable storage.

    `worker` is the name of this process in it: what it has in hand is marked so. `alone`: no other process writes.
    """

    worker: str
    alone: bool

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction, in the order of the calls.

        Raises what `work` raised (nothing was kept), StoreError (nothing was kept) or CommitUnknown.
        """

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        """`write` for whoever must hear how it ended, even where nobody waits for it any more."""

    def write_from_thread(self, work: Work[T]) -> T:
        """`write` for a thread that is not the loop's."""

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` on a connection that cannot write."""

    def read_from_thread(self, work: Callable[[sa.Connection], T]) -> T:
        """`read` for a thread that is not the loop's."""

    def subscribe(self, listener: Listener) -> None:
        """`listener` is called in the loop with what each commit announced."""

    async def on_duty(self, name: str) -> None:
        """Returns when this process has the duty of that name: one process of a store has it at a time, to its end."""

    def dispatchers(self) -> int:
        """How many processes send, this one included, as far as is known here: what is allowed is shared by them."""

    def may_send(self) -> bool:
        """Whether what this process has in hand is surely its own still: asked before the first byte of a POST."""
