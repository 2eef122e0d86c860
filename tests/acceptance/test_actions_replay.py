"""Refused work understood anew, discarded work, moves that a person decides, ids that nobody took (F17, F34, F44)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.dispatch.cardio.client import CardioClient
from bridge.domain.outcome import NotSent, Outcome
from bridge.sandbox.cardio_api import Sandbox
from bridge.settings import host_port
from bridge.store import line, untold
from bridge.store.schema import number
from tests.acceptance.acting_house import Ended, made_tags, messages, posts, tag_in_doubt, trail
from tests.acceptance.receiver import acknowledge, field_of, receiving
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import _store_bytes, recording
from tests.acceptance.two_apis import api, beside, stands, to_north

MAPPING = '[fields.device_id]\nconstant = "CART-7"\n'


def refused(ended: Ended, why: str) -> None:
    assert ended.status == 1
    assert why in ended.out, ended.out


async def refused_late(it: House) -> str:
    """An order that was answered "accepted, task pending" in time, and refused by the API after it."""
    it.sandbox.faults.add("latency", on="tasks", times=1, seconds=1.0)
    it.sandbox.faults.add("400", on="tasks", times=1)
    assert field_of(await it.hl7(order()), "MSA", 3) == "accepted, task pending"
    (row,) = await it.settled(1)
    assert row.state == "REJECTED"
    return row.id


async def test_f17_what_the_api_refused_is_replayed_with_the_mended_mapping_as_a_new_generation(
    house: OpenHouse, tmp_path: Path
) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text("")
    late = {"BRIDGE_HL7__REPLY_BUDGET": "0.2", "BRIDGE_MAPPING__FILE": str(mapping)}
    async with receiving() as his:
        address = {"BRIDGE_HL7__RETURN_ADDRESS": his.address}
        async with house(**late, **address) as it:
            number = await refused_late(it)
        mapping.write_text(MAPPING)
        async with house(sandbox=it.sandbox, **late, **address) as it:
            assert (await messages(it, "replay", number, "--reason", "the code was wrong")).status == 0
            (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
            (task,) = it.sandbox.tasks.values()
            assert task.request["device_id"] == "CART-7"
            assert made_tags(it)[0].endswith("-g2")
            told = await his.until(1)
            assert field_of(told[0], "ORC", 3) == f"{row.task_ids[0]}^CARDIO"
            rows = (await it.show(number))["tasks"]
            # The API has another address after the restart, and so the task another key.
            assert [t["state"] for t in rows] == ["REJECTED", "CANCELLED", "CREATED"]
            assert [t["generation"] for t in rows] == [1, 2, 2]
            assert len({t["key"] for t in rows}) == 2
            refused(await messages(it, "replay", number), "its task is made")


async def test_f17_a_recording_that_was_refused_is_replayed_and_its_neighbours_flowed(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.store(recording(tmp_path, seed="a", accession="ACC1"))
        await it.until(lambda rows: rows[0].state == "REJECTED")
        await it.store(recording(tmp_path, seed="b"))
        rows = await it.settled(2)
        assert [r.state for r in rows] == ["REJECTED", "CREATED"]
        refused(await messages(it, "release", rows[0].id), "replay it once the cause is mended")
        assert (await messages(it, "replay", rows[0].id)).status == 0
        rows = await it.until(lambda rows: rows[0].state == "CREATED")
        assert [tag.endswith("-g2") for tag in made_tags(it)] == [False, True]
        findable = sa.select(number.c.value).where(number.c.message_id == int(rows[0].id))
        numbers = await it.up.store.read(lambda conn: conn.execute(findable).scalars().all())
        assert numbers == ["ACC1"], "by what it says now, once"
        assert [r["id"] for r in (await messages(it, "list", "--order", "ACC1", "--json")).json()] == [rows[0].id]


async def test_f17_an_upload_that_was_refused_is_replayed_in_its_first_generation(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="uploads", times=1)
        await it.store(recording(tmp_path))
        (row,) = await it.settled(1)
        assert row.state == "REJECTED"
        await messages(it, "replay", row.id)
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert not made_tags(it)[0].endswith("-g2")


async def test_f33_an_order_that_was_cancelled_meanwhile_is_not_sent_by_a_replay(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.2") as it:
        number = await refused_late(it)
        await it.hl7(order("C2").replace("ORC|NW", "ORC|CA"))
        assert (await messages(it, "replay", number)).status == 0
        rows = await it.settled(2)
        assert (rows[0].state, rows[0].reason) == ("CANCELLED", "order_cancelled")
        assert [t["state"] for t in (await it.show(number))["tasks"]] == ["REJECTED", "CANCELLED"]
        assert not it.sandbox.tasks


def change(control_id: str = "C2") -> str:
    return order(control_id).replace("ORC|NW", "ORC|XO").replace("12-lead ECG", "ECG at rest")


async def test_f17_a_change_that_was_refused_itself_is_replayed(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.2") as it:
        await refused_late(it)
        it.sandbox.faults.add("latency", on="tasks", times=1, seconds=1.0)
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.hl7(change())
        rows = await it.settled(2)
        assert [r.state for r in rows] == ["REJECTED", "REJECTED"]
        refused(await messages(it, "replay", rows[0].id), f"its order was sent again by message {rows[1].id}")
        assert (await messages(it, "replay", rows[1].id)).status == 0
        rows = await it.until(lambda rows: rows[1].state == "CREATED")
        assert [tag.endswith("-g3") for tag in made_tags(it)] == [True]


@pytest.mark.parametrize("text", [order("C2"), change()], ids=["NW", "XO of an order that never came"])
async def test_an_order_that_no_route_fitted_becomes_its_task_once_one_does(house: OpenHouse, text: str) -> None:
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    async with house(sandbox=api, BRIDGE_CARDIO__UNROUTED="hold") as it:
        assert field_of(await it.hl7(text), "MSA", 1) == "AA"
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("HELD", "no_route")
        assert (await messages(it, "release", row.id)).status == 0
        await it.until(lambda rows: rows[0].state == "HELD" and len(rows) == 1)
        assert not api.tasks
    async with house(sandbox=api) as it:
        await it.settled(1)
        assert (await messages(it, "release", row.id)).status == 0
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert len(api.tasks) == 1


async def test_f12_an_order_whose_doubt_was_given_up_can_be_ordered_anew(house: OpenHouse) -> None:
    async with house(BRIDGE_CARDIO__QUIET_TIME="0") as it:
        it.sandbox.faults.add("drop_before", on="tasks", times=1)
        await it.hl7(order("C1"))
        (row,) = await it.settled(1)
        tag = await tag_in_doubt(it, row.id)
        await messages(it, "resolve", row.id, "--give-up", "--reason", "not wanted", "--confirm", tag)
        assert field_of(await it.hl7(order("C2")), "ORC", 3) == "4711^CARDIO"
        assert made_tags(it) == [f"{tag}-g2"]


async def test_f17_an_order_that_was_sent_again_by_another_message_is_not_replayed(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.2") as it:
        number = await refused_late(it)
        await it.hl7(order("C2"))
        await it.until(lambda rows: len(rows) == 2 and rows[1].state == "CREATED")
        refused(await messages(it, "replay", number), "its order was sent again by message 2")
        assert len(it.sandbox.tasks) == 1


@pytest.mark.parametrize("enhanced", [False, True], ids=["original mode", "enhanced mode"])
async def test_what_was_answered_ae_is_discarded_and_never_released_or_replayed(
    house: OpenHouse, enhanced: bool
) -> None:
    async with receiving(lambda message, _: acknowledge(message, "CA")) as his:
        settings = {"BRIDGE_HL7__ACK_MODE": "enhanced", "BRIDGE_HL7__RETURN_ADDRESS": his.address} if enhanced else {}
        async with house(**settings) as it:
            it.sandbox.faults.add("400", on="tasks", times=1)
            text = order().replace("|P|2.3.1", "|P|2.3.1|||AL|AL") if enhanced else order()
            answer = await it.hl7(text)
            assert field_of(answer, "MSA", 1) == ("CA" if enhanced else "AE")
            (row,) = await it.settled(1)
            for action in ("release", "replay"):
                refused(await messages(it, action, row.id), "its sender was told no, and to send it again")
            shown = (await messages(it, "show", row.id)).out
            assert f"bridge messages discard {row.id} --reason TEXT" in shown
            assert f"bridge messages replay {row.id}" not in shown
            assert (await messages(it, "discard", row.id, "--reason", "sent again")).status == 0
            assert [(r.state, r.reason) for r in await it.messages()] == [("CANCELLED", "discarded")]
            assert len(posts(it)) == 1


async def test_f5_an_object_that_was_refused_is_looked_at_and_discarded(house: OpenHouse, tmp_path: Path) -> None:
    path = recording(tmp_path)
    async with house() as it:
        host, port = host_port(it.up.addresses["dicom"])
        data = path.read_bytes()
        assert await asyncio.to_thread(_store_bytes, host, port, data[: len(data) // 2], path) == 0xC000
        (row,) = await it.settled(1)
        refused(await messages(it, "replay", row.id), "its sender was told no")
        assert (await messages(it, "discard", row.id, "--reason", "cut on its way")).status == 0
        assert await it.store(path) == 0
        await it.until(lambda rows: len(rows) == 2 and rows[1].state == "CREATED")


async def test_f42_a_message_whose_destination_is_gone_is_discarded_and_its_patients_later_work_goes_on(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(self: CardioClient, body: bytes) -> Outcome:
        return NotSent("refused")

    soon = {"BRIDGE_HL7__REPLY_BUDGET": "0.1"}
    async with api() as north:
        with monkeypatch.context() as patch:
            patch.setattr(CardioClient, "create_tasks", unreachable)
            async with house(**beside(north), **soon) as it:
                await it.hl7(to_north("N1", "PL-N1"))
                await it.until(stands("N1", "RETRY", "unreachable"))
        async with house(sandbox=it.sandbox, **soon) as it:
            gone, *_ = await it.until(stands("N1", "RETRY", line.GONE))
            await it.hl7(order("C2", "PL-2"))
            await it.until(stands("C2", "READY"))
            shown = (await messages(it, "show", gone.id)).out
            assert f"bridge messages discard {gone.id} --reason TEXT" in shown
            assert (await messages(it, "discard", gone.id, "--reason", "that house is closed")).status == 0
            await it.until(stands("C2", "CREATED"))
            row = next(r for r in await it.messages() if r.id == gone.id)
            assert (row.state, row.reason) == ("CANCELLED", "discarded")
            drafts = (await it.show(gone.id))["tasks"]
            assert [(t["state"], t["reason"]) for t in drafts] == [("CANCELLED", "discarded")]
            assert north.calls() == []


async def test_f28_a_message_that_the_bridge_failed_on_is_released_once_it_is_mended(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    async with house() as it:
        with monkeypatch.context() as broken:
            broken.setattr("bridge.dispatch.at_once.understand_message", failing)
            broken.setattr("bridge.dispatch.reading.understand_message", failing)
            assert field_of(await it.hl7(order()), "MSA", 1) == "AA"
            (row,) = await it.settled(1)
            assert (row.state, row.reason) == ("HELD", "poison")
        assert (await messages(it, "release", row.id)).status == 0
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert field_of(await it.hl7(order()), "ORC", 3) == f"{row.task_ids[0]}^CARDIO"


# --- moves (A43, A44, A45) and later work behind them ---------------------------------------------------------


def move(control_id: str, patient: str, prior: str, *, event: str = "A43", name: str = "Muster^Max") -> str:
    return (
        f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ADT^{event}|{control_id}|P|2.5.1\rEVN|{event}|20260301\r"
        f"PID|1||{patient}^^^TEST^MR||{name}||19700131|M\rMRG|{prior}^^^TEST^MR\r"
    )


async def behind_a_move(it: House) -> str:
    """A held move, and an order of its patient that waits behind it."""
    assert "held for a person" in await it.hl7(move("M1", "4711", "4712"))
    (row,) = await it.settled(1)
    assert (row.state, row.reason) == ("HELD", "move_needs_a_person")
    assert field_of(await it.hl7(order("C1", "PL-1", patient="4712")), "MSA", 3) == "accepted, task pending"
    assert not posts(it)
    return row.id


async def test_f34_a_held_move_is_carried_out_and_what_waited_goes_on_under_the_new_identifier(
    house: OpenHouse,
) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.2") as it:
        held = await behind_a_move(it)
        refused(await messages(it, "replay", held), "release carries it out")
        assert (await messages(it, "release", held)).status == 0
        rows = await it.settled(2)
        assert [(r.state, r.reason) for r in rows] == [("DONE", "moved"), ("CREATED", "")]
        (task,) = it.sandbox.tasks.values()
        assert task.request["patient_id"] == "4711"


async def test_f34_a_discarded_move_changes_nothing_and_what_waited_goes_on(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.2") as it:
        held = await behind_a_move(it)
        assert (await messages(it, "discard", held, "--reason", "wrong patient")).status == 0
        await it.settled(2)
        (task,) = it.sandbox.tasks.values()
        assert task.request["patient_id"] == "4712"


async def test_f34_a_moved_visit_lists_the_tasks_of_the_identifier_that_it_left(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1", patient="4712"))
        await it.hl7(move("M1", "4711", "4712", event="A45"))
        rows = await it.settled(2)
        assert (await messages(it, "release", rows[1].id)).status == 0
        (listed,) = (await it.show(rows[0].id))["anomalies"]
        assert (listed["reason"], listed["task_ids"]) == ("moved_after_task", ["4711"])
        refused(await messages(it, "resolve", rows[0].id, "--anomaly", listed["id"]), "it needs a reason")
        settle = ("resolve", rows[0].id, "--anomaly", listed["id"], "--reason", "corrected in Cardio.AI")
        assert (await messages(it, *settle)).status == 0
        refused(await messages(it, *settle), "is settled already")
        assert (await messages(it, "list", "--anomalies", "--json")).json() == []


async def test_f34_a_move_that_goes_against_a_merge_is_refused_and_stays_held(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(move("A1", "4712", "4711", event="A40"))
        await it.hl7(move("M1", "4711", "4712"))
        rows = await it.settled(2)
        refused(await messages(it, "release", rows[1].id), "goes against an earlier one")
        assert [r.state for r in await it.messages()] == ["DONE", "HELD"]


async def test_f34_an_order_under_a_reused_identifier_is_released_as_it_reads(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1", patient="4711"))
        await it.hl7(move("A1", "4711", "4712", event="A40"))
        await it.hl7(order("C2", "PL-2", patient="4712", name="Anders^Anna"))
        rows = await it.settled(3)
        assert (rows[2].state, rows[2].reason) == ("HELD", "retired_identifier_reused")
        assert (await messages(it, "release", rows[2].id)).status == 0
        rows = await it.settled(3)
        task = it.sandbox.tasks[int(rows[2].task_ids[0])].request
        assert (task["patient_id"], task["patient_last_name"]) == ("4712", "Anders")


# --- what could not be told -----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["release", "discard"])
async def test_f44_an_id_that_its_receiver_would_not_take_goes_out_again_or_is_dropped(
    house: OpenHouse, action: str
) -> None:
    def answering(message: str, nth: int) -> str:
        return acknowledge(message, "AE" if nth == 1 else "AA")

    async with (
        receiving(answering) as his,
        house(
            BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__REPLY_BUDGET="0.2", BRIDGE_HL7__RETURN_REFUSALS="1"
        ) as it,
    ):
        it.sandbox.faults.add("latency", on="tasks", times=1, seconds=0.6)
        await it.hl7(order())
        async with asyncio.timeout(20):
            while not (held := await it.up.store.read(untold.held)):  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.02)
        listed = (await messages(it, "list", "--untold", "--json")).json()
        assert [(u["queue"], u["id"], u["reason"]) for u in listed] == [("outbound", held[0].id, "AE")]
        name = f"outbound:{held[0].id}"
        assert name in (await messages(it, "show", "1")).out
        words = (action, name, "--reason", "the HIS is mended")
        assert (await messages(it, *words)).status == 0
        if action == "release":
            await his.until(1)
        refused(await messages(it, *words), "not held")
        acts = [(a.action, a.outcome) for a in await trail(it)]
        assert acts == [("show", "done"), (action, "done"), (action, "refused")]
        assert await it.up.store.read(untold.held) == []
