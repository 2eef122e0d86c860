"""F38 and failures.md §3.6: what was created is looked at until it is processed; each draft once."""

import json
from typing import Any

import pytest

from bridge.sandbox.cardio_api import Sandbox
from bridge.sandbox.cardio_uploads import Unknowns
from bridge.store import anomalies
from bridge.store.schema import task
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f41_restored import bridge
from tests.acceptance.virtual_clock import VirtualClock


def api(processed_after: float | None = None, **options: Any) -> Sandbox:
    unknowns = Unknowns(processed_after=processed_after, **options)
    return Sandbox(token="test-token", organization="test-hospital", first_task_id=4711, unknowns=unknowns)


async def rows(it: House) -> list[Any]:
    return await it.up.store.read(lambda conn: list(conn.execute(task.select().order_by(task.c.id)).all()))


async def looks(it: House) -> list[int]:
    return [json.loads(row.watched)["looks"] if row.watched else 0 for row in await rows(it)]


async def open_anomalies(it: House) -> list[tuple[str, str]]:
    found = await it.up.store.read(anomalies.open_ones)
    return [(a.reason, a.task_ids) for a in found]


def asked(it: House) -> int:
    return sum(entry["call"] == "status" for entry in it.sandbox.journal)


async def as_time_flies(it: House, clock: VirtualClock, until: Any, step: float = 30.0) -> None:
    """Half a minute at a time, until the condition over the task rows holds."""

    def reached(found: list[Any]) -> bool:
        return bool(until(found))

    for _ in range(4000):
        if reached(await rows(it)):
            return
        clock.jump(step)
        await clock.sleep(0.01)
    pytest.fail(f"not reached: {[(r.state, r.watch_at, r.watched) for r in await rows(it)]}")


async def test_f38_a_task_that_is_processed_is_asked_for_no_more(house: OpenHouse, tmp_path: Any) -> None:
    clock = VirtualClock()
    async with house(api(processed_after=0.0, severity="MODERATE"), clock=clock) as it:
        await it.store(recording(tmp_path))
        await it.settled(1)
        assert asked(it) == 0, "not at once: there is work to do first"
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        (row,) = await rows(it)
        assert json.loads(row.watched) == {"looks": 1, "processed": True, "report": True, "severity": "MODERATE"}
        assert asked(it) == 1
        assert await open_anomalies(it) == []


async def test_f38_a_task_that_is_never_processed_is_an_alarm_after_its_time(house: OpenHouse, tmp_path: Any) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock, BRIDGE_CARDIO__PROCESSED_WITHIN="7200") as it:
        await it.store(recording(tmp_path))
        await it.settled(1)
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        assert await open_anomalies(it) == [("not_processed", "4711")]
        (row,) = await rows(it)
        assert row.state == "CREATED", "the task is there; that nobody looked at it is another matter"
        assert 6 <= asked(it) <= 9, "at growing intervals: 1, 2, 4, … minutes"
        shown = await it.show(str(row.message_id))
        assert [a["reason"] for a in shown["anomalies"]] == ["not_processed"]


async def test_f38_a_draft_is_looked_at_once(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock) as it:
        await it.hl7(order())
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        assert (await looks(it), asked(it), await open_anomalies(it)) == ([1], 1, [])


async def test_f38_a_task_that_is_gone_is_listed(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock) as it:
        await it.hl7(order())
        it.sandbox.tasks.clear()
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        assert await open_anomalies(it) == [("task_gone", "4711")]


async def test_f38_switched_off_nothing_is_asked(house: OpenHouse, tmp_path: Any) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock, BRIDGE_CARDIO__PROCESSED_WITHIN="0") as it:
        await it.store(recording(tmp_path))
        await it.settled(1)
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        assert (asked(it), await open_anomalies(it)) == (0, [])


@pytest.mark.parametrize("fault", ["429", "5xx_before", "drop_before", "broken_body", "401"])
async def test_f38_an_answer_that_is_none_is_asked_for_later_and_is_no_alarm(house: OpenHouse, fault: str) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock) as it:
        await it.hl7(order())
        options = {"retry_after": "120"} if fault == "429" else {}
        it.sandbox.faults.add(fault, on="status", times=2, **options)
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        assert (await looks(it), asked(it), await open_anomalies(it)) == ([3], 3, [])


async def test_f14_f38_a_rate_limit_on_a_look_keeps_every_look_away_for_as_long(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        for number in range(3):
            await it.hl7(order(f"C{number}", f"PL-{number}", patient=f"P{number}"))
        it.sandbox.faults.add("429", on="status", times=1, retry_after="600")
        await as_time_flies(it, clock, lambda found: any(r.watched for r in found), 5.0)
        for _ in range(9):  # nine minutes
            clock.jump(60)
            await clock.sleep(0.05)
        assert asked(it) == 1
        await it.hl7(order("C9", "PL-9", patient="P9"))
        assert len(it.sandbox.tasks) == 3, "and every task as well: the limit is the token's (F14)"
        await as_time_flies(it, clock, lambda found: len(found) == 4 and all(r.watched for r in found))
        assert len(it.sandbox.tasks) == 4
        assert sorted(await looks(it)) == [1, 1, 1, 2]


async def test_f38_a_destination_that_is_down_is_not_asked(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        await it.hl7(order())
        it.sandbox.faults.add("401", on="tasks")
        await it.hl7(order("C2", "PL-2", patient="4712"))
        await it.until(lambda found: found[1].reason == "token_refused")
        for _ in range(10):
            clock.jump(60)
            await clock.sleep(0.05)
        assert asked(it) == 0
        it.sandbox.faults.clear()
        await as_time_flies(it, clock, lambda found: len(found) == 2 and all(r.watch_at is None for r in found))
        assert asked(it) == 2


async def test_f25_f38_a_clock_set_back_does_not_keep_a_task_from_being_looked_at(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(api(None), clock=clock) as it:
        await it.hl7(order())
        await it.settled(1)
        far = round((clock.now().timestamp() + 5 * 3600) * 1000)
        await it.up.store.write(lambda tx: tx.conn.execute(task.update(), {"watch_at": far}))
        await as_time_flies(it, clock, lambda found: found[0].watch_at is None)
        assert asked(it) == 1


async def test_the_counts_of_each_day_are_told(house: OpenHouse, tmp_path: Any) -> None:
    """§3.6: to be laid beside the dashboard's own export."""
    async with house() as it:
        await it.hl7(order())
        await it.store(recording(tmp_path))
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await it.hl7(order("C2", "PL-2", patient="4712"))
        await it.settled(3)
        status, said = await bridge(it, "db", "counts", "--days", "2")
        assert status == 0
        numbers = [int(n) for line in said.splitlines()[1:] for n in line.split()[1:]]
        assert [sum(numbers[n::4]) for n in range(4)] == [1, 1, 1, 2]
        twice = {"task_ids": "4711"}
        await it.up.store.write(lambda tx: tx.conn.execute(task.update().where(task.c.task_ids != ""), twice))
        status, said = await bridge(it, "db", "counts")
        assert (status, "an incident: 4711" in said) == (1, True)
