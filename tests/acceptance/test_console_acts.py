"""What a person does by the forms of the console: each kind of held work, through HTTP, as a browser without script."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.console.pages import work as work_page
from bridge.domain.states import State
from bridge.store import untold, work
from bridge.store.port import Transaction
from bridge.store.schema import message
from tests.acceptance.acting_house import made_tags, tag_in_doubt, trail
from tests.acceptance.console_browser import browsing, notice, said, value_of
from tests.acceptance.receiver import acknowledge, receiving
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_actions_release import held_beside_its_order
from tests.acceptance.test_actions_replay import refused_late
from tests.acceptance.test_actions_resolve import NO_QUIET, in_doubt
from tests.acceptance.test_ecg_to_task import recording

LATE = {"BRIDGE_HL7__REPLY_BUDGET": "0.2"}


async def test_f35_a_held_ecg_is_compared_attached_and_becomes_a_task(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)
        assert "Held: contradicts order" in said(await browser.page("/work"))
        page = await browser.page(f"/messages/{held}")
        assert "✓ order number ✓ patient id ✓ birth date ✗ name ✗ sex" in said(page)
        gone = await browser.done(f"/messages/{held}/release", order="id:1", reason="married since")
        assert gone == f"/messages/{held}?done=release"
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].task_ids) == ("CREATED", ["4712"])
        page = await browser.page(gone)
        assert notice(page) == "It is released."
        assert "Attached to order PL-1" in said(page)
        (act,) = await trail(it)
        assert (act.actor, act.action, act.outcome, act.detail["order"]) == ("local", "release", "done", "1")
        assert "Nothing waits for a person" in said(await browser.page("/work"))


async def test_f35_released_to_no_order(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)
        await browser.done(f"/messages/{held}/release", order="none")
        rows = await it.settled(2)
        assert rows[1].state == "CREATED"
        assert it.sandbox.tasks[4712].request["patient_last_name"] == "Anders"


@pytest.mark.parametrize(
    ("verb", "form", "why"),
    [
        ("release", {"reason": "she said so"}, "say which order it belongs to, or without order"),
        ("release", {"reason": "she said so", "order": "id:99"}, "this order is no candidate; this page lists those"),
        ("discard", {"reason": "  "}, "It needs a reason"),
        ("resolve", {"way": "found", "task": "4711", "reason": "she said so"}, "it is held: release it"),
        ("settle", {"anomaly": "7", "reason": "she said so"}, "it has no anomaly 7; this page lists them"),
    ],
)
async def test_f36_a_refusal_names_the_way_out_and_keeps_what_was_typed(
    house: OpenHouse, tmp_path: Path, verb: str, form: dict[str, str], why: str
) -> None:
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)
        before = await it.show(held)
        page = await browser.refused(f"/messages/{held}/{verb}", **form)
        assert why in notice(page), notice(page)
        assert "--" not in notice(page)
        assert "bridge messages" not in notice(page)
        if verb == "release":
            assert value_of(page, "release-reason") == "she said so"
        assert await it.show(held) == before
        assert [a.outcome for a in await trail(it)] == ([] if verb == "discard" else ["refused"])


async def test_f17_what_the_api_refused_is_replayed_and_both_generations_stand_side_by_side(house: OpenHouse) -> None:
    async with house(**LATE) as it, browsing(it) as browser:
        number = await refused_late(it)
        page = said(await browser.page(f"/messages/{number}"))
        assert "Api refused. The Cardio API answered 400." in page
        assert "The mapping in force now Every field is the same." in page
        assert "Refused: api refused" in said(await browser.page("/work"))
        await browser.done(f"/messages/{number}/replay", reason="the API is mended")
        await it.until(lambda rows: rows[0].state == "CREATED")
        page = said(await browser.page(f"/messages/{number}"))
        assert "Draft 1: from generation 1 to 2" in page
        first, second = (t for t in (await it.show(number))["tasks"])
        assert f"{second['body']['searching_tags'][0]}" in page
        assert first["body"]["searching_tags"] != second["body"]["searching_tags"]


async def test_a_held_message_is_discarded_with_a_reason_that_only_who_reveals_it_reads(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)
        await browser.done(f"/messages/{held}/discard", reason="a test of Frau Anders")
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].reason) == ("CANCELLED", "discarded")
        assert "Frau Anders" not in await browser.page(f"/messages/{held}")
        await browser.done(f"/messages/{held}/reveal")
        assert "a test of Frau Anders" in await browser.page(f"/messages/{held}")


async def test_f12_a_doubt_is_over_by_the_task_that_was_found(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        doubtful = await in_doubt(it, tmp_path)
        tag = await tag_in_doubt(it, doubtful)
        page = await browser.page(f"/messages/{doubtful}")
        assert f'<code class="tag">{tag}</code>' in page
        refused = await browser.refused(f"/messages/{doubtful}/resolve", way="found", task="999", tag=tag)
        assert "the API knows no such task" in notice(refused)
        assert value_of(refused, "task-0") == "999"
        await browser.done(f"/messages/{doubtful}/resolve", way="found", task="4711", tag=tag)
        (row,) = await it.messages()
        assert (row.state, row.task_ids) == ("CREATED", ["4711"])


@pytest.mark.parametrize("way", ["resend", "give_up"])
async def test_f12_not_found_counts_after_the_quiet_time_with_a_reason_and_the_tag(
    house: OpenHouse, tmp_path: Path, way: str
) -> None:
    async with house(**NO_QUIET) as it, browsing(it) as browser:
        doubtful = await in_doubt(it, tmp_path, applied=False)
        tag = await tag_in_doubt(it, doubtful)
        where = f"/messages/{doubtful}/resolve"
        assert "It needs a reason" in notice(await browser.refused(where, way=way, confirm=tag))
        wrong = await browser.refused(where, way=way, confirm="br1-wrong", reason="looked")
        assert "say which of its tasks is meant" in notice(wrong)
        assert value_of(wrong, "why-0") == "looked"
        empty = await browser.refused(where, way=way, reason="looked")
        assert f"give the tag again: {tag}" in notice(empty)
        await browser.done(where, way=way, confirm=tag, reason="looked in Cardio.AI")
        (row,) = await it.settled(1)
        assert row.state == ("CREATED" if way == "resend" else "CANCELLED")
        if way == "resend":
            assert made_tags(it)[-1] == f"{tag}-g2"


async def test_f12_before_the_quiet_time_the_form_is_closed(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_CARDIO__QUIET_TIME="900") as it, browsing(it) as browser:
        doubtful = await in_doubt(it, tmp_path)
        tag = await tag_in_doubt(it, doubtful)
        page = await browser.page(f"/messages/{doubtful}")
        assert "the first request may still be running" in said(page)
        assert 'value="give_up" class="danger" disabled' in page
        late = await browser.refused(f"/messages/{doubtful}/resolve", way="give_up", confirm=tag, reason="hurry")
        assert "the first request may still be running: not before" in notice(late)


async def test_f33_a_task_made_before_a_cancel_is_put_right(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(order("C2", "PL-1").replace("ORC|NW", "ORC|CA"))
        await it.settled(2)
        (anomaly,) = (await it.show("1"))["anomalies"]
        assert "To be put right: cancelled after task" in said(await browser.page("/work"))
        assert "cancelled after task" in said(
            await browser.page("/work/group?kind=anomaly&reason=cancelled_after_task")
        )
        assert "It needs a reason" in notice(await browser.refused("/messages/1/settle", anomaly=anomaly["id"]))
        await browser.done("/messages/1/settle", anomaly=anomaly["id"], reason="deleted there")
        assert "Nothing waits for a person" in said(await browser.page("/work"))


@pytest.mark.parametrize("verb", ["release", "discard"])
@pytest.mark.parametrize("on", ["message", "work"])
async def test_f44_what_its_receiver_would_not_take_is_told_again_or_never(
    house: OpenHouse, verb: str, on: str
) -> None:
    def answering(sent: str, nth: int) -> str:
        return acknowledge(sent, "AE" if nth == 1 else "AA")

    async with receiving(answering) as his:
        settings = {"BRIDGE_HL7__RETURN_ADDRESS": his.address, "BRIDGE_HL7__RETURN_REFUSALS": "1", **LATE}
        async with house(**settings) as it, browsing(it) as browser:
            it.sandbox.faults.add("latency", on="tasks", times=1, seconds=0.6)
            await it.hl7(order())
            async with asyncio.timeout(30):
                while not (held := await it.up.store.read(untold.held)):  # noqa: ASYNC110  it is no event of ours
                    await asyncio.sleep(0.02)
            number = held[0].id
            page = await browser.page("/messages/1")
            assert "Its receiver would not take it: AE" in said(page)
            assert "Not told: ae" in said(await browser.page("/work"))
            group = "/work/group?kind=outbound&reason=AE"
            assert f'action="/work/untold/outbound/{number}"' in await browser.page(group)
            if on == "message":
                path, why = f"/messages/1/untold/{number}", "reason"
            else:
                path, why = f"/work/untold/outbound/{number}", "why"
            assert "It needs a reason" in notice(await browser.refused(path, verb="discard", of="AE"))
            await browser.done(path, verb=verb, **{why: "the HIS is mended"})
            if verb == "release":
                await his.until(1)
            assert "not held" in notice(await browser.refused(path, verb=verb, **{why: "once more"}, of="AE"))
            assert await it.up.store.read(untold.held) == []


async def test_f41_what_a_restore_held_asks_for_a_reason(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)

        def restored(tx: Transaction) -> None:
            tx.conn.execute(message.update().where(message.c.id == int(held)), {"reason": "quarantine"})

        await it.up.store.write(restored)
        page = await browser.page(f"/messages/{held}")
        assert 'id="release-reason" name="reason" maxlength="500" value="" required' in page
        refused = await browser.refused(f"/messages/{held}/release")
        assert "it needs a reason" in notice(refused)
        await browser.done(f"/messages/{held}/release", reason="none is there")
        await it.until(lambda rows: rows[1].state != "HELD" or rows[1].reason != "quarantine")


async def test_a_group_is_replayed_after_it_was_counted(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_page, "AT_ONCE", 3)
    async with house(**LATE) as it, browsing(it) as browser:
        it.sandbox.faults.add("400", on="tasks", times=5)
        for n in range(5):
            await it.store(recording(tmp_path, seed=f"r{n}"), calling=f"CART{n}")
        rows = await it.settled(5)
        assert {r.state for r in rows} == {"REJECTED"}
        page = await browser.page("/work/replay?kind=REJECTED&reason=api_refused")
        assert "Replay 3 messages" in said(page)
        assert "There are more: one press takes the newest 3" in said(page)
        counted = await browser.post("/work/replay", message=["5", "4", "3"])
        assert counted.status_code == 200, "without a confirmation it is counted again"
        assert {r.state for r in await it.messages()} == {"REJECTED"}
        form = {"message": ["5", "4", "1"], "kind": "REJECTED", "reason": "api_refused", "confirmed": "true"}
        gone = await browser.done("/work/replay", **form, why="mended")
        await it.until(lambda rows: [r.state for r in rows].count("CREATED") == 3)
        shown = await browser.page(gone.removeprefix(f"http://{it.up.addresses['console']}"))
        assert notice(shown) == "3 replayed."
        again = await browser.done("/work/replay", **form)
        assert "replayed=0" in again
        assert "refused=3" in again
        acts = [(a.action, a.outcome, a.message_id) for a in await trail(it)]
        assert acts == [("replay", o, n) for o in ("done", "refused") for n in (5, 4, 1)]


async def test_what_was_told_no_is_counted_out_of_a_replay(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order().replace("ORC|NW", "ORC|ZZ"))
        await it.settled(1)
        page = said(await browser.page("/work"))
        assert "its sender was told so: he sends it again" in page
        assert "Replay all" not in page
        counted = said((await browser.post("/work/replay", message="1")).text)
        assert "None of them can be replayed" in counted
        assert "1 : its sender was told no, and to send it again" in counted


async def test_a_group_is_shown_page_by_page(house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_page, "PAGE", 2)
    async with house() as it, browsing(it) as browser:
        for n in range(5):
            await it.hl7(order(f"C{n}", f"PL-{n}").replace("ORC|NW", "ORC|ZZ"))
        await it.settled(5)
        (reason,) = {r.reason for r in await it.messages()}
        seen, path = [], f"/work/group?kind=REJECTED&reason={reason}"
        while path:
            page = await browser.page(path)
            seen += [int(n) for n in re.findall(r'data-name="Message"><a href="/messages/(\d+)"', page)]
            found = re.search(r'rel="next" href="([^"]+)"', page)
            path = found[1].replace("&amp;", "&") if found else ""
        assert seen == [5, 4, 3, 2, 1]


async def test_patients_are_found_by_identifier_name_and_what_they_were_merged_from(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order("C1", "PL-1", patient="4711", name="Müller^Jürgen"))
        await it.hl7(order("C2", "PL-2", patient="0815", name="Lehnert^Ada"))
        await it.hl7(
            "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301130000+0100||ADT^A40|C3|P|2.3.1\rEVN|A40|20260301130000\r"
            "PID|1||4711^^^TEST^MR||Müller^Jürgen||19700131|M\rMRG|0815^^^TEST^MR\r"
        )
        await it.settled(3)
        # The message of the merge has the one identifier, and is the other patient's: both are found by it.
        for text, records in (("47", ["1", "2"]), ("muller", ["1"]), ("JÜRG", ["1"]), ("PL-2", ["2"]), ("zz", [])):
            page = (await browser.post("/patients", text=text)).text
            assert re.findall(r'data-name="Record"><span><a href="/patients/(\d+)"', page) == records, text
            assert "Müller" not in page
        revealed = (await browser.post("/patients", text="muller", reveal="true")).text
        assert "Müller" in revealed
        record = said(await browser.page("/patients/1"))
        assert "0815 → 4711, by message 3" in record
        assert "PL-1" in record
        assert "PL-2" in record, "the order of the identifier that was merged into it"
        assert "This identifier was merged: record 1" in said(await browser.page("/patients/2"))
        (act,) = [a for a in await trail(it) if a.action == "reveal"]
        assert (act.actor, act.detail) == ("local", {"of": ["patient:1"]})


async def test_an_order_has_its_standing_tasks_and_messages(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order("C1", "PL-1"))
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        await it.settled(2)
        await it.hl7(order("C2", "PL-1").replace("ORC|NW", "ORC|CA"))
        await it.settled(3)
        text = said(await browser.page("/orders/1"))
        for words in ("It is cancelled, by message 3", "ACCPL-1, PL-1", "4711", "4712", "ordered it", "withdrew it"):
            assert words in text, words


async def test_a_look_is_in_the_trail_and_a_second_one_is_none(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order())
        await it.settled(1)
        assert "Muster" not in await browser.page("/messages/1")
        await browser.done("/messages/1/reveal")
        for _ in range(2):
            assert "Muster" in await browser.page("/messages/1")
        acts = [(a.actor, a.action, a.outcome, a.message_id) for a in await trail(it)]
        assert acts == [("local", "reveal", "done", 1)]
        await browser.done("/messages/1/mask")
        assert "Muster" not in await browser.page("/messages/1")


async def test_groups_with_much_in_them_are_counted_to_a_bound(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.store.work.MOST", 2)
    async with house() as it, browsing(it) as browser:
        for n in range(3):
            await it.hl7(order(f"C{n}", f"PL-{n}").replace("ORC|NW", "ORC|ZZ"))
        await it.settled(3)
        assert "2 and more" in said(await browser.page("/work"))

        def plans(conn: sa.Connection) -> list[str]:
            asked: list[tuple[str, Any]] = []

            def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
                asked.append((statement, parameters))

            sa.event.listen(conn.engine, "before_cursor_execute", note)
            work.groups(conn)
            work.ids(conn, State.HELD, "no_order", before=7)
            sa.event.remove(conn.engine, "before_cursor_execute", note)
            of_messages = [(s, p) for s, p in asked if "FROM message" in s]
            return [str(conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p).all()) for s, p in of_messages]

        found = await it.up.store.read(plans)
        assert len(found) == 4
        assert all("ix_message_settled" in plan for plan in found), found
