"""The line of each destination: what goes there, and nothing of another's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.clock import SystemClock
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.policy import Created, Decision, InDoubt, PauseDestination, Reason, Retry
from bridge.domain.states import State
from bridge.settings import CardioSettings
from bridge.store import destinations, inbox, line
from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def ready(
    store: GroupedStore, name: str, goes_to: str, *, patient: str | None = None, kind: str = "hl7", size: int = 600
) -> int:
    """A message that is understood."""
    arrival = inbox.Arrival(
        kind=kind,
        type="",
        received_at=NOW,
        listener=kind,
        peer="",
        sender="",
        identity=name,
        digest=name,
        raw=b"x",
        size=size,
    )

    def work(tx: Any) -> int:
        kept = inbox.keep(tx, arrival)
        columns = {"destination": goes_to, "order_key": patient}
        assert inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW, **columns)
        return kept.id

    return await store.write(work)


async def waits(store: GroupedStore, number: int, reason: str, seconds: float) -> None:
    """It is put back for that long."""
    due = round((NOW + timedelta(seconds=seconds)).timestamp() * 1000)
    await store.write(
        lambda tx: inbox.move(tx, number, State.READY, State.RETRY, at=NOW, reason=reason, next_at=due, owner=None)
    )


async def claim(store: GroupedStore, goes_to: str, most: int = 10, **values: Any) -> list[int]:
    """The ids of what is claimed; whoever asks beforehand is told whether there is something."""
    at = values.pop("at", NOW)
    there = await store.read(lambda conn: line.is_claimable(conn, at=at, destination=goes_to, **values))
    found = await store.write(lambda tx: line.claim(tx, "me", most, at=at, destination=goes_to, **values))
    assert there == bool(found)
    return [one.id for one in found]


async def test_a_claim_takes_what_goes_there_and_leaves_the_rest(store: GroupedStore) -> None:
    a, b = await ready(store, "1", "a"), await ready(store, "2", "b")
    assert await claim(store, "a") == [a]
    assert await claim(store, "a") == []
    assert await claim(store, "b") == [b]


async def test_a_patients_later_message_waits_for_the_earlier_one_wherever_it_goes(store: GroupedStore) -> None:
    first, second = await ready(store, "1", "a", patient="P"), await ready(store, "2", "b", patient="P")
    assert await claim(store, "b") == []
    assert await store.read(lambda conn: line.waits(conn, "b"))
    await store.write(lambda tx: inbox.move(tx, first, State.READY, State.HELD, at=NOW))
    assert await claim(store, "b") == [second]
    assert not await store.read(lambda conn: line.waits(conn, "b"))


async def test_of_the_recordings_only_shorter_ones_where_it_is_asked_for(store: GroupedStore) -> None:
    long = await ready(store, "1", "a", kind="dicom", size=5000)
    short = await ready(store, "2", "a", kind="dicom", size=4999)
    order = await ready(store, "3", "a", size=9000)
    assert await claim(store, "a", smaller=0) == [order]
    assert await claim(store, "a", smaller=5000) == [short]
    assert await claim(store, "a") == [long]


async def test_what_goes_nowhere_is_found_by_what_is_known(store: GroupedStore) -> None:
    known = await ready(store, "1", "a")
    lost, undecided = await ready(store, "2", "gone"), await ready(store, "3", "")
    await ready(store, "4", "gone", patient="Q")
    behind = await ready(store, "5", "gone", patient="Q")
    assert await store.read(lambda conn: line.astray(conn, ["a"])) == {"gone": 3, "": 1}
    found = await store.write(lambda tx: line.claim_astray(tx, "me", 2, ["a"], at=NOW))
    assert [one.id for one in found] == [lost, undecided]
    for number in (lost, undecided):
        await waits(store, number, line.GONE, 60)
    counted = await store.read(lambda conn: line.astray(conn, ["a"], but=line.GONE))
    assert counted == {"gone": 2}
    assert behind not in [one.id for one in await store.write(lambda tx: line.claim_astray(tx, "x", 9, ["a"], at=NOW))]
    await store.write(lambda tx: destinations.assign(tx, undecided, "a"))
    assert await claim(store, "a", at=NOW + timedelta(seconds=61)) == [known, undecided]


async def test_when_the_next_is_due_and_until_when_a_limit_lasts_is_told_for_each(store: GroupedStore) -> None:
    for number, (goes_to, reason, seconds) in enumerate(
        [("a", "rate_limited", 30), ("a", "rate_limited", 90), ("a", "unreachable", 5), ("b", "unreachable", 7)]
    ):
        await waits(store, await ready(store, str(number), goes_to), reason, seconds)
    stored = round(NOW.timestamp() * 1000)
    assert await store.read(lambda conn: line.next_due(conn, "a")) == stored + 5000
    assert await store.read(lambda conn: line.next_due(conn, "b")) == stored + 7000
    assert await store.read(lambda conn: line.next_due(conn, "c")) is None
    assert await store.read(lambda conn: line.limited_until(conn, "rate_limited")) == {"a": stored + 90_000}


async def test_what_waited_for_a_destination_is_due_when_it_is_back_and_nothing_of_anothers(
    store: GroupedStore,
) -> None:
    mine, other = await ready(store, "1", "a"), await ready(store, "2", "b")
    limited = await ready(store, "3", "a")
    for number, reason in ((mine, "unreachable"), (other, "unreachable"), (limited, "rate_limited")):
        await waits(store, number, reason, 60)
    await store.write(lambda tx: line.hurry(tx, ["unreachable"], at=NOW, destination="a"))
    assert await claim(store, "a") == [mine]
    assert await claim(store, "b") == []


async def test_how_often_a_message_was_put_back_is_counted_by_its_reason(store: GroupedStore) -> None:
    number = await ready(store, "1", "a")
    await waits(store, number, "upload_failed", 1)
    for reason in ("rate_limited", "upload_failed"):
        await store.write(
            lambda tx, reason=reason: inbox.move(tx, number, State.RETRY, State.RETRY, at=NOW, reason=reason)
        )
    assert await store.read(lambda conn: line.times(conn, number, "upload_failed")) == 2


async def test_the_doors_hear_which_destination_went_down_and_since_when(store: GroupedStore) -> None:
    heard: list[Notice] = []
    store.subscribe(heard.extend)
    await store.write(lambda tx: destinations.begin(tx, ["a", "b"], at=NOW))
    for seconds, down, reason in ((1, True, "unreachable"), (2, True, "token_refused"), (3, False, "")):
        at = NOW + timedelta(seconds=seconds)
        await store.write(
            lambda tx, at=at, down=down, reason=reason: destinations.note(tx, "a", down=down, at=at, reason=reason)
        )
        if down:
            row = await store.read(
                lambda conn: conn.exec_driver_sql("SELECT reason, since FROM destination WHERE name = 'a'").one()
            )
            assert tuple(row) == (reason, round(NOW.timestamp() * 1000) + 1000)  # since it went down first
            assert await store.read(lambda conn: destinations.is_down(conn, "a"))
            assert not await store.read(lambda conn: destinations.is_down(conn, "b"))
    assert not await store.read(lambda conn: destinations.is_down(conn, "a"))
    told = iter([n.value for n in heard if n.topic == "destination"])
    # In this order; on PostgreSQL a process may see its own change a second time, as another's.
    for each in (("a", False), ("b", False), ("a", True), ("a", True), ("a", False)):
        assert each in told


async def test_a_destination_that_the_settings_do_not_name_any_more_is_forgotten(store: GroupedStore) -> None:
    await store.write(lambda tx: destinations.begin(tx, ["a", "b"], at=NOW))
    await store.write(lambda tx: destinations.note(tx, "b", down=True, at=NOW, reason="unreachable"))
    await store.write(lambda tx: destinations.begin(tx, ["a"], at=NOW))
    names = await store.read(lambda conn: conn.exec_driver_sql("SELECT name FROM destination").scalars().all())
    assert names == ["a"]


async def test_f42_a_resend_is_told_where_the_first_one_went(store: GroupedStore) -> None:
    await ready(store, "1", "a")
    arrival = inbox.Arrival(
        kind="hl7", type="", received_at=NOW, listener="hl7", peer="", sender="", identity="1", digest="1", raw=b"x"
    )
    again = await store.write(lambda tx: inbox.keep(tx, arrival))
    assert (again.known, again.destination) == (True, "a")


class Noting:
    """Dispatchers of one destination on a store, and how often one of them noted how it is."""

    def __init__(self, store: GroupedStore, number: int) -> None:
        document = {"base_url": "http://127.0.0.1:9", "organization_path": "o", "token": "t"}
        settings = CardioSettings.model_validate(document)
        self._store = store
        self._all = [Destinations(settings, store, SystemClock()) for _ in range(number)]
        self.noted: list[bool] = []

    async def begin(self) -> None:
        for one in self._all:
            await one.begin()
        write = self._store.write

        async def counted(work: Any) -> Any:
            done = await write(work)
            self.noted.append(await self.is_down())
            return done

        self._store.write = counted  # type: ignore[method-assign]

    async def outcome(self, number: int, decision: Decision) -> None:
        await self._all[number].note(self._all[number].first, decision)

    async def is_down(self) -> bool:
        name = self._all[0].first.name
        return await self._store.read(lambda conn: destinations.is_down(conn, name))

    async def aclose(self) -> None:
        for one in self._all:
            await one.aclose()


@pytest.fixture
async def noting(store: GroupedStore, heard: list[Notice]) -> AsyncIterator[Noting]:
    """Two of them, which have begun, behind what a process hears first (`heard`)."""
    it = Noting(store, 2)
    await it.begin()
    yield it
    await it.aclose()


async def test_what_a_dispatcher_noted_that_ended_since_is_gainsaid_by_one_that_is_well(noting: Noting) -> None:
    """Else every sender is told for ever that his task is pending, while all of them are made."""
    await noting.outcome(1, Created((1,)))
    await noting.outcome(0, PauseDestination(Reason.TOKEN_REFUSED))
    assert await noting.is_down()
    for number in range(5):
        await noting.outcome(1, Created((number,)))
    assert not await noting.is_down()
    assert noting.noted == [True, False], "once each, and nothing for a task beside it"


async def test_who_goes_on_to_find_it_down_says_so_again(noting: Noting) -> None:
    unreachable = Retry(1.0, Reason.UNREACHABLE, pause_destination=True)
    for decision in (unreachable, unreachable):
        await noting.outcome(0, decision)
    await noting.outcome(1, Created((1,)))
    await noting.outcome(0, unreachable)
    assert noting.noted == [True, False, True]


async def test_an_outcome_that_is_in_doubt_itself_gainsays_nobody(noting: Noting) -> None:
    """The API answers 502 to all: the second of them has seen it once."""
    await noting.outcome(0, PauseDestination(Reason.WRONG_ADDRESS))
    await noting.outcome(1, InDoubt(Reason.ANSWER_LOST))
    assert await noting.is_down()
    await noting.outcome(1, Created((1,)))
    assert not await noting.is_down()
