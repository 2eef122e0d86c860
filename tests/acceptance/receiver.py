"""A hospital system that receives: keeps a journal of every message, and answers as a test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from bridge.formats.hl7.mllp import Frame, FrameDecoder, encode

Answering = Callable[[str, int], str | None]


def field_of(message: str, segment: str, number: int) -> str:
    """Field `number` of the first such segment, as sent; MSH-1 is the separator."""
    for line in message.split("\r"):
        if line.startswith(segment + "|"):
            parts = line.split("|")
            place = number - 1 if segment == "MSH" else number
            return parts[place] if place < len(parts) else ""
    return ""


def acknowledge(message: str, code: str = "AA", control_id: str | None = None) -> str:
    """An ACK for a message."""
    own = control_id if control_id is not None else field_of(message, "MSH", 10)
    return f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ACK|A{own}|P|2.3.1\rMSA|{code}|{own}\r"


@dataclass
class Receiver:
    """`answering(message, nth)` gives the answer to the nth frame; None: silence, and the connection is closed."""

    answering: Answering = lambda message, _: acknowledge(message)
    journal: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    address: str = ""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in decoder.feed(data):
                    assert isinstance(event, Frame)
                    message = event.body.decode("utf-8")
                    self.journal.append(message)
                    answer = self.answering(message, len(self.journal))
                    if answer is None:
                        writer.close()
                    else:
                        if field_of(answer, "MSA", 1) in {"AA", "CA"}:
                            self.taken.append(message)
                        writer.write(encode(answer.encode()))
                        await writer.drain()
                    async with self.arrived:
                        self.arrived.notify_all()
        writer.close()

    async def until(self, count: int, *, taken: bool = True, seconds: float = 20) -> list[str]:
        """Wait until that many messages were taken, or came in."""
        kept = self.taken if taken else self.journal
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(lambda: len(kept) >= count)
        return kept


@contextlib.asynccontextmanager
async def receiving(answering: Answering | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver(answering) if answering else Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    receiver.address = f"{host}:{port}"
    try:
        yield receiver
    finally:
        server.close()
