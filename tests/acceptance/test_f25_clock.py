"""F25: the clock jumps, steps, and goes past 2036 and 2038. Deadlines hold, queues drain, order is by number."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.store.schema import message
from tests.acceptance.receiver import acknowledge, receiving
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_custody_faults_orders import SteppedClock
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.virtual_clock import VirtualClock


class Elsewhen(VirtualClock):
    """A clock that is wrong from the first moment; `step` moves it as NTP would, and time itself goes on."""

    def __init__(self, begins: datetime) -> None:
        super().__init__()
        self.offset = begins - datetime.now(UTC)

    def now(self) -> datetime:
        return super().now() + self.offset

    def step(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "begins",
    [
        datetime(2036, 2, 7, 6, 28, 10, tzinfo=UTC),  # NTP's era ends at 06:28:16 (RFC 5905 §6)
        datetime(2038, 1, 19, 3, 14, 2, tzinfo=UTC),  # a signed 32-bit time_t ends at 03:14:07
        datetime(2106, 2, 7, 6, 28, 10, tzinfo=UTC),  # an unsigned one at 06:28:15
        datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC),
    ],
    ids=["2036", "2038", "2106", "1970"],
)
async def test_f25_over_the_ends_of_eras_orders_and_recordings_flow(
    house: OpenHouse, tmp_path: Any, begins: datetime
) -> None:
    clock = Elsewhen(begins)
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        it.sandbox.faults.add("5xx_before", on="uploads", status=500, times=1)
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.hl7(order())
        await it.until(lambda rows: rows[0].state == "RETRY")
        clock.jump(30)  # over the end
        await it.hl7(order("C2", "PL-2", patient="4712"))
        assert await it.store(recording(tmp_path)) == 0
        await flown(it, clock)
        rows = await it.messages()
        assert [row.state for row in rows] == ["CREATED"] * 3
        assert rows[0].received_at.startswith(f"{begins:%Y-%m-%d}")
        shown = await it.show(rows[0].id)
        assert shown["history"][-1]["at"] > rows[0].received_at


async def flown(it: House, clock: VirtualClock, seconds: float = 5.0) -> None:
    """Time passes until nothing is open."""
    for _ in range(400):
        if all(row.state == "CREATED" for row in await it.messages()):
            return
        clock.jump(seconds)
        await clock.sleep(0.01)
    pytest.fail(f"{[(row.state, row.reason) for row in await it.messages()]}")


@pytest.mark.parametrize("step", [-3600.0, 3600.0, -400 * 86400.0, 400 * 86400.0], ids=["-1h", "+1h", "-400d", "+400d"])
async def test_f25_a_step_while_everything_waits_keeps_nothing_waiting(
    house: OpenHouse, tmp_path: Any, step: float
) -> None:
    """A task, an upload and a late id wait, each for its time; the clock steps, and a little later all are through."""
    clock = Elsewhen(datetime(2026, 3, 1, 12, tzinfo=UTC))
    silent = [True]

    def answering(text: str, _: int) -> str | None:
        return None if silent[0] else acknowledge(text)

    async with receiving(answering) as his:
        settings = {"BRIDGE_HL7__RETURN_ADDRESS": his.address, "BRIDGE_HL7__REPLY_BUDGET": "0.1"}
        async with house(clock=clock, **settings) as it:
            it.sandbox.faults.add("latency", on="tasks", times=1, seconds=0.3)
            await it.hl7(order())
            await it.settled(1)
            async with asyncio.timeout(20):
                while not any(told["attempts"] for told in (await it.show("1"))["told_later"]):  # noqa: ASYNC110  as `until`
                    await asyncio.sleep(0.02)
            it.sandbox.faults.add("429", on="tasks", times=1, retry_after="60")
            await it.hl7(order("C2", "PL-2", patient="4712"))
            await it.until(lambda rows: rows[1].state == "RETRY")
            assert await it.store(recording(tmp_path)) == 0
            clock.step(step)
            silent[0] = False
            await flown(it, clock)
            for _ in range(200):
                if his.taken:
                    break
                clock.jump(5)
                await clock.sleep(0.01)
            assert len(his.taken) >= 1
            assert len(it.sandbox.tasks) == 3


async def test_f25_a_recording_waits_for_its_order_as_long_as_was_said(house: OpenHouse, tmp_path: Any) -> None:
    """Its end is a moment of the clock: a step back must not make the wait longer than it was to be."""
    clock = SteppedClock()
    settings = {"BRIDGE_RECORDINGS__ORDER_WAIT": "600", "BRIDGE_RECORDINGS__WITHOUT_ORDER": "create"}
    async with house(clock=clock, **settings) as it:
        await it.store(recording(tmp_path, accession="ACC-NONE"))
        await it.until(lambda rows: rows[0].state == "RETRY")
        clock.set_back(3600)
        for _ in range(30):
            clock.jump(30)
            await clock.sleep(0.02)
            if (await it.messages())[0].state == "CREATED":
                break
        assert (await it.messages())[0].state == "CREATED", "15 minutes, of which 10 were to be waited"


async def test_f25_the_line_is_in_order_of_arrival_whatever_the_clock_says(house: OpenHouse) -> None:
    """Two orders of one patient, the second one received an hour before the first."""
    clock = Elsewhen(datetime(2026, 3, 1, 12, tzinfo=UTC))
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.hl7(order("C1", "PL-1"))
        await it.until(lambda rows: rows[0].state == "RETRY")
        clock.step(-3600)
        await it.hl7(order("C2", "PL-2"))
        await flown(it, clock)
        made = [t.request["investigation_id"] for t in it.sandbox.tasks.values()]
        assert made == ["ACCPL-1", "ACCPL-2"]


async def test_f25_no_stored_time_is_further_away_than_anything_waits(house: OpenHouse) -> None:
    """An absurd time in the store, by whatever way: everything is due."""
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="1")
        await it.hl7(order())
        await it.until(lambda rows: rows[0].state == "RETRY")
        far = 2**52
        await it.up.store.write(lambda tx: tx.conn.execute(message.update(), {"next_at": far}))
        await flown(it, clock)
