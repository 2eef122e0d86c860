"""A HIS that sends as fast as it gets answers: one message in flight a connection, in a process of its own.

Light, so that it leaves the machine to what is measured: uvloop, messages encoded before the clock starts, one write
a message. Called as a program it prints one line, `load`, with a JSON object of `Load`.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from tests.bench.hl7_messages import admission, order
from tests.bench.processes import Process

END = b"\x1c\r"
KINDS = {"order": (order, b"task="), "admission": (admission, b"MSA|AA"), "plain": (order, b"MSA|AA")}
"""What is sent, and what each answer must hold; `plain` is an order to a server that knows no tasks."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run came to: messages/s, milliseconds, and how much of one core the sender itself took."""

    rate: float
    p50: float
    p95: float
    p99: float
    sender: float


class Lane(asyncio.Protocol):
    """One connection, which sends its next message when it has its answer."""

    def __init__(self, messages: list[bytes], need: bytes, times: list[float]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._messages = iter(messages)
        self._need = need
        self._times = times
        self._answer = b""
        self._began = 0.0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self) -> None:
        """The next message; none: this lane is at its end."""
        message = next(self._messages, None)
        if message is None:
            self.done.set_result(None)
            return
        self._began = time.perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(END):
            return
        self._times.append(time.perf_counter() - self._began)
        if self._need not in self._answer:
            self._fail(f"not the answer that the benchmark needs: {self._answer[:300]!r}")
            return
        self._answer = b""
        self.send()

    def connection_lost(self, _: Exception | None) -> None:
        self._fail("the server closed the connection")

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(why))


async def _anew(address: tuple[str, int], messages: list[bytes], need: bytes, times: list[float]) -> None:
    """A connection a message, for a server that closes after each. Its time counts: that server needs it."""
    for message in messages:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(message)
        answer = await reader.readuntil(END)
        times.append(time.perf_counter() - began)
        writer.close()
        if need not in answer:
            raise ConnectionError(f"not the answer that the benchmark needs: {answer[:300]!r}")


async def send(address: tuple[str, int], lanes: list[list[bytes]], need: bytes, *, anew: bool) -> Load:
    """Every lane to its end. Raises ConnectionError where an answer is missing, or is another than needed."""
    times: list[float] = []
    made: list[Lane] = []
    if not anew:
        loop = asyncio.get_running_loop()
        for messages in lanes:
            _, lane = await loop.create_connection(lambda m=messages: Lane(m, need, times), *address)  # type: ignore[misc]
            made.append(lane)
    began, spent = time.perf_counter(), time.process_time()
    if anew:
        await asyncio.gather(*(_anew(address, messages, need, times) for messages in lanes))
    else:
        for lane in made:
            lane.send()
        await asyncio.gather(*(lane.done for lane in made))
    took, spent = time.perf_counter() - began, time.process_time() - spent
    times.sort()
    p95, p99 = (times[max(int(len(times) * share) - 1, 0)] * 1000 for share in (0.95, 0.99))
    return Load(len(times) / took, statistics.median(times) * 1000, p95, p99, spent / took)


def load(
    address: tuple[str, int], connections: int, count: int, kind: str, *, base: int = 1, anew: bool = False
) -> Load:
    """`count` messages over so many connections, from a process of its own. `base` keeps their numbers apart."""
    asked = [*address, connections, count, kind, base, int(anew)]
    process = Process([sys.executable, "-m", "tests.bench.hl7_load", *map(str, asked)], until="load")
    process.process.wait(30)
    if "load" not in process.said:
        raise SystemExit("the load generator ended without a result; its error stands above")
    return Load(**json.loads(process.said["load"]))


def main() -> None:
    """The program behind `load`."""
    parser = argparse.ArgumentParser()
    for name, kind in (("host", str), ("port", int), ("connections", int), ("count", int)):
        parser.add_argument(name, type=kind)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("base", type=int)
    parser.add_argument("anew", type=int)
    given = parser.parse_args()
    make, need = KINDS[given.kind]
    share = max(given.count // given.connections, 1)
    lanes = [
        [b"\x0b" + make(number, given.base + lane) + END for number in range(share)]
        for lane in range(given.connections)
    ]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(send((given.host, given.port), lanes, need, anew=bool(given.anew)))
    print("load", json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
