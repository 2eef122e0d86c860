"""Our end of an MLLP connection to a receiver: one message, then its answer; a doubt closes the connection."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

from bridge.errors import PeerUnreachable, SettingsError
from bridge.formats.hl7.mllp import Frame, FrameDecoder, encode
from bridge.settings import ClientTlsSettings, host_port

_CHUNK = 1 << 16
_LONGEST_ANSWER = 1 << 20


class MllpPeer:
    """One connection. An answer that comes late is never taken for the next message's (F44)."""

    def __init__(self, address: str, tls: ClientTlsSettings | None, timeout: float) -> None:
        self._address = address
        self._tls = tls
        self._timeout = timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, body: bytes) -> bytes:
        """Send one message; the body of the frame that comes back. Raises PeerUnreachable, and the line is closed."""
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = self._streams or await self._connect()
                writer.write(encode(body))
                await writer.drain()
                return await self._answer(reader)
        except (OSError, TimeoutError, EOFError, ssl.SSLError) as cause:
            await self.aclose()
            raise PeerUnreachable(type(cause).__name__) from cause
        except BaseException:
            await self.aclose()
            raise

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = host_port(self._address)
        context = client_context(self._tls) if self._tls is not None else None
        self._streams = await asyncio.open_connection(host, port, ssl=context)
        return self._streams

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> bytes:
        decoder = FrameDecoder(limit=_LONGEST_ANSWER)
        while data := await reader.read(_CHUNK):
            events = decoder.feed(data)
            if len(events) == 1 and isinstance(events[0], Frame) and not decoder.mid_frame:
                return events[0].body
            if events:
                raise EOFError("more than one answer, or none that can be read")
        raise EOFError("closed without an answer")

    async def aclose(self) -> None:
        """Close; what comes later is never read."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def client_context(settings: ClientTlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, the receiver verified, and our certificate where one is set (IHE ITI-19)."""
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as cause:
        raise SettingsError(f"hl7.return_tls: the certificate or key cannot be used: {cause}") from cause
    return context
