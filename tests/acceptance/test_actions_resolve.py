"""The POST whose answer was lost, settled by a person (failures.md §3.4, F11, F12)."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.cardio_api import Sandbox
from tests.acceptance.acting_house import ME, Ended, made_tags, messages, posts, seen, tag_in_doubt, trail
from tests.acceptance.receiver import acknowledge, field_of, receiving
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.virtual_clock import VirtualClock

NO_QUIET = {"BRIDGE_CARDIO__QUIET_TIME": "0"}


async def in_doubt(it: House, tmp_path: Path, *, applied: bool = True) -> str:
    """A recording whose task POST got no answer; its message."""
    it.sandbox.faults.add("lost_answer" if applied else "drop_before", on="tasks", times=1)
    assert await it.store(recording(tmp_path)) == 0
    (row,) = await it.settled(1)
    assert (row.state, row.reason) == ("IN_DOUBT", "answer_lost")
    return row.id


def refused(ended: Ended, why: str) -> None:
    assert ended.status == 1
    assert why in ended.out, ended.out


async def test_f12_a_doubt_shows_its_tag_its_window_and_whose_it_is_masked(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        doubtful = await in_doubt(it, tmp_path)
        (doubt,) = (await seen(it, doubtful))["doubts"]
        assert [doubt["tag"]] == made_tags(it)
        low, high = (datetime.fromisoformat(t) for t in doubt["created_between"])
        assert low < datetime.now(UTC) < high
        assert high - low >= timedelta(minutes=10)
        assert doubt["patient"] == "M… M…, born 1970, id …1"
        shown = (await messages(it, "show", doubtful)).out
        assert f"search this tag in Cardio.AI: {doubt['tag']}" in shown
        for words in ("--task TASK_ID", f"--resend --reason TEXT --confirm {doubt['tag']}", "--give-up"):
            assert f"bridge messages resolve {doubtful} {words}" in shown


async def test_f12_the_task_that_is_there_is_taken_and_told_to_the_orders_sender(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with receiving() as his, house(BRIDGE_HL7__RETURN_ADDRESS=his.address) as it:
        await it.hl7(order("C1", "PL-1"))
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        rows = await it.settled(2)
        assert rows[1].state == "IN_DOUBT"
        done = await messages(it, "resolve", rows[1].id, "--task", "4712", "--json")
        assert done.json() == {
            "message_id": rows[1].id,
            "state": "CREATED",
            "text": f"message {rows[1].id} has task 4712; it is CREATED",
        }
        rows = await it.messages()
        assert (rows[1].state, rows[1].task_ids) == ("CREATED", ["4712"])
        (told,) = await his.until(1)
        assert [field_of(told, "ORC", n) for n in (1, 2, 3)] == ["SC", "PL-1^HIS", "4712^CARDIO"]
        assert len(posts(it)) == 2
        (act,) = await trail(it)
        assert (act.actor, act.action, act.outcome, act.detail["task"]) == (ME, "resolve_found", "done", "4712")


async def test_f12_a_draft_in_doubt_is_settled_and_its_id_told_late_and_at_a_resend(house: OpenHouse) -> None:
    async with receiving() as his, house(BRIDGE_HL7__RETURN_ADDRESS=his.address) as it:
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        assert field_of(await it.hl7(order()), "MSA", 3) == "accepted, task pending"
        (row,) = await it.settled(1)
        assert (await messages(it, "resolve", row.id, "--task", "4711")).status == 0
        (told,) = await his.until(1)
        assert [field_of(told, "ORC", n) for n in (1, 2, 3)] == ["SC", "PL-1^HIS", "4711^CARDIO"]
        assert field_of(await it.hl7(order()), "ORC", 3) == "4711^CARDIO"
        assert len(it.sandbox.tasks) == 1


async def test_hl7_2_9_3_in_enhanced_mode_a_settled_doubt_is_told_as_an_id_and_not_as_a_second_answer(
    house: OpenHouse,
) -> None:
    async with (
        receiving(lambda message, _: acknowledge(message, "CA")) as his,
        house(BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__ACK_MODE="enhanced") as it,
    ):
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await it.hl7(order().replace("|P|2.3.1", "|P|2.3.1|||AL|AL"))
        (row,) = await it.settled(1)
        assert (await messages(it, "resolve", row.id, "--task", "4711")).status == 0
        answer, told = await his.until(2)
        assert [field_of(answer, "MSA", n) for n in (1, 3)] == ["AA", "accepted, task pending"]
        assert (field_of(told, "MSH", 9), field_of(told, "ORC", 3)) == ("ORM^O01", "4711^CARDIO")


async def test_f12_a_wrong_a_foreign_an_old_and_an_unknown_id_are_refused(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1", patient="4712"))  # task 4711
        doubtful = await in_doubt_behind(it, tmp_path)
        before = await it.show(doubtful)
        refused(await messages(it, "resolve", doubtful, "--task", "4711"), "task 4711 is message 1's already")
        refused(await messages(it, "resolve", doubtful, "--task", "99"), "knows no such task")
        refused(await messages(it, "resolve", doubtful, "--task", "4712;"), "a number of at most 64 bits")
        refused(await messages(it, "resolve", doubtful, "--task", str(2**64)), "a number of at most 64 bits")
        task = it.sandbox.tasks[4712]
        task.created -= timedelta(hours=1)
        refused(await messages(it, "resolve", doubtful, "--task", "4712"), "not between")
        task.created += timedelta(hours=2)
        refused(await messages(it, "resolve", doubtful, "--task", "4712"), "not between")
        it.sandbox.faults.add("5xx_before", on="status", times=1)
        refused(await messages(it, "resolve", doubtful, "--task", "4712"), "the API could not be asked")
        assert await it.show(doubtful) == before
        assert {a.outcome for a in await trail(it)} == {"refused"}
        task.created -= timedelta(hours=1)
        assert (await messages(it, "resolve", doubtful, "--task", "4712")).status == 0


async def in_doubt_behind(it: House, tmp_path: Path) -> str:
    """A doubtful recording after a first message."""
    it.sandbox.faults.add("lost_answer", on="tasks", times=1)
    await it.store(recording(tmp_path))
    rows = await it.settled(2)
    assert rows[1].state == "IN_DOUBT"
    return rows[1].id


async def test_f12_not_found_counts_after_the_quiet_time_with_a_reason_and_a_second_word(
    house: OpenHouse, tmp_path: Path
) -> None:
    clock = VirtualClock()
    async with house(clock=clock) as it:
        doubtful = await in_doubt(it, tmp_path, applied=False)
        tag = await tag_in_doubt(it, doubtful)
        resend = ("resolve", doubtful, "--resend")
        refused(await messages(it, *resend), "it needs a reason")
        refused(await messages(it, *resend, "--reason", "searched", "--confirm", tag), "may still be running")
        clock.jump(890)
        refused(await messages(it, *resend, "--reason", "searched", "--confirm", tag), "may still be running")
        clock.jump(20)
        first = await messages(it, *resend, "--reason", "searched")
        refused(first, f"--confirm {tag}")
        refused(await messages(it, *resend, "--reason", "searched", "--confirm", f"{tag}-g2"), "by its tag")
        assert len(posts(it)) == 1
        assert (await messages(it, *resend, "--reason", "searched", "--confirm", tag)).status == 0
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert (len(posts(it)), made_tags(it)) == (2, [f"{tag}-g2"])
        assert row.task_ids == ["4711"]
        found = await it.show(doubtful)
        assert [(t["state"], t["reason"], t["generation"]) for t in found["tasks"]] == [
            ("CANCELLED", "not_found", 1),
            ("CREATED", "", 2),
        ]
        refused(await messages(it, *resend, "--reason", "again", "--confirm", f"{tag}-g2"), "its task is made")


async def test_f12_a_second_doubt_is_a_third_generation(house: OpenHouse, tmp_path: Path) -> None:
    async with house(**NO_QUIET) as it:
        doubtful = await in_doubt(it, tmp_path, applied=False)
        tag = await tag_in_doubt(it, doubtful)
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await messages(it, "resolve", doubtful, "--resend", "--reason", "searched", "--confirm", tag)
        await it.until(lambda rows: rows[0].state == "IN_DOUBT" and len(posts(it)) == 2)
        refused(await messages(it, "resolve", doubtful, "--resend", "--reason", "x", "--confirm", tag), f"{tag}-g2")
        assert (await messages(it, "resolve", doubtful, "--task", "4711")).status == 0
        assert [r.state for r in await it.messages()] == ["CREATED"]


@pytest.mark.parametrize("kind", ["draft", "recording"])
async def test_f10_a_resend_that_is_refused_by_rate_limit_and_restart_is_one_post_more(
    house: OpenHouse, tmp_path: Path, kind: str
) -> None:
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    async with house(sandbox=api, **NO_QUIET) as it:
        it.sandbox.faults.add("drop_before", on="tasks", times=1)
        await (it.hl7(order()) if kind == "draft" else it.store(recording(tmp_path)))
        (row,) = await it.settled(1)
        tag = await tag_in_doubt(it, row.id)
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after=600)
        await messages(it, "resolve", row.id, "--resend", "--reason", "searched", "--confirm", tag)
        await it.until(lambda rows: rows[0].state == "RETRY" and len(posts(it)) == 2)
    clock = VirtualClock()
    clock.jump(700)
    async with house(sandbox=api, clock=clock, **NO_QUIET) as again:
        await again.until(lambda rows: rows[0].state == "CREATED")
        assert (len(posts(again)), made_tags(again)) == (3, [f"{tag}-g2"])


async def test_f12_of_a_message_with_several_orders_only_the_doubtful_one_is_sent_again(house: OpenHouse) -> None:
    async with house(**NO_QUIET) as it:
        it.sandbox.faults.add("drop_before", on="tasks", times=1, skip=1)
        second = "ORC|NW|PL-2^HIS\rOBR|2|PL-2^HIS||93000^12-lead ECG^CPT||||||||||||||ACCPL-2\r"
        await it.hl7(order("C1", "PL-1") + second)
        (row,) = await it.settled(1)
        assert (row.state, row.task_ids) == ("IN_DOUBT", ["4711"])
        tag = await tag_in_doubt(it, row.id)
        done = await messages(it, "resolve", row.id, "--resend", "--reason", "searched", "--confirm", tag)
        assert done.status == 0, done.out
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert (len(posts(it)), made_tags(it)[1:]) == (3, [f"{tag}-g2"])
        assert row.task_ids == ["4711", "4712"]


async def test_f12_a_doubt_that_nobody_wants_any_more_is_given_up(house: OpenHouse) -> None:
    async with house(**NO_QUIET) as it:
        it.sandbox.faults.add("drop_before", on="tasks", times=1)
        await it.hl7(order("C1", "PL-1"))
        (row,) = await it.settled(1)
        tag = await tag_in_doubt(it, row.id)
        await it.hl7(order("C2", "PL-1").replace("ORC|NW", "ORC|CA"))
        again = ("--reason", "searched", "--confirm", tag)
        refused(await messages(it, "resolve", row.id, "--resend", *again), "its order was cancelled")
        assert (await messages(it, "resolve", row.id, "--give-up", *again)).status == 0
        rows = await it.messages()
        assert (rows[0].state, rows[0].reason) == ("CANCELLED", "given_up")
        assert len(posts(it)) == 1


async def test_f12_two_persons_at_once_one_wins_and_one_task_more(house: OpenHouse, tmp_path: Path) -> None:
    async with house(**NO_QUIET) as it:
        doubtful = await in_doubt(it, tmp_path, applied=False)
        tag = await tag_in_doubt(it, doubtful)
        words = ("resolve", doubtful, "--resend", "--reason", "searched", "--confirm", tag)
        ended = await asyncio.gather(*(messages(it, *words) for _ in range(5)))
        assert sorted(e.status for e in ended) == [0, 1, 1, 1, 1]
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert (len(posts(it)), made_tags(it)) == (2, [f"{tag}-g2"])
        acts: list[Any] = await trail(it)
        assert sorted(a.outcome for a in acts) == ["done", "refused", "refused", "refused", "refused"]


async def test_f12_two_doubts_cannot_be_the_same_task(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        it.sandbox.faults.add("lost_answer", on="tasks", times=2)
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(order("C2", "PL-2", patient="4712"))
        rows = await it.settled(2)
        ended = await asyncio.gather(*(messages(it, "resolve", r.id, "--task", "4711") for r in rows))
        assert sorted(e.status for e in ended) == [0, 1]
        assert sorted(r.state for r in await it.messages()) == ["CREATED", "IN_DOUBT"]
