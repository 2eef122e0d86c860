"""MLLP over TCP: frames in, answers out, in the order of arrival on each connection."""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.errors import CannotListen
from bridge.formats.hl7.mllp import Frame, FrameDecoder, Garbage, TooLong, encode
from bridge.receive.intake import Answer, Envelope, Hl7Intake
from bridge.settings import ListenerSettings, TlsSettings, host_port

log = structlog.get_logger()
_CHUNK = 1 << 16


class MllpServer:
    """One listener. Pipelined messages are taken into custody in order and answered in order."""

    def __init__(
        self, intake: Hl7Intake, settings: ListenerSettings, *, name: str = "hl7", clock: Clock | None = None
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()

    async def start(self) -> str:
        """Listen. Returns the address taken; raises CannotListen that names the setting."""
        host, port = host_port(self._settings.listen)
        tls = server_context(self._settings.tls, "hl7.tls") if self._settings.tls else None
        try:
            self._server = await asyncio.start_server(
                self._serve, host, port, ssl=tls, ssl_handshake_timeout=10 if tls else None, limit=_CHUNK, backlog=256
            )
        except OSError as cause:
            raise CannotListen(
                f"hl7.listen: cannot listen on {self._settings.listen}: {cause.strerror or cause}. "
                "Another program may hold the port; choose another, or 0 for any free one."
            ) from cause
        name = self._server.sockets[0].getsockname()
        return f"{name[0]}:{name[1]}"

    async def stop(self, seconds: float = 5.0) -> None:
        """Take nothing more, give what is under way its answers, then close."""
        self._draining.set()
        if self._server is None:
            return
        self._server.close()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= self._settings.max_connections or self._draining.is_set():
            writer.close()
            return
        self._connections.add(task)
        try:
            await _Connection(self._intake, self._settings, self._draining, reader, writer).run()
        finally:
            self._connections.discard(task)


class _Connection:
    """One peer: a reader that keeps, and a writer that answers in order."""

    def __init__(
        self,
        intake: Hl7Intake,
        settings: ListenerSettings,
        draining: asyncio.Event,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._draining = draining
        self._reader = reader
        self._writer = writer
        self._peer = str((writer.get_extra_info("peername") or ("",))[0])
        self._due: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue(self._settings.pipeline)

    async def run(self) -> None:
        answering = asyncio.create_task(self._answer(), name="mllp-answers")
        try:
            await self._read()
            await self._due.put(None)
            await answering
        except (ConnectionError, TimeoutError, ssl.SSLError):
            answering.cancel()
        finally:
            answering.cancel()
            self._writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
                await self._writer.wait_closed()

    async def _read(self) -> None:
        """Until the peer ends, is silent for too long, or does not speak MLLP (F1, F2)."""
        decoder = FrameDecoder(limit=self._settings.max_frame)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.idle_timeout
        while not self._draining.is_set():
            try:
                data = await asyncio.wait_for(self._reader.read(_CHUNK), deadline - loop.time())
            except TimeoutError:
                log.info("connection.timed_out", mid_frame=decoder.mid_frame)
                return
            if not data:
                return
            fresh = not decoder.mid_frame
            for event in decoder.feed(data):
                match event:
                    case Frame(body):
                        fresh = True
                        await self._take(self._intake.accept(Envelope(body, self._peer)))
                    case TooLong():
                        await self._take(self._too_long())
                        return
                    case Garbage():
                        log.warning("connection.not_mllp")
                        return
            if not decoder.mid_frame:
                deadline = loop.time() + self._settings.idle_timeout
            elif fresh:  # the deadline is of the frame, not of its last byte
                deadline = loop.time() + self._settings.frame_timeout

    async def _too_long(self) -> Answer:
        return self._intake.too_long()

    async def _take(self, accept: Coroutine[Any, Any, Answer]) -> None:
        await self._due.put(asyncio.create_task(accept))

    async def _answer(self) -> None:
        while (pending := await self._due.get()) is not None:
            answer = await pending
            if answer.body is not None:
                self._writer.write(encode(answer.body))
                await self._writer.drain()
            if answer.close:
                self._reader.feed_eof()
                self._writer.close()
                return


def server_context(settings: TlsSettings, setting: str) -> ssl.SSLContext:
    """TLS 1.2 or later; with `client_ca` only peers with a certificate of that authority (IHE ITI-19)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as cause:
        raise CannotListen(f"{setting}: the certificate or key cannot be used: {cause}") from cause
    return context
