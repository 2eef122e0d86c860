"""The servers of others that HL7 is measured beside, each as its own documentation shows it, in a process of its own.

Both parse what they get and answer AA with the sender's control ID; neither keeps anything. Called as a program with a
peer's name and a port.
"""

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from tests.bench.processes import Process, free_port


def hl7apy(port: int) -> None:
    """hl7apy's MLLPServer (threads, a connection a message) with `parse_message`, which is tolerant by default."""

    class Acknowledging(AbstractHandler):
        def reply(self) -> str:
            message = parse_message(self.incoming_message)
            return f"\x0bMSH|^~\\&|||||||ACK|1|P|2.5\rMSA|AA|{message.msh.msh_10.value}\r\x1c\r"

    class Server(MLLPServer):
        request_queue_size = 256  # its own of 5 makes 64 connections wait for resends of their SYN

    handlers = dict.fromkeys(("ORM^O01", "ADT^A08", "ADT^A08^ADT_A01"), (Acknowledging,))
    server = Server("127.0.0.1", port, handlers)
    print("up", flush=True)
    server.serve_forever()


def python_hl7(port: int) -> None:
    """python-hl7's asyncio server with its `parse` and its `create_ack`."""
    import hl7  # noqa: PLC0415  a peer that need not be installed
    from hl7.mllp import start_hl7_server  # noqa: PLC0415  as above

    async def serve(reader: Any, writer: Any) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                message = await reader.readmessage()
                writer.writemessage(hl7.parse(str(message)).create_ack())
                await writer.drain()

    async def run() -> None:
        # its own defaults are ASCII, and 64 KiB a message
        server = await start_hl7_server(serve, "127.0.0.1", port, encoding="utf-8", limit=1 << 24, backlog=256)
        print("up", flush=True)
        await server.serve_forever()

    asyncio.run(run())


def have_python_hl7() -> bool:
    """Whether the package `hl7` is installed."""
    return importlib.util.find_spec("hl7") is not None


@contextlib.contextmanager
def peer(name: str) -> Iterator[tuple[str, int]]:
    """The address of a peer, for as long as the context is open."""
    port = free_port()
    server = Process([sys.executable, "-m", "tests.bench.hl7_peers", name, str(port)], until="up")
    try:
        yield "127.0.0.1", port
    finally:
        server.end()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        {"hl7apy": hl7apy, "python-hl7": python_hl7}[sys.argv[1]](int(sys.argv[2]))
