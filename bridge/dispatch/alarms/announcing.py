"""Notices on their way: each channel by itself, a batch at a time, and never more messages than it bears.

At least once: a batch that was begun and whose end is not known, such as by a restart, goes out again with the same
ids. What waits while a channel is busy, quiet or at its limit goes out together.
"""

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import structlog

from bridge.clock import Clock
from bridge.dispatch.alarms.letters import Later, Letter, Never, Outcome, Sent, Writer
from bridge.errors import StoreError
from bridge.settings import Settings
from bridge.store import alarms
from bridge.store.alarms import ON, Due
from bridge.store.port import Notice, Store, T, Work

log = structlog.get_logger()

MOST = 200
"""Edges in one message at the most."""
LEASE = 120.0
"""Seconds after which a batch that was begun counts as lost: longer than any attempt takes."""
FIRST, LONGEST = 5.0, 900.0
"""Seconds until the second attempt; doubled each time up to the longest."""
_MINUTE = 60.0
_LOOK = 60.0


class Channel(Protocol):
    """A way to tell. It raises nothing."""

    async def send(self, letter: Letter) -> Outcome:
        """Tell it, within a minute."""


class Announcing:
    """Tells what begins and ends by every channel that the settings have."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, key: bytes, channels: Mapping[str, Channel]
    ) -> None:
        self._store = store
        self._settings = settings.alarms
        self._clock = clock
        self._channels = channels
        self._writer = Writer(settings.alarms, key, ZoneInfo(settings.site.time_zone))
        self._random = random.Random()  # noqa: S311  jitter, not a secret
        self._wake = {name: asyncio.Event() for name in channels}
        self._sent_at: dict[str, deque[float]] = {name: deque() for name in channels}

    def hear(self, notices: Sequence[Notice]) -> None:
        """In the loop, behind a commit."""
        if any(one.topic == alarms.TOPIC for one in notices):
            for event in self._wake.values():
                event.set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._insist(lambda tx: alarms.drop_others(tx, self._channels))
        async with asyncio.TaskGroup() as group:
            for name in self._channels:
                group.create_task(self._serve(name), name=f"alarms-{name}")

    async def _serve(self, name: str) -> None:
        while True:
            self._wake[name].clear()
            try:
                wait = await self._until_due(name)
                if wait <= 0:
                    await self._turn(name)
                    await self._tell(name)
                    continue
            except StoreError as problem:
                log.error("notice.not_read", part=name, error=type(problem).__name__)
                wait = 1.0
            await self._clock.wait(self._wake[name], min(wait, _LOOK))

    async def _until_due(self, name: str) -> float:
        """Seconds until something of this channel is due. A clock that was set back makes them no more (F25)."""
        due = await self._store.read(lambda conn: alarms.next_due(conn, name))
        if due is None:
            return _LOOK
        left = due - self._clock.now().timestamp() * 1000
        return 0.0 if left <= 0 or left > alarms.FAR else max(left / 1000, 0.01)

    async def _turn(self, name: str) -> None:
        """Wait while the channel had its messages of the last minute. What comes meanwhile goes out together."""
        sent = self._sent_at[name]
        while True:
            now = self._clock.monotonic()
            while sent and now - sent[0] >= _MINUTE:
                sent.popleft()
            if len(sent) < self._settings.per_minute:
                sent.append(now)
                return
            await self._clock.sleep(max(_MINUTE - (now - sent[0]), 0.01))

    async def _tell(self, name: str) -> None:
        now = self._clock.now()
        lease = now + timedelta(seconds=LEASE)
        batch = await self._store.write(lambda tx: alarms.take(tx, name, at=now, again_at=lease, most=MOST))
        if not batch:
            self._sent_at[name].pop()
            return
        on = await self._store.read(lambda conn: sum(alarms.counts(conn).values()))
        await self._settle(name, batch, await self._sent(name, batch, on))

    async def _sent(self, name: str, batch: list[Due], on: int) -> Outcome:
        try:
            letter = self._writer.letter(batch, on=on, at=self._clock.now())
            return await self._channels[name].send(letter)
        except Exception as problem:  # noqa: BLE001  edge of the loop: telling of a fault must not become one
            log.error("notice.failed", part=name, error=type(problem).__name__)
            return Later(type(problem).__name__)

    async def _settle(self, name: str, batch: list[Due], outcome: Outcome) -> None:
        ids = [one.id for one in batch]
        if isinstance(outcome, Later):
            seconds = max(outcome.after, min(FIRST * 2.0 ** min(batch[0].attempts - 1, 16), LONGEST) * self._jitter())
            again = self._clock.now() + timedelta(seconds=min(seconds, LONGEST))
            outcome = self._given_up(batch, outcome)
        match outcome:
            case Sent(reason=reason):
                log.info("notice.sent", part=name, number=len(ids))
                await self._insist(lambda tx: alarms.settle(tx, ids, alarms.SENT, reason=reason))
            case Never(reason=reason):
                log.error("notice.dropped", part=name, number=len(ids), reason=reason)
                await self._insist(lambda tx: alarms.settle(tx, ids, alarms.DROPPED, reason=reason))
            case Later(reason=reason):
                log.warning("notice.waits", part=name, number=len(ids), reason=reason)
                await self._insist(lambda tx: alarms.put_back(tx, ids, at=again, reason=reason))

    def _given_up(self, batch: list[Due], outcome: Later) -> Outcome:
        """A batch is given up when the newest edge in it is too old to be news."""
        newest = max(one.alarm.since if one.edge == ON else one.alarm.over_at or one.alarm.since for one in batch)
        if (self._clock.now() - newest).total_seconds() >= self._settings.give_up_after:
            return Never(f"given_up: {outcome.reason}")
        return outcome

    def _jitter(self) -> float:
        return 0.5 + self._random.random() / 2

    async def _insist(self, write: Work[T]) -> T:
        """Write until it is kept: that a channel has it stands nowhere else."""
        while True:
            try:
                return await self._store.write(write)
            except StoreError as problem:
                log.error("notice.not_noted", error=type(problem).__name__)
                await self._clock.sleep(1.0)
