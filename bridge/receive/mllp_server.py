"""MLLP over TCP: frames in, answers out, in the order of arrival on each connection."""

import asyncio
import contextlib
import errno
import socket
import ssl

import structlog

from bridge.clock import Clock, SystemClock
from bridge.formats.hl7.mllp import Frame, FrameDecoder, Garbage, TooLong, encode
from bridge.receive.certificates import Certificates
from bridge.receive.gate import Gate, prepare
from bridge.receive.intake import Answer, Envelope, Hl7Intake
from bridge.serving import open_socket
from bridge.settings import ListenerSettings, host_port

log = structlog.get_logger()

_CHUNK = 1 << 16
_HANDSHAKE = 10.0
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class MllpServer:
    """One listener. Pipelined messages are taken into custody in order and answered in order."""

    def __init__(
        self, intake: Hl7Intake, settings: ListenerSettings, *, name: str = "hl7", clock: Clock | None = None
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._name = name
        self._clock = clock or SystemClock()
        self._gate = Gate(settings)
        self._certificates = Certificates(settings.tls, f"{name}.tls") if settings.tls else None
        self._socket: socket.socket | None = None
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._heard = asyncio.Event()
        self.silent = False

    async def start(self) -> str:
        """Listen. Returns the address taken; raises CannotListen that names the setting."""
        self._socket = open_socket(*host_port(self._settings.listen), setting=f"{self._name}.listen")
        self._accepting.append(asyncio.create_task(self._accept(self._socket), name=f"{self._name}-accept"))
        if self._settings.silence_alarm:
            self._accepting.append(asyncio.create_task(self._watch(), name=f"{self._name}-silence"))
        name = self._socket.getsockname()
        return f"{name[0]}:{name[1]}"

    async def stop(self, seconds: float = 5.0) -> None:
        """Take nothing more, give what is under way its answers, then close."""
        self._draining.set()
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        """Every connection gets a task of its own at once: none waits for another's handshake (F1)."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as problem:
                log.warning("connection.not_accepted", listener=self._name, error=type(problem).__name__)
                if problem.errno in _OUT_OF_FILES:
                    await self._clock.sleep(0.2)
                continue
            peer = str(address[0])
            refused = self._gate.enter(peer)
            if refused:
                log.warning("connection.refused", listener=self._name, reason=refused)
                sock.close()
                continue
            task = asyncio.create_task(self._serve(sock, peer), name=f"{self._name}-connection")
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        tls = self._certificates.context() if self._certificates else None
        try:
            prepare(sock)
            reader = asyncio.StreamReader(limit=_CHUNK, loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=tls, ssl_handshake_timeout=_HANDSHAKE if tls else None
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            await _Connection(self, reader, writer, peer).run()
        except (OSError, ssl.SSLError) as problem:
            log.info("connection.failed", listener=self._name, error=type(problem).__name__)
            sock.close()
        finally:
            self._gate.leave(peer)

    async def _watch(self) -> None:
        """Say once that nothing has come for too long, and once that the feed is heard again."""
        while True:
            self._heard.clear()
            await self._clock.wait(self._heard, self._settings.silence_alarm)
            if self._heard.is_set():
                if self.silent:
                    log.info("feed.heard", listener=self._name)
                self.silent = False
            elif not self.silent:
                self.silent = True
                log.warning("feed.silent", listener=self._name, seconds=self._settings.silence_alarm)

    async def accept(self, frame: Frame, peer: str) -> Answer:
        """The answer to a frame; the feed is not silent."""
        self._heard.set()
        return await self._intake.accept(Envelope(frame.body, peer, self._name, frame.notes))

    async def too_long(self) -> Answer:
        """The answer to a frame over the limit."""
        return self._intake.too_long()

    @property
    def settings(self) -> ListenerSettings:
        """The listener's settings."""
        return self._settings

    @property
    def draining(self) -> asyncio.Event:
        """Set once nothing more is taken."""
        return self._draining


class _Connection:
    """One peer: a reader that keeps, and a writer that answers in order."""

    def __init__(
        self, server: MllpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> None:
        self._server = server
        self._settings = server.settings
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._due: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue(self._settings.pipeline)

    async def run(self) -> None:
        """Until the peer ends, or is ended. What was taken in is kept, whatever becomes of the connection."""
        answering = asyncio.create_task(self._answer(), name="mllp-answers")
        reading = asyncio.create_task(self._read(), name="mllp-frames")
        try:
            await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                last = asyncio.create_task(self._due.put(None))
                await asyncio.wait({answering})  # it ends with the last answer that is due
                last.cancel()
        finally:
            for task in (reading, answering):
                task.cancel()
            ended = await asyncio.gather(reading, answering, return_exceptions=True)
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
                async with asyncio.timeout(1.0):
                    await self._writer.wait_closed()
            self._writer.transport.abort()
        for problem in ended:
            if isinstance(problem, Exception) and not isinstance(problem, (OSError, TimeoutError, ssl.SSLError)):
                log.error("connection.failed", error=type(problem).__name__)

    async def _read(self) -> None:
        """Until the peer ends, is silent for too long, or does not speak MLLP (F1, F2)."""
        decoder = FrameDecoder(limit=self._settings.max_frame)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.idle_timeout
        stopping = asyncio.create_task(self._server.draining.wait())
        try:
            while not self._server.draining.is_set():
                data = await self._next(deadline - loop.time(), stopping)
                if data is None:
                    log.info("connection.timed_out", mid_frame=decoder.mid_frame)
                if not data:
                    return
                fresh = not decoder.mid_frame
                for event in decoder.feed(data):
                    fresh = True
                    match event:
                        case Frame():
                            await self._due.put(asyncio.create_task(self._server.accept(event, self._peer)))
                        case TooLong():
                            await self._due.put(asyncio.create_task(self._server.too_long()))
                            return
                        case Garbage():
                            log.warning("connection.not_mllp")
                            return
                if not decoder.mid_frame:
                    deadline = loop.time() + self._settings.idle_timeout
                elif fresh:  # the deadline is of the frame, not of its last byte (F2)
                    deadline = loop.time() + self._settings.frame_timeout
        finally:
            stopping.cancel()

    async def _next(self, seconds: float, stopping: asyncio.Task[bool]) -> bytes | None:
        """The next bytes; empty at the end or where the service stops, None where nothing came in time."""
        if seconds <= 0:
            return None
        reading = asyncio.ensure_future(self._reader.read(_CHUNK))
        try:
            await asyncio.wait({reading, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            return b"" if stopping.done() else None
        finally:
            reading.cancel()

    async def _answer(self) -> None:
        while (pending := await self._due.get()) is not None:
            # Shielded: custody goes on, whatever becomes of the connection; only its answer is lost then.
            answer = await asyncio.shield(pending)
            if answer.body is not None:
                self._writer.write(encode(answer.body))
                async with asyncio.timeout(self._settings.frame_timeout):  # a peer that never reads holds nobody up
                    await self._writer.drain()
            if answer.close:
                return
