"""The door: who comes in by which route, and what is answered to whom it lets in nowhere."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from bridge.console.access.closed import Way, ways
from bridge.console.access.visitor import Role
from bridge.console.application import application
from bridge.errors import StoreError
from bridge.store import people
from tests.protocol.console_front import HERE, Front, OpenFront

FOR_PERSONS = ("/account", "/people", "/sign-out")
"""A script's token acts on messages; it lets nobody in and gives itself nothing."""


def _asked(way: Way) -> list[tuple[str, str]]:
    """Each method of a route, with an address that it takes."""
    path = re.sub(r"\{target[^}]*\}", "1", re.sub(r"\{verb[^}]*\}", "show", way.path))
    return [(method, re.sub(r"\{[^}]*\}", "1", path)) for method in sorted(way.methods - {"HEAD"})]


def _closed(it: Front) -> list[tuple[str, str, Role]]:
    return [(m, p, way.role) for way in ways(it.app.routes) if way.role is not None for m, p in _asked(way)]


async def test_without_sign_in_there_are_health_and_the_way_in(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    script, page = it.script(), it.browser()
    routes = _closed(it)
    assert len(routes) > 10
    for method, path, _ in routes:
        answer = await script.request(method, path, headers={"origin": HERE})
        assert answer.status_code == 401, (method, path)
        assert answer.json() == {"refused": "Your sign-in is over, or there was none. Sign in."}, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
        shown = await page.request(method, path)
        led = "/sign-in" if path == "/" or path.startswith(("/api", "/events")) else None
        if method == "GET":
            assert shown.status_code == 303, path
            assert shown.headers["location"].startswith("/sign-in"), path
            assert led is None or shown.headers["location"] == led
        else:
            assert shown.status_code == 401, (method, path)
    opened = {way.path for way in ways(it.app.routes) if way.role is None}
    assert opened == {
        "/healthz", "/readyz", "/metrics", "/static", "/sign-in", "/sign-in/oidc", "/sign-in/oidc/back", "/set-up"
    }  # fmt: skip
    for path in ("/healthz", "/readyz", "/metrics", "/static/app.css", "/sign-in"):
        assert (await page.get(path)).status_code == 200, path
    for path in ("/nowhere", "/static", "/Healthz", "/healthz/", "/sign-in/x", "/static/../messages", "/docs"):
        assert (await script.get(path)).status_code in {401, 404}, path


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("by", ["browser", "token"])
async def test_each_route_is_for_its_role_and_those_above_it(front: OpenFront, role: Role, by: str) -> None:
    it = await front()
    await it.person("the-admin", "admin")
    me = await it.person("anna", role.word)
    it.app.state.desk.changes.end()  # a stream of changes is over at once
    token = await it.token("anna")
    for method, path, needed in _closed(it):
        if by == "token":
            one = it.script(token)
        else:  # a new session each time: some routes end it
            one = it.browser(accept="application/json")
            fresh = await it.store.write(lambda tx: it.reception.sessions.begin(tx, me))
            one.cookies.set("bridge-session", fresh.secret, domain="127.0.0.1")
        answer = await one.request(method, path)
        for_persons = by == "token" and path.startswith(FOR_PERSONS) and not (path == "/people" and method == "GET")
        if role < needed or for_persons:
            assert answer.status_code == 403, (method, path)
            assert "refused" in answer.json()
        else:
            assert answer.status_code not in {401, 403, 405, 500}, (method, path, answer.text)


async def test_without_sign_in_the_setting_lets_everybody_in_as_admin(front: OpenFront) -> None:
    it = await front(sign_in=False)
    browser = it.browser()
    shown = await browser.get("/")
    assert shown.status_code == 200
    assert "local (admin)" in shown.text
    assert "/account" not in shown.text
    assert not it.reception.set_up.path.exists()
    assert (await browser.get("/account")).status_code == 404
    made = await browser.post("/people", data={"name": "anna", "role": "admin"})
    assert made.status_code == 409, "who comes in today makes no way in for tomorrow"
    assert not await it.store.read(people.everybody)


async def test_a_route_that_says_not_whom_it_is_for_stops_the_start(
    front: OpenFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await front()
    forgotten = APIRouter()
    forgotten.add_api_route("/forgotten", lambda: "everything")
    monkeypatch.setattr("bridge.console.application.ROUTERS", (forgotten,))
    with pytest.raises(RuntimeError, match="GET /forgotten says not which role"):
        application(it.app.state.desk)
    outer, app = APIRouter(), FastAPI(openapi_url=None)
    outer.include_router(forgotten, prefix="/inside")
    app.include_router(outer, prefix="/outside")
    with pytest.raises(RuntimeError, match="GET /outside/inside/forgotten says not"):
        ways(app.routes)


async def test_an_address_of_the_page_comes_back_after_the_sign_in(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = it.browser()
    led = await browser.get("/messages/47?tab=sent&q=M%C3%BCller")
    assert led.headers["location"] == "/sign-in?next=%2Fmessages%2F47%3Ftab%3Dsent%26q%3DM%25C3%25BCller"
    part = await browser.get("/parts", headers={"hx-request": "true", "hx-current-url": f"{HERE}/messages?q=x"})
    assert part.status_code == 401
    assert part.headers["hx-redirect"] == "/sign-in?next=%2Fmessages%3Fq%3Dx"
    elsewhere = await browser.get(
        "/parts", headers={"hx-request": "true", "hx-current-url": "https://evil.example//evil.example"}
    )
    assert elsewhere.headers["hx-redirect"] == "/sign-in"
    broken = await browser.get("/parts", headers={"hx-request": "true", "hx-current-url": "http://[evil"})
    assert broken.headers["hx-redirect"] == "/sign-in"


async def test_what_changes_something_comes_from_a_page_of_ours(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    del browser.headers["origin"]
    said = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9090"},
        {"origin": "https://127.0.0.1:8080"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
        {},
    ]
    for headers in said:
        for path in ("/sign-out", "/sign-in", "/set-up", "/account/tokens", "/nowhere"):
            answer = await browser.post(path, headers=headers, data={"name": "anna", "password": "x"})
            assert answer.status_code == 403, (headers, path)
        assert (await browser.put("/", headers=headers)).status_code == 403
        assert (await browser.options("/", headers=headers)).status_code == 403
    assert (await browser.get("/", headers={"origin": "https://evil.example"})).status_code == 200
    assert not await it.acts("sign_in_refused", "token_made")
    ours = await browser.post("/account/tokens", headers={"sec-fetch-site": "same-origin"}, data={"label": "nightly"})
    assert ours.status_code == 200


async def test_without_sign_in_a_web_page_on_the_same_machine_changes_nothing(front: OpenFront) -> None:
    it = await front(sign_in=False)
    for headers in (
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"authorization": "Bearer x", "origin": "http://x"},
    ):
        answer = await it.browser(**headers).post("/people", data={"name": "anna"})
        assert answer.status_code == 403


async def test_a_name_that_was_rebound_to_us_gets_nothing(front: OpenFront) -> None:
    for sign_in in (True, False):
        it = await front(sign_in=sign_in)
        for path in ("/", "/sign-in", "/healthz", "/metrics", "/static/app.css", "/api/openapi.json"):
            answer = await it.browser("http://evil.example:8080").get(path)
            assert answer.status_code == 421, path
            assert "console.hosts" in answer.text


async def test_a_token_needs_no_origin_and_stands_alone(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "operator")
    await it.person("berta", "admin")
    token = await it.token("anna")
    assert (await it.script(token).get("/")).status_code == 200
    acted = await it.script(token).post("/api/messages/1/show")
    assert acted.status_code == 409, "let in: there is no such message"
    assert (await it.acts("show"))[0].actor == "anna"
    signed_in = await it.signed_in("berta")
    for wrong in (
        "Bearer bridge_wrong",
        "Bearer ",
        "Bearer",
        "Basic YTpi",
        f"Basic {token}",
        f"Bearer {signed_in.cookies['bridge-session']}",
    ):
        refused = await signed_in.get("/", headers={"authorization": wrong})
        assert refused.status_code == 401, "the session beside it counts not"
        assert "token" in refused.text
    browser = it.browser()
    browser.cookies.set("bridge-session", token, domain="127.0.0.1")
    assert (await browser.get("/")).status_code == 303, "a token is no session"
    forged = await it.browser(origin="https://evil.example", authorization=f"Bearer {token}").post("/sign-in")
    assert (forged.status_code, "(Origin)" in forged.text) == (403, True), "the way in is for browsers"


async def test_answers_keep_pages_to_themselves(front: OpenFront) -> None:
    it = await front()
    for path in ("/sign-in", "/", "/nowhere", "/healthz", "/static/app.css"):
        head = (await it.browser().get(path)).headers
        assert "default-src 'none'" in head["content-security-policy"], path
        assert "frame-ancestors 'none'" in head["content-security-policy"]
        assert head["x-content-type-options"] == "nosniff"
        assert head["referrer-policy"] == "same-origin"
        assert head["cache-control"] == ("max-age=3600" if path.startswith("/static") else "no-store")
        assert "access-control-allow-origin" not in head
        assert "strict-transport-security" not in head


async def test_where_the_store_cannot_be_read_that_is_said(front: OpenFront, monkeypatch: pytest.MonkeyPatch) -> None:
    it = await front()
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")

    async def broken(_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(it.store, "read", broken)
    answer = await browser.get("/", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()) == (503, {"failed": "the disk is gone"})
    assert (await browser.get("/healthz")).status_code == 200


class _Stream:
    """An open page that listens to /events, without a socket: what the stream says, as it comes."""

    def __init__(self, it: Front, browser: httpx.AsyncClient) -> None:
        cookie = "; ".join(f"{k}={v}" for k, v in browser.cookies.items())
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/events", "raw_path": b"/events", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8080"), (b"cookie", cookie.encode())],
            "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 8080),
        }  # fmt: skip
        app: Callable[..., Awaitable[None]] = it.app
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await self.said.put(message["body"])
            if not message.get("more_body"):
                await self.said.put(None)

    async def leave(self) -> None:
        self._gone.set()
        await self.task


async def _rest(stream: _Stream) -> list[bytes]:
    found = []
    async with asyncio.timeout(20):
        while (part := await stream.said.get()) is not None:
            found.append(part)
        await stream.task
    return found


async def test_a_stream_ends_with_its_session_and_says_so(front: OpenFront) -> None:
    it = await front(idle_timeout=900)
    anna = await it.person("anna", "admin")
    await it.person("berta", "admin")
    for how in ("sign-out", "idle", "disabled"):
        browser = await it.signed_in("anna")
        stream = _Stream(it, browser)
        assert (await stream.said.get() or b"").startswith(b"retry:")
        if how == "sign-out":
            await browser.post("/sign-out")
        elif how == "idle":
            it.clock.jump(901)
        else:
            await (await it.signed_in("berta")).post(f"/people/{anna}/disable")
        assert (await _rest(stream))[-1] == b"event: ended\ndata: \n\n", how


async def test_a_stream_is_no_sign_of_life(front: OpenFront) -> None:
    it = await front(idle_timeout=900)
    await it.person("anna", "admin")
    browser = await it.signed_in("anna")
    it.clock.jump(600)
    stream = _Stream(it, browser)
    await stream.said.get()
    it.clock.jump(299)
    await stream.leave()
    it.clock.jump(1)
    assert (await browser.get("/")).status_code == 303
