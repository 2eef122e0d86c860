"""What a page or an answer of the API costs is not paid by the loop that answers orders (F28), nor by a fault of it."""

import asyncio
import threading
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bridge.console.access import masks
from bridge.console.atna import exported
from bridge.console.pages import work as work_page
from bridge.console.rendering import Pages
from bridge.sandbox import mllp_sender
from bridge.settings import host_port
from bridge.store import audit
from tests.acceptance.console_browser import browsing
from tests.acceptance.scene import OpenHouse, order

HUGE = 10**30


async def test_f28_a_message_is_masked_and_its_page_is_made_beside_the_loop(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[tuple[str, bool]] = []
    mask, page = masks.message, Pages.page

    def masked(found: Any) -> Any:
        where.append(("mask", threading.current_thread() is threading.main_thread()))
        return mask(found)

    def paged(self: Pages, request: Any, name: str, **context: Any) -> Any:
        where.append((name, threading.current_thread() is threading.main_thread()))
        return page(self, request, name, **context)

    monkeypatch.setattr(masks, "message", masked)
    monkeypatch.setattr(Pages, "page", paged)
    async with house() as it, browsing(it) as browser:
        await it.hl7(order())
        await it.settled(1)
        for path in ("/messages/1", "/messages/1/parts/stages", "/api/messages/1"):
            await browser.page(path)
        await browser.refused("/messages/1/replay")
    assert {name for name, _ in where} == {"mask", "message.html", "partials/message_stages.html"}
    assert not any(in_loop for _, in_loop in where)


async def test_one_persons_requests_take_turns(house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = work_page.work.groups
    lock, under_way, most = threading.Lock(), 0, 0

    def counted(conn: Any) -> Any:
        nonlocal under_way, most
        with lock:
            under_way, most = under_way + 1, max(most, under_way + 1)
        try:
            return groups(conn)
        finally:
            with lock:
                under_way -= 1

    monkeypatch.setattr(work_page.work, "groups", counted)
    async with house() as it, browsing(it) as browser:
        await asyncio.gather(*(browser.page("/work") for _ in range(40)))
    assert 1 <= most <= 3


async def test_what_no_store_can_hold_is_not_understood(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        await it.hl7(order())
        for confirmed in ({}, {"confirmed": "true"}):
            answer = await browser.post("/work/replay", message=HUGE, **confirmed)
            assert answer.status_code == 422
        json = {"content-type": "application/json"}
        for name in ("reason", "order", "task", "tag", "confirm"):
            body = f'{{"{name}": "\\ud800"}}'
            answer = await browser.client.post("/api/messages/1/resolve", content=body, headers=json)
            assert (answer.status_code, answer.json()) == (422, {"refused": f"not understood: body.{name}"})
        for path in (f"/people/{HUGE}/role", f"/people/tokens/{HUGE}/end", f"/account/sessions/{HUGE}/end"):
            assert (await browser.post(path)).status_code == 422


async def test_f45_a_type_that_no_xml_can_hold_is_exported_all_the_same(house: OpenHouse) -> None:
    async with house() as it, browsing(it) as browser:
        host, port = host_port(it.up.addresses["hl7"])
        await mllp_sender.send(host, port, order().replace("ORM^O01", "ORM^O01\x01").encode())
        await browser.done("/messages/1/reveal")
        acts = await it.up.store.read(lambda conn: list(audit.acts(conn)))
    (line,) = exported(acts)
    assert ET.fromstring(line).findtext(".//ParticipantObjectName") == "ORM^O01\N{REPLACEMENT CHARACTER}"
