"""Whole stories, as an integration engineer lives them: a real browser, the whole bridge, no step behind the scenes."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_actions_release import held_beside_its_order
from tests.acceptance.test_ecg_to_task import recording
from tests.ui.conftest import PATIENCE, OpenPage
from tests.ui.looking import seen

PASSWORD = "correct invented horse"
SIGNED_IN = {"BRIDGE_CONSOLE__SIGN_IN": "true"}


@pytest.fixture(autouse=True)
def patient_expectations() -> None:
    expect.set_options(timeout=PATIENCE)


def console(it: House) -> str:
    return f"http://{it.up.addresses['console']}"


async def set_up(page: Page, it: House) -> None:
    """The one-time token from its file, and the first admin."""
    await page.get_by_label("Token").fill((it.folder / "setup-token").read_text().strip())
    await page.get_by_label("Your name").fill("erika")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_label("The same again").fill(PASSWORD)
    await page.get_by_role("button", name="Make the first admin").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def sign_in(page: Page, name: str) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()


async def test_set_up_once_then_sign_in_and_out(house: OpenHouse, look: OpenPage) -> None:
    async with house(**SIGNED_IN) as it:
        page = await look(console(it))
        await expect(page.get_by_role("heading", name="The first admin")).to_be_visible()
        assert await seen(page, "set-up") == []
        await set_up(page, it)
        assert not (it.folder / "setup-token").exists()
        await page.get_by_role("button", name="Sign out").click()
        other = await look(console(it))
        await expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        assert await seen(other, "sign-in") == []
        await other.get_by_label("Name").fill("erika")
        await other.get_by_label("Password").fill("a wrong password")
        await other.get_by_role("button", name="Sign in").click()
        await expect(other.get_by_role("alert")).to_be_visible()
        await sign_in(other, "erika")
        await expect(other.get_by_text("erika (admin)")).to_be_visible()
        await other.goto("/people")
        assert await seen(other, "people") == []
        await other.goto("/account")
        assert await seen(other, "account") == []


async def test_an_order_comes_in_and_its_row_appears_without_a_reload(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        page = await look(console(it))
        await page.goto("/messages")
        await page.evaluate("window.here = 'not loaded again'")
        await expect(page.get_by_text("Nothing has come in yet.")).to_be_visible()
        await it.hl7(order("C1", "PL-1"))
        await it.settled(1)
        row = page.get_by_role("row").filter(has_text="ORM^O01")
        await expect(row.get_by_text("created")).to_be_visible()
        await expect(row.get_by_text("4711")).to_be_visible()
        assert await page.evaluate("window.here") == "not loaded again"
        await page.goto("/")
        await expect(page.get_by_role("row").filter(has_text="HIS|TEST")).to_be_visible()


async def test_search_by_task_id_finds_it_in_one_step(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        for number in range(3):
            await it.hl7(order(f"C{number}", f"PL-{number}"))
        rows = await it.settled(3)
        page = await look(console(it))
        await page.goto("/messages")
        await page.get_by_role("searchbox").fill("4712")
        await page.keyboard.press("Enter")
        (meant,) = [r.id for r in rows if r.task_ids == ["4712"]]
        await expect(page.get_by_role("heading", name=f"Message {meant}", exact=True)).to_be_visible()
        assert page.url.endswith(f"/messages/{meant}")


async def test_an_ecg_held_for_a_name_mismatch_is_compared_attached_and_becomes_a_task(
    house: OpenHouse, look: OpenPage, tmp_path: Path
) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        page = await look(console(it))
        await page.goto("/work")
        assert await seen(page, "work") == []
        await page.goto(f"/messages/{held}")
        await expect(page.get_by_text("Anders")).to_have_count(0)  # masked until somebody answers for it
        await page.get_by_role("button", name=re.compile("Reveal")).first.click()
        await expect(page.get_by_text("Anders").first).to_be_visible()
        await expect(page.get_by_text("✗ name").first).to_be_visible()
        assert await seen(page, "message-held") == []
        await page.get_by_role("radio").first.check()
        await page.get_by_label(re.compile("^Why")).first.fill("her name before she married")
        await page.get_by_role("button", name=re.compile("Attach|Release")).first.click()
        await expect(page.get_by_role("status")).to_have_text("It is released.")
        rows = await it.until(lambda rows: rows[1].state == "CREATED")
        assert rows[1].task_ids == ["4712"]
        await expect(page.locator("#stand, .stand").get_by_text("created").first).to_be_visible()
        await page.goto(f"/messages/{held}/ecg")
        await expect(page.get_by_text("not for diagnosis").first).to_be_visible()
        assert await seen(page, "ecg") == []


async def test_a_rejected_message_is_mapped_anew_and_replayed(house: OpenHouse, look: OpenPage, tmp_path: Path) -> None:
    async with house(BRIDGE_ORDERS__CREATE="on_recording") as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.store(recording(tmp_path))
        (row,) = await it.settled(1)
        assert row.state == "REJECTED"
        page = await look(console(it))
        await page.goto(f"/messages/{row.id}")
        assert await seen(page, "message-rejected") == []
        await page.get_by_role("button", name="Replay").click()
        await expect(page.get_by_role("status")).to_have_text("It is understood anew.")
        await it.until(lambda rows: rows[0].state == "CREATED")
        await page.goto(f"/messages/{row.id}")
        assert await seen(page, "message-replayed") == []


async def test_a_message_in_doubt_is_resolved_by_the_id_that_was_found(house: OpenHouse, look: OpenPage) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="1") as it:
        it.sandbox.faults.add("lost_answer", on="tasks", times=1)
        await it.hl7(order("C1", "PL-1"))
        (row,) = await it.until(lambda rows: bool(rows) and rows[0].state == "IN_DOUBT")
        (task_id,) = it.sandbox.tasks
        page = await look(console(it))
        await page.goto("/work")
        await page.get_by_role("link", name=row.id, exact=True).first.click()
        assert await seen(page, "message-in-doubt") == []
        await page.get_by_label("It is there: its task id").fill("4999")
        await page.get_by_role("button", name="Take this task").click()
        await expect(page.get_by_role("alert")).to_be_visible()  # no such task at the API
        await page.get_by_label("It is there: its task id").fill(str(task_id))
        await page.get_by_role("button", name="Take this task").click()
        await expect(page.get_by_role("status")).to_have_text("Its task is taken over.")
        assert (await it.messages())[0].task_ids == [str(task_id)]


async def test_a_viewer_sees_masks_and_cannot_act(house: OpenHouse, look: OpenPage, tmp_path: Path) -> None:
    async with house(**SIGNED_IN) as it:
        held = await held_beside_its_order(it, tmp_path)
        page = await look(console(it))
        await set_up(page, it)
        await page.goto("/people")
        await page.get_by_label("Name", exact=True).fill("viktor")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_label("Role", exact=True).select_option("viewer")
        await page.get_by_role("button", name="Make", exact=True).click()
        viewer = await look(console(it))
        await sign_in(viewer, "viktor")
        await viewer.goto(f"/messages/{held}")
        assert await seen(viewer, "message-held-viewer") == []
        text = await viewer.content()
        for value in ("Muster", "Anders", "19700131", "1970-01-31"):
            assert value not in text
        await expect(viewer.get_by_role("button", name=re.compile("Reveal"))).to_have_count(0)
        for button in await viewer.locator("#act button").all():
            assert await button.is_disabled()
        refused = await viewer.request.post(
            f"{console(it)}/messages/{held}/discard", form={"reason": "x"}, headers={"Origin": console(it)}
        )
        assert refused.status == 403
        assert (await it.messages())[1].state == "HELD"


async def test_every_action_works_without_script(house: OpenHouse, look: OpenPage, tmp_path: Path) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        page = await look(console(it), script=False)
        await page.goto("/messages")
        await page.get_by_role("searchbox").fill("PL-1")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("row").filter(has_text="ORM^O01")).to_be_visible()
        await page.goto(f"/messages/{held}")
        await page.get_by_label("Why", exact=True).last.fill("not wanted")
        await page.get_by_role("button", name="Discard").click()
        await expect(page.get_by_role("status")).to_have_text("It is discarded.")
        assert (await it.messages())[1].state == "CANCELLED"


async def test_a_pasted_message_shows_its_task_its_trace_and_the_answer(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        page = await look(console(it))
        await page.goto("/mapping")
        await page.get_by_role("textbox").first.fill(order("C9", "PL-9").replace("\r", "\n"))
        await page.get_by_role("button", name=re.compile("Map|Show|Try")).first.click()
        await expect(page.get_by_text("PID-3").first).to_be_visible()
        await expect(page.get_by_text("MSA|AA|C9").first).to_be_visible()
        assert await seen(page, "mapping") == []
        assert await it.messages() == []


async def test_what_a_search_finds_is_replayed_in_one_go(house: OpenHouse, look: OpenPage, tmp_path: Path) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.store(recording(tmp_path))
        (row,) = await it.settled(1)
        page = await look(console(it))
        await page.goto("/messages?state=REJECTED")
        await page.get_by_role("button", name="Replay the 1 held or refused").click()
        await page.get_by_label(re.compile("^Why")).fill("the mapping was mended")
        await page.get_by_role("button", name="Replay 1").click()
        await expect(page.get_by_role("status")).to_have_text("1 is understood anew.")
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert row.state == "REJECTED"
