"""Sign-in by name and password: the session, its cookie and its end; what is wrong is never told apart."""

import asyncio
import hashlib
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from bridge.console.access.names import person_name
from bridge.console.access.passwords import Passwords
from bridge.store import people
from bridge.store.schema import session
from tests.protocol.console_front import GOOD, HERE, OpenFront, field_of

WRONG = {"name": "anna", "password": "not the right one"}
RIGHT = {"name": "anna", "password": GOOD}


async def test_a_session_is_a_cookie_of_256_bits_of_which_the_store_has_the_hash_alone(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = it.browser()
    answer = await browser.post("/sign-in", data=RIGHT)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"bridge-session=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", cookie)
    secret = browser.cookies["bridge-session"]
    stored = await it.store.read(lambda conn: conn.execute(sa.select(session)).one())
    assert stored.secret == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str(stored)
    assert (await browser.get("/")).status_code == 200


async def test_with_tls_the_cookie_is_for_this_host_alone(front: OpenFront) -> None:
    it = await front(hosts=["https://bridge.example"])
    await it.person("anna")
    answer = await it.browser("https://bridge.example").post("/sign-in", data=RIGHT)
    assert re.fullmatch(
        r"__Host-bridge-session=[\w-]{43}; HttpOnly; Path=/; SameSite=strict; Secure", answer.headers["set-cookie"]
    )


async def test_a_name_is_compared_without_case_width_and_spaces(front: OpenFront) -> None:
    it = await front()
    await it.person(person_name("Straße Müller"), "admin")
    for spelt in ("STRASSE MÜLLER", "  Straße  Mu\u0308ller ", "ｓｔｒａｓｓｅ Müller"):
        assert (await it.browser().post("/sign-in", data={"name": spelt, "password": GOOD})).status_code == 303, spelt


async def test_nobody_is_told_what_was_wrong_and_each_costs_one_comparison(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    out = await it.person("berta")
    await it.store.write(lambda tx: people.set_disabled(tx, people.by_id(tx.conn, out), disabled=True))
    locked = await it.person("carla")
    until = it.clock.now() + timedelta(minutes=5)
    await it.store.write(lambda tx: people.count_failure(tx, locked, 5, until))
    said = set()
    for number, (name, password) in enumerate(
        [("anna", "wrong" * 4), ("nobody", GOOD), ("berta", GOOD), ("carla", GOOD), ("anna", "x" * 10_000)]
    ):
        before = it.passwords.compared
        answer = await it.browser(address=f"192.0.2.{number}").post(
            "/sign-in", data={"name": name, "password": password}
        )
        assert it.passwords.compared == before + 1, name
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        said.add(answer.text)
    assert len(said) == 1
    why = [(a.actor, a.detail["why"]) for a in await it.acts("sign_in_refused")]
    assert why == [
        ("anna", "wrong password"),
        ("unknown", "no such person"),
        ("berta", "disabled"),
        ("carla", "locked"),
        ("anna", "wrong password"),
    ]
    assert GOOD not in str(await it.acts())


async def test_an_address_has_ten_attempts_a_minute(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = it.browser()
    for _ in range(10):
        assert (await browser.post("/sign-in", data={"name": "x", "password": "y"})).status_code == 403
    compared = it.passwords.compared
    refused = await browser.post("/sign-in", data=RIGHT)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert it.passwords.compared == compared
    assert (await it.browser(address="192.0.2.2").post("/sign-in", data=RIGHT)).status_code == 303
    it.clock.jump(int(refused.headers["retry-after"]))
    assert (await browser.post("/sign-in", data=RIGHT)).status_code == 303


async def test_wrong_passwords_lock_a_person_for_longer_each_time(front: OpenFront) -> None:
    it = await front()
    anna = await it.person("anna", "admin")

    async def told(data: dict[str, str], number: int) -> int:
        return (await it.browser(address=f"198.51.100.{number}").post("/sign-in", data=data)).status_code

    for n in range(5):
        assert await told(WRONG, n) == 403
    assert await told(RIGHT, 10) == 403, "locked"
    assert await told(WRONG, 11) == 403, "what comes during a lock counts not"
    it.clock.jump(30)
    assert await told(WRONG, 12) == 403
    it.clock.jump(59)
    assert await told(RIGHT, 13) == 403, "60 s now"
    it.clock.jump(1)
    assert await told(RIGHT, 14) == 303
    person = await it.store.read(lambda conn: people.by_id(conn, anna))
    assert (person.failures, person.locked_until.timestamp()) == (0, 0)


async def test_guesses_at_once_count_one_by_one(front: OpenFront, monkeypatch: pytest.MonkeyPatch) -> None:
    it = await front()
    await it.person("anna", "admin")
    fits, guessed, verified = Passwords.fits, asyncio.Event(), asyncio.Event()

    async def slow_where_right(self: Passwords, stored: str, password: str) -> bool:
        """Verified before the first guess is, and settled behind the last one."""
        found = await fits(self, stored, password)
        if found:
            verified.set()
            await guessed.wait()
        return found

    monkeypatch.setattr(Passwords, "fits", slow_where_right)
    right = asyncio.create_task(it.browser(address="203.0.113.99").post("/sign-in", data=RIGHT))
    await verified.wait()
    tries = [it.browser(address=f"203.0.113.{n}").post("/sign-in", data=WRONG) for n in range(9)]
    answers = await asyncio.gather(*tries)
    guessed.set()
    answers.append(await right)
    assert [a.status_code for a in answers] == [403] * 10, "the lock of the fifth holds for those behind it"
    why = [a.detail["why"] for a in await it.acts("sign_in_refused")]
    assert why.count("wrong password") == 5
    assert why.count("locked") == 5


async def test_a_session_that_a_browser_brings_is_never_taken_over(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = it.browser()
    browser.cookies.set("bridge-session", "planted-by-somebody-else", domain="127.0.0.1")
    await browser.post("/sign-in", data=RIGHT)
    first = browser.cookies["bridge-session"]
    assert first != "planted-by-somebody-else"
    await browser.post("/sign-in", data=RIGHT)
    assert browser.cookies["bridge-session"] != first
    thief = it.browser()
    for old in (first, "planted-by-somebody-else"):
        thief.cookies.set("bridge-session", old, domain="127.0.0.1")
        assert (await thief.get("/")).status_code == 303


async def test_an_idle_session_is_over_and_a_refresh_is_no_sign_of_life(front: OpenFront) -> None:
    it = await front(idle_timeout=900)
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    for _ in range(4):
        it.clock.jump(890)
        assert (await browser.get("/")).status_code == 200
    it.clock.jump(890)
    assert (await browser.get("/", headers={"x-refresh": "1"})).status_code == 200
    it.clock.jump(10)
    assert (await browser.get("/")).headers["location"] == "/sign-in"


async def test_clicks_are_counted_to_the_second_and_written_once_a_minute(front: OpenFront) -> None:
    it = await front(idle_timeout=900)
    anna = await it.person("anna", "admin")
    browser = await it.signed_in("anna")

    async def written() -> object:
        return (await it.store.read(lambda conn: people.sessions_of(conn, anna)))[0].seen_at

    begun = await written()
    it.clock.jump(59)
    await browser.get("/")
    assert await written() == begun
    it.clock.jump(899)  # of the click that is in memory alone
    assert (await browser.get("/")).status_code == 200
    assert await written() != begun


async def test_no_session_is_longer_than_the_longest(front: OpenFront) -> None:
    it = await front(idle_timeout=900, longest_session=3600)
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    for _ in range(6):
        it.clock.jump(599)
        assert (await browser.get("/")).status_code == 200
    it.clock.jump(6)
    assert (await browser.get("/")).status_code == 303


async def test_sign_out_ends_the_session_for_whoever_has_it(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    thief = it.browser()
    thief.cookies.set("bridge-session", browser.cookies["bridge-session"], domain="127.0.0.1")
    assert (await thief.get("/")).status_code == 200
    left = await browser.post("/sign-out")
    assert left.headers["location"] == "/sign-in"
    assert "bridge-session" not in browser.cookies
    assert (await thief.get("/")).status_code == 303
    assert [a.action for a in await it.acts()] == ["sign_in", "sign_out"]


async def test_a_sign_in_leads_to_pages_of_ours_alone(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    for asked, led in (("/messages/4711?tab=sent", "/messages/4711?tab=sent"), ("//evil.example", "/")):
        browser = it.browser()
        page = await browser.get("/sign-in", params={"next": asked})
        assert field_of(page.text, "next") == led
        answer = await browser.post("/sign-in", data={**RIGHT, "next": asked})
        assert answer.headers["location"] == led
        again = await browser.get("/sign-in", params={"next": asked})
        assert again.headers["location"] == led, "signed in already"


async def test_a_hash_of_old_parameters_is_made_anew_at_the_next_sign_in(front: OpenFront) -> None:
    it = await front()
    anna = await it.person("anna", "admin")
    await it.store.write(lambda tx: people.set_password(tx, anna, _old_hash()))
    await it.signed_in("anna")
    person = await it.store.read(lambda conn: people.by_id(conn, anna))
    assert not it.passwords.is_outdated(person.password)
    await it.signed_in("anna")


def _old_hash() -> str:
    from argon2 import PasswordHasher  # noqa: PLC0415  as another version of the bridge had it

    return PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash(GOOD)


async def test_no_more_than_two_passwords_are_compared_at_once(
    front: OpenFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await front()
    await it.person("anna", "admin")
    at_work, most = 0, 0
    real = type(it.passwords)._fits

    async def in_a_thread(work: object, *arguments: object) -> object:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        found = real(it.passwords, *arguments)  # type: ignore[arg-type]
        at_work -= 1
        return found

    monkeypatch.setattr("bridge.console.access.passwords.asyncio.to_thread", in_a_thread)
    fits = await asyncio.gather(*(it.passwords.fits("", "x") for _ in range(20)))
    assert not any(fits)
    assert most == 2


async def test_who_comes_by_a_link_of_somebody_elses_stays_signed_in(front: OpenFront) -> None:
    """Browsers hold a Strict cookie back there: a page of ours leads on, and then it comes along."""
    it = await front()
    await it.person("anna", "admin")
    mail = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    led = await it.browser().get("/messages/4711?a=1&b=2", headers=mail)
    assert led.status_code == 200
    assert 'content="0; url=/messages/4711?a=1&amp;b=2"' in led.text
    there = await it.browser().get("/messages/4711", headers={"sec-fetch-site": "same-origin"})
    assert there.headers["location"] == "/sign-in?next=%2Fmessages%2F4711"


async def test_what_is_typed_is_never_on_a_page_again(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    answer = await it.browser().post("/sign-in", data={"name": "my-secret-typed-here", "password": "and-another-one"})
    assert "my-secret" not in answer.text
    assert "another-one" not in answer.text
    assert HERE not in answer.text
