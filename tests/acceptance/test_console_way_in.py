"""The way in of a running service: set-up at its first start, sign-in, and what a restart leaves of both."""

import contextlib
import re
import signal
from pathlib import Path

import httpx
import structlog

from tests.acceptance.process import Service, settings
from tests.acceptance.scene import House, OpenHouse
from tests.ports import free_port

FORM = {"name": "Anna", "password": "correct horse battery", "again": "correct horse battery"}


def browser(it: House) -> httpx.AsyncClient:
    at = f"http://{it.up.addresses['console']}"
    return httpx.AsyncClient(base_url=at, headers={"origin": at, "accept": "text/html"})


async def test_the_first_admin_is_set_up_and_is_known_after_a_restart(house: OpenHouse) -> None:
    with structlog.testing.capture_logs() as logged:
        async with house(BRIDGE_CONSOLE__SIGN_IN="true") as it, browser(it) as here:
            file = it.folder / "setup-token"
            token = file.read_text().strip()
            assert str(file) in it.up.to_do
            assert token not in it.up.to_do
            assert (await here.get("/")).headers["location"] == "/set-up"
            made = await here.post("/set-up", data={**FORM, "token": token})
            assert (made.status_code, made.headers["location"]) == (303, "/")
            assert not file.exists()
            secret = here.cookies["bridge-session"]
            assert "anna (admin)" in (await here.get("/")).text
            script = (await here.post("/account/tokens", data={"label": "nightly"})).text
            found = re.search(r"bridge_[\w-]{43}", script)
            assert found is not None
        async with house(BRIDGE_CONSOLE__SIGN_IN="true") as it, browser(it) as here:
            assert it.up.to_do == ""
            assert not file.exists()
            assert (await here.get("/")).headers["location"] == "/sign-in"
            here.cookies.set("bridge-session", secret, domain="127.0.0.1")
            assert (await here.get("/")).status_code == 200
            wrong = await here.post("/sign-in", data={"name": "anna", "password": "a-wrong-password"})
            assert wrong.status_code == 403
            here.cookies.clear()
            by_token = await here.get("/api/openapi.json", headers={"authorization": f"Bearer {found[0]}"})
            assert by_token.status_code == 200
            kept = (it.folder / "bridge.db").read_bytes() + (it.folder / "bridge.db-wal").read_bytes()
    said = str(logged)
    for never in (token, secret, found[0], FORM["password"], "a-wrong-password"):
        assert never not in said
        assert never.encode() not in kept


async def test_an_open_page_does_not_hold_up_the_end_of_the_service(house: OpenHouse) -> None:
    async with contextlib.AsyncExitStack() as outside:
        async with house() as it:
            here = await outside.enter_async_context(browser(it))
            stream = await outside.enter_async_context(here.stream("GET", "/events"))
            said = stream.aiter_bytes()
            assert (await anext(said)).startswith(b"retry:")
        assert [part async for part in said if b"ended" in part] == [], "no session is over: the service is"


def test_a_service_tells_its_log_where_the_token_is_and_never_what(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = settings(tmp_path, f"http://127.0.0.1:{free_port()}")
    service = Service(environment, log)
    service.start()
    token = (tmp_path / "setup-token").read_text().strip()
    service.end(signal.SIGTERM)
    said = log.read_text()
    assert said.count("console.set_up_due") == 1
    assert str(tmp_path / "setup-token") in said
    assert token not in said
    assert all(line.startswith("{") for line in said.splitlines()), "lines for programs alone, where nobody reads along"
