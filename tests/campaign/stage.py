"""The stage of a campaign: the sandbox API and the bridge, each a process of its own, in a folder that stays where
something was wrong.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from bridge.domain.states import SETTLED, State
from bridge.store import quarantine
from bridge.store.schema import message, task
from bridge.store.sqlite import reader_engine
from tests.campaign.judge import Post, Row, Task
from tests.campaign.nursery import Nursery
from tests.ports import free_port

T = TypeVar("T")
Address = tuple[str, int]
STARTS = 5


class NotUp(Exception):
    """It ended before it was up."""


class Process:
    """A `bridge …` that the nursery started. `said` holds what it printed up to the line `until`."""

    def __init__(
        self,
        nursery: Nursery,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        until: str,
        before: str = "",
    ) -> None:
        self._nursery = nursery
        pipe = log.with_suffix(f".{time.monotonic_ns()}")
        os.mkfifo(pipe)
        self.pid = nursery.start(arguments, environment, pipe, log, before)
        self._out = pipe.open()
        pipe.unlink()
        self.said: dict[str, str] = {}
        self.status: int | None = None
        self.armed = False
        for line in self._out:
            name, _, rest = line.strip().partition(" ")
            self.said[name] = rest
            if name == until:
                return
        self.wait()
        raise NotUp(f"it ended with {self.status} before it was up; see {log}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait until it is gone; its exit status."""
        if self.status is None:
            os.kill(self.pid, number)
            self.wait()
        assert self.status is not None
        return self.status

    def wait(self) -> None:
        """Until it has ended by itself."""
        if self.status is None:
            self.status = self._nursery.wait(self.pid)
            self._out.close()

    def ended(self) -> bool:
        """Whether it has ended by itself; its status is known then."""
        if self.status is None:
            self.status = self._nursery.look(self.pid)
            if self.status is not None:
                self._out.close()
        return self.status is not None


class Api:
    """The sandbox API, and the switches that it has."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        arguments = ["sandbox", "--listen", "127.0.0.1:0", "--journal", str(folder / "tasks.jsonl")]
        self.process = Process(nursery, arguments, {}, folder / "api.log", until="sandbox")
        self.url = self.process.said["sandbox"]
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.address: Address = (host, int(port))

    def faults(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Exactly these from now on."""
        self._ask("PUT", "faults", wanted)

    def settings(self, **change: Any) -> None:
        """Switches for what its documentation leaves open."""
        self._ask("PATCH", "settings", change)

    def posts(self) -> list[Post]:
        """Every call that asked for a task."""
        found = self._ask("GET", "requests?path=tasks")
        return [Post((one["fault"] or "").removeprefix("latency").strip(), one["status"]) for one in found]

    def opened(self) -> list[Post]:
        """Every call that opened an upload, or would have."""
        return [Post("", one["status"]) for one in self._ask("GET", "requests?path=uploads")]

    def tasks(self) -> list[Task]:
        """Every task that it made; the first two samples of a record are one number, in µV."""
        return [
            Task(int(one["id"]), one["request"], sample_number(one["record"]["first_mv"]) if one["record"] else None)
            for one in self._ask("GET", "tasks")
        ]

    def _ask(self, method: str, what: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        asked = urllib.request.Request(f"{self.url}/_sandbox/{what}", data, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)


BASE = 20_000


def sample_pair(number: int) -> tuple[int, int]:
    """A recording's number as the first samples of its two leads, each within 16 bits at 1 µV."""
    return number % BASE, number // BASE


def sample_number(first_mv: Sequence[float]) -> int:
    """The other way round."""
    low, high = (round(value * 1000) for value in first_mv)
    return low + high * BASE


def surroundings(api: Api, url: str, kept: Path) -> dict[str, str]:
    """The environment of a bridge that works on this store for this API; its payloads are in the folder `kept`."""
    return {
        "BRIDGE_TESTING": "1",
        "BRIDGE_SITE__TIME_ZONE": "Europe/Berlin",
        "BRIDGE_STORE__URL": url,
        "BRIDGE_STORE__PAYLOADS": f"{kept}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
        "BRIDGE_STORE__BALLAST": "1 MiB",
        "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
        "BRIDGE_CARDIO__BASE_URL": api.url,
        "BRIDGE_CARDIO__ORGANIZATION_PATH": "sandbox-hospital",
        "BRIDGE_CARDIO__TOKEN": "sandbox-token",
        "BRIDGE_CARDIO__CHUNK_SIZE": "1 KiB",
    }


def doors(hl7: Address, dicom: Address) -> dict[str, str]:
    """The environment of a bridge that listens there."""
    return {"BRIDGE_HL7__LISTEN": f"127.0.0.1:{hl7[1]}", "BRIDGE_DICOM__LISTEN": f"127.0.0.1:{dicom[1]}"}


def rows_in(conn: sa.Connection) -> list[Row]:
    """Every message of a store with its tasks, in the order of their arrival."""
    tasks: dict[int, list[tuple[State, tuple[int, ...]]]] = {}
    wanted = sa.select(task.c.message_id, task.c.state, task.c.task_ids).order_by(task.c.id)
    for one in conn.execute(wanted):
        ids = tuple(int(part) for part in one.task_ids.split(",") if part)
        tasks.setdefault(one.message_id, []).append((State(one.state), ids))
    columns = (message.c.id, message.c.kind, message.c.state, message.c.reason)
    wanted = sa.select(*columns, message.c.control_id, message.c.sop_instance_uid).order_by(message.c.id)
    return [
        Row(r.kind, r.control_id or r.sop_instance_uid, State(r.state), r.reason, tuple(tasks.get(r.id, ())))
        for r in conn.execute(wanted)
    ]


def open_in(conn: sa.Connection) -> int:
    """Messages of a store with which nobody is done."""
    over = [str(state) for state in SETTLED]
    return int(conn.scalar(sa.select(sa.func.count()).where(message.c.state.not_in(over))) or 0)


class Stage:
    """API and bridge on fresh stores; the bridge's ports stay the same however often it starts."""

    def __init__(self, name: str, kept: Path | None = None, **more: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"bridge-at-{name}-"))
        kept = kept or self.folder  # where database and payloads are
        self.nursery = Nursery()
        self.api = Api(self.nursery, self.folder)
        self.hl7: Address = ("127.0.0.1", free_port())
        self.dicom: Address = ("127.0.0.1", free_port())
        self.store = kept / "bridge.db"
        url = f"sqlite:///{self.store}"
        self.environment = {**surroundings(self.api, url, kept), **doors(self.hl7, self.dicom), **more}
        # what is called in the service first, `module:function`
        self.before = "tests.seeded.bugs:plant_asked_for" if "BRIDGE_SEEDED_BUG" in os.environ else ""
        self.bridge: Process | None = None
        self.failed_starts = 0
        self.wrong = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self.bridge, self.api.process):
            if process is not None:
                process.end(signal.SIGKILL)
        self.nursery.close()
        if not self.wrong and error is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, **armed: str) -> Process:
        """The bridge, up and ready; a start that fails is made again a few times, as a unit would. What it is `armed`
        with, so that it ends at some place, counts for the first time only.
        """
        for attempt in range(STARTS):
            more = {} if attempt else armed
            try:
                return self._started(more)
            except NotUp:
                self.failed_starts += not more
                if attempt == STARTS - 1:
                    raise
                time.sleep(0.05 if more else 0.2)
        raise AssertionError("not reached")

    def _started(self, more: Mapping[str, str]) -> Process:
        log = self.folder / "bridge.log"
        arguments = ["run", "--log-level", "warning"]
        environment = {**self.environment, **more}
        self.bridge = Process(self.nursery, arguments, environment, log, until="ready", before=self.before)
        self.bridge.armed = bool(more)
        return self.bridge

    def rows(self) -> list[Row]:
        """Every message of the store with its tasks, whether the bridge is up or not."""
        return self._seen(rows_in)

    def open_work(self) -> int:
        """Messages with which the bridge is not done."""
        return self._seen(open_in)

    def quarantined(self) -> str:
        """Why the bridge takes its store for an older copy of itself; empty: it does not."""
        return self._seen(quarantine.reason)

    def _seen(self, look: Callable[[sa.Connection], T]) -> T:
        engine = reader_engine(self.store)
        with engine.connect() as conn:
            found = look(conn)
        engine.dispose()
        return found

    def settle(self, seconds: float = 180) -> None:
        """Until the bridge is done with everything, or does not get on with it any more."""
        patience = time.monotonic() + seconds
        while self.open_work() and time.monotonic() < patience:
            time.sleep(0.1)


@contextlib.contextmanager
def staged(name: str, kept: Path | None = None, **more: str) -> Iterator[Stage]:
    """A stage, cleared away at the end unless something was wrong. `kept`: the folder of database and payloads."""
    with Stage(name, kept, **more) as stage:
        yield stage
