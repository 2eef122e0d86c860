"""MLLP over TCP: frames in, answers out, in the order of arrival on each connection."""

import asyncio
import contextlib
import functools
import socket
from collections import deque
from datetime import datetime
from typing import Any, cast

import structlog

from bridge.clock import Clock, SystemClock
from bridge.formats.hl7.batch import is_batch
from bridge.formats.hl7.mllp import Frame, FrameDecoder, Garbage, TooLong, encode
from bridge.receive.certificates import Certificates
from bridge.receive.gate import Gate, peer_of, prepare
from bridge.receive.intake import Answer, Envelope, Hl7Intake
from bridge.serving import open_socket
from bridge.settings import ListenerSettings, host_port

log = structlog.get_logger()

_CHUNK = 1 << 16
_HANDSHAKE = 10.0
_PARTING = 1.0
_PAUSE = 0.05


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
        self._connections: dict[asyncio.Task[None], _Connection | None] = {}  # none: in its handshake
        self._custody: set[asyncio.Task[Answer]] = set()
        self._heard_at = 0.0
        self._speaks = asyncio.Event()
        self._silent = False
        self._last_message_at: datetime | None = None

    @property
    def silent(self) -> bool:
        """Whether nothing has come for longer than `silence_alarm`; never, where that is 0."""
        return self._silent

    @property
    def last_message_at(self) -> datetime | None:
        """When the last message came, aware, UTC; None before the first."""
        return self._last_message_at

    async def start(self) -> str:
        """Listen. Returns the address taken; raises CannotListen that names the setting."""
        self._socket = open_socket(*host_port(self._settings.listen), setting=f"{self._name}.listen")
        self._heard_at = self._clock.monotonic()
        self._accepting.append(asyncio.create_task(self._accept(self._socket), name=f"{self._name}-accept"))
        if self._settings.silence_alarm:
            self._accepting.append(asyncio.create_task(self._watch(), name=f"{self._name}-silence"))
        for task in self._accepting:
            task.add_done_callback(functools.partial(self._note_failure, part="listener"))
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self, seconds: float = 5.0) -> None:
        """Take nothing more, give what is under way its answers, then close.

        Returns when nothing of this listener runs any more: what a lost connection brought is waited for as well.
        """
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        for serving, connection in self._connections.items():
            if connection is None:
                serving.cancel()
            else:
                connection.read_no_more()
        under_way = {*self._connections, *self._custody}
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=seconds)
            for one in late:
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        """Every connection gets a task of its own at once: none waits for another's handshake (F1)."""
        loop = asyncio.get_running_loop()
        failing = False
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as problem:  # no file handles left, or a peer that was gone before it was let in
                if not failing:
                    log.warning("connection.not_accepted", listener=self._name, error=type(problem).__name__)
                failing = True
                await self._clock.sleep(_PAUSE)  # some of these errors stay until something else is closed
                continue
            failing = False
            peer = peer_of(address)
            refused = self._gate.enter(peer)
            if refused:
                log.warning("connection.refused", listener=self._name, reason=refused, address=peer)
                sock.close()
                continue
            task = asyncio.create_task(self._serve(sock, peer), name=f"{self._name}-connection")
            self._connections[task] = None
            task.add_done_callback(functools.partial(self._left, sock, peer))

    def _left(self, sock: socket.socket, peer: str, task: asyncio.Task[None]) -> None:
        """A connection has ended, or was ended before it began."""
        del self._connections[task]
        self._gate.leave(peer)
        sock.close()
        self._note_failure(task, part="connection")

    def _note_failure(self, task: asyncio.Task[Any], *, part: str) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("listener.failed", listener=self._name, part=part, error=type(problem).__name__)

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            prepare(sock)
            tls = self._certificates.context() if self._certificates else None
            reader = asyncio.StreamReader(limit=_CHUNK, loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=tls, ssl_handshake_timeout=_HANDSHAKE if tls else None
            )
        except OSError as problem:  # ssl.SSLError is one
            log.info("connection.failed", listener=self._name, error=type(problem).__name__, address=peer)
            return
        connection = _Connection(self, reader, asyncio.StreamWriter(transport, protocol, reader, loop), peer)
        self._connections[cast("asyncio.Task[None]", asyncio.current_task())] = connection
        await connection.run()

    async def _watch(self) -> None:
        """Say once that nothing has come for too long. `take` says that the feed is heard again."""
        while True:
            left = self._heard_at + self._settings.silence_alarm - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)
                continue
            self._silent = True
            self._speaks.clear()
            log.warning("feed.silent", listener=self._name, seconds=self._settings.silence_alarm)
            await self._speaks.wait()

    def _hear(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._last_message_at = self._clock.now()
        if self._silent:
            self._silent = False
            self._speaks.set()
            log.info("feed.heard", listener=self._name)

    def take(self, frame: Frame, peer: str) -> asyncio.Future[Answer]:
        """Custody of a message, begun at once and held here: it goes on whatever becomes of its connection."""
        self._hear()
        task = asyncio.create_task(
            self._intake.accept(Envelope(frame.body, peer, self._name, frame.notes)), name=f"{self._name}-custody"
        )
        self._custody.add(task)
        task.add_done_callback(self._taken)
        return task

    def _taken(self, task: asyncio.Task[Answer]) -> None:
        self._custody.discard(task)
        self._note_failure(task, part="custody")

    def too_long(self) -> asyncio.Future[Answer]:
        """The answer to a frame over the limit."""
        self._hear()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(self._intake.too_long())
        return answer

    @property
    def settings(self) -> ListenerSettings:
        """The listener's settings."""
        return self._settings

    @property
    def name(self) -> str:
        """What messages and logs call the listener."""
        return self._name


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
        self._due: deque[tuple[asyncio.Future[Answer], int]] = deque()  # and the size of what it answers
        self._bytes = 0  # of all that is due
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self._said = False
        self._reading: asyncio.Task[None] | None = None
        # What was written counts as gone only when the system has it all: it cannot pile up in our memory.
        writer.transport.set_write_buffer_limits(high=1, low=0)

    async def run(self) -> None:
        """Until the peer ends, or is ended. What was taken in is kept, whatever becomes of the connection."""
        reading = self._reading = asyncio.create_task(self._read(), name="mllp-frames")
        reading.add_done_callback(lambda _: self._more.set())
        try:
            await self._answer(reading)
            reading.cancel()
            await asyncio.wait((reading,))
            await self._part()
        except OSError as problem:  # ConnectionError, TimeoutError and ssl.SSLError are such
            self._log_end("connection.failed", error=type(problem).__name__)
        finally:
            reading.cancel()
            self._writer.transport.abort()
        await asyncio.wait((reading,))
        if not reading.cancelled():
            reading.result()

    def read_no_more(self) -> None:
        """Take nothing more. What was taken gets its answer, then the connection ends."""
        if self._reading is not None:
            self._reading.cancel()

    def _log_end(self, event: str, **fields: Any) -> None:
        log.info(event, listener=self._server.name, address=self._peer, **fields)

    async def _read(self) -> None:
        """Until the peer ends, is silent for too long, or does not speak MLLP (F1, F2).

        May be cancelled at any await: a message is taken and its answer is due in one step.
        """
        decoder = FrameDecoder(limit=self._settings.max_frame)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.idle_timeout
        while data := await self._next(deadline, mid_frame=decoder.mid_frame):
            went_on = decoder.mid_frame
            events = decoder.feed(data)
            for event in events:
                match event:
                    case Frame():
                        await self._take(event)
                    case TooLong():
                        self._owe(self._server.too_long(), 0)
                        return
                    case Garbage():
                        self._log_end("connection.not_mllp")
                        return
            if not decoder.mid_frame:
                deadline = loop.time() + self._settings.idle_timeout
            elif events or not went_on:  # the deadline is of the frame, not of its last byte (F2)
                deadline = loop.time() + self._settings.frame_timeout

    async def _next(self, deadline: float, *, mid_frame: bool) -> bytes:
        """The next bytes; empty where none will come any more, or none came in time."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._reader.read(_CHUNK)
        except TimeoutError:
            self._log_end("connection.timed_out", mid_frame=mid_frame)
        except OSError as problem:
            self._log_end("connection.failed", error=type(problem).__name__)
        return b""

    async def _take(self, frame: Frame) -> None:
        """Custody, once what is under way leaves room for it: a peer is read no faster than it is answered.

        A batch is done message by message, so nothing behind it is taken before its end: custody is in the order of
        arrival.
        """
        size = len(frame.body)
        while self._due and (
            len(self._due) >= self._settings.pipeline or self._bytes + size > self._settings.max_frame
        ):
            self._less.clear()
            await self._less.wait()
        answer = self._server.take(frame, self._peer)
        self._owe(answer, size)
        if is_batch(frame.body):
            await asyncio.wait((answer,))

    def _owe(self, answer: asyncio.Future[Answer], size: int) -> None:
        self._due.append((answer, size))
        self._bytes += size
        if answer.done():
            self._more.set()
        else:
            answer.add_done_callback(self._answered)

    def _answered(self, _: asyncio.Future[Answer]) -> None:
        self._more.set()

    async def _answer(self, reading: asyncio.Task[None]) -> None:
        """Answer what is due until nothing more can be. Raises OSError where the peer does not take an answer."""
        ending = False
        while not ending:
            self._more.clear()
            if self._due and self._due[0][0].done():
                answers, ending = self._ready()
                await self._write(answers)
            elif not self._due and reading.done():
                return
            else:
                await self._more.wait()  # cancelled, this ends no custody; only its answer is lost

    def _ready(self) -> tuple[bytes, bool]:
        """Frames of the answers that are there, in order, for one write; whether the connection ends behind them."""
        frames: list[bytes] = []
        written = 0
        while self._due and self._due[0][0].done() and written < _CHUNK:
            pending, size = self._due.popleft()
            self._bytes -= size
            self._less.set()
            if pending.cancelled() or pending.exception() is not None:
                return b"".join(frames), True  # it may be kept or not: nothing is said, the resend is absorbed (A3)
            answer = pending.result()
            if answer.body is not None:
                frames.append(encode(answer.body))
                written += len(frames[-1])
            if answer.close:
                return b"".join(frames), True
        return b"".join(frames), False

    async def _write(self, frames: bytes) -> None:
        transport = self._writer.transport
        if frames:
            if transport.is_closing():
                raise ConnectionResetError  # uvloop's transport raises what is no OSError for a write after its end
            self._said = True
            self._writer.write(frames)
            if not transport.is_closing() and not transport.get_write_buffer_size():
                return  # the system has it all
            async with asyncio.timeout(self._settings.frame_timeout):  # a peer that never reads holds nobody up
                await self._writer.drain()

    async def _part(self) -> None:
        """Close so that the last answers arrive. A socket closed over unread bytes resets its peer, and the answers
        that the peer has not read yet are gone; so we say that we are done, and pass over what still comes.
        """
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_PARTING):
                if self._said and self._writer.can_write_eof() and not self._reader.at_eof():
                    self._writer.write_eof()
                    while await self._reader.read(_CHUNK):
                        pass
                self._writer.close()
                await self._writer.wait_closed()
