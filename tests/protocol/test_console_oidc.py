"""Sign-in by OpenID Connect, against a provider on loopback, and what is tried against it."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey

from bridge.serving import open_socket, serving
from bridge.store import people
from tests.protocol.console_front import HERE, Front, OpenFront
from tests.protocol.oidc_provider import CLIENT, SECRET, IdentityProvider

BACK = f"{HERE}/sign-in/oidc/back"


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    made = IdentityProvider(user={"sub": "u-1", "preferred_username": "Carla", "groups": ["nurses"]})
    async with serving(made.application(), open_socket("127.0.0.1", 0, setting="test")) as address:
        made.issuer = f"http://{address}"
        yield made


@pytest.fixture
async def house(front: OpenFront, idp: IdentityProvider, tmp_path: Path) -> Front:
    """A console with an admin of its own, and that provider."""
    secret = tmp_path / "client-secret"
    secret.write_text(SECRET + "\n")
    oidc = {
        "issuer": idp.issuer,
        "client_id": CLIENT,
        "client_secret_file": secret,
        "redirect_url": BACK,
        "roles": {"nurses": "viewer", "engineers": "operator", "chiefs": "admin"},
    }
    it: Front = await front(oidc=oidc)
    await it.person("anna", "admin")
    it.clock._began = it.clock._began.fromtimestamp(int(time.time()), it.clock._began.tzinfo)
    return it


async def begun(browser: httpx.AsyncClient, onward: str = "/") -> str:
    """The browser is sent to the provider; where to it sends it back."""
    led = await browser.get("/sign-in/oidc", params={"next": onward})
    assert led.status_code == 303, led.text
    async with httpx.AsyncClient() as outside:
        return (await outside.get(led.headers["location"])).headers["location"]


async def came_in(it: Front, **more: Any) -> httpx.AsyncClient:
    browser = it.browser(**more)
    answer = await browser.get(await begun(browser))
    assert answer.status_code == 200, answer.text
    return browser


async def why(it: Front) -> list[str]:
    return [act.detail["why"] for act in await it.acts("sign_in_refused")]


async def test_a_browser_goes_to_the_provider_and_comes_back_signed_in(house: Front, idp: IdentityProvider) -> None:
    browser = house.browser()
    page = await browser.get("/sign-in?next=/messages")
    assert 'href="/sign-in/oidc?next=/messages"' in page.text
    led = await browser.get("/sign-in/oidc?next=/messages")
    asked = parse_qs(urlsplit(led.headers["location"]).query)
    assert asked["client_id"] == [CLIENT]
    assert asked["redirect_uri"] == [BACK]
    assert len(asked["state"][0]) == len(asked["nonce"][0]) == len(asked["code_challenge"][0]) == 43
    cookie = led.headers["set-cookie"]
    assert re.fullmatch(r"bridge-sign-in=[\w-]{43}; HttpOnly; Max-Age=600; Path=/; SameSite=lax", cookie)
    assert not any(one[0] in cookie for one in asked.values())
    back = await browser.get(await begun(browser, "/messages"))
    assert back.status_code == 200
    assert 'content="0; url=/messages"' in back.text, "a page of ours leads on: behind a redirect Strict would not come"
    said = back.headers.get_list("set-cookie")
    assert any(re.fullmatch(r"bridge-session=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", one) for one in said)
    assert "bridge-sign-in" not in browser.cookies
    assert "carla (viewer)" in (await browser.get("/")).text
    acts = [(a.actor, a.action, a.detail["by"]) for a in await house.acts()]
    assert acts == [("carla", "person_made", "oidc"), ("carla", "sign_in", "oidc")]
    assert idp.asked == ["discovery", "token", "keys"]


async def test_with_tls_its_cookie_is_for_this_host_alone(
    front: OpenFront, idp: IdentityProvider, tmp_path: Path
) -> None:
    oidc = {"issuer": idp.issuer, "client_id": CLIENT, "client_secret_file": tmp_path, "roles": {"a": "viewer"}}
    it = await front(hosts=["https://bridge.example"], oidc={**oidc, "redirect_url": "https://bridge.example/x"})
    led = await it.browser("https://bridge.example").get("/sign-in/oidc")
    assert led.headers["set-cookie"].startswith("__Host-bridge-sign-in=")
    assert led.headers["set-cookie"].endswith("; Secure")


async def test_the_highest_group_is_the_role_and_it_follows_the_provider(house: Front, idp: IdentityProvider) -> None:
    idp.user["groups"] = ["everybody", "nurses", "chiefs", "engineers"]
    first = await came_in(house)
    assert "carla (admin)" in (await first.get("/")).text
    idp.user["groups"] = "engineers"
    second = await came_in(house)
    assert "carla (operator)" in (await second.get("/")).text
    assert (await first.get("/")).status_code == 303, "what she could do before is over"
    idp.user |= {"groups": [], "preferred_username": "carla"}
    browser = house.browser()
    refused = await browser.get(await begun(browser))
    assert refused.status_code == 403
    assert "bridge-session" not in browser.cookies
    assert (await second.get("/")).status_code == 303
    assert await why(house) == ["no group with a role"]
    persons = await house.store.read(people.everybody)
    assert [(p.name, p.subject) for p in persons] == [("anna", None), ("carla", f"{idp.issuer} u-1")]


async def test_whoever_is_disabled_here_stays_out(house: Front, idp: IdentityProvider) -> None:
    browser = await came_in(house)
    carla = await house.store.read(lambda conn: people.by_name(conn, "carla"))
    assert carla is not None
    await (await house.signed_in("anna")).post(f"/people/{carla.id}/disable")
    assert (await browser.get("/")).status_code == 303
    answer = await browser.get(await begun(browser))
    assert answer.status_code == 403
    assert await why(house) == ["disabled"]


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("ANNA", "anna (127.0.0.1)"),
        ("local", "local (127.0.0.1)"),
        ("<b>\u202eeve</b>", "beveb"),
        (None, "somebody"),
        (7, "somebody"),
    ],
)
async def test_a_name_of_the_providers_is_nobody_elses(
    house: Front, idp: IdentityProvider, claim: Any, name: str
) -> None:
    """The subject says who it is; the name is what the audit trail has."""
    idp.user |= {"preferred_username": claim, "groups": ["chiefs"]}
    await came_in(house)
    idp.user["sub"] = "u-2"
    await came_in(house)
    persons = await house.store.read(people.everybody)
    assert len(persons) == 3
    assert [p.name for p in persons if p.subject == f"{idp.issuer} u-1"] == [name]
    anna = next(p for p in persons if p.name == "anna")
    assert (anna.subject, anna.role) == (None, "admin")


@pytest.mark.parametrize("how", ["unsigned", "by_public_key", "by_a_stranger", "a nonce of another's", "nothing"])
async def test_a_forged_id_token_lets_nobody_in(house: Front, idp: IdentityProvider, how: str) -> None:
    """Each claim and each signature by itself: tests/unit/console_access/test_id_token.py."""
    idp.user["groups"] = ["chiefs"]
    if how == "nothing":
        idp.sign = lambda _: None
    elif how in {"unsigned", "by_public_key", "by_a_stranger"}:
        idp.sign = getattr(idp, how)
    else:
        idp.claims["nonce"] = "another"
    browser = house.browser()
    answer = await browser.get(await begun(browser))
    assert answer.status_code == (502 if how == "nothing" else 403)
    assert ("no ID token" if how == "nothing" else "ID token was refused") in answer.text
    assert "bridge-session" not in browser.cookies
    assert len(await house.store.read(people.everybody)) == 1
    (act,) = await house.acts()
    assert (act.actor, act.action, act.outcome) == ("unknown", "sign_in_refused", "refused")


async def test_a_token_may_be_off_by_ten_seconds(house: Front, idp: IdentityProvider) -> None:
    idp.claims["exp"] = int(time.time()) - 5
    house.clock._began = house.clock._began.fromtimestamp(idp.claims["exp"] + 9, house.clock._began.tzinfo)
    await came_in(house)
    house.clock.jump(1)
    browser = house.browser()
    assert (await browser.get(await begun(browser))).status_code == 403


async def test_a_token_for_us_among_others_says_that_it_is_ours(house: Front, idp: IdentityProvider) -> None:
    idp.claims |= {"aud": [CLIENT, "another client"], "azp": CLIENT}
    await came_in(house)


async def test_keys_of_elliptic_curves_and_new_ones_are_taken(house: Front, idp: IdentityProvider) -> None:
    await came_in(house)
    idp.keys = [*idp.keys, ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})]
    browser = house.browser()
    refused = await browser.get(await begun(browser))
    assert refused.status_code == 403, "keys are fetched anew once a minute at the most"
    house.clock.jump(61)
    await came_in(house)
    idp.keys = [RSAKey.generate_key(2048, {"kid": "rsa-2"})]
    house.clock.jump(61)
    await came_in(house)
    assert idp.asked.count("keys") == 3


async def test_a_code_comes_in_by_the_browser_that_asked_for_it_and_once(house: Front, idp: IdentityProvider) -> None:
    mine, other = house.browser(), house.browser()
    back = await begun(mine)
    stolen = await other.get(back)
    assert stolen.status_code == 403
    assert "begun elsewhere" in stolen.text
    theirs = await begun(other)
    state, code = (parse_qs(urlsplit(back).query)[name][0] for name in ("state", "code"))
    assert (await other.get(theirs.replace(parse_qs(urlsplit(theirs).query)["code"][0], code))).status_code == 502, (
        "PKCE"
    )
    assert "bridge-session" not in other.cookies
    cookie = mine.cookies["bridge-sign-in"]
    idp.codes.clear()
    fresh = await begun(house.browser())
    wrong = await mine.get(fresh)
    assert wrong.status_code == 403, "another sign-in's state"
    mine.cookies.set("bridge-sign-in", cookie, domain="127.0.0.1")
    replayed = await mine.get(f"/sign-in/oidc/back?state={state}&code={code}")
    assert replayed.status_code == 403
    assert "was used already" in replayed.text
    assert len(await house.store.read(people.everybody)) == 1


async def test_a_sign_in_that_worked_cannot_be_replayed(house: Front) -> None:
    browser = house.browser()
    back = await begun(browser)
    cookie = browser.cookies["bridge-sign-in"]
    assert (await browser.get(back)).status_code == 200
    again = house.browser()
    again.cookies.set("bridge-sign-in", cookie, domain="127.0.0.1")
    assert (await again.get(back)).status_code == 403


async def test_a_sign_in_takes_ten_minutes_at_the_most(house: Front) -> None:
    browser = house.browser()
    back = await begun(browser)
    house.clock.jump(601)
    answer = await browser.get(back)
    assert answer.status_code == 403
    assert "took too long" in answer.text


async def test_a_session_from_before_is_not_taken_over(house: Front) -> None:
    browser = house.browser()
    browser.cookies.set("bridge-session", "planted", domain="127.0.0.1")
    await browser.get(await begun(browser))
    assert browser.cookies["bridge-session"] != "planted"


async def test_what_the_provider_says_instead_is_shown_and_no_more(house: Front, idp: IdentityProvider) -> None:
    idp.error = "access_denied"
    browser = house.browser()
    answer = await browser.get(await begun(browser))
    assert answer.status_code == 403
    assert "access_denied" in answer.text
    assert "&lt;b&gt;no" not in answer.text
    assert "<b>no" not in answer.text
    back = await begun(browser)
    forged = await browser.get(back.replace("access_denied", "Call+0900+1234"))
    assert "0900" not in forged.text


async def test_another_providers_answer_is_refused(house: Front) -> None:
    browser = house.browser()
    answer = await browser.get(await begun(browser) + "&iss=https%3A%2F%2Fevil.example")
    assert answer.status_code == 403
    assert "another provider" in answer.text


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"token_endpoint": "http://evil.example/token"}, "without encryption"),
        ({"jwks_uri": None}, "lacks an address"),
        ({"more": "x" * (1 << 20)}, "longer than any"),
    ],
)
async def test_a_discovery_document_that_is_none_is_a_clear_page(
    house: Front, idp: IdentityProvider, document: dict[str, Any], said: str
) -> None:
    idp.document = document
    answer = await house.browser().get("/sign-in/oidc")
    assert answer.status_code == 502
    assert said in answer.text


async def test_a_provider_that_is_down_is_a_clear_page_and_the_password_stays(
    house: Front, idp: IdentityProvider
) -> None:
    sock = open_socket("127.0.0.1", 0, setting="test")
    port = sock.getsockname()[1]
    sock.close()
    browser = house.browser()
    back = await begun(browser)
    house.reception.provider._provider._metadata = None  # type: ignore[union-attr]
    house.reception.provider._provider._settings = house.settings.console.oidc.model_copy(  # type: ignore[union-attr]
        update={"issuer": f"http://127.0.0.1:{port}"}
    )
    answer = await house.browser().get("/sign-in/oidc")
    assert answer.status_code == 502
    assert "cannot be reached" in answer.text
    assert str(port) not in answer.text
    assert (await browser.get(back)).status_code == 502
    await house.signed_in("anna")


async def test_it_is_begun_ten_times_a_minute_by_an_address(house: Front) -> None:
    browser = house.browser()
    for _ in range(10):
        assert (await browser.get("/sign-in/oidc")).status_code == 303
    refused = await browser.get("/sign-in/oidc")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


async def test_the_secret_goes_in_the_body_where_the_provider_takes_it_there_alone(
    house: Front, idp: IdentityProvider
) -> None:
    idp.document = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await came_in(house)


async def test_the_first_admin_may_come_by_the_provider(front: OpenFront, house: Front, idp: IdentityProvider) -> None:
    anna = await house.store.read(lambda conn: people.by_name(conn, "anna"))
    assert anna is not None
    await house.store.write(lambda tx: people.follow_role(tx, anna, "viewer"))
    oidc = house.settings.console.oidc
    assert oidc is not None
    it = await front(oidc=oidc.model_dump())
    assert "/sign-in/oidc" in (await it.browser().get("/set-up")).text
    idp.user["groups"] = ["chiefs"]
    it.clock._began = house.clock._began
    await came_in(it)
    assert (await it.browser().get("/")).headers["location"] == "/sign-in"
    assert not it.reception.set_up.path.exists()


async def test_without_a_provider_there_is_no_way_to_it(front: OpenFront) -> None:
    it = await front()
    for path in ("/sign-in/oidc", "/sign-in/oidc/back"):
        assert (await it.browser().get(path)).status_code == 404
