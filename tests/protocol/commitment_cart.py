"""A cart that hears of its storage commitment: pynetdicom's own SCU side, and one that is scripted byte by byte."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from bridge.receive.dicom.pdus import HEAD, read_head


@dataclass(frozen=True)
class Heard:
    """One N-EVENT-REPORT as the cart got it."""

    transaction_uid: str
    event_type: int
    committed: list[str]
    failed: dict[str, int]
    calling: str
    called: str
    sop_class: str
    sop_instance: str


@dataclass
class Cart:
    """`answering(nth)` gives the status of the nth report."""

    answering: Callable[[int], int] = lambda _: 0x0000
    journal: list[Heard] = field(default_factory=list)
    address: str = ""

    def hear(self, event: Any) -> tuple[int, None]:
        told = event.event_information
        self.journal.append(
            Heard(
                str(told.TransactionUID),
                event.event_type,
                [str(i.ReferencedSOPInstanceUID) for i in told.get("ReferencedSOPSequence", [])],
                {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in told.get("FailedSOPSequence", [])},
                event.assoc.requestor.ae_title,
                event.assoc.acceptor.primitive.called_ae_title,
                str(event.request.AffectedSOPClassUID),
                str(event.request.AffectedSOPInstanceUID),
            )
        )
        return self.answering(len(self.journal)), None

    async def until(self, count: int, seconds: float = 20) -> list[Heard]:
        """Wait until so many reports were heard."""
        async with asyncio.timeout(seconds):
            while True:
                if len(self.journal) >= count:
                    return self.journal
                await asyncio.sleep(0.01)


@contextlib.contextmanager
def listening(
    cart: Cart,
    *,
    ae_title: str = "CART",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    syntax: str | None = None,
    roles: bool | None = None,
    sop_class: str = StorageCommitmentPushModel,
) -> Iterator[Cart]:
    """The cart listens on a free port of loopback. `roles`: whether it takes our role of SCP; None: it says nothing."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    entity = AE(ae_title=ae_title)
    entity.require_called_aet = True
    agreed = {} if roles is None else {"scu_role": False, "scp_role": roles}
    if syntax is None:
        entity.add_supported_context(sop_class, **agreed)
    else:
        entity.add_supported_context(sop_class, syntax, **agreed)
    held: list[Any] = []  # pynetdicom leaves the socket of an association that was aborted open

    def opened(event: Any) -> None:
        held.append((event.assoc, event.assoc.dul.socket.socket))

    server = entity.start_server(
        ("127.0.0.1", port),
        block=False,
        ssl_context=tls,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, cart.hear), (evt.EVT_CONN_OPEN, opened)],
    )
    host, taken = server.socket.getsockname()[:2]
    cart.address = f"{host}:{taken}"
    try:
        yield cart
    finally:
        server.shutdown()
        for association, sock in held:
            association.join(10)
            sock.close()


Pdu = tuple[int, bytes]
Script = Callable[["Line"], Awaitable[None]]


@dataclass
class Line:
    """The scripted cart's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def pdu(self) -> Pdu:
        kind, length = read_head(memoryview(await self.reader.readexactly(HEAD)))
        return kind, await self.reader.readexactly(length)

    async def say(self, *pdus: bytes) -> None:
        for one in pdus:
            self.writer.write(one)
        await self.writer.drain()


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[str, list[str]]]:
    """A peer that does what a script says to each connection, then closes it. Yields its address and what ended."""
    ended: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Line(reader, writer))
            ended.append("done")
        except (OSError, EOFError) as problem:
            ended.append(type(problem).__name__)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}", ended
    finally:
        server.close()
        await server.wait_closed()
