"""F15, F16, F17: a token that is refused stops its destination, as one that is not allowed does; a bad message only
itself.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.domain.states import State
from bridge.store.listing import Row
from tests.acceptance.receiver import field_of
from tests.acceptance.scene import House, OpenHouse, gather, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.two_apis import api, beside, destination_row, stands, to_north
from tests.acceptance.virtual_clock import VirtualClock

SOON = {"BRIDGE_HL7__REPLY_BUDGET": "0.1"}


class TokenFile:
    """The API's token in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.holds("test-token\n")
        self.settings = {"BRIDGE_CARDIO__TOKEN": "", "BRIDGE_CARDIO__TOKEN_FILE": str(path), **SOON}

    def holds(self, text: str) -> None:
        """It is written anew."""
        self._path.write_text(text, encoding="ascii")

    def goes(self) -> None:
        """It is there no more."""
        self._path.unlink()


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    """A token in a file, and the settings that name it."""
    return TokenFile(tmp_path / "api.token")


def refusals(it: House, status: int = 401) -> int:
    """Calls that the API refused with that status."""
    return sum(call["status"] == status for call in it.sandbox.journal)


async def minutes(it: House, clock: VirtualClock, count: int) -> None:
    """So much time passes, in steps behind each of which the line is looked at."""
    for _ in range(count * 12):
        clock.jump(5)
        await it.up.store.write(lambda tx: tx.notify("ready"))
        await it.up.store.write(lambda tx: tx.notify("ready"))
        await quiet(it)


async def quiet(it: House) -> None:
    """Nothing is on its way at this moment."""
    await it.until(lambda rows: not any(row.state in {State.INTENT, State.UPLOADING} for row in rows))


def all_created(count: int) -> Callable[[list[Row]], bool]:
    return lambda rows: len(rows) == count and all(row.state == "CREATED" for row in rows)


async def test_f15_a_new_token_in_its_file_is_taken_without_a_start_and_nothing_is_lost(
    house: OpenHouse, token_file: TokenFile, tmp_path: Path
) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **token_file.settings) as it:
        await it.hl7(order("C0", "PL-0", patient="P0"))
        it.sandbox.token = "renewed"
        await gather(*(it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}")) for n in range(1, 31)))
        await it.store(recording(tmp_path))
        await quiet(it)
        assert await destination_row(it, "cardio") == (True, "token_refused")
        begun = refusals(it)
        assert begun <= 8  # what was in flight when the first was told
        await minutes(it, clock, 10)
        assert 5 <= refusals(it) - begun <= 10
        token_file.holds("renewed\n")
        clock.jump(1.1)  # long before the next minute is over
        await it.until(all_created(32))
        assert len(it.sandbox.tasks) == 32
        assert await destination_row(it, "cardio") == (False, "")


async def test_f15_a_lone_message_goes_with_the_new_token_at_once(house: OpenHouse, token_file: TokenFile) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **token_file.settings) as it:
        it.sandbox.token = "renewed"
        await it.hl7(order())
        await it.until(stands("C1", "RETRY", "token_refused"))
        token_file.holds("renewed\n")
        clock.jump(1.1)
        await it.until(all_created(1), 5)
        assert refusals(it) == 1


async def test_f15_a_token_file_that_is_written_anew_with_the_same_token_is_no_reason_to_probe(
    house: OpenHouse, token_file: TokenFile
) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **token_file.settings) as it:
        it.sandbox.token = "renewed"
        await it.hl7(order())
        await it.until(stands("C1", "RETRY", "token_refused"))
        for n in range(20):
            token_file.holds("test-token\n" + " " * n)
            clock.jump(2)
            await it.up.store.write(lambda tx: tx.notify("ready"))
        await quiet(it)
        assert refusals(it) == 1


async def test_f15_a_token_file_that_is_gone_for_a_while_costs_nothing(house: OpenHouse, token_file: TokenFile) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **token_file.settings) as it:
        token_file.goes()
        await it.hl7(order())
        await it.until(stands("C1", "RETRY", "unreachable"))
        assert len(it.sandbox.journal) == 0
        token_file.holds("test-token\n")
        clock.jump(1.1)
        await it.until(all_created(1))


async def test_f15_the_answer_comes_at_once_while_the_token_is_refused(house: OpenHouse, token_file: TokenFile) -> None:
    own = token_file.settings | {"BRIDGE_HL7__REPLY_BUDGET": "30"}
    async with house(**own) as it:
        it.sandbox.token = "renewed"
        for n in range(20):
            answer = await it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}"))
            assert field_of(answer, "MSA", 3) == "accepted, task pending"
        assert refusals(it) == 1


async def test_f15_a_long_upload_under_way_stops_with_its_token_and_begins_anew_with_the_next(
    house: OpenHouse, token_file: TokenFile, tmp_path: Path
) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **token_file.settings, BRIDGE_CARDIO__CHUNK_SIZE="10000") as it:
        it.sandbox.faults.add("401", on="chunks", skip=3, times=1)
        await it.store(recording(tmp_path))
        await it.until(lambda rows: rows[0].reason == "token_refused")
        clock.jump(61)
        await it.until(all_created(1))
        first, second = it.sandbox.journal.select("uploads")
        assert first["body"] == second["body"]  # the same bytes, the same hash


async def test_f16_a_token_that_is_not_allowed_stops_its_own_destination_with_one_probe_a_minute(
    house: OpenHouse,
) -> None:
    clock = VirtualClock()
    async with api() as north, house(clock=clock, **beside(north), **SOON) as it:
        it.sandbox.faults.add("403", on="*")
        await gather(*(it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}")) for n in range(20)))
        await quiet(it)
        begun = refusals(it, 403)
        assert begun <= 8
        assert await destination_row(it, "cardio") == (True, "not_allowed")
        for n in range(20):
            await it.hl7(to_north(f"N{n}", f"PL-N{n}", patient=f"N{n}"))
        await minutes(it, clock, 10)
        assert 5 <= refusals(it, 403) - begun <= 10
        assert len(north.sandbox.tasks) == 20
        it.sandbox.faults.clear()
        clock.jump(61)
        await it.until(all_created(40))
        assert len(it.sandbox.tasks) == 20


async def test_f16_the_doors_are_told_why(house: OpenHouse, capfd: pytest.CaptureFixture[str]) -> None:
    async with house(**SOON) as it:
        it.sandbox.faults.add("403", on="tasks", times=1)
        await it.hl7(order())
        await it.until(stands("C1", "RETRY", "not_allowed"))
    told = capfd.readouterr()
    assert "destination.stopped" in told.out + told.err


@pytest.mark.parametrize("status", ["400", "415"])
async def test_f17_one_of_a_hundred_is_refused_and_never_sent_again_and_the_others_flow(
    house: OpenHouse, status: str
) -> None:
    clock = VirtualClock()
    async with house(clock=clock) as it:
        it.sandbox.faults.add(status, on="tasks", skip=41, times=1)
        answers = await gather(*(it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}")) for n in range(100)))
        assert sorted(field_of(answer, "MSA", 1) for answer in answers) == ["AA"] * 99 + ["AE"]
        rows = await it.settled(100)
        refused = [row for row in rows if row.state == "REJECTED"]
        assert [(row.reason, row.task_ids) for row in refused] == [("api_refused", [])]
        await minutes(it, clock, 5)
        assert len(it.sandbox.journal.select("tasks")) == 100
        assert await destination_row(it, "cardio") == (False, "")


async def test_f17_a_refused_upload_stops_its_recording_alone(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="uploads", times=1)
        await it.store(recording(tmp_path, seed="a"))
        await it.settled(1)
        await it.store(recording(tmp_path, seed="b"))
        assert [row.state for row in await it.settled(2)] == ["REJECTED", "CREATED"]
