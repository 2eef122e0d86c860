"""The stage of several processes on one PostgreSQL: each has a folder and doors of its own, all share the rest."""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from bridge.errors import StoreRefused
from bridge.store.postgres_engine import reader_engine
from tests.campaign import cluster_arms
from tests.campaign.nursery import Nursery
from tests.campaign.stage import Address, Api, NotUp, Process, doors, open_in, surroundings
from tests.ports import free_port

T = TypeVar("T")
STARTS = 40
"""Tries of a start, each a moment behind the one before, as a unit makes them."""
LEASE = 4.0


class Member:
    """One of the processes, started again however often it ends."""

    def __init__(self, name: str, roles: Sequence[str]) -> None:
        self.name = name
        self.roles = tuple(roles)
        self.hl7: Address = ("127.0.0.1", free_port())
        self.dicom: Address = ("127.0.0.1", free_port())
        self.process: Process | None = None
        self.stands_until: float | None = None  # frozen, and then it goes on

    @property
    def sends(self) -> bool:
        return "dispatch" in self.roles

    @property
    def takes_in(self) -> bool:
        return "receive" in self.roles

    @property
    def up(self) -> Process:
        """Its process, of which it is known that it was started."""
        assert self.process is not None
        return self.process

    def freeze(self) -> None:
        """Not a step further."""
        os.kill(self.up.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        self.stands_until = None
        os.kill(self.up.pid, signal.SIGCONT)


class ClusterStage:
    """The API, and the bridge's processes on the database at `url`."""

    def __init__(self, name: str, url: sa.URL, **more: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"bridge-at-{name}-"))
        self.nursery = Nursery()
        self.api = Api(self.nursery, self.folder)
        self.url = url
        key = self.folder / "site.key"
        key.write_text(secrets.token_hex(32))
        self.environment = {
            **surroundings(self.api, url.render_as_string(hide_password=False), self.folder),
            "BRIDGE_SITE__KEY_FILE": str(key),
            "BRIDGE_STORE__LEASE": str(LEASE),
            "BRIDGE_HL7__REPLY_BUDGET": "0.5",  # late answers let more than one letter of a patient be under way
            cluster_arms.JOURNAL: str(self.folder / "acts"),
            **more,
        }
        self.before = "tests.campaign.cluster_arms:armed"
        self.members: list[Member] = []
        self.struck: dict[int, list[str]] = {}
        """The journal of strikes: what befell each process, by its number."""
        self.failed_starts = 0
        self.wrong = False

    def add(self, name: str, *roles: str) -> Member:
        """One more process, not yet started."""
        member = Member(name, roles)
        self.members.append(member)
        return member

    def log_of(self, member: Member) -> Path:
        return self.folder / f"{member.name}.log"

    def environment_of(self, member: Member) -> dict[str, str]:
        folder = self.folder / member.name
        return {**self.environment, "BRIDGE_STORE__FOLDER": str(folder), **doors(member.hl7, member.dicom)}

    def start(self, member: Member, armed: Mapping[str, str] | None = None) -> None:
        """It is up and ready. What it is armed with counts for the first try only."""
        for attempt in range(STARTS):
            more = (armed or {}) if not attempt else {}
            arguments = ["run", "--log-level", "info", *(word for role in member.roles for word in ("--role", role))]
            environment = {**self.environment_of(member), **more}
            try:
                member.process = Process(
                    self.nursery, arguments, environment, self.log_of(member), until="ready", before=self.before
                )
            except NotUp:
                self.failed_starts += not more
                time.sleep(0.25)
            else:
                member.process.armed = bool(more)
                return
        raise NotUp(f"{member.name} does not start; see {self.log_of(member)}")

    def note(self, member: Member, what: str) -> None:
        """Into the journal of strikes."""
        self.struck.setdefault(member.up.pid, []).append(what)

    def acts(self) -> dict[int, list[str]]:
        """What processes did at the places that they were armed with, by their number."""
        return cluster_arms.acted(self.folder / "acts")

    def seen(self, look: Callable[[sa.Connection], T], seconds: float = 60) -> T:
        """A look at the store; the server may be on its way up."""
        patience = time.monotonic() + seconds
        while True:
            engine = reader_engine(self.url)
            try:
                with engine.connect() as conn:
                    return look(conn)
            except (sa.exc.OperationalError, StoreRefused):
                if time.monotonic() > patience:
                    raise
                time.sleep(0.2)
            finally:
                engine.dispose()

    def settle(self, seconds: float = 180) -> None:
        """Until nothing is open any more, or does not get on."""
        patience = time.monotonic() + seconds
        while self.seen(open_in) and time.monotonic() < patience:
            time.sleep(0.2)

    def close(self, *, keep: bool) -> None:
        """End every process; the folder stays where something was wrong."""
        for process in (*(member.process for member in self.members), self.api.process):
            if process is not None:
                process.end(signal.SIGKILL)
        self.nursery.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def clustered(name: str, url: sa.URL, **more: str) -> Iterator[ClusterStage]:
    """A stage, cleared away at the end unless something was wrong."""
    stage, keep = ClusterStage(name, url, **more), True
    try:
        yield stage
        keep = stage.wrong
    finally:
        stage.close(keep=keep)
