"""Ids that come after the answer: our own messages to a return address (hl7.md §3.5, failures.md F44)."""

import asyncio
import socket
import time
from pathlib import Path

from bridge.formats.hl7.lint import lint
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import serving
from tests.acceptance.receiver import acknowledge, field_of, receiving
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.virtual_clock import VirtualClock


async def test_hl7_3_5_ids_that_come_late_follow_in_a_message_of_ours(house: OpenHouse) -> None:
    async with receiving() as his, house(BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__REPLY_BUDGET="0.2") as it:
        it.sandbox.faults.add("latency", on="tasks", times=1, seconds=1.0)
        answer = await it.hl7(order())
        assert field_of(answer, "MSA", 3) == "accepted, task pending"
        (told,) = await his.until(1)
        assert field_of(told, "MSH", 9) == "ORM^O01"
        assert field_of(told, "MSH", 3) == "CARDIO"
        assert field_of(told, "PID", 3) == "4711^^^TEST^MR"
        assert [field_of(told, "ORC", n) for n in (1, 2, 3)] == ["SC", "PL-1^HIS", "4711^CARDIO"]
        again = await it.hl7(order())
        assert field_of(again, "ORC", 3) == "4711^CARDIO"
        await asyncio.sleep(0.2)
        assert len(his.journal) == 1


async def test_what_was_answered_in_time_is_not_told_twice(house: OpenHouse) -> None:
    async with receiving() as his, house(BRIDGE_HL7__RETURN_ADDRESS=his.address) as it:
        answer = await it.hl7(order())
        assert field_of(answer, "ORC", 3) == "4711^CARDIO"
        await asyncio.sleep(0.2)
        assert his.journal == []


async def test_f44_a_receiver_that_is_down_or_answers_another_gets_the_same_message_again(house: OpenHouse) -> None:
    def answering(message: str, nth: int) -> str | None:
        if nth == 1:
            return None
        return acknowledge(message, control_id="SOMEBODY-ELSE") if nth == 2 else acknowledge(message)

    async with (
        receiving(answering) as his,
        house(BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__REPLY_BUDGET="0.2") as it,
    ):
        it.sandbox.faults.add("latency", on="tasks", times=1, seconds=0.6)
        await it.hl7(order())
        await his.until(3, taken=False)
        assert len(set(his.journal)) == 1
        (row,) = await it.messages()
        shown = await it.show(row.id)
        for _ in range(100):
            if shown["told_later"][0]["state"] == "SENT":
                break
            await asyncio.sleep(0.02)
            shown = await it.show(row.id)
        assert [o["state"] for o in shown["told_later"]] == ["SENT"]


async def test_f44_after_some_refusals_it_is_held_and_others_go_on(house: OpenHouse) -> None:
    def answering(message: str, _: int) -> str:
        return acknowledge(message, "AE" if "PL-1" in message else "AA")

    async with (
        receiving(answering) as his,
        house(
            BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__REPLY_BUDGET="0.2", BRIDGE_HL7__RETURN_REFUSALS="2"
        ) as it,
    ):
        it.sandbox.faults.add("latency", on="tasks", times=2, seconds=0.6)
        await asyncio.gather(it.hl7(order("C1", "PL-1")), it.hl7(order("C2", "PL-2", patient="4712")))
        await his.until(3, taken=False)
        assert [field_of(m, "ORC", 2) for m in his.taken] == ["PL-2^HIS"]
        row = next(r for r in await it.messages() if r.control_id == "C1")
        for _ in range(100):
            shown = await it.show(row.id)
            if shown["told_later"][0]["state"] == "HELD":
                break
            await asyncio.sleep(0.02)
        assert [(o["state"], o["reason"]) for o in shown["told_later"]] == [("HELD", "AE")]


async def test_hl7_2_9_3_enhanced_mode_answers_ca_and_sends_the_application_answer_apart(house: OpenHouse) -> None:
    async with (
        receiving(lambda message, _: acknowledge(message, "CA")) as his,
        house(BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__ACK_MODE="enhanced") as it,
    ):
        answer = await it.hl7(order().replace("|P|2.3.1", "|P|2.3.1|||AL|AL"))
        assert (field_of(answer, "MSA", 1), field_of(answer, "MSH", 9)) == ("CA", "ACK^O01")
        (told,) = await his.until(1)
        assert field_of(told, "MSH", 9) == "ORR^O02"
        assert [field_of(told, "MSA", n) for n in (1, 2, 3)] == ["AA", "C1", "task=4711"]
        assert [field_of(told, "MSH", n) for n in (15, 16)] == ["AL", "NE"]
        again = await it.hl7(order().replace("|P|2.3.1", "|P|2.3.1|||AL|AL"))
        assert again == answer
        await asyncio.sleep(0.2)
        assert len(his.journal) == 1


async def test_a_recording_that_follows_a_draft_is_told_to_the_sender_of_the_order(house: OpenHouse) -> None:
    samples = Path(__file__).parents[2] / "sample_messages"
    async with receiving() as his, house(BRIDGE_HL7__RETURN_ADDRESS=his.address) as it:
        await it.hl7((samples / "02_orm_o01_order.hl7").read_bytes())
        assert await it.store(samples / "03_ecg_for_order.dcm") == 0
        (told,) = await his.until(1)
        recording = next(r for r in await it.settled(2) if r.kind == "dicom")
        assert field_of(told, "ORC", 3) == f"{recording.task_ids[0]}^CARDIO"
        assert [f for f in lint(told.encode()) if f.severity == "error"] == []


async def test_f44_api_down_for_ten_minutes_each_order_is_answered_in_its_budget_and_each_id_told_once(
    house: OpenHouse,
) -> None:
    clock = VirtualClock()
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", 0))  # bound, and nobody listens: every call is refused
        base_url = f"http://127.0.0.1:{port.getsockname()[1]}"
        async with (
            receiving() as his,
            house(sandbox=api, base_url=base_url, clock=clock, BRIDGE_HL7__RETURN_ADDRESS=his.address) as it,
        ):
            slowest = 0.0
            for number in range(40):
                began = time.monotonic()
                answer = await it.hl7(order(f"C{number}", f"PL-{number}", patient=f"P{number % 7}"))
                slowest = max(slowest, time.monotonic() - began)
                assert (field_of(answer, "MSA", 1), field_of(answer, "MSA", 3)) == ("AA", "accepted, task pending")
                clock.jump(15)
            assert slowest < 4.0
            assert api.tasks == {}
            async with serving(api.application(), port):
                clock.jump(300)  # the longest that a message waits by itself
                await it.until(lambda rows: all(r.state == "CREATED" for r in rows), 60)
                await his.until(40, seconds=60)
            await asyncio.sleep(0.3)
            assert len(his.journal) == 40
            told = {field_of(m, "ORC", 2): field_of(m, "ORC", 3) for m in his.taken}
            made = {f"{row.order}^HIS": f"{row.task_ids[0]}^CARDIO" for row in await it.messages()}
            assert told == made
            assert len(api.tasks) == 40
