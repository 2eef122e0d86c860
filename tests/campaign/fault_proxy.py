"""A TCP proxy that does what networks do: cuts after n bytes in either direction, by FIN or by RST, stalls, delays,
and hands a stream on in crumbs. It counts the calls for a task whose answer it did not hand over whole.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.campaign.stage import Address

TASKS = b"POST /v3/orgs/"


class Fault(StrEnum):
    """What happens to a connection once so many bytes have passed in the direction that it strikes."""

    NONE = "none"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


@dataclass(slots=True)
class Plan:
    """What a connection has before it."""

    fault: Fault = Fault.NONE
    upwards: bool = False  # strikes what the client says; else what it is told
    after: int = 0  # bytes
    seconds: float = 0.0  # of a stall
    delay: float = 0.0  # of every piece
    crumbs: int = 65536  # bytes of a piece at the most


class _Cut(Exception):
    """The connection is at its end, by plan."""


class _Call:
    """What is known of the call on a connection: the bridge asks for each task on a connection of its own."""

    def __init__(self) -> None:
        self.asked = b""
        self.told = bytearray()

    def heard(self, data: bytes) -> None:
        """Bytes of the client, whether they are passed on or not: they have left it."""
        self.asked = (self.asked + data)[: len(TASKS)]

    @property
    def lost(self) -> bool:
        """A task was asked for, and its answer did not go through whole."""
        if not self.asked or not TASKS.startswith(self.asked):
            return False
        head, separator, body = bytes(self.told).partition(b"\r\n\r\n")
        if not separator:
            return True
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        return len(body) < int(fields[b"content-length"])


class FaultProxy(threading.Thread):
    """Listens on a port of its own in front of `target`, and plays `plan()` on each connection."""

    def __init__(self, target: Address, plan: Callable[[], Plan]) -> None:
        super().__init__(daemon=True, name="fault-proxy")
        self._target, self._plan = target, plan
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: Address = ("127.0.0.1", int(self._sock.getsockname()[1]))
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.connections = 0
        self.struck = 0
        self.lost = 0

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def end(self) -> None:
        """Close the door and every connection. Done twice it does nothing."""
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self.join()

    async def _serve(self) -> None:
        open_ones: set[asyncio.Task[None]] = set()

        async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            mine = asyncio.current_task()
            assert mine is not None
            open_ones.add(mine)
            with contextlib.suppress(asyncio.CancelledError):  # the proxy ends
                await self._connection(reader, writer)
            open_ones.discard(mine)

        server = await asyncio.start_server(taken, sock=self._sock)
        await self._over.wait()
        server.close()
        for one in open_ones:
            one.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        plan, call = self._plan(), _Call()
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, up_writer, plan, call, None))
                both.create_task(self._pump(up_reader, writer, plan, call, reader))
        except* (_Cut, OSError):
            pass
        finally:
            self.lost += call.lost
            for one in (writer, up_writer):
                if plan.fault is Fault.RESET:
                    _linger(one)
                    one.transport.abort()
                one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        plan: Plan,
        call: _Call,
        client: asyncio.StreamReader | None,
    ) -> None:
        """One direction, to its end: what is told to the `client`, or, where there is none here, what it says."""
        passed, upwards = 0, client is None
        while data := await reader.read(65536):
            if upwards:
                call.heard(data)
            room = plan.after - passed
            if plan.fault is not Fault.NONE and plan.upwards is upwards and len(data) > room:
                await self._pass(writer, data[:room], plan, call, client)
                self.struck += 1
                if plan.fault is not Fault.STALL:
                    raise _Cut
                await asyncio.sleep(plan.seconds)
                plan.fault, data, passed = Fault.NONE, data[room:], plan.after
            await self._pass(writer, data, plan, call, client)
            passed += len(data)
        writer.write_eof()

    @staticmethod
    async def _pass(
        writer: asyncio.StreamWriter, data: bytes, plan: Plan, call: _Call, client: asyncio.StreamReader | None
    ) -> None:
        """Hand it on, in crumbs where that is the plan."""
        for at in range(0, len(data), plan.crumbs):
            piece = data[at : at + plan.crumbs]
            if plan.delay:
                await asyncio.sleep(plan.delay)
            here = client is not None and not client._eof and client.exception() is None
            if here and len(call.told) < 65536:  # the client is still there to hear it
                call.told += piece
            writer.write(piece)
            await writer.drain()


def _linger(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def draw(dice: random.Random, *, share: float, most: int, stall: float) -> Plan:
    """A plan: a fault for that share of the connections, within the first `most` bytes; one stall in four is longer
    than `stall` seconds, which nobody waits for.
    """
    plan = Plan()
    if dice.random() < share:
        plan.fault = dice.choice((Fault.CLOSE, Fault.RESET, Fault.STALL))
        plan.upwards = dice.random() < 0.5
        plan.after = dice.choice((0, 1, dice.randrange(most), dice.randrange(most)))
        plan.seconds = stall + 3 if dice.random() < 0.25 else dice.uniform(0.05, 0.5)
    if dice.random() < share / 2:
        plan.crumbs = dice.choice((1, 7, 100, 1460))
    elif dice.random() < share / 2:  # not both: a crumb at a time takes longer than anybody waits
        plan.delay = dice.uniform(0.001, 0.02)
    return plan
