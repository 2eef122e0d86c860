"""`/metrics` says where everything stands, without a patient or an order; what is old is said by itself."""

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from bridge.console import metrics
from bridge.errors import StoreError
from bridge.sandbox.cardio_api import Sandbox
from bridge.settings import host_port
from bridge.store import gauges
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.virtual_clock import VirtualClock


async def fetched(it: House, path: str = "/metrics") -> tuple[str, str]:
    """Head and body of a page of the console's."""
    address = it.up.addresses["console"]
    reader, writer = await asyncio.open_connection(*host_port(address))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


async def measured(it: House) -> dict[tuple[str, str], float]:
    """Each sample by its name and its label's value."""
    head, body = await fetched(it)
    assert "200 OK" in head
    assert "text/plain; version=0.0.4" in head
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            found[sample.name, next(iter(sample.labels.values()), "")] = sample.value
    return found


@pytest.fixture
def logged() -> Any:
    with structlog.testing.capture_logs() as entries:
        yield entries


async def test_metrics_say_where_everything_stands(house: OpenHouse) -> None:
    async with house() as it:
        found = await measured(it)
        assert found["bridge_messages", "CREATED"] == 0
        assert found["bridge_destination_up", "cardio"] == 1
        assert found["bridge_quarantine", ""] == 0
        assert found["bridge_ballast_missing_bytes", ""] == 0
        assert found["bridge_log_lines_dropped_total", ""] >= 0
        assert found["process_open_fds", ""] > 0
        assert found["process_resident_memory_bytes", ""] > 0
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(order("C2", "PL-2", patient="4712"))
        it.sandbox.faults.add("401", on="tasks")
        await it.hl7(order("C3", "PL-3", patient="4713"))
        await it.until(lambda rows: rows[2].state == "RETRY")
        async with asyncio.timeout(20):
            while (found := await measured(it))["bridge_messages", "RETRY"] != 1:  # noqa: ASYNC110  it is seen for a moment
                await asyncio.sleep(0.05)
        assert found["bridge_messages", "IN_DOUBT"] == found["bridge_in_doubt", ""] == 1
        assert found["bridge_in_doubt_oldest_seconds", ""] > 0
        assert found["bridge_messages", "CREATED"] == 1
        assert found["bridge_queue", "cardio"] == 1
        assert found["bridge_queue_oldest_seconds", ""] > 0
        assert found["bridge_destination_up", "cardio"] == 0
        assert found["bridge_watched", ""] == 1
        assert found["bridge_room_bytes", ""] > 0


async def test_metrics_hold_no_patient_and_no_order(house: OpenHouse) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        for number in range(3):
            await it.hl7(order(f"CANARY{number}", f"CANARY-PL{number}", patient=f"CANARY{number}", name="Canary^Can"))
        _, body = await fetched(it)
        assert "canary" not in body.lower()
        labels = {k for f in text_string_to_metric_families(body) for s in f.samples for k in s.labels}
        assert labels <= {"state", "destination", "rule", "role"}


OF_THE_PROCESS = {
    "bridge_store_up",
    "bridge_room_bytes",
    "bridge_ballast_missing_bytes",
    "bridge_log_lines_dropped_total",
}


def of_the_bridge(found: dict[tuple[str, str], float]) -> set[str]:
    return {name for name, _ in found if name.startswith("bridge_")}


async def until_store_is(it: House, up: int) -> dict[tuple[str, str], float]:
    """What was counted before holds for a moment."""
    async with asyncio.timeout(20):
        while (found := await measured(it))["bridge_store_up", ""] != up:  # noqa: ASYNC110  each look is a scrape
            await asyncio.sleep(0.01)
    return found


async def test_of_a_store_that_cannot_be_read_that_is_said_and_nothing_old(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape that fails would tell a process as down that is up, and take what the process says of itself with it."""

    def fails(*_: Any, **__: Any) -> Any:
        raise StoreError("invented")

    async with house() as it:
        before = await until_store_is(it, up=1)
        with monkeypatch.context() as amiss:
            amiss.setattr(metrics, "gauges", fails)
            found = await until_store_is(it, up=0)
            assert of_the_bridge(found) == OF_THE_PROCESS
            assert found["process_open_fds", ""] > 0
        assert of_the_bridge(await until_store_is(it, up=1)) == of_the_bridge(before)


async def test_whatever_fails_in_a_count_nothing_old_is_served(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise TimeoutError("Muster")

    async with house() as it:
        await until_store_is(it, up=1)
        with monkeypatch.context() as amiss:
            amiss.setattr(metrics, "gauges", fails)
            await until_store_is(it, up=0)
        await until_store_is(it, up=1)
    said = [entry for entry in logged if entry["event"] == "metrics.not_counted"]
    assert said
    assert said[0]["error"] == "TimeoutError"
    assert "Muster" not in str(said)


async def test_a_scrape_does_not_wait_for_a_store_that_says_nothing(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose host is gone without a word. One look is on its way, however often it is asked."""
    looks = 0
    answers = threading.Event()

    def slow(conn: Any, *, at: Any) -> Any:
        nonlocal looks
        looks += 1
        answers.wait(20)
        return gauges.gauges(conn, at=at)

    monkeypatch.setattr(metrics, "_PATIENCE", 0.05)
    async with house() as it:
        everything = of_the_bridge(await until_store_is(it, up=1))
        monkeypatch.setattr(metrics, "gauges", slow)
        while not looks:  # what was counted before holds for a moment
            assert of_the_bridge(await measured(it)) == everything, "a large store takes its time: one scrape more"
        for _ in range(3):
            assert of_the_bridge(await measured(it)) == OF_THE_PROCESS
        assert looks == 1
        answers.set()
        await until_store_is(it, up=1)


def began(entries: list[Any], rule: str) -> list[Any]:
    return [entry for entry in entries if entry["event"] == "alarm.began" and entry["reason"] == rule]


async def until_logged(entries: list[Any], rule: str, count: int, clock: VirtualClock) -> list[Any]:
    for _ in range(200):
        found = began(entries, rule)
        if len(found) >= count:
            return found
        clock.jump(15)
        await clock.sleep(0.02)
    pytest.fail(f"{rule}: {[entry['event'] for entry in entries]}")


async def test_a_doubt_of_fifteen_minutes_is_an_alarm_and_said_once(house: OpenHouse, logged: list[Any]) -> None:
    clock = VirtualClock()
    sandbox = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    async with house(sandbox, clock=clock, BRIDGE_CARDIO__PROCESSED_WITHIN="0") as it:
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await it.hl7(order())
        (row,) = await it.settled(1)
        start = clock.now()
        (entry,) = await until_logged(logged, "in_doubt", 1, clock)
        assert (clock.now() - start).total_seconds() >= 14 * 60
        assert entry["message"] == int(row.id)
        for _ in range(40):
            clock.jump(15)
            await clock.sleep(0.01)
        assert len(began(logged, "in_doubt")) == 1


async def test_a_doubt_about_an_urgent_order_is_an_alarm_after_five_minutes(house: OpenHouse) -> None:
    worklist = {"BRIDGE_DICOM__WORKLIST": "{enabled = true}", "BRIDGE_DICOM__CALLING_AE_TITLES": '["TESTCART"]'}
    async with house(**worklist) as it:
        it.sandbox.faults.add("lost_answer", on="tasks", times=2)
        stat = order().replace("ORC|NW|PL-1^HIS", "ORC|NW|PL-1^HIS|||||^^^20260301^^S")
        await it.hl7(stat)
        await it.hl7(order("C2", "PL-2", patient="4712"))
        await it.settled(2)
        doubts = await it.up.store.read(gauges.doubts)
        assert [(d.message_id, d.stat) for d in doubts] == [(1, True), (2, False)]


async def test_f13_work_that_waits_for_long_is_an_alarm_until_it_is_done(house: OpenHouse, logged: list[Any]) -> None:
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1", BRIDGE_CARDIO__PROCESSED_WITHIN="0") as it:
        it.sandbox.faults.add("401", on="tasks")
        await it.hl7(order())
        await until_logged(logged, "queue_old", 1, clock)
        it.sandbox.faults.clear()
        for _ in range(20):
            clock.jump(60)
            await clock.sleep(0.02)
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert len(began(logged, "queue_old")) == 1


async def test_a_long_line_is_an_alarm(house: OpenHouse, logged: list[Any]) -> None:
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1", BRIDGE_ALARMS__QUEUE_LENGTH="3") as it:
        it.sandbox.faults.add("401", on="tasks")
        for number in range(3):
            await it.hl7(order(f"C{number}", f"PL-{number}", patient=f"P{number}"))
        (entry, *_) = await until_logged(logged, "queue_long", 1, clock)
        assert (entry["part"], entry["number"]) == ("cardio", 3)


async def test_every_metric_stands_in_the_document_with_its_words(house: OpenHouse) -> None:
    async with house() as it:
        _, body = await fetched(it)
    document = (Path(__file__).parents[2] / "deploy" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| \w* \| (\w+) \| (.+) \|$", document, re.MULTILINE)
    served = [
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family.documentation)
        for family in text_string_to_metric_families(body)
    ]
    assert rows == served
