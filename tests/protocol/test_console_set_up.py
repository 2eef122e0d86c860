"""The first admin: let in once, by the token that lies beside the store."""

import asyncio
import stat

import pytest
import structlog

from bridge.errors import ActionRefused
from bridge.store import people
from tests.protocol.console_front import GOOD, Front, OpenFront

FORM = {"name": "Anna", "password": GOOD, "again": GOOD}


def _token(it: Front) -> str:
    return it.reception.set_up.path.read_text().strip()


async def test_until_there_is_an_admin_every_page_leads_to_the_set_up(front: OpenFront) -> None:
    with structlog.testing.capture_logs() as logged:
        it = await front()
    path = it.reception.set_up.path
    assert path == it.store.path.with_name("setup-token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(_token(it)) == 43
    said = [entry for entry in logged if entry["event"] == "console.set_up_due"]
    assert len(said) == 1
    assert str(path) in said[0]["action"]
    assert _token(it) not in str(logged)
    browser = it.browser()
    for address in ("/", "/messages/1", "/sign-in", "/people"):
        assert (await browser.get(address)).headers["location"] == "/set-up", address
    refused = await it.script().get("/api/openapi.json")
    assert (refused.status_code, refused.json()) == (401, {"refused": "Nobody can sign in yet: open /set-up."})
    part = await browser.get("/parts", headers={"hx-request": "true"})
    assert part.headers["hx-redirect"] == "/set-up"
    page = await browser.get("/set-up")
    assert page.status_code == 200
    assert _token(it) not in page.text
    assert (await browser.get("/healthz")).status_code == 200


async def test_the_token_makes_one_admin_who_is_signed_in(front: OpenFront) -> None:
    it = await front()
    browser, token = it.browser(), _token(it)
    made = await browser.post("/set-up", data={**FORM, "token": f" {token}\n"})
    assert (made.status_code, made.headers["location"]) == (303, "/")
    page = await browser.get("/")
    assert "anna (admin)" in page.text
    assert not it.reception.set_up.path.exists()
    again = await it.browser().post("/set-up", data={**FORM, "token": token, "name": "berta"})
    assert again.headers["location"] == "/sign-in"
    assert [p.name for p in await it.store.read(people.everybody)] == ["anna"]
    acts = await it.acts()
    assert [(a.actor, a.action, a.detail) for a in acts] == [
        ("anna", "set_up", {"address": "192.0.2.1", "role": "admin"})
    ]
    assert (await it.browser().get("/")).headers["location"] == "/sign-in"


async def test_of_two_at_once_one_is_made(front: OpenFront) -> None:
    it = await front()
    token = _token(it)
    forms = [{**FORM, "token": token, "name": f"anna {n}"} for n in range(8)]
    answers = await asyncio.gather(*(it.browser().post("/set-up", data=form) for form in forms))
    assert sorted(a.headers.get("location", "") for a in answers).count("/") == 1
    assert len(await it.store.read(people.everybody)) == 1
    assert len(await it.acts("set_up")) == 1
    assert not it.reception.set_up.path.exists()


async def test_what_is_wrong_uses_nothing_up(front: OpenFront) -> None:
    it = await front()
    token = _token(it)
    wrong = [
        {"token": ""},
        {"token": token[:-1]},
        {"token": "not the token"},
        {"token": token, "again": "another password"},
        {"token": token, "password": "short", "again": "short"},
        {"token": token, "name": "local"},
        {"token": token, "name": ""},
    ]
    for number, form in enumerate(wrong):
        answer = await it.browser(address=f"192.0.2.{number}").post("/set-up", data={**FORM, **form})
        assert answer.status_code == 409, form
        assert 'role="alert"' in answer.text
        assert GOOD not in answer.text
        assert token not in answer.text
    assert _token(it) == token
    assert (await it.browser().post("/set-up", data={**FORM, "token": token})).status_code == 303


async def test_an_empty_or_missing_file_is_no_token_and_is_made_anew(front: OpenFront) -> None:
    it = await front()
    path, first = it.reception.set_up.path, _token(it)
    path.unlink()
    assert (await it.browser().post("/set-up", data={**FORM, "token": first})).status_code == 409
    second = _token(it)
    assert second != first
    path.unlink()
    for nothing in ("", " ", first):
        with pytest.raises(ActionRefused, match="not the token"):
            await it.reception.set_up.first_admin(nothing, "anna", GOOD, address="192.0.2.1")
    path.write_text("")
    assert (await it.browser().post("/set-up", data={**FORM, "token": ""})).status_code == 409
    assert (await it.browser().post("/set-up", data={**FORM, "token": _token(it)})).status_code == 303


async def test_a_token_can_be_tried_ten_times_a_minute(front: OpenFront) -> None:
    it = await front()
    browser = it.browser()
    for _ in range(10):
        assert (await browser.post("/set-up", data={**FORM, "token": "x"})).status_code == 409
    refused = await browser.post("/set-up", data={**FORM, "token": _token(it)})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_a_start_with_an_admin_takes_a_token_away_that_is_left_over(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    left = it.reception.set_up.path
    assert left.exists()
    again = await front()
    assert not left.exists()
    assert (await again.browser().get("/set-up")).headers["location"] == "/sign-in"


async def test_a_viewer_alone_is_no_admin_and_a_disabled_one_neither(front: OpenFront) -> None:
    it = await front()
    await it.person("berta")
    anna = await it.person("anna", "admin")
    await it.store.write(lambda tx: people.follow_role(tx, people.by_id(tx.conn, anna), "viewer"))
    again = await front()
    assert again.reception.set_up.path.exists()
    assert (await again.browser().get("/")).headers["location"] == "/set-up"
    assert (await again.signed_in("berta")) is not None, "whoever is known comes in all the same"
