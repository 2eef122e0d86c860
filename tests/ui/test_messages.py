"""The Messages page before a browser: rows appear by themselves, typing narrows, Enter leads to a task's message."""

from playwright.async_api import expect

from tests.acceptance.scene import House, OpenHouse, order
from tests.ui.conftest import OpenPage
from tests.ui.looking import seen


async def _several(it: House) -> None:
    for n in range(4):
        await it.hl7(order(f"MSG{n}", f"PL-{n}", patient=f"47{n}", name=f"Muster^{'Max' if n % 2 else 'Erika'}"))
    await it.hl7(order("LONG" + "7" * 40, "PLACER-" + "9" * 40, patient="0815", name="Beispiel-Zweifach^Ägidius"))
    await it.hl7("MSH|^~\\&|HIS|TEST|||20260301120000||SIU^S12|S1|P|2.3.1\rPID|1||1\r")
    await it.settled(6)


async def test_a_row_appears_without_reload_and_typing_finds_it(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        page = await look(f"http://{it.up.addresses['console']}")
        await page.goto("/messages")
        await expect(page.get_by_text("Nothing has come in yet.")).to_be_visible()
        await _several(it)
        rows = page.locator("table.messages tbody tr")
        await expect(rows).to_have_count(6)
        assert await seen(page, "messages") == []
        search = page.get_by_role("searchbox")
        await search.fill("pl-2")
        await expect(rows).to_have_count(1)
        assert page.url.endswith("/messages?q=pl-2")
        await search.fill("muster erika")
        await expect(rows).to_have_count(2)
        assert page.url.endswith("/messages")
        await search.fill("4711")  # the task id of the first
        await expect(page.get_by_text("This is the task id of message 1.")).to_be_visible()
        await search.press("Enter")
        await page.wait_for_url("**/messages/1")


async def test_filters_and_what_is_said_of_a_search_look_right(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        await _several(it)
        page = await look(f"http://{it.up.addresses['console']}")
        await page.goto("/messages?state=CREATED&state=HELD&q=4711&before=99")
        assert await seen(page, "messages-filtered") == []


async def test_filters_are_of_use_without_script(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        await _several(it)
        page = await look(f"http://{it.up.addresses['console']}", script=False)
        await page.goto("/messages")
        await page.get_by_text("Filters", exact=True).click()
        await page.get_by_label("rejected").check()
        await page.get_by_role("button", name="Search").click()
        await page.wait_for_url("**/messages?state=REJECTED")
        await expect(page.locator("table.messages tbody tr")).to_have_count(1)
        await page.get_by_role("searchbox").fill("nobody")
        await page.get_by_role("button", name="Search").click()
        await expect(page.get_by_text("No message is like that.")).to_be_visible()
