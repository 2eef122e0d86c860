"""A process among others on one store: signs of life, what the silent ones left, and duties that one has at a time."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

import structlog

from bridge.clock import Clock
from bridge.errors import StoreError
from bridge.store import workers
from bridge.store.port import Notice, Store, Transaction

log = structlog.get_logger()

LOOKS = 4
"""Looks within a lease."""


class _Shared(Store, Protocol):
    lease: float


class Crew:
    """Runs beside the other loops of a process. `keep_waiting` as for `line.recover`."""

    def __init__(self, store: _Shared, clock: Clock, keep_waiting: Collection[str] = ()) -> None:
        self._store = store
        self._clock = clock
        self._keep_waiting = keep_waiting
        self._watch = workers.Watch(store.lease)
        self._wanted: dict[str, asyncio.Event] = {}
        self.dispatchers = 1
        self.wake = asyncio.Event()

    async def on_duty(self, name: str) -> None:
        """Until this process has the duty."""
        mine = self._wanted.setdefault(name, asyncio.Event())
        self.wake.set()
        await mine.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wake.clear()
            try:
                await self._look()
            except StoreError as problem:
                log.error("crew.not_looked", error=type(problem).__name__)
            await self._clock.wait(self.wake, self._store.lease / LOOKS)

    async def _look(self) -> None:
        """One write: the sign of life, and whatever is to be taken over."""
        there = await self._store.read(workers.there)
        self.count(there)
        others = [one for one in there if one.name != self._store.worker]
        names = self._watch.silent(others, self._clock.monotonic())
        silent = [one for one in others if one.name in names]
        ended = workers.surely_gone(others)
        wanted = [name for name, mine in self._wanted.items() if not mine.is_set()]  # the loop's: no other thread looks
        try:
            await self._store.write(lambda tx: self._taken(tx, ended, silent, wanted))
        except StoreError:  # as little could the others give a sign of life: a standby is away, a migration runs
            self._watch = workers.Watch(self._store.lease)
            raise

    def count(self, there: Sequence[workers.Worker]) -> None:
        """Those who send, of all that are there; one at the least."""
        self.dispatchers = max(1, sum("dispatch" in one.roles for one in there))

    def _taken(
        self,
        tx: Transaction,
        ended: Collection[str],
        silent: Collection[workers.Worker],
        wanted: Collection[str],
    ) -> None:
        now = self._clock.now()
        read = {one.name: one.commits for one in workers.there(tx.conn)} if silent else {}
        still = [one.name for one in silent if read.get(one.name) == one.commits]  # it may have written since the look
        for names, reason in ((ended, "ended without a word"), (still, "silent for its lease")):
            if names:
                log.warning("worker.gone", workers=sorted(names), reason=reason)
                workers.sign_off(tx, names, at=now, reason=reason)
        if ended or still:
            found = workers.take_over(tx, at=now, keep_waiting=self._keep_waiting)
            log.warning("worker.taken_over", **found)
        for name in wanted:
            if workers.take_duty(tx, name, self._store.worker):
                tx.notify("on_duty", value=name)

    def hear(self, notices: Sequence[Notice]) -> None:
        """In the loop, behind a commit: a duty is ours, or another process came or went, and its duties are free."""
        for notice in notices:
            if notice.topic == "on_duty":
                self._wanted[notice.value].set()
            elif notice.topic == "duty":
                self.wake.set()
