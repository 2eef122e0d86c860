"""Persons: made, changed and kept out by admins; each with his own password, sessions and tokens."""

import re

import httpx
import pytest

from bridge.store import people
from tests.protocol.console_front import GOOD, Front, OpenFront

NEW = "another battery horse"


def _shown_once(page: str) -> str:
    found = re.search(r"<pre>([^<]+)</pre>", page)
    assert found is not None, page
    return found[1]


async def _told(it: Front, name: str, password: str) -> int:
    browser = it.browser(address=f"192.0.2.{len(it.browsers) % 250}")
    return (await browser.post("/sign-in", data={"name": name, "password": password})).status_code


async def _stands(browser: httpx.AsyncClient) -> bool:
    return (await browser.get("/")).status_code == 200


async def test_an_admin_makes_a_person_who_signs_in(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    admin = await it.signed_in("anna")
    made = await admin.post("/people", data={"name": "Berta", "role": "operator", "password": GOOD})
    assert (made.status_code, made.headers["location"]) == (303, "/people")
    berta = await it.signed_in("berta")
    assert "berta (operator)" in (await berta.get("/")).text
    shown = (await admin.post("/people", data={"name": "Carla", "role": "viewer"})).text
    made_up = _shown_once(shown)
    assert len(made_up) == 20
    assert await _told(it, "carla", made_up) == 303
    assert made_up not in (await admin.get("/people")).text
    acts = await it.acts("person_made")
    assert [(a.actor, a.detail) for a in acts] == [
        ("anna", {"person": "berta", "role": "operator"}),
        ("anna", {"person": "carla", "role": "viewer"}),
    ]
    assert made_up not in str(await it.acts())


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "ANNA"}, "already"),
        ({"name": "local"}, "kept for the bridge"),
        ({"name": "berta", "password": "short"}, "12 to 128"),
        ({"name": "berta muster", "password": "Berta Muster"}, "not the name"),
        ({"name": "berta", "role": "owner"}, "viewer, operator or admin"),
        ({"name": ""}, "1 to 64"),
    ],
)
async def test_what_makes_no_person_is_said_at_the_form(front: OpenFront, form: dict[str, str], said: str) -> None:
    it = await front()
    await it.person("anna", "admin")
    admin = await it.signed_in("anna")
    refused = await admin.post("/people", data={"role": "viewer", **form})
    assert refused.status_code == 409
    assert said in re.sub(r"\s+", " ", refused.text)
    assert len(await it.store.read(people.everybody)) == 1


async def test_the_last_admin_stays(front: OpenFront) -> None:
    it = await front()
    anna = await it.person("anna", "admin")
    berta = await it.person("berta", "admin")
    admin = await it.signed_in("anna")
    await admin.post(f"/people/{berta}/disable")
    for what, form in (("disable", {}), ("role", {"role": "viewer"})):
        refused = await admin.post(f"/people/{anna}/{what}", data=form)
        assert refused.status_code == 409
        assert "the last admin" in refused.text
    assert await _stands(admin)
    await admin.post(f"/people/{berta}/enable")
    assert (await admin.post(f"/people/{anna}/role", data={"role": "viewer"})).status_code == 303
    assert not await _stands(admin), "he signs in anew, as what he is now"
    assert "anna (viewer)" in (await (await it.signed_in("anna")).get("/")).text


@pytest.mark.parametrize("change", ["role", "disable", "password"])
async def test_a_change_of_a_person_ends_what_let_him_in(front: OpenFront, change: str) -> None:
    it = await front()
    await it.person("anna", "admin")
    berta = await it.person("berta", "operator")
    admin, two = await it.signed_in("anna"), [await it.signed_in("berta"), await it.signed_in("berta")]
    script = it.script(await it.token("berta"))
    assert all([await _stands(one) for one in (*two, script)])
    form = {"role": {"role": "viewer"}, "disable": {}, "password": {"password": NEW}}[change]
    assert (await admin.post(f"/people/{berta}/{change}", data=form)).status_code == 303
    assert not any([await _stands(one) for one in (*two, script)])
    assert await _stands(admin)
    assert await _told(it, "berta", GOOD) == (303 if change == "role" else 403)
    action = {"role": "role_changed", "disable": "person_disabled", "password": "password_changed"}[change]
    (act,) = await it.acts(action)
    assert (act.actor, act.detail["person"]) == ("anna", "berta")
    assert NEW not in str(await it.acts())


async def test_a_new_password_unlocks(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    berta = await it.person("berta")
    for _ in range(5):
        await _told(it, "berta", "wrong" * 3)
    assert await _told(it, "berta", GOOD) == 403
    admin = await it.signed_in("anna")
    assert "locked until" in (await admin.get("/people")).text
    made_up = _shown_once((await admin.post(f"/people/{berta}/password")).text)
    assert await _told(it, "berta", made_up) == 303


async def test_whom_the_provider_lets_in_has_his_role_and_password_there(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    at = it.clock.now()
    carla = await it.store.write(lambda tx: people.make(tx, "carla", "viewer", at=at, subject="https://idp 1"))
    admin = await it.signed_in("anna")
    assert (await admin.post(f"/people/{carla}/role", data={"role": "admin"})).status_code == 409
    assert (await admin.post(f"/people/{carla}/password", data={"password": NEW})).status_code == 409
    assert await _told(it, "carla", "") == 403
    assert (await admin.post(f"/people/{carla}/disable")).status_code == 303
    assert (await admin.post("/people/4711/disable")).status_code == 409


async def test_a_password_of_ones_own_is_changed_by_the_old_one(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    here, elsewhere = await it.signed_in("anna"), await it.signed_in("anna")
    script = it.script(await it.token("anna"))
    before = here.cookies["bridge-session"]

    async def change(old: str, new: str, again: str = "") -> httpx.Response:
        return await here.post("/account/password", data={"old": old, "new": new, "again": again or new})

    for wrong in (("not the old one", NEW), (GOOD, NEW, "mistyped it"), (GOOD, "short"), (GOOD, "a" * 129)):
        refused = await change(*wrong)
        assert refused.status_code == 409
        assert 'role="alert"' in refused.text
        assert NEW not in refused.text
    assert await _stands(elsewhere)
    assert (await change(GOOD, NEW)).headers["location"] == "/account?done=password"
    assert here.cookies["bridge-session"] != before
    assert await _stands(here)
    assert not await _stands(elsewhere)
    assert not await _stands(script)
    assert await _told(it, "anna", GOOD) == 403
    assert await _told(it, "anna", NEW) == 303
    acts = [(a.outcome, a.detail) for a in await it.acts("password_changed")]
    assert acts == [("refused", {"why": "wrong password"}), ("done", {"person": "anna"})]


async def test_an_old_password_is_not_guessed_from_a_session_that_was_left_open(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    here = await it.signed_in("anna")
    for _ in range(10):
        await here.post("/account/password", data={"old": "a guess", "new": NEW, "again": NEW})
    compared = it.passwords.compared
    refused = await here.post("/account/password", data={"old": GOOD, "new": NEW, "again": NEW})
    assert refused.status_code == 409
    assert "too often" in refused.text
    assert it.passwords.compared == compared


async def test_a_token_is_shown_once_and_has_its_persons_role(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "operator")
    browser = await it.signed_in("anna")
    shown = await browser.post("/account/tokens", data={"label": "nightly report"})
    secret = _shown_once(shown.text)
    assert re.fullmatch(r"bridge_[\w-]{43}", secret)
    page = (await browser.get("/account")).text
    assert "nightly report" in page
    assert secret not in page
    script = it.script(secret)
    assert await _stands(script)
    assert (await script.get("/people")).status_code == 403
    it.clock.jump(30 * 86_400)
    assert await _stands(script), "a token ends when somebody ends it"
    browser = await it.signed_in("anna")
    number = re.search(r"/account/sessions/(\d+)/end", (await browser.get("/account")).text)
    assert number is not None
    assert (await browser.post(number[0])).status_code == 303
    assert not await _stands(script)
    acts = [(a.action, a.detail["label"]) for a in await it.acts("token_made", "token_ended")]
    assert acts == [("token_made", "nightly report"), ("token_ended", "nightly report")]
    assert secret not in str(await it.acts())
    assert (await browser.post("/account/tokens", data={"label": " "})).status_code == 409


async def test_one_ends_ones_own_and_an_admin_anybodys(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    await it.person("berta")
    token = await it.token("anna")
    theirs = (await it.store.read(people.tokens))[0].id
    berta, admin = await it.signed_in("berta"), await it.signed_in("anna")
    refused = await berta.post(f"/account/sessions/{theirs}/end")
    assert refused.status_code == 409
    assert await _stands(it.script(token))
    other = await it.signed_in("berta")
    mine = re.findall(r"/account/sessions/(\d+)/end", (await other.get("/account")).text)
    assert len(mine) == 1, "this browser's own ends by signing out"
    assert (await other.post(f"/account/sessions/{mine[0]}/end")).status_code == 303
    assert not await _stands(berta)
    await it.token("berta")
    last = (await it.store.read(people.tokens))[-1].id
    assert (await admin.post(f"/people/tokens/{last}/end")).status_code == 303
    assert [t.name for t in await it.store.read(people.tokens)] == ["anna"]
