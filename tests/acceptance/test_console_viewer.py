"""A viewer at the door of every page and answer, and a page of somebody else's beside it: nobody's value goes out."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bridge import app
from bridge.console.access.closed import ways
from bridge.console.application import application
from bridge.sandbox.ecg_object import Subject
from tests.acceptance.acting_house import trail
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_console_way_in import FORM, browser
from tests.acceptance.test_ecg_to_task import recording

SIGN_IN = {"BRIDGE_CONSOLE__SIGN_IN": "true"}
WHOSE = ("Kanari", "Zaunkoenig", "19610203", "1961-02-03", "774411", "Sperling")
OTHER = Subject("774411", "Sperling^Zaunkoenig", "19610203", "F", issuer="TEST")


@contextlib.asynccontextmanager
async def two(it: House) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """The first admin and a viewer, both signed in."""
    async with browser(it) as admin, browser(it) as viewer:
        admin.timeout = viewer.timeout = httpx.Timeout(60)  # a loaded machine compares passwords slowly
        token = (it.folder / "setup-token").read_text().strip()
        assert (await admin.post("/set-up", data={**FORM, "token": token})).status_code == 303
        said = {"name": "vera", "role": "viewer", "password": "only looks at it"}
        assert (await admin.post("/people", data=said)).status_code == 303
        assert (await viewer.post("/sign-in", data=said)).status_code == 303
        yield admin, viewer


async def test_a_viewer_gets_no_value_from_any_route_by_any_method(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FastAPI] = []
    monkeypatch.setattr(app, "application", lambda desk: made.append(application(desk)) or made[0])
    async with house(**SIGN_IN) as it, two(it) as (admin, viewer):
        await it.hl7(order("C1", "PL-1", patient="774411", name="Kanari^Zaunkoenig").replace("19700131", "19610203"))
        await it.store(recording(tmp_path, accession="ACCPL-1", subject=OTHER))
        await it.hl7(order("C2", "PL-2", patient="774411", name="Kanari^Zaunkoenig").replace("ORC|NW", "ORC|??"))
        rows = await it.settled(3)
        assert {row.state for row in rows} == {"CREATED", "HELD", "REJECTED"}
        for number in range(1, 4):  # what somebody else has revealed is his alone
            assert (await admin.post(f"/messages/{number}/reveal")).status_code == 303
        assert "Zaunkoenig" in (await admin.get("/messages/2")).text
        asked = 0
        for way in ways(made[0].routes):
            for number in range(1, 4) if "{" in way.path else (1,):
                path = re.sub(r"\{[a-z_]+(:path)?\}", str(number), way.path.replace("{part}", "stages"))
                if path.startswith(("/events", "/static", "/sign-out")):
                    continue
                for method, query in (("GET", ""), ("GET", "?reveal=true"), ("HEAD", ""), ("POST", "")):
                    answer = await viewer.request(method, path + query)
                    asked += 1
                    found = [value for value in WHOSE if value in answer.text + str(answer.headers)]
                    assert not found, (method, path, query, found)
        assert asked > 200
        assert [act.actor for act in await trail(it) if act.action == "reveal"] == ["anna"] * 3


@pytest.mark.parametrize("path", ["/api/messages/1?reveal=true", "/api/patients/1?reveal=true", "/events", "/messages"])
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_a_page_of_another_port_of_this_host_asks_in_vain(house: OpenHouse, path: str, site: str) -> None:
    """Its requests bring our cookie along: a port is no other site (RFC 6265bis §5.2)."""
    async with house(**SIGN_IN) as it, two(it) as (admin, _):
        await it.hl7(order())
        await it.settled(1)
        for mode in ("no-cors", "cors", "navigate"):
            sent = {"sec-fetch-site": site, "sec-fetch-mode": mode}
            if mode == "navigate" and not path.startswith("/api/"):
                continue  # somebody followed a link
            assert (await admin.get(path, headers=sent)).status_code == 403, mode
        assert [act for act in await trail(it) if act.action == "reveal"] == []
        assert "Muster" not in (await admin.get("/messages/1")).text


async def test_a_viewer_cannot_ask_letter_by_letter_for_what_is_masked(house: OpenHouse) -> None:
    async with house(**SIGN_IN) as it, two(it) as (admin, viewer):
        await it.hl7(order("C1", "PL-1", patient="774411", name="Kanari^Zaunkoenig"))
        await it.settled(1)
        for typed, by_whom in (
            ("C1", 1),
            ("PL-1", 1),
            ("HIS", 1),
            ("C1 PL-1", 1),
            ("k", 0),
            ("C1 kana", 0),
            ("7744", 0),
        ):
            for person, many in ((admin, 1), (viewer, by_whom)):
                found = (await person.get("/api/messages", params={"q": typed})).json()["messages"]
                page = (await person.post("/messages/rows", data={"q": typed})).text
                assert (len(found), page.count('data-name="Message"')) == (many, many), typed
        for address in ("/patients", "/api/patients/search"):
            assert (await viewer.post(address, json={"text": "kanari"})).status_code == 403
