"""The bridge between its doors and the API, put together as `bridge.app` does it, for one life of a simulated process.

Sockets, threads, watchers and the console are left out; what decides over a message is the product's.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

from bridge.dispatch import destination, reading
from bridge.dispatch.answers import Answers
from bridge.dispatch.at_once import AtOnce
from bridge.dispatch.deciding import Deciding
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.last_read import LastRead
from bridge.dispatch.objects import Objects
from bridge.dispatch.policy import Reason
from bridge.dispatch.reading import Reading
from bridge.mapping.rules import Rules, load_rules
from bridge.receive.dicom.intake import DicomIntake
from bridge.receive.intake import Hl7Intake
from bridge.receive.replies import Replies
from bridge.settings import Settings
from bridge.store import inbox, line, sqlite
from bridge.store.payloads import Payloads
from bridge.store.port import Notice
from tests.campaign.sim_api import Api, SimClient
from tests.campaign.sim_loop import Life, SimClock
from tests.campaign.sim_store import Disk, SimStore

KEY = b"invented site key of a simulation"


class Site:
    """What all lives of all seeds share: settings, rules, and a folder for payloads."""

    def __init__(self, folder: Path) -> None:
        document: dict[str, Any] = {
            "site": {"time_zone": "Europe/Berlin", "assigning_authority": "TEST"},
            "store": {"payloads": str(folder / "payloads")},
            "cardio": {"organization_path": "test-hospital", "token": "test-token"},
        }
        self.settings = Settings.model_validate(document)
        self.rules: dict[str, Rules] = {"hl7": load_rules(None, name="defaults")}
        self.folder = folder / "payloads"
        self.payloads().open()

    def payloads(self) -> Payloads:
        """The payload store as a new process has it."""
        return Payloads(self.folder, min_free=1)

    def empty(self, names: Iterable[str]) -> None:
        """No payload is left of an earlier seed, whose rows had these."""
        for file in (self.folder / "spool").iterdir():
            file.unlink()
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


class Service:
    """One life."""

    def __init__(self, site: Site, life: Life, clock: SimClock, store: SimStore, api: Api) -> None:
        settings = site.settings
        self._life, self._clock, self._store = life, clock, store
        self.loops: list[asyncio.Task[None]] = []
        client = SimClient(api, life)
        with mock.patch.object(destination, "CardioClient", return_value=client):
            goals = Destinations(settings.cardio, store, clock)
        answers = Answers(settings.hl7, clock)
        payloads = self._payloads = site.payloads()
        objects = Objects(payloads)
        self.carts = DicomIntake(store, payloads, clock, settings.dicom)
        deciding = Deciding(settings, KEY, clock)
        self._delivering = Delivering(store, payloads, objects, goals, deciding, settings, clock, answers)
        self._delivering._sending._random = api.dice  # jitter out of the seed, too
        self._reading = Reading(
            store, payloads, objects, site.rules, settings, clock, answers, self._delivering, self.carts.busy
        )
        self._replies = Replies()
        entrance = AtOnce(site.rules, settings, clock, answers, self._delivering, cast("LastRead", _Forgets()))
        self.his = Hl7Intake(store, payloads, self._replies, clock, settings.hl7, entrance)

    async def start(self) -> None:
        """What a start does with what it finds; then the loops, of which none may end by itself."""
        now = self._clock.now
        await self._store.write(lambda tx: line.recover(tx, at=now(), keep_waiting=(Reason.RATE_LIMITED,)))
        await self._store.read(lambda conn: self._payloads.sweep(lambda name: inbox.refers_to(conn, name)))
        self._store.subscribe(self._replies.hear)
        self._store.subscribe(self._hear)
        self.loops = [self._life.begin(self._reading.run()), self._life.begin(self._delivering.run())]

    def _hear(self, notices: Any) -> None:
        told: list[Notice] = list(notices)
        self._reading.hear(told)
        self._delivering.hear(told)


class _Forgets:
    """Nothing that a simulated sender says can end the process by being read."""

    @staticmethod
    def suspects(_: str) -> bool:
        return False

    @staticmethod
    def note(*_: object) -> None:
        """There is no file."""


async def _survives(*_: object) -> bool:
    return True


@contextlib.contextmanager
def simulated(disk: Disk) -> Iterator[None]:
    """Where the product looks at real time, or begins a process, it does not: one seed is one run. Every store that it
    opens is on this disk.
    """
    with (
        mock.patch.object(sqlite, "writer_engine", return_value=disk.engine),
        mock.patch.object(sqlite, "reader_engine", return_value=disk.engine),
        mock.patch.object(reading, "survive", _survives),
    ):
        yield
