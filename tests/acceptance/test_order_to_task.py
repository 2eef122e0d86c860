"""One order, all the way: the answer carries the id that the API created."""

import asyncio
import json
import time
from typing import Any

import pytest

from bridge import logs
from bridge.formats.hl7.lint import check_answer
from bridge.sandbox.mllp_sender import Connection, answers
from bridge.settings import host_port
from tests.acceptance.scene import OpenHouse, order


def segments(answer: str) -> dict[str, list[str]]:
    """The last segment of each name, split at fields."""
    return {s[:3]: s.split("|") for s in answer.split("\r") if s}


async def test_orm_o01_is_answered_by_orr_o02_with_the_task_id(house: OpenHouse) -> None:
    async with house() as it:
        answer = await it.hl7(order())
        told = segments(answer)
        assert told["MSH"][8] == "ORR^O02"
        assert told["MSA"][1:4] == ["AA", "C1", "task=4711"]
        assert told["ORC"][1:4] == ["OK", "PL-1^HIS", "4711^CARDIO"]
        assert check_answer(answer.encode()) == []
        task = it.sandbox.tasks[4711].request
        assert task["patient_id"] == "4711"
        assert task["patient_gender"] == "MALE"
        assert task["patient_birth_date"] == "1970-01-31"
        assert task["investigation_id"] == "ACCPL-1"
        assert "upload_id" not in task
        (row,) = await it.messages()
        assert (row.state, row.task_ids) == ("CREATED", ["4711"])


async def test_f30_the_same_message_again_gets_the_same_answer_and_no_second_task(house: OpenHouse) -> None:
    async with house() as it:
        first = await it.hl7(order())
        again = await it.hl7(order().replace("20260301120000", "20260301120959"))
        assert again == first
        assert list(it.sandbox.tasks) == [4711]
        assert len(await it.messages()) == 1


async def test_f31_the_same_control_id_with_other_content_is_another_message(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        answer = await it.hl7(order("C1", "PL-2"))
        assert segments(answer)["MSA"][3] == "task=4712"
        shown = await it.show((await it.messages())[1].id)
        assert "control_id_reuse" in {e["reason"] for e in shown["history"]}


async def test_f32_a_replayed_order_under_a_new_control_id_gets_the_task_that_is_there(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        answer = await it.hl7(order("C2", "PL-1"))
        assert segments(answer)["MSA"][1:4] == ["AA", "C2", "task=4711"]
        assert list(it.sandbox.tasks) == [4711]


async def test_an_order_number_used_for_another_order_is_refused_with_205(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        answer = await it.hl7(order("C2", "PL-1", patient="0815", name="Probe^Petra"))
        told = segments(answer)
        assert told["MSA"][1] == "AE"
        assert told["ORC"][1] == "UA"
        assert "205" in "|".join(told["ERR"])
        assert list(it.sandbox.tasks) == [4711]


async def test_f17_what_the_api_refuses_is_answered_ae_with_its_words_and_its_neighbours_flow(house: OpenHouse) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        told = segments(await it.hl7(order("C1", "PL-1")))
        assert (told["MSA"][1], told["ORC"][1]) == ("AE", "UA")
        assert segments(await it.hl7(order("C2", "PL-2")))["MSA"][3] == "task=4711"
        rows = await it.messages()
        assert [r.state for r in rows] == ["REJECTED", "CREATED"]


async def test_an_order_that_the_api_refused_may_be_sent_again_as_a_new_generation(house: OpenHouse) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.hl7(order("C1", "PL-1"))
        assert segments(await it.hl7(order("C2", "PL-1")))["MSA"][3] == "task=4711"
        assert it.sandbox.tasks[4711].request["searching_tags"][0].endswith("-g2")


async def test_with_the_api_silent_the_answer_is_accepted_within_the_budget_and_the_post_is_in_doubt(
    house: OpenHouse,
) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.5", BRIDGE_CARDIO__TIMEOUT="1.5") as it:
        it.sandbox.faults.add("silent", on="tasks", times=1)
        began = time.monotonic()
        told = segments(await it.hl7(order()))
        assert told["MSA"][1:4] == ["AA", "C1", "accepted, task pending"]
        assert time.monotonic() - began < 4
        (row,) = await it.settled(1)
        assert row.state == "IN_DOUBT"


async def test_f13_while_the_api_is_down_the_answer_comes_at_once_and_the_task_is_made_when_it_is_back(
    house: OpenHouse,
) -> None:
    closed = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    async with house(base_url=f"http://127.0.0.1:{port}", BRIDGE_HL7__REPLY_BUDGET="30") as it:
        told = segments(await it.hl7(order("C1", "PL-1")))
        assert told["MSA"][3] == "accepted, task pending"
        began = time.monotonic()
        told = segments(await it.hl7(order("C2", "PL-2", patient="0815", name="Probe^Petra")))
        assert told["MSA"][3] == "accepted, task pending"
        assert time.monotonic() - began < 10  # of a budget of 30
    async with house() as it:
        rows = await it.settled(2)
        assert [r.state for r in rows] == ["CREATED", "CREATED"]
        assert segments(await it.hl7(order("C1", "PL-1")))["MSA"][3] == f"task={rows[0].task_ids[0]}"


@pytest.mark.parametrize("fault", ["lost_answer", "broken_body"])
async def test_f12_a_lost_answer_becomes_in_doubt_and_is_never_sent_again(house: OpenHouse, fault: str) -> None:
    async with house() as it:
        it.sandbox.faults.add(fault, on="tasks", times=1)
        told = segments(await it.hl7(order()))
        assert told["MSA"][3] == "accepted, task pending"
        (row,) = await it.settled(1)
        assert row.state == "IN_DOUBT"
        assert len(it.sandbox.tasks) == 1
    async with house(sandbox=it.sandbox) as again:
        assert segments(await again.hl7(order()))["MSA"][1] == "AA"
        await again.hl7(order("C9", "PL-9"))
        assert len(it.sandbox.tasks) == 2


@pytest.mark.parametrize("ids", [[], [1, 2]])
async def test_f23_an_answer_without_exactly_one_id_is_in_doubt(house: OpenHouse, ids: list[int]) -> None:
    async with house() as it:
        it.sandbox.faults.add("wrong_ids", on="tasks", times=1, ids=ids)
        await it.hl7(order())
        assert (await it.settled(1))[0].state == "IN_DOUBT"


async def test_f14_429_is_waited_out_by_all_and_no_task_is_made_twice(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="10") as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="1")
        began = time.monotonic()
        told = segments(await it.hl7(order()))
        assert told["MSA"][3] in {"task=4711", "accepted, task pending"}
        await it.settled(1)
        assert time.monotonic() - began >= 1
        assert list(it.sandbox.tasks) == [4711]


async def test_two_orders_of_one_message_each_get_their_id(house: OpenHouse) -> None:
    async with house() as it:
        second = "ORC|NW|PL-2^HIS\rOBR|2|PL-2^HIS||93224^Holter^CPT||||||||||||||ACC-2\r"
        answer = await it.hl7(order() + second)
        assert segments(answer)["MSA"][3] == "task=4711,4712"
        orcs = [s.split("|") for s in answer.split("\r") if s.startswith("ORC")]
        assert [o[1:4] for o in orcs] == [["OK", "PL-1^HIS", "4711^CARDIO"], ["OK", "PL-2^HIS", "4712^CARDIO"]]


async def test_pipelined_messages_are_answered_in_order(house: OpenHouse) -> None:
    async with house() as it:
        host, port = host_port(it.up.addresses["hl7"])
        bodies = [order(f"C{n}", f"PL-{n}", patient=str(4711 + n % 5)).encode() for n in range(40)]
        async with await Connection.open(host, port) as connection:
            told = [answers(a)[0] for a in await connection.pipeline(bodies)]
        assert [t.control_id.decode() for t in told] == [f"C{n}" for n in range(40)]
        assert {t.code for t in told} == {"AA"}
        assert len(it.sandbox.tasks) == 40


async def test_an_adt_before_the_order_fills_what_the_order_leaves_out(house: OpenHouse) -> None:
    async with house() as it:
        adt = (
            "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301110000+0100||ADT^A04|A1|P|2.5\rEVN|A04\r"
            "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M\r"
        )
        told = segments(await it.hl7(adt))
        assert (told["MSH"][8].split("^")[:2], told["MSA"][1]) == (["ACK", "A04"], "AA")
        bare = order().replace("||Muster^Max||19700131|M", "")
        await it.hl7(bare)
        task: dict[str, Any] = it.sandbox.tasks[4711].request
        assert (task["patient_last_name"], task["patient_birth_date"]) == ("Muster", "1970-01-31")


async def test_no_patient_value_reaches_the_logs(house: OpenHouse, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    async with house() as it:
        await it.hl7(order(patient="CANARY77", name="Canaryname^Canaryfirst"))
        await it.hl7("MSH|^~\\&|CANARYAPP||||||MDM^T02|CANARYID|P|2.5\rPID|1||CANARY77\r")
        await it.hl7("this is no message CANARY77")
    out, err = capfd.readouterr()
    assert "message.refused" in err
    assert "canary" not in (out + err).lower()
    assert all(json.loads(line)["event"] for line in err.splitlines() if line.startswith("{"))
