"""HL7 over MLLP beside the servers of others, in the same run. The bars are those that the project has set itself."""

import json
import socket
import statistics
import time
from pathlib import Path

from tests.bench import hl7_reader
from tests.bench.hl7_load import Load, load
from tests.bench.hl7_peers import have_python_hl7, peer
from tests.bench.processes import Process, Service, free_port, sandbox, service
from tests.bench.report import row, verdict

CONNECTIONS = (1, 8, 64)
IN_FLIGHT = 8
"""POSTs at a time, as `cardio.in_flight` is by default."""
BACKLOG_LATENCY = 0.05


def _figure(load_: Load, ratio: str = "") -> str:
    return f"{load_.rate:.0f} msg/s{ratio}, p50 {load_.p50:.1f} p99 {load_.p99:.1f} ms, sender {load_.sender:.0%}"


def bench(folder: Path, count: int, backlog: int) -> None:
    """Every case; a peer runs right before what is measured against it, since a machine's pace changes in minutes."""
    hl7_reader.bench()
    with service(folder / "rates") as bridge:
        load(bridge.hl7, 4, 400, "order", base=900)
        for number, connections in enumerate(CONNECTIONS, 1):
            naive, parsing = _hl7apy(connections, count), _python_hl7("plain", connections, count)
            _orders(bridge, connections, count, 100 * number, naive, parsing)
        for number, connections in enumerate(CONNECTIONS, 5):
            parsing = _python_hl7("admission", connections, count)
            _admissions(bridge, connections, count, 100 * number, parsing)
        row("bridge, peak memory after HL7", f"{bridge.bridge.peak():.0f} MB")
    _added(folder / "added")
    if backlog:
        _backlog(folder / "backlog", backlog)


def _hl7apy(connections: int, count: int) -> float:
    """Orders/s, parsed and acknowledged, nothing kept; a connection a message."""
    with peer("hl7apy") as address:
        load(address, 1, 5, "plain", anew=True)
        came = load(address, connections, max(count // 20, connections), "plain", anew=True)
    row(f"hl7apy MLLPServer + parse, ORM, {connections} at a time", _figure(came))
    return came.rate


def _python_hl7(kind: str, connections: int, count: int) -> float:
    """Messages/s, parsed and acknowledged, nothing kept. 0 where it is not installed."""
    what = f"python-hl7 + parse, {'ADT' if kind == 'admission' else 'ORM'}, {connections} connections"
    if not have_python_hl7():
        row(what, "not installed (package hl7 0.4.5): no ratio")
        return 0.0
    with peer("python-hl7") as address:
        load(address, 1, 50, kind)
        came = load(address, connections, count, kind)
    row(what, _figure(came))
    return came.rate


def _orders(bridge: Service, connections: int, count: int, base: int, naive: float, parsing: float) -> None:
    came = load(bridge.hl7, connections, count, "order", base=base)
    times = came.rate / naive
    ratio = f", {times:.1f} x hl7apy"
    if parsing:
        ratio += f", {came.rate / parsing:.2f} x python-hl7"
    bar, reached = {
        1: ("p50 <= 4 ms", verdict((came.p50, 4), most=True)),
        8: ("15 x hl7apy and p50 <= 16 ms", verdict((times, 15), (-came.p50, -16))),
    }.get(connections, ("", ""))
    row(f"ORM -> ORR with task id, {connections} connections", _figure(came, ratio), bar, reached)


def _admissions(bridge: Service, connections: int, count: int, base: int, parsing: float) -> None:
    came = load(bridge.hl7, connections, count, "admission", base=base)
    bar = "5 x python-hl7 with parse" if connections > 1 else ""
    ratio, reached = "", "not measured" if bar else ""
    if parsing:
        times = came.rate / parsing
        ratio = f", {times:.2f} x python-hl7"
        reached = verdict((times, 5)) if bar else ""
    row(f"ADT -> AA, {connections} connections", _figure(came, ratio), bar, reached)


# --- what the bridge adds, and a backlog ------------------------------------------------------------------------


def _added(folder: Path, count: int = 200) -> None:
    """One order at a time while nothing else is done; the API's own time is measured by calls of the same kind."""
    for latency in (0.0, 0.05):
        with service(folder / f"{latency}", latency=latency) as bridge:
            load(bridge.hl7, 1, 40, "order", base=900)
            own = statistics.median(_post(bridge.api.address("sandbox")) for _ in range(40)) * 1000
            came = load(bridge.hl7, 1, count, "order")
        p50, p99 = came.p50 - own, came.p99 - own
        row(
            f"added to an API that takes {own:.1f} ms",
            f"p50 {p50:.1f} p99 {p99:.1f} ms",
            "p50 <= 4 and p99 <= 12 ms",
            verdict((p50, 4), (p99, 12), most=True),
        )


def _post(address: tuple[str, int]) -> float:
    """Seconds of one task POST on a connection of its own, as the bridge makes it."""
    body = json.dumps({"patient_id": "1", "patient_last_name": "Muster", "investigation_id": "1"}).encode()
    head = (
        f"POST /v3/orgs/sandbox-hospital/tasks HTTP/1.1\r\nHost: {address[0]}\r\nX-Api-Token: sandbox-token\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    began = time.perf_counter()
    with socket.create_connection(address, timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(head.encode() + body)
        said = sock.recv(65536)
    took = time.perf_counter() - began
    if b" 201 " not in said.partition(b"\r\n")[0]:
        raise SystemExit(f"the API did not make a task: {said[:200]!r}")
    return took


def _backlog(folder: Path, count: int) -> None:
    """Orders taken while the API is away; then it is back with 50 ms a call. The rate is from the first to the last."""
    count -= count % IN_FLIGHT  # the same number on each connection
    port, journal = free_port(), folder / "tasks.jsonl"
    again: Process | None = None
    with service(folder, port=port) as bridge:
        bridge.api.end()
        came = load(bridge.hl7, IN_FLIGHT, count, "plain")
        row(f"orders while the API is away, {IN_FLIGHT} connections", _figure(came))
        try:
            again = sandbox(BACKLOG_LATENCY, port, journal)
            rate = _drained(journal, count)
        finally:
            if again is not None:
                again.end()
    bound = IN_FLIGHT / BACKLOG_LATENCY
    row(
        f"backlog of {count} orders, API of {BACKLOG_LATENCY * 1000:.0f} ms, {IN_FLIGHT} in flight",
        f"{rate:.0f} tasks/s, {rate / bound:.0%} of in flight / latency",
        "90 %",
        verdict((rate / bound, 0.9)),
    )


def _drained(journal: Path, count: int, silence: float = 60.0) -> float:
    """Tasks/s from the first tasks to the last. The bridge may wait up to 30 s before it sees that the API is back."""
    began: tuple[float, int] | None = None
    seen, last = 0, time.perf_counter()
    with journal.open("rb") as file:
        while seen < count:
            lines = file.read().count(b"\n")
            now = time.perf_counter()
            if lines:
                seen, last = seen + lines, now
                began = began or (now, seen)
            elif now - last > silence:
                raise SystemExit(f"the backlog stands still at {seen} of {count}")
            time.sleep(0.02)
    assert began is not None
    return (seen - began[1]) / (last - began[0])
