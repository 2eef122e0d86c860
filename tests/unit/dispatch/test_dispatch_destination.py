"""The places of a destination: who may be taken in hand beside whom."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.dispatch.destination import LARGE, LOOK, Destination, Room
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.policy import PauseDestination, Reason, Retry
from bridge.settings import CardioSettings, DestinationSettings
from bridge.store import line


class Still:
    """A clock that stands."""

    at = 100.0

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


def made(**values: Any) -> Destination:
    clock: Any = Still()
    document = {"base_url": "http://127.0.0.1:9", "organization_path": "o", "token": "t", **values}
    return Destination(DestinationSettings.model_validate(document), clock, lambda: 1)


def message(number: int, kind: str = "hl7", size: int = 600) -> line.Claimed:
    return line.Claimed(**dict.fromkeys(line.Claimed.__slots__, "") | {"id": number, "kind": kind, "size": size})


@pytest.mark.parametrize(
    ("values", "room"),
    [
        ({}, Room(8, 7, 3)),
        ({"in_flight": 1}, Room(1, 1, 1)),
        ({"in_flight": 2}, Room(2, 1, 1)),
        ({"in_flight": 3}, Room(3, 2, 1)),
        ({"in_flight": 8, "uploads_in_flight": 2}, Room(8, 2, 1)),
        ({"rate": 2.0}, Room(1, 7, 3)),
        ({"rate": 50.0}, Room(5, 7, 3)),
    ],
)
def test_a_draft_always_has_a_place_and_a_long_upload_never_has_them_all(values: dict[str, Any], room: Room) -> None:
    assert made(**values).room() == room


def test_what_is_in_hand_takes_its_place_and_gives_it_back() -> None:
    one = made()
    draft, short, long = message(1), message(2, "dicom", 300_000), message(3, "dicom", LARGE)
    for each in (draft, short, long):
        one.begin(each)
    assert one.room() == Room(5, 5, 2)
    assert one.reserve()
    assert one.room().total == 4
    one.give_up(used=False)
    for each in (draft, short, long):
        one.end(each)
    assert one.room() == Room(8, 7, 3)


@pytest.mark.parametrize(
    ("room", "at_once", "smaller"),
    [
        (Room(8, 7, 3), 3, line.ANY_SIZE),
        (Room(5, 4, 0), 4, LARGE),
        (Room(1, 0, 0), 1, 0),
        (Room(2, 7, 3), 2, line.ANY_SIZE),
        (Room(0, 7, 3), 0, line.ANY_SIZE),
    ],
)
def test_what_may_be_asked_for(room: Room, at_once: int, smaller: int) -> None:
    assert (room.at_once(), room.smaller()) == (at_once, smaller)


def test_f15_while_it_is_down_one_message_probes_and_nobody_beside_it() -> None:
    one = made()
    one.health = one.health.after(PauseDestination(Reason.TOKEN_REFUSED), Still.at - 61)
    assert (one.pause(), one.room()) == (0, Room(1, 1, 1))
    one.asking = True  # the line is being asked for it
    assert not one.reserve()
    one.asking = False
    one.begin(message(1))
    assert not one.reserve()
    assert one.room().total == 0


async def test_f14_a_call_of_an_upload_that_meets_no_limit_but_an_outage_is_given_back() -> None:
    one = made()
    assert await one.clear() is None
    one.health = one.health.after(PauseDestination(Reason.NOT_ALLOWED), Still.at)
    assert await one.clear() == Retry(60.0, Reason.NOT_ALLOWED)


async def test_f43_who_waits_for_the_end_of_a_limit_goes_home_when_the_service_ends() -> None:
    one = made()
    one.health = one.health.limited(Still.at + 20)
    one.stop()
    assert await one.clear() == Retry(20.0, Reason.RATE_LIMITED)


class NoStore:
    """What is written is of no interest here."""

    async def write(self, work: Any) -> None:
        return None

    def subscribe(self, listener: Any) -> None: ...

    def dispatchers(self) -> int:
        return 1


async def test_f15_whoever_is_stopped_on_his_way_does_not_take_the_new_token_for_the_refused_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    clock: Any = Still()
    clock.at = 100.0
    document = {"base_url": "http://127.0.0.1:9", "organization_path": "o", "token_file": str(file)}
    store: Any = NoStore()
    await asyncio.to_thread(file.write_text, "old")
    every = Destinations(CardioSettings.model_validate(document), store, clock)
    one = every.first
    await every.note(one, PauseDestination(Reason.TOKEN_REFUSED))
    await asyncio.to_thread(file.write_text, "another")
    stopped = await one.clear()
    assert stopped is not None
    await every.note(one, stopped)
    clock.at += LOOK
    assert one.pause() == 0
