"""A console with its door, on a store of the test's own, and browsers that come to it. No listener is open."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from argon2.profiles import CHEAPEST
from fastapi import FastAPI

from bridge.console.access.passwords import Passwords
from bridge.console.access.reception import Reception
from bridge.console.application import application
from bridge.console.desk import Desk
from bridge.console.metrics import Metrics
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.answers import Answers
from bridge.domain.outcome import Outcome, Unknown
from bridge.mapping.in_force import rules_in_force
from bridge.settings import Settings
from bridge.store import audit, people
from bridge.store.audit import Act
from bridge.store.ballast import Ballast
from bridge.store.payloads import Payloads
from bridge.store.sqlite import SqliteStore
from tests.acceptance.virtual_clock import VirtualClock

HERE = "http://127.0.0.1:8080"
GOOD = "correct horse battery"
"""A password that is long enough."""


class StillClock(VirtualClock):
    """Time stands between two jumps, however slow the machine is."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._began_at = datetime.now(UTC).replace(microsecond=0), time.monotonic()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self._ahead)

    def monotonic(self) -> float:
        return self._began_at + self._ahead


class CountedPasswords(Passwords):
    """Cheap, since tests sign in by the hundred; what was compared is counted."""

    def __init__(self) -> None:
        super().__init__(CHEAPEST)
        self.compared = 0

    def _fits(self, stored: str, password: str) -> bool:
        self.compared += 1
        return super()._fits(stored, password)


@dataclass
class Front:
    """One console."""

    app: FastAPI
    store: SqliteStore
    clock: StillClock
    passwords: CountedPasswords
    settings: Settings
    browsers: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def reception(self) -> Reception:
        found: Reception = self.app.state.reception
        return found

    def browser(self, at: str = HERE, address: str = "192.0.2.1", **headers: str) -> httpx.AsyncClient:
        """A browser: it keeps cookies, asks for pages, and says where a form of it stands."""
        transport = httpx.ASGITransport(self.app, client=(address, 50000), raise_app_exceptions=True)
        made = httpx.AsyncClient(
            transport=transport, base_url=at, headers={"accept": "text/html", "origin": at, **headers}
        )
        self.browsers.append(made)
        return made

    def script(self, token: str = "") -> httpx.AsyncClient:
        """A program: it keeps nothing and sends no Origin."""
        headers = {"accept": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        made = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=HERE, headers=headers)
        self.browsers.append(made)
        return made

    async def person(self, name: str, role: str = "viewer", password: str = GOOD) -> int:
        """Somebody who may sign in."""
        stored = await self.passwords.hashed(password)
        return await self.store.write(lambda tx: people.make(tx, name, role, at=self.clock.now(), password=stored))

    async def signed_in(self, name: str, password: str = GOOD, **at: Any) -> httpx.AsyncClient:
        """A browser in which that person is signed in."""
        made = self.browser(**at)
        answer = await made.post("/sign-in", data={"name": name, "password": password})
        assert answer.status_code == 303, answer.text
        return made

    async def token(self, name: str) -> str:
        """A token of that person's."""
        person = await self.store.read(lambda conn: people.by_name(conn, name))
        assert person is not None
        fresh = await self.store.write(lambda tx: self.reception.sessions.begin_token(tx, person.id, "a script"))
        return fresh.secret

    async def acts(self, *actions: str) -> list[Act]:
        """The audit trail, oldest first."""
        found = await self.store.read(lambda conn: list(audit.acts(conn)))
        return [act for act in found if not actions or act.action in actions]

    async def aclose(self) -> None:
        for one in self.browsers:
            await one.aclose()


async def opened(store: SqliteStore, console: dict[str, Any] | None = None, clock: StillClock | None = None) -> Front:
    """A console on that store, as the service builds it."""
    folder = store.path.parent
    settings = Settings.model_validate(
        {
            "site": {"time_zone": "Europe/Berlin"},
            "store": {"url": f"sqlite:///{store.path}", "payloads": folder / "payloads", "min_free": 1, "ballast": 1},
            "console": console or {},
        }
    )
    clock = clock or StillClock()
    payloads = Payloads(settings.store.payloads, min_free=1, ballast=Ballast(folder / "b.ballast", 1))
    payloads.open()
    rules, answers = rules_in_force(settings), Answers(settings.hl7, clock)
    acting = Acting(store, answers, rules, settings, clock, _no_api)
    metrics = Metrics(store, payloads, clock)
    desk = Desk(store, payloads, settings, rules, answers, acting, metrics, clock, b"k" * 32, {})
    app, passwords = application(desk), CountedPasswords()
    _cheap(app, desk, passwords)
    front = Front(app, store, clock, passwords, settings)
    await front.reception.prepare()
    return front


def _cheap(app: FastAPI, desk: Desk, passwords: CountedPasswords) -> None:
    """Another reception, before the door is built: Starlette builds it with the first request."""
    app.state.reception = made = Reception(desk, passwords)
    for one in app.user_middleware:
        if "reception" in one.kwargs:
            one.kwargs["reception"] = made


async def _no_api(name: str, task: int) -> Outcome:
    return Unknown("no API in this test")


def field_of(page: str, name: str) -> str:
    """The value of a form's field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return found[1]


OpenFront = Callable[..., Any]
