"""Who may try a message, see the rules and see the settings; and what stands there when others are at it."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.clock import SystemClock
from bridge.console.desk import Desk
from bridge.errors import ActionRefused
from bridge.rehearsal import apart, checking
from bridge.rehearsal.checking import Checks
from bridge.rehearsal.checks import Line
from bridge.settings import Settings
from tests.protocol.console_front import Front, OpenFront

ROUTES = {
    "viewer": {"/mapping": 200, "/mapping/try": 403, "/settings": 403, "/settings/check": 403},
    "operator": {"/mapping": 200, "/mapping/try": 422, "/settings": 403, "/settings/check": 403},
    "admin": {"/mapping": 200, "/mapping/try": 422, "/settings": 200, "/settings/check": 303},
}
EMPTY = {"file": ("", b"")}


def desk_of(it: Front) -> Desk:
    found: Desk = it.app.state.desk
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(settings: Settings, held: Any) -> Iterator[Line]:
        yield Line("error", "api", "http://bridge:CANARY@api.example <b>cannot be reached</b>")

    monkeypatch.setattr(checking, "checked", said)


@pytest.mark.parametrize("role", ROUTES)
async def test_each_role_gets_as_far_as_it_may(front: OpenFront, quick: None, role: str) -> None:
    it = await front()
    await it.person("anna", role)
    browser = await it.signed_in("anna")
    for path, status in ROUTES[role].items():
        if path.endswith("try"):
            answer = await browser.post(path, files=EMPTY)
        elif path.endswith("check"):
            answer = await browser.post(path)
        else:
            answer = await browser.get(path)
        assert answer.status_code == status, (path, answer.text)
    page = (await browser.get("/mapping")).text
    assert ("<textarea" in page) == (role != "viewer")
    assert "fields.patient_birth_date" in page


async def test_nobody_who_is_not_signed_in_sees_any_of_it(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    stranger = it.browser()
    for path in ("/mapping", "/settings"):
        assert (await stranger.get(path)).status_code == 303
    assert (await stranger.post("/mapping/try", files=EMPTY)).status_code == 401
    assert (await stranger.post("/settings/check")).status_code == 401


async def test_what_a_check_says_stands_on_the_page_without_a_secret_and_as_text(front: OpenFront, quick: None) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    answer = await browser.post("/settings/check")
    assert answer.headers["location"] == "/settings#check"
    page = (await browser.get("/settings")).text
    assert "http://***@api.example &lt;b&gt;cannot be reached&lt;/b&gt;" in page
    assert "CANARY" not in page
    assert "by anna" in page


async def test_only_what_is_not_a_default_can_be_asked_for(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    assert "reply_budget" in (await browser.get("/settings")).text
    assert "reply_budget" not in (await browser.get("/settings?given=true")).text


async def test_one_check_is_under_way_at_a_time_and_goes_on_without_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun, ran = threading.Event(), threading.Event(), []

    def slow(settings: Settings, held: Any) -> Iterator[Line]:
        ran.append(dict(held))
        begun.set()
        go.wait(60)
        yield Line("ok", "settings", "read")

    monkeypatch.setattr(checking, "checked", slow)
    checks, clock = Checks(), SystemClock()
    first = asyncio.create_task(checks.run(Settings(), {"hl7": "127.0.0.1:1"}, clock, "anna"))
    await asyncio.to_thread(begun.wait, 60)
    with pytest.raises(ActionRefused, match="under way"):
        await checks.run(Settings(), {}, clock, "berta")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(ActionRefused):
        await checks.run(Settings(), {}, clock, "berta")
    go.set()
    async with asyncio.timeout(60):
        while checks.last is None:  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.01)
    assert (checks.last.by, ran) == ("anna", [{"hl7": "127.0.0.1:1"}])


async def test_f28_who_comes_while_enough_are_at_it_is_asked_to_come_again(
    front: OpenFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await front()
    await it.person("anna", "operator")
    browser = await it.signed_in("anna")
    go, there, many = asyncio.Event(), asyncio.Event(), 0

    async def held_up(*_: Any, **__: Any) -> list[dict[str, Any]]:
        nonlocal many
        many += 1
        if many == apart.AT_ONCE:
            there.set()
        await go.wait()
        return [{"state": "DONE", "reason": "", "answer": ""}]

    monkeypatch.setattr("bridge.console.pages.mapping.rehearse", held_up)
    waiting = [asyncio.create_task(_pasted(browser)) for _ in range(apart.AT_ONCE)]
    async with asyncio.timeout(60):
        await there.wait()
    assert await _pasted(browser) == 503
    go.set()
    assert await asyncio.gather(*waiting) == [200] * apart.AT_ONCE
    assert await _pasted(browser) == 200  # its place is free again


async def _pasted(browser: Any) -> int:
    answer = await browser.post("/mapping/try", data={"message": "MSH|^~\\&|"}, files=EMPTY)
    status: int = answer.status_code
    return status


async def test_the_rules_page_says_when_the_file_is_another_by_now(front: OpenFront, tmp_path: Any) -> None:
    it = await front()
    await it.person("anna")
    browser = await it.signed_in("anna")
    assert "says something else by now" not in (await browser.get("/mapping")).text
    desk = desk_of(it)
    file = tmp_path / "mapping.toml"
    file.write_text('[fields.device_id]\nconstant = "<i>ECG</i>"\n')
    changed = desk.settings.model_copy(update={"mapping": desk.settings.mapping.model_copy(update={"file": str(file)})})
    object.__setattr__(desk, "settings", changed)
    page = (await browser.get("/mapping")).text
    assert "says something else by now" in page
    assert "<i>ECG" not in page
