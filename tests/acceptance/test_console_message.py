"""The page of a message: every stage of it, and nothing that its bytes could bring along."""

import re
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.demo_scene import samples_in, send
from bridge.console.access import hl7_masks
from bridge.console.stages import hl7_shown
from bridge.dispatch.acts.ways import HELD
from bridge.formats.hl7.reader import Message
from bridge.sandbox.ecg_object import Subject
from bridge.store.port import Transaction
from bridge.store.schema import event, message
from tests.acceptance.console_browser import browsing, said
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_actions_release import held_beside_its_order
from tests.acceptance.test_ecg_to_task import recording

SAMPLES = Path("sample_messages")


@pytest.mark.timeout(600)
async def test_every_sample_has_its_page_with_every_stage(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        for sample in samples_in(SAMPLES):
            await send(sample, it.up, it.sandbox)
        rows = await it.messages()
        assert len(rows) > 30
        for row in rows:
            for revealed in (False, True):
                if revealed:
                    await browser.done(f"/messages/{row.id}/reveal")
                page = await browser.page(f"/messages/{row.id}")
                for stage in ("received", "mapped", "matched", "sent", "answered", "history"):
                    assert f'id="{stage}"' in page, (row.id, stage)
                links = set(re.findall(r'href="#(at-[^"]+)"', page))
                places = set(re.findall(r'id="(at-[^"]+)"', page))
                assert links <= places, (row.id, row.type, links - places)
                assert row.task_ids == [] or row.task_ids[0] in page
            if row.kind == "dicom":
                assert "<svg" in await browser.page(f"/messages/{row.id}/ecg") or row.reason == "cannot_scale"
        for path in ("/work", "/patients", *(f"/orders/{n}" for n in range(1, 12)), "/patients/1"):
            await browser.page(path)


async def test_what_was_used_is_marked_and_every_field_has_its_name(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order())
        await it.settled(1)
        await browser.done("/messages/1/reveal")
        page = await browser.page("/messages/1")
        assert re.search(
            r'<mark id="at-PID.1-5.1.1" title="PID-5.1 Patient name: Family last name → patient_last_name,'
            r' patient_first_name">Muster</mark>',
            page,
        )
        assert '<span id="at-MSH.1-10.1.1" title="MSH-10 Message control id">C1</span>' in page
        assert "patient_last_name</dt>" in page
        text = said(page)
        assert "Muster ← PID-5 ← family name of type unsaid, alphabetic" in text
        assert "ACCPL-1 ← OBR-18.1 ← first of the chain" in text
        assert "MSA | AA | C1 | task=4711" in text
        assert "&#34;patient_last_name&#34;: &#34;Muster&#34;" in page  # the request's body


async def test_f35_a_recording_stands_beside_its_order_also_when_that_was_cancelled(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order("C1", "PL-1"))
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        await it.settled(2)
        await it.hl7(order("C2", "PL-1").replace("ORC|NW", "ORC|CA"))
        await it.settled(3)
        text = said(await browser.page("/messages/2"))
        assert "Attached to order PL-1 of message 1" in text
        assert "✓ order number ✓ patient id ✓ name ✓ birth date ✓ sex" in text
        assert "byte for byte the object's" in text
        assert "To be put right: cancelled after task" in said(await browser.page("/messages/1"))


async def test_hostile_names_stay_text_on_every_page(house: OpenHouse, tmp_path: Path) -> None:
    name = '<b onclick="x">"><script>alert(1)</script>'
    async with house() as it, browsing(it) as browser:
        await it.hl7(order("C1<i>", "PL-1<i>", patient="4711<i>", name=f"{name}^{name}"))
        await it.store(
            recording(tmp_path, accession="ACCPL-1<i>", subject=Subject("4711<i>", f"{name}^Max", "19700131"))
        )
        await it.settled(2)
        await browser.done("/messages/1/reveal")
        await browser.done("/messages/2/reveal")
        await browser.done("/orders/1/reveal")
        await browser.done("/patients/1/reveal")
        found = await browser.post("/patients", text="4711<i>", reveal="true")
        pages = [
            await browser.page(p)
            for p in ("/messages/1", "/messages/2", "/messages/2/ecg", "/orders/1", "/patients/1", "/work")
        ]
        for page in [*pages, found.text]:
            assert "<script>alert" not in page
            assert "<b onclick" not in page
            assert "<i>" not in page
        for page in (pages[0], pages[1], pages[3], pages[4], found.text):
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize("reason", [*HELD, "something_new"])
async def test_every_reason_to_hold_has_its_words_and_a_way_out(house: OpenHouse, tmp_path: Path, reason: str) -> None:
    async with house() as it, browsing(it) as browser:
        held = int(await held_beside_its_order(it, tmp_path))

        def because(tx: Transaction) -> None:
            tx.conn.execute(message.update().where(message.c.id == held), {"reason": reason})

        await it.up.store.write(because)
        page = await browser.page(f"/messages/{held}")
        if reason in HELD:
            assert HELD[reason].words in said(page)
        assert 'id="act"' in page
        assert f'action="/messages/{held}/' in page
        work = said(await browser.page("/work"))
        assert reason.replace("_", " ") in work
        await browser.page(f"/work/group?kind=HELD&reason={reason}")


async def test_f28_what_the_bridge_once_failed_on_is_not_read_again(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order())
        await it.settled(1)

        def poisoned(tx: Transaction) -> None:
            tx.conn.execute(message.update(), {"state": "HELD", "reason": "poison"})
            row = {"message_id": 1, "at": 0, "actor": "bridge", "state": "HELD", "reason": "poison", "detail": ""}
            tx.conn.execute(event.insert(), row)

        await it.up.store.write(poisoned)

        real = hl7_shown.read

        def fails(raw: bytes, **options: Any) -> Message:
            if raw.startswith(b"MSH|^~\\&|HIS"):
                raise RecursionError
            return real(raw, **options)

        for module in (hl7_shown, hl7_masks):
            monkeypatch.setattr(module, "read", fails)
        page = await browser.page("/messages/1")
        assert "Muster" not in page
        await browser.done("/messages/1/reveal")
        assert "Muster^Max" in await browser.page("/messages/1")


async def test_an_open_page_asks_whether_it_still_is_right_and_forms_are_left_alone(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order())
        await it.settled(1)
        page = await browser.page("/messages/1")
        (stand,) = re.findall(r'hx-get="(/messages/1/parts/stand[^"]+)"', page)
        (stages,) = re.findall(r'hx-get="(/messages/1/parts/stages[^"]+)"', page)
        for part in (stand, stages):
            assert (await browser.client.get(part.replace("&amp;", "&"))).status_code == 204
        await it.hl7(order("C2", "PL-1").replace("ORC|NW", "ORC|CA"))
        await it.settled(2)
        for part in (stand, stages):
            fresh = await browser.client.get(part.replace("&amp;", "&"))
            assert fresh.status_code == 200
            assert "<form" not in fresh.text
            assert "<html" not in fresh.text
        again = await browser.page(re.sub(r"standing=\w+", "standing=of-before", stand.replace("&amp;", "&")))
        assert "It has moved on since this page was opened" in again


async def test_the_ecg_is_drawn_where_it_is_revealed_and_for_recordings_alone(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order("C1", "PL-1"))
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        await it.settled(2)
        assert "<svg" not in await browser.page("/messages/2/ecg")
        assert await browser.done("/messages/2/reveal?to=ecg") == "/messages/2/ecg"
        page = await browser.page("/messages/2/ecg?start=0&seconds=10")
        assert "<svg" in page
        assert "Not for diagnosis" in said(page)
        assert "Attached to order PL-1" in said(page)
        assert "style=" not in page, "the policy of the pages allows none"
        assert "<svg" in await browser.page("/messages/2/ecg?layout=stacked")
        await browser.page("/messages/2/ecg?start=99", status=422)
        await browser.page("/messages/2/ecg?group=7", status=422)
        await browser.page("/messages/2/ecg?start=nan", status=422)
        await browser.page("/messages/1/ecg", status=404)
        assert await browser.done("/messages/2/mask?to=ecg") == "/messages/2/ecg"
        assert "<svg" not in await browser.page("/messages/2/ecg")


@pytest.mark.parametrize(
    "path", ["/messages/99", "/messages/99/ecg", "/messages/99/parts/stand", "/patients/99", "/orders/99"]
)
async def test_what_is_not_there_is_said_so(house: OpenHouse, path: str) -> None:
    async with house() as it, browsing(it) as browser:
        assert "Not there" in await browser.page(path, status=404)
        answer = await browser.post("/messages/99/reveal")
        assert answer.status_code == 404


async def test_a_page_of_a_message_in_hand_can_be_looked_at(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.1") as it, browsing(it) as browser:
        it.sandbox.faults.add("latency", on="tasks", times=1, seconds=2.0)
        await it.hl7(order())
        text = said(await browser.page("/messages/1"))
        assert "The bridge is at work on it" in text
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert "Its task is made" in said(await browser.page("/messages/1"))
