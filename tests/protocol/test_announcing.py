"""Notices on their way: each edge once, again after a fault, together in a storm, and never twice after a restart."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from bridge.dispatch.alarms.announcing import Announcing, Channel
from bridge.dispatch.alarms.letters import Later, Letter, Never, Outcome, Sent
from bridge.dispatch.alarms.webhook import Webhook
from bridge.errors import StoreError
from bridge.settings import AlarmSettings, Settings, WebhookSettings
from bridge.store import alarms
from bridge.store.port import Transaction
from bridge.store.sqlite import SqliteStore
from tests.acceptance.virtual_clock import VirtualClock
from tests.protocol.hook import Hook, hook

KEY = b"k" * 32


@dataclass
class Scripted:
    """A channel that answers as a test wants, and keeps what it was told."""

    answering: Callable[[int], Outcome] = lambda _: Sent()
    letters: list[Letter] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, letter: Letter) -> Outcome:
        self.letters.append(letter)
        async with self.arrived:
            self.arrived.notify_all()
        return self.answering(len(self.letters))

    async def until(self, count: int) -> list[Letter]:
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.letters) >= count)
        return self.letters

    @property
    def told(self) -> list[str]:
        """Subjects in the order in which they were told."""
        return [event.alarm.subject for letter in self.letters for event in letter.events]


@contextlib.asynccontextmanager
async def announcing(
    store: SqliteStore, clock: VirtualClock, channels: dict[str, Channel], **settings: Any
) -> AsyncIterator[Announcing]:
    """Telling, as the service runs it."""
    it = Announcing(store, Settings(alarms=AlarmSettings(**settings)), clock, KEY, channels)
    store.subscribe(it.hear)
    running = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def begin(
    store: SqliteStore, clock: VirtualClock, *subjects: str, channels: tuple[str, ...] = ("webhook",)
) -> None:
    def work(tx: Transaction) -> None:
        for one in subjects:
            alarms.begin(tx, "in_doubt", one, at=clock.now(), detail={}, channels=channels)

    await store.write(work)


async def until(there: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await there():  # noqa: ASYNC110  the store's rows are no event
            await asyncio.sleep(0.01)


async def states(store: SqliteStore) -> list[tuple[str, int, str]]:
    on = await store.read(alarms.history)
    told = await store.read(lambda conn: alarms.told(conn, [a.id for a in on]))
    return [(t.state, t.attempts, t.reason) for a in reversed(on) for t in told.get(a.id, [])]


def settled(store: SqliteStore, *expected: tuple[str, int, str]) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return await states(store) == list(expected)

    return there


async def test_what_begins_is_told_at_once_and_once(store: SqliteStore) -> None:
    clock, channel = VirtualClock(), Scripted()
    async with announcing(store, clock, {"webhook": channel}):
        await begin(store, clock, "1")
        await channel.until(1)
        await until(settled(store, ("SENT", 1, "")))
        clock.jump(3600)
        await begin(store, clock, "2")
        await channel.until(2)
    assert channel.told == ["1", "2"]


async def test_after_a_fault_it_goes_out_again_with_growing_pauses(store: SqliteStore) -> None:
    clock = VirtualClock()
    channel = Scripted(lambda nth: Later("http_500") if nth < 4 else Sent())
    times: list[float] = []
    async with announcing(store, clock, {"webhook": channel}, per_minute=600):
        await begin(store, clock, "1")
        for nth in range(1, 5):
            await channel.until(nth)
            times.append(clock.monotonic())
            if nth < 4:
                await until(settled(store, ("WAITING", nth, "http_500")))
                while len(channel.letters) == nth:
                    clock.jump(0.5)
                    await asyncio.sleep(0.002)
        await until(settled(store, ("SENT", 4, "")))
    assert len({letter.id for letter in channel.letters}) == 1
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses[0] >= 2.5
    assert pauses[1] >= 5
    assert pauses[2] >= 10


async def test_a_pause_that_is_asked_for_is_kept(store: SqliteStore) -> None:
    clock = VirtualClock()
    channel = Scripted(lambda nth: Later("http_429", 300) if nth == 1 else Sent())
    async with announcing(store, clock, {"webhook": channel}):
        await begin(store, clock, "1")
        await channel.until(1)
        await until(settled(store, ("WAITING", 1, "http_429")))
        due = await store.read(lambda conn: alarms.next_due(conn, "webhook"))
        assert due is not None
        assert due / 1000 - clock.now().timestamp() > 200
        clock.jump(301)
        await channel.until(2)


async def test_what_is_refused_for_good_is_dropped_with_its_reason(store: SqliteStore) -> None:
    clock, channel = VirtualClock(), Scripted(lambda _: Never("http_404"))
    async with announcing(store, clock, {"webhook": channel}):
        await begin(store, clock, "1")
        await until(settled(store, ("DROPPED", 1, "http_404")))
    assert len(channel.letters) == 1


async def test_what_cannot_be_told_for_a_day_is_given_up(store: SqliteStore) -> None:
    clock, channel = VirtualClock(), Scripted(lambda _: Later("ConnectError"))
    async with announcing(store, clock, {"webhook": channel}):
        await begin(store, clock, "1")
        await until(settled(store, ("WAITING", 1, "ConnectError")))
        clock.jump(86_401)
        await until(settled(store, ("DROPPED", 2, "given_up: ConnectError")))


async def test_a_storm_is_gathered(store: SqliteStore) -> None:
    """450 alarms while the channel had its message of the minute: three messages have them all."""
    clock, channel = VirtualClock(), Scripted()
    subjects = [str(n) for n in range(450)]
    async with announcing(store, clock, {"webhook": channel}, per_minute=1):
        await begin(store, clock, "first")
        await channel.until(1)
        for start in range(0, 450, 45):
            await begin(store, clock, *subjects[start : start + 45])
        for nth in (2, 3, 4):
            assert len(channel.letters) == nth - 1
            clock.jump(61)
            await channel.until(nth)
    assert [len(letter.events) for letter in channel.letters] == [1, 200, 200, 50]
    assert channel.told == ["first", *subjects]


async def test_no_more_messages_a_minute_than_set(store: SqliteStore) -> None:
    clock, channel = VirtualClock(), Scripted()
    async with announcing(store, clock, {"webhook": channel}, per_minute=2):
        for number in range(2):
            await begin(store, clock, f"a{number}")
            await channel.until(number + 1)
        for number in range(5):
            await begin(store, clock, f"b{number}")
        await until(settled(store, *[("SENT", 1, "")] * 2, *[("WAITING", 0, "")] * 5))
        assert len(channel.letters) == 2
        clock.jump(61)
        await channel.until(3)
    assert [e.alarm.subject for e in channel.letters[2].events] == [f"b{n}" for n in range(5)]


async def test_one_channel_does_not_wait_for_another(store: SqliteStore) -> None:
    clock, mail, never = VirtualClock(), Scripted(), asyncio.Event()

    class Hanging:
        async def send(self, _: Letter) -> Outcome:
            await never.wait()
            return Sent()

    async with announcing(store, clock, {"webhook": Hanging(), "mail": mail}):
        await begin(store, clock, "1", channels=("webhook", "mail"))
        await mail.until(1)
        await begin(store, clock, "2", channels=("webhook", "mail"))
        await mail.until(2)


async def test_a_restart_between_edge_and_telling_tells_it_once(store: SqliteStore) -> None:
    clock, channel = VirtualClock(), Scripted()
    await begin(store, clock, "1")  # and the process ends before anybody is told
    async with announcing(store, clock, {"webhook": channel}):
        await until(settled(store, ("SENT", 1, "")))
    async with announcing(store, clock, {"webhook": channel}):
        await begin(store, clock, "2")
        await channel.until(2)
    assert channel.told == ["1", "2"]


async def test_a_restart_in_the_midst_of_telling_tells_it_again_with_the_same_ids(store: SqliteStore) -> None:
    """At least once: that it arrived stood nowhere. Whoever is told twice sees it by the ids."""
    clock, gone, back = VirtualClock(), Scripted(), Scripted()

    class Ends(Scripted):
        async def send(self, letter: Letter) -> Outcome:
            await super().send(letter)
            await asyncio.Event().wait()  # the process ends here
            return Sent()

    gone = Ends()
    async with announcing(store, clock, {"webhook": gone}):
        await begin(store, clock, "1", "2")
        await gone.until(1)
    await begin(store, clock, "3")
    clock.jump(121)
    async with announcing(store, clock, {"webhook": back}):
        await until(settled(store, ("SENT", 2, ""), ("SENT", 2, ""), ("SENT", 1, "")))
    again = next(letter for letter in back.letters if len(letter.events) == 2)
    assert again.id == gone.letters[0].id
    assert [e.id for e in again.events] == [e.id for e in gone.letters[0].events]
    assert sorted(back.told) == ["1", "2", "3"]


async def test_a_channel_that_the_settings_lost_keeps_nothing_waiting(store: SqliteStore) -> None:
    clock, channel = VirtualClock(), Scripted()
    await begin(store, clock, "1", channels=("mail",))
    async with announcing(store, clock, {"webhook": channel}):
        await until(settled(store, ("DROPPED", 0, "channel_gone")))
    async with announcing(store, clock, {}):
        pass


async def test_a_channel_that_breaks_is_tried_again(store: SqliteStore) -> None:
    def broken(nth: int) -> Outcome:
        if nth == 1:
            raise RuntimeError("invented CANARY")
        return Sent()

    clock, channel = VirtualClock(), Scripted(broken)
    with structlog.testing.capture_logs() as logs:
        async with announcing(store, clock, {"webhook": channel}):
            await begin(store, clock, "1")
            await until(settled(store, ("WAITING", 1, "RuntimeError")))
            clock.jump(10)
            await until(settled(store, ("SENT", 2, "")))
    assert "CANARY" not in repr(logs)


async def test_f24_a_store_that_is_full_for_a_while_loses_no_outcome(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, channel = VirtualClock(), Scripted()
    real, failing = store.write, [0]

    async def write(work: Any) -> Any:
        if channel.letters and failing[0] < 3:
            failing[0] += 1
            raise StoreError("invented")
        return await real(work)

    monkeypatch.setattr(store, "write", write)
    async with announcing(store, clock, {"webhook": channel}):

        def work(tx: Transaction) -> None:
            alarms.begin(tx, "in_doubt", "1", at=clock.now(), detail={}, channels=("webhook",))

        await real(work)
        await channel.until(1)
        while failing[0] < 3:
            clock.jump(1.1)
            await asyncio.sleep(0.005)
        clock.jump(1.1)
        await until(settled(store, ("SENT", 1, "")))
    assert len(channel.letters) == 1


async def test_over_http_500_and_then_200(store: SqliteStore) -> None:
    clock = VirtualClock()
    async with hook(lambda nth: "500 No" if nth == 1 else "200 OK") as it:
        channel = Webhook(WebhookSettings(url=it.address), clock)
        async with announcing(store, clock, {"webhook": channel}):
            await begin(store, clock, "1")
            await it.until(1)
            await until(settled(store, ("WAITING", 1, "http_500")))
            clock.jump(6)
            await it.until(2)
            await until(settled(store, ("SENT", 2, "")))
    assert _ids(it)[0] == _ids(it)[1]


def _ids(it: Hook) -> list[tuple[str, list[str]]]:
    return [(post.head["bridge-delivery"], [e["id"] for e in post.events]) for post in it.posts]
