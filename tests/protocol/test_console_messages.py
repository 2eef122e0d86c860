"""The Messages page: searched as one types and with Enter, with and without script, and what its address gives away."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from bridge.domain.states import State
from bridge.store import earlier, inbox, marks, search, terms
from bridge.store.port import Transaction
from tests.protocol.console_front import Front, OpenFront

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def put(
    it: Front, control_id: str, *, state: State = State.DONE, sender: str = "HIS|TEST", hours: int = 0
) -> int:
    """A message of Muster^Max, patient 4711, with an order number and a task id made of its control id."""

    def work(tx: Transaction) -> int:
        arrival = inbox.Arrival(
            "hl7", "ORM^O01", NOW + timedelta(hours=hours), "hl7", "192.0.2.7", sender, None, "d", control_id
        )
        kept = inbox.keep(tx, arrival, state=State.DONE)
        number = int("".join(c for c in control_id if c.isdigit()) or 0)
        words = [*terms.of_patient(["4711"], ["Muster", "Max"]), *terms.of_orders([f"PL-{number}"])]
        terms.note(tx, kept.id, [*words, *terms.of_tasks([900_000 + number])])
        return kept.id

    return await it.store.write(work)


def shown(page: httpx.Response) -> list[str]:
    """The messages of a list, in its order."""
    assert page.status_code == 200, page.text
    return re.findall(r'<a id="m(\d+)"', page.text)


@pytest.fixture
async def it(front: OpenFront) -> Front:
    made: Front = await front()
    await made.person("vera", "operator")
    return made


@pytest.fixture
async def browser(it: Front) -> httpx.AsyncClient:
    return await it.signed_in("vera")


async def test_the_newest_are_first_and_older_ones_follow(it: Front, browser: httpx.AsyncClient) -> None:
    for n in range(120):
        await put(it, f"C{n}")
    seen: list[str] = []
    address = "/messages"
    for _ in range(3):
        page = await browser.get(address)
        seen += shown(page)
        await put(it, "late")
        link = re.search(r'rel="next" href="([^"]+)"', page.text)
        address = html.unescape(link[1]) if link else ""
    assert (seen, address) == ([str(n) for n in range(120, 0, -1)], "")


async def test_a_task_id_and_enter_lead_to_its_message(it: Front, browser: httpx.AsyncClient) -> None:
    one = await put(it, "C1")
    await put(it, "C11")
    for typed in ("900001", " 900001 ", "C11", "c11"):
        answer = await browser.post("/messages", data={"q": typed})
        wanted = one if typed.strip() == "900001" else 2
        assert (answer.status_code, answer.headers["location"]) == (303, f"/messages/{wanted}"), typed


async def test_a_name_that_others_begin_with_leads_to_the_list_and_names_its_message(
    it: Front, browser: httpx.AsyncClient
) -> None:
    one = await put(it, "C1")
    await put(it, "C11")
    answer = await browser.post("/messages", data={"q": "C1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/messages?q=C1")
    page = await browser.get("/messages?q=C1")
    assert shown(page) == ["2", "1"]
    assert f'This is the control id of <a href="/messages/{one}">' in page.text


async def test_with_a_filter_enter_stays_at_the_list(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "C1")
    answer = await browser.post("/messages", data={"q": "900001", "state": ["HELD", "DONE"]})
    assert dict(parse_qsl(urlsplit(answer.headers["location"]).query)) == {"q": "900001", "state": "DONE"}


async def test_what_may_be_a_patient_s_stays_out_of_addresses(it: Front, browser: httpx.AsyncClient) -> None:
    for n in range(60):
        await put(it, f"C{n}")
    for typed in ("4711", "Muster", "must max", "47", "Unknown^Person", "PL-1 4711"):
        entered = await browser.post("/messages", data={"q": typed, "state": "DONE"})
        assert entered.status_code == 200, typed
        live = await browser.post("/messages/rows", data={"q": typed, "state": "DONE"})
        assert live.headers["hx-replace-url"] == "/messages?state=DONE", typed
        for answer in (entered, live):
            addresses = re.findall(r'(?:href|action|hx-[a-z]+)="(/[^"]*)"', answer.text)
            assert [a for a in addresses if "q=" in a] == [], typed


async def test_pages_of_a_patient_s_messages_are_asked_for_in_a_form(it: Front, browser: httpx.AsyncClient) -> None:
    for n in range(60):
        await put(it, f"C{n}")
    live = await browser.post("/messages/rows", data={"q": "muster", "state": "DONE"})
    assert shown(live) == [str(n) for n in range(60, 10, -1)]
    hidden = dict(re.findall(r'type="hidden" name="([a-z]+)" value="([^"]*)"', live.text))
    older = await browser.post("/messages", data=hidden)
    assert shown(older) == [str(n) for n in range(10, 0, -1)]


async def test_what_is_no_patient_s_is_a_deep_link(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "C1", sender="LAB|NORTH")
    await put(it, "C2")
    live = await browser.post("/messages/rows", data={"q": "pl-1", "sender": "lab|north", "since": "", "kind": "hl7"})
    assert shown(live) == ["1"]
    address = live.headers["hx-replace-url"]
    assert dict(parse_qsl(urlsplit(address).query)) == {"q": "pl-1", "sender": "lab|north", "kind": "hl7"}
    assert shown(await browser.get(address)) == ["1"]


async def test_a_link_of_somebody_else_s_with_a_patient_in_it_is_followed(
    it: Front, browser: httpx.AsyncClient
) -> None:
    await put(it, "C1")
    assert shown(await browser.get("/messages?q=muster+4711")) == ["1"]


async def test_a_refresh_by_itself_leaves_the_address_as_it_is(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "C1")
    live = await browser.post("/messages/rows", data={"q": "pl-1"}, headers={"x-refresh": "1"})
    assert shown(live) == ["1"]
    assert "hx-replace-url" not in live.headers


async def test_only_the_first_page_listens_for_changes(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "C1")
    assert "sse:changed" in (await browser.get("/messages")).text
    assert "sse:changed" not in (await browser.get("/messages?before=9")).text


async def test_times_are_the_site_s(it: Front, browser: httpx.AsyncClient) -> None:
    for hours in range(3):
        await put(it, f"C{hours}", hours=hours)
    # Berlin: 12:00 UTC is 13:00
    assert shown(await browser.get("/messages?since=2026-03-01T14:00")) == ["3", "2"]
    assert shown(await browser.get("/messages?until=2026-03-01T14:00")) == ["1"]
    assert "2026-03-01 13:00:00" in (await browser.get("/messages")).text


_SENSELESS = [
    "since=yesterday",
    "since=0001-01-01T00:00",
    "until=9999-12-31T23:59",
    "state=NOWHERE",
    "kind=fax",
    "before=-77",
    "before=9223372036854775808",
    f"q={'x' * 201}",
]


async def test_what_makes_no_sense_is_refused_without_its_value(it: Front, browser: httpx.AsyncClient) -> None:
    for query in _SENSELESS:
        answer = await browser.get(f"/messages?{query}")
        name, _, value = query.partition("=")
        assert (answer.status_code, name in answer.text, value in answer.text) == (422, True, False), query


async def test_hostile_text_is_text(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "<b>1</b>", sender="<i>|'\"")
    for typed in ("<script>alert(1)</script>", '"><img src=x>', "%", "\\", "' OR 1=1", "''", "a" * 200):
        page = await browser.post("/messages", data={"q": typed})
        assert page.status_code == 200, typed
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
    live = await browser.post("/messages/rows", data={"q": "<b>1"})
    assert shown(live) == ["1"]
    assert "<b>1" not in live.text
    assert live.headers["hx-replace-url"] == "/messages?q=%3Cb%3E1"


async def test_what_no_word_is_made_of_is_nothing_typed(it: Front, browser: httpx.AsyncClient) -> None:
    for typed in ("\x00", "\u202e", "  "):
        answer = await browser.post("/messages", data={"q": typed})
        assert (answer.status_code, answer.headers["location"]) == (303, "/messages"), typed


async def test_the_list_holds_no_patient(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "C1")
    text = (await browser.get("/messages")).text
    assert "4711" not in text
    assert "Muster" not in text


async def test_a_walk_that_was_cut_short_says_so(
    it: Front, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FEW", 2)
    monkeypatch.setattr(search, "FAR", 5)
    monkeypatch.setattr(search, "STEP", 1)
    for n in range(20):
        await put(it, f"C{n}")
    page = await browser.get("/messages?type=ADT^A40")
    assert shown(page) == []
    assert "the newest 5 that were looked at" in page.text
    assert "before=16" in page.text


async def test_messages_of_before_say_that_they_are_being_indexed(it: Front, browser: httpx.AsyncClient) -> None:
    await put(it, "C1")
    await it.store.write(lambda tx: marks.put(tx.conn, earlier.MARK, "1"))
    assert "being indexed" in (await browser.get("/messages?q=pl-1")).text
    assert "being indexed" not in (await browser.get("/messages")).text


async def test_the_form_keeps_what_was_asked(it: Front, browser: httpx.AsyncClient) -> None:
    asked: dict[str, Any] = {"q": "pl-1", "state": ["HELD", "DONE"], "kind": "hl7", "type": "ORM^O01", "peer": "192"}
    text = (await browser.get("/messages", params=asked)).text
    assert re.findall(r'name="state" value="([A-Z]+)" checked', text) == ["DONE", "HELD"]
    assert '<option value="hl7" selected>' in text
    assert 'name="type" value="ORM^O01"' in text
    assert "<details open>" in text
