"""The bridge of `tests.bench.cost`: `bridge run` that counts what its store does, or that has a profiler in it.

With the profiler the store works in the event loop's thread. Two threads would wait for each other's interpreter lock
at every statement, and a profiler takes waiting for work; the functions are the same, and so are their costs.
"""

import asyncio
import cProfile
import json
import signal
import sys
from pathlib import Path
from typing import Any

import click
import uvloop

from bridge import app, logs
from bridge.settings import load
from bridge.store import sqlite

counted = {"commits": 0, "works": 0}


class Counting(sqlite.SqliteStore):
    """The store as it is, which counts."""

    def _commit(self, conn: Any, group: list[Any]) -> None:
        counted["commits"] += 1
        counted["works"] += len(group)
        super()._commit(conn, group)


class OneThread(sqlite.SqliteStore):
    """The store without its thread: what waits when the loop gets there is one commit."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        super().open(loop)
        self._own = self._engine.connect()
        self._waiting: list[Any] = []

    def submit(self, work: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(sqlite._Job(work, future))
        return future

    def _flush(self) -> None:
        group, self._waiting = self._waiting, []
        self._commit(self._own, group)

    def close(self) -> None:
        self._own.close()
        super().close()


def main() -> None:
    """SIGUSR1 begins; SIGUSR2 ends, writes the statistics where there are any, and prints `counted` with a JSON object.

    The argument is the file for the statistics; none: nothing is profiled.
    """
    stats = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    profile = cProfile.Profile()
    vars(app)["SqliteStore"] = OneThread if stats else Counting

    def begin() -> None:
        counted.update(commits=0, works=0)
        if stats:
            profile.enable()

    def end() -> None:
        if stats:
            profile.disable()
            profile.dump_stats(stats)
        click.echo(f"counted {json.dumps(counted)}")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, begin)
        loop.add_signal_handler(signal.SIGUSR2, end)
        await app.serve(load(None), click.echo)

    logs.configure("error")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
