"""Several processes on one PostgreSQL beside the one process on SQLite, in the same run: orders/s with 1, 2 and 4
dispatchers against an API of 50 ms, how long an order waits for its task id at the door, and what the limit was.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from tests import postgres_server
from tests.bench.hl7_load import Load, load
from tests.bench.processes import BRIDGE, Process, cpu_of, sandbox, service, settings
from tests.bench.report import row
from tests.postgres_server import Server

LATENCY = 0.05
DISPATCHERS = (1, 2, 4)
CONNECTIONS = 64
"""Twice of what four dispatchers have in flight at the default of `cardio.in_flight`."""
WARM = 200
"""Orders before the clock starts."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """The processes of one case, by their names."""

    hl7: tuple[str, int]
    processes: Mapping[str, Process]
    server: Server | None = None

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far: each process's, and the database's own."""
        spent = {name: one.cpu()["all"] for name, one in self.processes.items()}
        if self.server is not None:
            spent["postgres"] = cpu_of(self.server.pid())
        return spent


def bench(folder: Path, count: int) -> None:
    """Every case; the two engines one after the other, since a machine's pace changes in minutes."""
    if postgres_server.programs() is None:
        row("several processes on PostgreSQL", "not measured: PostgreSQL is not installed")
        return
    with postgres_server.running() as server:
        _doors(folder / "doors", server, count // 4)
        _growth(folder / "rates", server, count)


def _doors(folder: Path, server: Server, count: int) -> None:
    """One order at a time, answered with its task id by an API that needs no time."""
    figures = {}
    with service(folder / "sqlite") as alone:
        figures["SQLite, one process"] = _door(alone.hl7, count)
    for name, roles in (("PostgreSQL, one process", [("all",)]), ("PostgreSQL, a process a role", _parted(1))):
        with sandbox_of(0.0) as api, _bridge(folder / name.replace(" ", "-"), server, api, roles) as bridge:
            figures[name] = _door(bridge.hl7, count)
    base = figures["SQLite, one process"].p50
    for name, came in figures.items():
        row(
            f"order to its task id at the door, {name}",
            f"p50 {came.p50:.1f} p95 {came.p95:.1f} ms, {came.p50 / base:.1f} x SQLite",
        )


def _door(address: tuple[str, int], count: int) -> Load:
    load(address, 1, 40, "order", base=900)
    return load(address, 1, count, "order")


def _growth(folder: Path, server: Server, count: int) -> None:
    """Orders/s, each answered with its task id."""
    with service(folder / "sqlite", latency=LATENCY) as alone:
        sqlite, spent = _rate(Bridge(alone.hl7, {"bridge": alone.bridge, "api": alone.api}), count)
    row("SQLite, one process", _figure(sqlite, sqlite.rate), "", spent)
    cases: Sequence[tuple[str, Sequence[tuple[str, ...]]]] = [
        ("PostgreSQL, one process", [("all",)]),
        *((f"PostgreSQL, 1 receiver, {n} dispatchers", _parted(n)) for n in DISPATCHERS),
    ]
    first = 0.0
    for name, roles in cases:
        with sandbox_of(LATENCY) as api, _bridge(folder / name.replace(" ", "-"), server, api, roles) as bridge:
            came, spent = _rate(bridge, count)
        if len(roles) > 1:
            first = first or came.rate
        ratio = f", {came.rate / first:.2f} x one dispatcher" if first else ""
        row(name, _figure(came, sqlite.rate) + ratio, "", spent)


def _figure(came: Load, base: float) -> str:
    return f"{came.rate:.0f} orders/s, {came.rate / base:.2f} x SQLite, p50 {came.p50:.0f} p95 {came.p95:.0f} ms"


def _rate(bridge: Bridge, count: int) -> tuple[Load, str]:
    """What came, and how much of a core each process took meanwhile, the sender included."""
    load(bridge.hl7, CONNECTIONS, WARM, "order", base=900)
    count -= count % CONNECTIONS  # the same number on each
    before = bridge.cpu()
    came = load(bridge.hl7, CONNECTIONS, count, "order")
    took = count / came.rate  # without the sender's own start
    spent = {name: (now - before[name]) / took for name, now in bridge.cpu().items()}
    return came, ", ".join(f"{name} {share:.0%}" for name, share in {**spent, "sender": came.sender}.items())


def _parted(dispatchers: int) -> list[tuple[str, ...]]:
    return [("receive",), *[("dispatch",)] * dispatchers]


@contextlib.contextmanager
def sandbox_of(latency: float) -> Iterator[Process]:
    """The API, for as long as the context is open."""
    api = sandbox(latency)
    try:
        yield api
    finally:
        api.end()


@contextlib.contextmanager
def _bridge(folder: Path, server: Server, api: Process, roles: Sequence[tuple[str, ...]]) -> Iterator[Bridge]:
    """Processes of these roles on a new database; `all` is every role in one."""
    folder.mkdir(parents=True)
    name = f"bench_{secrets.token_hex(4)}"
    url = server.database(name)
    key = folder / "site.key"
    key.write_text(secrets.token_hex(32))
    processes = {"api": api}
    try:
        for number, given in enumerate(roles):
            processes[f"{given[0]}-{number}"] = Process(
                [*BRIDGE, "run", "--log-level", "error", *(w for r in given if r != "all" for w in ("--role", r))],
                _environment(folder, f"{number}", api, url, key),
                until="ready",
            )
        door = next(one for one in processes.values() if "hl7" in one.said)
        yield Bridge(door.address("hl7"), processes, server)
    finally:
        for one in list(processes.values())[1:]:
            one.end()
        server.drop(name)


def _environment(folder: Path, own: str, api: Process, url: sa.URL, key: Path) -> dict[str, str]:
    return {
        **settings(folder, api.said["sandbox"]),
        "BRIDGE_STORE__URL": url.render_as_string(hide_password=False),
        "BRIDGE_STORE__FOLDER": str(folder / own),
        "BRIDGE_SITE__KEY_FILE": str(key),
    }
