"""The MLLP door on real sockets: who may come in, what a silent or hostile peer can do, and the order of answers."""

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from bridge.formats.hl7.mllp import encode
from bridge.receive import mllp_server
from bridge.receive.intake import Answer, Envelope
from bridge.receive.mllp_server import MllpServer
from bridge.settings import ListenerSettings, TlsSettings, host_port
from tests.acceptance.virtual_clock import VirtualClock
from tests.authority import Authority


class Intake:
    """Answers each message with its own text, when it is let go."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.done: list[bytes] = []
        self.held: dict[bytes, asyncio.Event] = {}
        self.envelopes: list[Envelope] = []

    async def accept(self, envelope: Envelope) -> Answer:
        self.envelopes.append(envelope)
        self.taken.append(envelope.body)
        if envelope.body in self.held:
            await self.held[envelope.body].wait()
        self.done.append(envelope.body)
        return Answer(b"ACK " + envelope.body)

    def too_long(self) -> Answer:
        return Answer(b"TOO LONG", close=True)


@contextlib.asynccontextmanager
async def listening(intake: Any, clock: VirtualClock | None = None, **settings: Any) -> AsyncIterator[tuple[str, int]]:
    server = MllpServer(intake, ListenerSettings(**{"listen": "127.0.0.1:0", **settings}), name="hl7.test", clock=clock)
    address = host_port(await server.start())
    try:
        yield address
    finally:
        await server.stop(2.0)


async def exchange(address: tuple[str, int], body: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*address, ssl=tls)
        try:
            writer.write(encode(body))
            return await reader.read(1000)
        finally:
            writer.transport.abort()


async def closed(address: tuple[str, int]) -> bool:
    """Whether the listener ends a connection without a word."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(5):
            return await reader.read(1) == b""
    except ConnectionError:
        return True
    finally:
        writer.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, ten seconds at the most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.005)


def client(authority: Authority, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if own is not None:
        context.load_cert_chain(*own)
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


async def test_answers_go_out_in_the_order_of_arrival_whatever_is_done_first() -> None:
    intake = Intake()
    intake.held = {b"1": asyncio.Event(), b"2": asyncio.Event()}
    async with listening(intake) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(encode(b"1") + encode(b"2") + encode(b"3"))
        await until(lambda: intake.done == [b"3"])
        intake.held[b"2"].set()
        await until(lambda: intake.done == [b"3", b"2"])
        intake.held[b"1"].set()
        async with asyncio.timeout(5):
            assert await reader.readexactly(24) == encode(b"ACK 1") + encode(b"ACK 2") + encode(b"ACK 3")
        writer.close()


async def test_a_message_is_kept_though_its_connection_is_lost_and_its_answer_goes_nowhere_else() -> None:
    intake = Intake()
    intake.held = {b"1": asyncio.Event()}
    async with listening(intake) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(encode(b"1"))
        await until(lambda: bool(intake.taken))
        writer.transport.abort()
        assert await exchange(address, b"2") == encode(b"ACK 2")
        intake.held[b"1"].set()
        await until(lambda: b"1" in intake.done)


async def test_f1_fifty_silent_tls_clients_stop_nobody(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("listener", into=tmp_path)
    tls = TlsSettings(certificate=certificate, key=key)
    async with listening(Intake(), tls=tls) as address:
        silent = [socket.create_connection(address) for _ in range(50)]
        try:
            assert await exchange(address, b"1", client(authority)) == encode(b"ACK 1")
        finally:
            for one in silent:
                one.close()


async def test_f1_connections_in_their_handshake_count(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("listener", into=tmp_path)
    tls = TlsSettings(certificate=certificate, key=key)
    async with listening(Intake(), tls=tls, max_connections=2) as address:
        silent = [socket.create_connection(address) for _ in range(2)]
        try:
            assert await closed(address)
        finally:
            for one in silent:
                one.close()


async def test_f2_a_drip_is_ended_by_the_deadline_of_the_frame() -> None:
    async with listening(Intake(), frame_timeout=0.4, idle_timeout=30) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"\x0b")
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and loop.time() - began < 10:
                writer.write(b"M")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.05)
        assert loop.time() - began < 10
        writer.transport.abort()


async def test_f20_sockets_notice_a_peer_that_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[socket.socket] = []
    prepare = mllp_server.prepare
    monkeypatch.setattr(mllp_server, "prepare", lambda sock: (prepare(sock), seen.append(sock.dup())))
    async with listening(Intake()) as address:
        assert await exchange(address, b"1") == encode(b"ACK 1")
    (sock,) = seen
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_an_address_that_is_not_on_the_list_is_closed() -> None:
    async with listening(Intake(), allow=["192.0.2.0/24"]) as address:
        assert await closed(address)
    async with listening(Intake(), allow=["192.0.2.0/24", "127.0.0.1"]) as address:
        assert await exchange(address, b"1") == encode(b"ACK 1")


async def test_connections_of_one_peer_are_counted_and_given_back() -> None:
    async with listening(Intake(), max_connections_per_peer=2) as address:
        two = [await asyncio.open_connection(*address) for _ in range(2)]
        assert await closed(address)
        two[0][1].close()
        await two[0][1].wait_closed()
        answer = b""
        async with asyncio.timeout(5):
            while not answer:  # the listener needs a moment to notice
                with contextlib.suppress(ConnectionError):
                    answer = await exchange(address, b"1")
        assert answer == encode(b"ACK 1")
        two[1][1].close()


async def test_mutual_tls_serves_the_right_certificate_and_no_other(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("listener", into=tmp_path)
    right = authority.sign("his", into=tmp_path)
    wrong = Authority.make(tmp_path, "stranger").sign("intruder")
    tls = TlsSettings(certificate=certificate, key=key, client_ca=authority.certificate)
    intake = Intake()
    async with listening(intake, tls=tls) as address:
        for own in (None, wrong):
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                assert await exchange(address, b"never", client(authority, own)) == b""
        assert await exchange(address, b"1", client(authority, right)) == encode(b"ACK 1")
    assert intake.taken == [b"1"]


async def test_a_renewed_certificate_is_served_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("listener", into=tmp_path)
    tls = TlsSettings(certificate=certificate, key=key)
    other = Authority.make(tmp_path, "successor")
    renewed = other.sign("renewed")
    async with listening(Intake(), tls=tls) as address:
        kept, writer = await asyncio.open_connection(*address, ssl=client(authority))
        with structlog.testing.capture_logs() as logs:
            certificate.write_text("half a certif")
            assert await exchange(address, b"1", client(authority)) == encode(b"ACK 1")
            assert await exchange(address, b"2", client(authority)) == encode(b"ACK 2")
        assert [one["event"] for one in logs].count("certificate.not_taken") == 1
        shutil.copy(renewed[1], key)
        shutil.copy(renewed[0], certificate)
        assert await exchange(address, b"3", client(other)) == encode(b"ACK 3")
        with pytest.raises(ssl.SSLError):
            await exchange(address, b"4", client(authority))
        writer.write(encode(b"5"))  # the connection of before goes on
        async with asyncio.timeout(5):
            assert await kept.readexactly(8) == encode(b"ACK 5")
        writer.transport.abort()


async def test_a_peer_that_never_reads_its_answers_is_ended() -> None:
    class Big(Intake):
        async def accept(self, envelope: Envelope) -> Answer:
            self.taken.append(envelope.body)
            return Answer(b"x" * 4_000_000)

    intake = Big()
    async with listening(intake, frame_timeout=0.3, pipeline=2) as address:
        with socket.create_connection(address) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(encode(b"1") * 20)
            await until(lambda: not still_open(deaf))
    assert len(intake.taken) < 20  # what it does not take the answers of is not taken in


def still_open(sock: socket.socket) -> bool:
    sock.settimeout(0)
    try:
        sock.send(b"\r")
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


async def test_stop_gives_what_is_under_way_its_answer() -> None:
    intake = Intake()
    intake.held = {b"1": asyncio.Event()}
    server = MllpServer(intake, ListenerSettings(listen="127.0.0.1:0"))  # type: ignore[arg-type]
    reader, writer = await asyncio.open_connection(*host_port(await server.start()))
    writer.write(encode(b"1"))
    await until(lambda: bool(intake.taken))
    stopping = asyncio.create_task(server.stop(5.0))
    await asyncio.sleep(0.05)
    intake.held[b"1"].set()
    async with asyncio.timeout(5):
        assert await reader.readexactly(8) == encode(b"ACK 1")
        assert await reader.read() == b""
        await stopping
    writer.close()


async def test_a_silent_feed_is_said_once_and_its_return_too() -> None:
    clock = VirtualClock()
    with structlog.testing.capture_logs() as logs:
        async with listening(Intake(), clock, silence_alarm=600) as address:
            for _ in range(3):
                await asyncio.sleep(0.02)
                clock.jump(601)
            await asyncio.sleep(0.02)
            assert [e["event"] for e in logs].count("feed.silent") == 1
            assert await exchange(address, b"1") == encode(b"ACK 1")
            await asyncio.sleep(0.02)
    assert [e["event"] for e in logs if e["event"].startswith("feed")] == ["feed.silent", "feed.heard"]


async def test_hl7_6_the_notes_of_framing_reach_the_intake() -> None:
    intake = Intake()
    async with listening(intake) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"junk" + encode(b"1"))
        async with asyncio.timeout(5):
            await reader.readexactly(8)
        writer.transport.abort()
    assert intake.envelopes[0].notes == ("junk before the frame",)
    assert intake.envelopes[0].listener == "hl7.test"
