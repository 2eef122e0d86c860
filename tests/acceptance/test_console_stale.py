"""What a person acts on is what he saw: a page that is stale by now, a form that is sent twice (F35, F40)."""

import asyncio
import html
import re
from pathlib import Path

from tests.acceptance.acting_house import posts, trail
from tests.acceptance.console_browser import Browser, browsing, notice
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_actions_release import ANNA, held_beside_its_order
from tests.acceptance.test_actions_replay import refused_late
from tests.acceptance.test_actions_resolve import NO_QUIET, in_doubt
from tests.acceptance.test_console_acts import LATE
from tests.acceptance.test_ecg_to_task import recording


def form_of(page: str, action: str) -> dict[str, str]:
    """The fields of a form that nobody fills in, as a browser sends them."""
    found = re.search(rf'<form method="post" action="{action}"[^>]*>(.*?)</form>', page, re.DOTALL)
    assert found is not None, action
    hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', found[1])
    return {name: html.unescape(value) for name, value in hidden}


async def form_at(browser: Browser, message: str, verb: str) -> dict[str, str]:
    """As the page of a message has it now."""
    return form_of(await browser.page(f"/messages/{message}"), f"/messages/{message}/{verb}")


async def test_f35_an_order_that_was_changed_to_another_person_while_the_page_was_open_is_looked_at_again(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house(BRIDGE_ORDERS__CREATE="on_recording") as it, browsing(it) as browser:
        await it.hl7(order("C1", "PL-1"))
        await it.store(recording(tmp_path, accession="ACCPL-1", subject=ANNA))
        (_, held) = (r.id for r in await it.settled(2))
        form = await form_at(browser, held, "release")
        changed = order("C2", "PL-1", name="Ganz^Anders").replace("ORC|NW", "ORC|XO").replace("12-lead ECG", "ECG")
        await it.hl7(changed)
        await it.until(lambda rows: len(rows) == 3 and rows[2].state != "RECEIVED")
        page = await browser.refused(f"/messages/{held}/release", order="id:1", reason="married", **form)
        assert "not what it was" in notice(page)
        (row,) = [r for r in await it.messages() if r.id == held]
        assert (row.state, posts(it)) == ("HELD", [])
        anew = form_of(page, f"/messages/{held}/release")
        await browser.done(f"/messages/{held}/release", order="id:1", reason="he is meant", **anew)
        await it.until(lambda rows: rows[1].state == "CREATED")


async def test_f35_a_patient_record_that_changed_while_the_page_was_open_is_looked_at_again(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)
        form = await form_at(browser, held, "release")
        again = await form_at(browser, held, "release")
        assert again == form, "looking changes nothing"
        moved = (
            "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120500+0100||ADT^A40|C9|P|2.3.1\r"
            "EVN|A40|20260301120500+0100\rPID|1||0815^^^TEST^MR||Ganz^Anders||19700131|M\rMRG|4711^^^TEST^MR\r"
        )
        await it.hl7(moved)
        await it.until(lambda rows: len(rows) == 3 and rows[2].state == "DONE")
        page = await browser.refused(f"/messages/{held}/release", order="id:1", **form)
        assert "not what it was" in notice(page)


async def test_f35_a_form_that_is_sent_again_is_no_second_word(house: OpenHouse, tmp_path: Path) -> None:
    """A browser that goes back sends it once more: by then it is held for another reason, which nobody has seen."""
    async with house() as it, browsing(it) as browser:
        held = await held_beside_its_order(it, tmp_path)
        form = {"order": "id:1", **await form_at(browser, held, "release")}
        it.sandbox.faults.add("429", on="uploads", times=1, retry_after=1)
        await browser.done(f"/messages/{held}/release", **form)
        await it.until(lambda rows: rows[1].state == "RETRY")
        changed = order("C2", "PL-1", name="Ganz^Anders").replace("ORC|NW", "ORC|XO").replace("12-lead ECG", "ECG")
        await it.hl7(changed)
        rows = await it.settled(3)
        assert (rows[1].state, rows[1].reason) == ("HELD", "order_changed_since")
        for verb in ("release", "replay", "discard"):
            page = await browser.refused(f"/messages/{held}/{verb}", **{**form, "reason": "she said so"})
            assert "not what it was" in notice(page), verb
        rows = await it.messages()
        assert (rows[1].state, rows[1].reason) == ("HELD", "order_changed_since")
        assert len(it.sandbox.tasks) == 1, "its draft"


async def test_f40_two_operators_at_once_release_one_recording_to_two_orders(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_ORDERS__CREATE="on_recording") as it, browsing(it) as one, browsing(it) as other:
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(order("C2", "PL-2"))
        await it.store(recording(tmp_path, accession="ACCPL-1", subject=ANNA))
        held = (await it.settled(3))[2].id
        form = await form_at(one, held, "release")
        answers = await asyncio.gather(
            *(
                who.post(f"/messages/{held}/release", order=f"id:{1 + number % 2}", **form)
                for number, who in enumerate([one, other] * 5)
            )
        )
        assert sorted(a.status_code for a in answers) == [303] + [409] * 9
        await it.until(lambda rows: rows[2].state == "CREATED")
        assert (len(posts(it)), len(it.sandbox.tasks)) == (1, 1)
        assert [a.outcome for a in await trail(it)].count("done") == 1


async def test_f40_a_doubt_resolved_twice_at_once_is_one_new_generation(house: OpenHouse, tmp_path: Path) -> None:
    async with house(**NO_QUIET) as it, browsing(it) as browser:
        doubtful = await in_doubt(it, tmp_path)
        before = len(posts(it))
        page = await browser.page(f"/messages/{doubtful}")
        (tag,) = set(re.findall(r'<code class="tag">([^<]*)</code>', page))
        form = {"way": "resend", "confirm": tag, "reason": "no task has it"}
        answers = await asyncio.gather(*(browser.post(f"/messages/{doubtful}/resolve", **form) for _ in range(10)))
        assert sorted(a.status_code for a in answers) == [303] + [409] * 9
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert len(posts(it)) == before + 1


async def test_f40_a_refused_order_replayed_by_ten_presses_is_one_task(house: OpenHouse) -> None:
    async with house(**LATE) as it, browsing(it) as browser:
        number = await refused_late(it)
        before = len(it.sandbox.tasks)
        form = {"message": number, "kind": "REJECTED", "reason": "api_refused", "confirmed": "true"}
        single = await form_at(browser, number, "replay")
        answers = await asyncio.gather(
            *(browser.post("/work/replay", **form) for _ in range(5)),
            *(browser.post(f"/messages/{number}/replay", **single) for _ in range(5)),
        )
        assert {a.status_code for a in answers} <= {303, 409}
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert len(it.sandbox.tasks) == before + 1
        assert [a.outcome for a in await trail(it)].count("done") == 1
