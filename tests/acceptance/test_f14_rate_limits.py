"""F14: a rate limit stops all senders of its token until its window is over, and nobody else."""

import asyncio
from pathlib import Path

import pytest

from bridge.dispatch.cardio.client import CardioClient
from bridge.domain.outcome import Outcome, Refused
from bridge.store.listing import Row
from tests.acceptance.scene import House, OpenHouse, gather, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.two_apis import api, beside, stands, to_north
from tests.acceptance.virtual_clock import VirtualClock

SOON = {"BRIDGE_HL7__REPLY_BUDGET": "0.1"}


async def looked(it: House) -> None:
    """The line was looked at since: whoever could have been sent is on his way."""
    for _ in range(3):
        await it.up.store.write(lambda tx: tx.notify("ready"))
        await asyncio.sleep(0)


async def test_f14_two_organizations_that_share_a_token_share_its_limit_and_a_third_does_not(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with (
        api(token="test-token") as shares,
        api("south-hospital", token="south-token") as other,
        house(clock=clock, **beside(shares, other), **SOON) as it,
    ):
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="300")
        await it.hl7(order("C1", "PL-1"))
        await it.until(stands("C1", "RETRY", "rate_limited"))
        await it.hl7(to_north("N1", "PL-N1", patient="4712"))
        await it.hl7(order("S1", "PL-S1", patient="4713").replace("|BRIDGE|", "|SOUTH|"))
        await it.until(stands("S1", "CREATED"))
        clock.jump(299)
        await looked(it)
        assert (len(it.sandbox.journal.select("tasks")), shares.calls()) == (1, [])
        clock.jump(1.5)
        await it.until(lambda rows: all(row.state == "CREATED" for row in rows))
        assert (len(it.sandbox.tasks), len(shares.sandbox.tasks), len(other.sandbox.tasks)) == (1, 1, 1)


async def test_f14_what_is_in_hand_when_the_limit_is_met_makes_no_call_within_the_window(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three orders of one message each: the second call of the one meets the limit that the other was told."""
    clock, calls = VirtualClock(), list[bytes]()
    real, held = CardioClient.create_tasks, asyncio.Event()

    async def create(self: CardioClient, body: bytes) -> Outcome:
        calls.append(body)
        if len(calls) == 1:  # the first one is under way while the second is told to wait
            await held.wait()
            return await real(self, body)
        if len(calls) == 2:
            return Refused(429, "", 300.0)
        return await real(self, body)

    monkeypatch.setattr(CardioClient, "create_tasks", create)
    second = "ORC|NW|PL-2^HIS\rOBR|2|PL-2^HIS||93224^Holter^CPT||||||||||||||ACC-2\r"
    async with house(clock=clock, **SOON) as it:
        await it.hl7(order("C1", "PL-1") + second)
        await it.until(lambda _: len(calls) == 1)
        await it.hl7(order("C2", "PL-3", patient="4712"))
        await it.until(stands("C2", "RETRY", "rate_limited"))
        held.set()
        await it.until(stands("C1", "RETRY", "rate_limited"))  # its second order, which was not sent
        clock.jump(299)
        await looked(it)
        assert len(calls) == 2
        clock.jump(2)
        rows = await it.until(lambda rows: all(row.state == "CREATED" for row in rows))
        assert [len(row.task_ids) for row in rows] == [2, 1]
        assert len(it.sandbox.tasks) == 3


async def test_f14_a_start_within_the_window_waits_for_its_end(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **SOON) as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="300")
        await it.hl7(order("C1", "PL-1"))
        await it.until(stands("C1", "RETRY", "rate_limited"))
        await it.hl7(order("C2", "PL-2", patient="4712"))
    async with house(sandbox=it.sandbox, clock=clock, **SOON) as it:
        await it.hl7(order("C3", "PL-3", patient="4713"))
        clock.jump(290)
        await looked(it)
        assert len(it.sandbox.journal.select("tasks")) == 1
        clock.jump(20)
        await it.until(lambda rows: len(rows) == 3 and all(row.state == "CREATED" for row in rows))


async def test_f14_a_long_upload_waits_where_it_is_and_goes_on_with_the_same_chunk(
    house: OpenHouse, tmp_path: Path
) -> None:
    """Whoever began anew each time would never end where a minute takes fewer chunks than an upload has."""
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_CARDIO__CHUNK_SIZE="10000") as it:
        it.sandbox.faults.add("429", on="chunks", every=3, retry_after="60")
        await it.store(recording(tmp_path))

        def flies(rows: list[Row]) -> bool:
            clock.jump(5)
            return rows[0].state == "CREATED"

        (row,) = await it.until(flies)
        assert row.attempts == 1
        assert len(it.sandbox.journal.select("uploads")) == 1
        refused = [c for c in it.sandbox.journal.select("chunks") if c["status"] == 429]
        assert len(refused) >= 4


async def test_f14_a_limit_is_no_failure_of_the_recordings(house: OpenHouse, tmp_path: Path) -> None:
    """Limited more often than an upload may fail, and then its session is lost once: it is created all the same."""
    clock = VirtualClock()
    async with house(clock=clock) as it:
        it.sandbox.faults.add("429", on="uploads", times=5, retry_after="10")
        it.sandbox.faults.add("forget_upload", on="chunks", times=3)  # one whole try
        await it.store(recording(tmp_path))

        def flies(rows: list[Row]) -> bool:
            clock.jump(5)
            return rows[0].state in {"CREATED", "HELD"}

        (row,) = await it.until(flies)
        assert (row.state, len(it.sandbox.tasks)) == ("CREATED", 1)


async def test_f14_many_wait_for_one_window_and_go_out_once(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **SOON) as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="600")
        await it.hl7(order("C0", "PL-0", patient="P0"))
        await it.until(stands("C0", "RETRY", "rate_limited"))
        await gather(*(it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}")) for n in range(1, 40)))
        clock.jump(590)
        await looked(it)
        assert len(it.sandbox.journal.select("tasks")) == 1
        clock.jump(11)
        await it.until(lambda rows: len(rows) == 40 and all(row.state == "CREATED" for row in rows))
        assert len(it.sandbox.tasks) == 40
        assert len(it.sandbox.journal.select("tasks")) == 41
