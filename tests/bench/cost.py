"""Where the CPU of one message goes: `python -m tests.bench.cost`.

Two runs of a bridge in a process of its own. The first is left alone: CPU by thread, from the kernel, and what its
store committed. The second has a profiler in it (`cost_serve` says how), for the shares.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cost_stats import REST, WAIT, Profile, name_of, overhead
from tests.bench.hl7_load import KINDS, Load, load
from tests.bench.processes import Process, sandbox, settings

COUNTED = {
    "statements": ("'execute' of 'sqlite3.Cursor' objects>", "'executemany' of 'sqlite3.Cursor' objects>"),
    "tasks made": ("asyncio/tasks.py:create_task", "method create_task>"),
    "asked of other threads": ("threads.py:to_thread",),
}


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds of CPU a message, and what the store did for it."""

    loop: float
    store: float
    api: float
    load: Load
    commits: float
    works: float


def measure(folder: Path, kind: str, connections: int, count: int, stats: Path | None = None) -> Spent:
    """One run, under the profiler where there is a file for what it finds."""
    folder.mkdir()
    api = sandbox()
    command = [sys.executable, "-m", "tests.bench.cost_serve", *([str(stats)] if stats else [])]
    bridge = Process(command, settings(folder, api.said["sandbox"]), until="ready")
    try:
        load(bridge.address("hl7"), min(connections, 4), 400, kind, base=900)  # statements compiled, caches filled
        bridge.process.send_signal(signal.SIGUSR1)
        before, api_before = bridge.cpu(), api.cpu()["all"]
        result = load(bridge.address("hl7"), connections, count, kind)
        after, api_after = bridge.cpu(), api.cpu()["all"]
        bridge.process.send_signal(signal.SIGUSR2)
        assert bridge.process.stdout is not None
        done = json.loads(bridge.process.stdout.readline().partition(" ")[2])
    finally:
        bridge.end()
        api.end()
    spent = {n: (after[n] - before.get(n, 0.0)) / count * 1000 for n in after if n != "all"}
    loop = spent.pop(str(bridge.process.pid))
    api_spent = (api_after - api_before) / count * 1000
    return Spent(loop, sum(spent.values()), api_spent, result, done["commits"] / count, done["works"] / count)


def report(folder: Path, kind: str, connections: int, count: int, most: int) -> Iterator[str]:
    """The lines of the report."""
    plain = measure(folder / "plain", kind, connections, count)
    whole = plain.loop + plain.store
    yield f"{kind}, {connections} connections, {count} messages: {plain.load.rate:.0f} msg/s"
    yield f"CPU a message: loop {plain.loop:.2f} ms, store {plain.store:.2f} ms, together {whole:.2f} ms"
    yield f"beside it: sandbox API {plain.api:.2f} ms a message, sender {plain.load.sender * 100:.0f} % of a core"
    yield f"store: {plain.works:.2f} works handed over, {plain.commits:.2f} commits (and wake-ups) a message"
    stats = folder / "stats"
    profiled = measure(folder / "profiled", kind, connections, count, stats)
    found = Profile(stats, overhead())
    for what, names in COUNTED.items():
        yield f"{what}: {found.calls(*names) / count:.2f} a message"
    rooms = {room: spent / count * 1000 for room, spent in found.rooms().items()}
    waited = rooms.pop(WAIT, 0.0)
    seen = sum(rooms.values())
    yield ""
    yield (
        f"under the profiler, in one thread: {profiled.load.rate:.0f} msg/s; Python's functions {seen:.2f} ms, and "
        f"{waited:.2f} ms in commits, mostly waiting for the disk. Shares are what counts;"
    )
    yield "what no function accounts for is the event loop's own code and the hand-over between the threads"
    yield f"{'room':<46}{'ms':>8}{'share':>8}"
    rooms[REST] = rooms.get(REST, 0.0)
    for room, spent in sorted(rooms.items(), key=lambda item: -item[1]):
        yield f"{room:<46}{spent:8.3f}{spent / seen * 100:7.1f}%"
    yield ""
    yield f"{'own time of a function, a message':<74}{'calls':>8}{'µs':>8}"
    for function, own in sorted(found.own.items(), key=lambda item: -item[1])[:most]:
        yield f"{name_of(function)[-72:]:<74}{found.entries[function][1] / count:8.1f}{own / count * 1e6:8.1f}"
    yield ""
    yield f"{'with all that it called, a message':<74}{'calls':>8}{'µs':>8}"
    for function, spent in sorted(found.deep().items(), key=lambda item: -item[1])[: most * 2]:
        yield f"{name_of(function)[-72:]:<74}{found.entries[function][1] / count:8.1f}{spent / count * 1e6:8.1f}"


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cost", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--kind", choices=KINDS, default="order")
    parser.add_argument("--most", type=int, default=40, help="functions listed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as scratch:
        for line in report(Path(scratch).resolve(), given.kind, given.connections, given.messages, given.most):
            print(line, flush=True)


if __name__ == "__main__":
    main()
