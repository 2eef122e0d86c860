"""The MLLP door on real sockets: who may come in, what a silent or hostile peer can do, and the order of answers."""

import asyncio
import contextlib
import os
import pty
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import uvloop

from bridge.formats.hl7.mllp import encode
from bridge.receive import gate, mllp_server
from bridge.receive.gate import PER_PEER, Gate, peer_of
from bridge.receive.intake import Answer, Envelope
from bridge.receive.mllp_server import MllpServer
from bridge.settings import ListenerSettings, TlsSettings, host_port
from tests.acceptance.virtual_clock import VirtualClock
from tests.authority import Authority, run


class Intake:
    """Answers each message with its own text, when it is let go."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.done: list[bytes] = []
        self.held: dict[bytes, asyncio.Event] = {}
        self.closing: set[bytes] = set()
        self.envelopes: list[Envelope] = []

    async def accept(self, envelope: Envelope) -> Answer:
        self.envelopes.append(envelope)
        self.taken.append(envelope.body)
        if envelope.body in self.held:
            await self.held[envelope.body].wait()
        self.done.append(envelope.body)
        return Answer(b"ACK " + envelope.body, close=envelope.body in self.closing)

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


async def all_of(address: tuple[str, int], data: bytes, *, end: bool = False) -> bytes:
    """What comes back until the listener closes."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            return await reader.read()
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

    def prepare(sock: socket.socket) -> None:
        gate.prepare(sock)
        seen.append(sock.dup())

    monkeypatch.setattr(mllp_server, "prepare", prepare)
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
        writer.close()
        await stopping


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


async def test_silence_and_the_last_message_can_be_looked_at() -> None:
    clock = VirtualClock()
    server = MllpServer(Intake(), ListenerSettings(listen="127.0.0.1:0", silence_alarm=600), clock=clock)  # type: ignore[arg-type]
    address = host_port(await server.start())
    try:
        assert (server.silent, server.last_message_at) == (False, None)
        await asyncio.sleep(0)
        clock.jump(601)
        await until(lambda: server.silent)
        before = clock.now()
        assert await exchange(address, b"1") == encode(b"ACK 1")
        assert not server.silent
        assert server.last_message_at is not None
        assert before <= server.last_message_at <= clock.now()
    finally:
        await server.stop(1.0)


async def test_the_answers_before_a_frame_that_is_too_long_go_out_first_though_more_comes_behind_it() -> None:
    """A socket that is closed over unread bytes resets its peer, and takes the answers with it."""
    intake = Intake()
    intake.held = {b"1": asyncio.Event()}
    async with listening(intake, max_frame=100) as address:
        asking = asyncio.create_task(all_of(address, encode(b"1") + encode(b"x" * 101) + encode(b"y") * 100_000))
        await until(lambda: bool(intake.taken))
        intake.held[b"1"].set()
        assert await asking == encode(b"ACK 1") + encode(b"TOO LONG")
    assert intake.taken == [b"1"]


async def test_what_is_not_mllp_ends_the_connection_behind_the_answers_that_are_due() -> None:
    async with listening(Intake()) as address:
        assert await all_of(address, encode(b"1") + b"GET / " * 1000) == encode(b"ACK 1")


async def test_a_peer_that_ends_its_side_gets_its_answers() -> None:
    async with listening(Intake()) as address:
        assert await all_of(address, encode(b"1") + encode(b"2"), end=True) == encode(b"ACK 1") + encode(b"ACK 2")


async def test_an_answer_that_closes_ends_a_connection_whose_reader_waits_for_room() -> None:
    intake = Intake()
    intake.held = {b"1": asyncio.Event(), b"2": asyncio.Event()}
    intake.closing = {b"1"}
    async with listening(intake, pipeline=2) as address:
        asking = asyncio.create_task(all_of(address, b"".join(encode(b"%d" % n) for n in range(1, 10))))
        await until(lambda: intake.taken == [b"1", b"2"])
        intake.held[b"1"].set()
        assert await asking == encode(b"ACK 1")
        intake.held[b"2"].set()
        await until(lambda: intake.done == [b"1", b"2"])  # it was taken, so it is kept


@pytest.mark.parametrize(("limits", "taken"), [({"pipeline": 3}, 3), ({"max_frame": 1000}, 2), ({"max_frame": 400}, 1)])
async def test_a_peer_is_read_no_faster_than_it_is_answered(limits: dict[str, Any], taken: int) -> None:
    bodies = [b"%d" % n * 400 for n in range(6)]
    intake = Intake()
    intake.held = {body: asyncio.Event() for body in bodies}
    async with listening(intake, **limits) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"".join(map(encode, bodies)))
        await until(lambda: len(intake.taken) == taken)
        await asyncio.sleep(0.05)
        assert len(intake.taken) == taken
        for body in bodies:
            intake.held[body].set()
        async with asyncio.timeout(5):
            for body in bodies:
                assert await reader.readuntil(b"\x1c\r") == encode(b"ACK " + body)
        assert intake.taken == bodies
        writer.transport.abort()


async def test_hl7_v2_2_10_3_nothing_behind_a_batch_is_taken_before_its_end() -> None:
    batch = b"BHS|^~\\&|HIS\rMSH|^~\\&|HIS\rMSH|^~\\&|HIS\rBTS|2\r"
    intake = Intake()
    intake.held = {batch: asyncio.Event()}
    async with listening(intake) as address:
        asking = asyncio.create_task(all_of(address, encode(b"1") + encode(batch) + encode(b"2"), end=True))
        await until(lambda: intake.done == [b"1"])
        await asyncio.sleep(0.05)
        assert intake.taken == [b"1", batch]
        intake.held[batch].set()
        assert (await asking).endswith(encode(b"ACK 2"))


async def test_custody_that_fails_is_said_in_the_log_and_never_to_the_peer() -> None:
    class Failing(Intake):
        async def accept(self, envelope: Envelope) -> Answer:
            if envelope.body == b"fail":
                raise RuntimeError("a text that no log shows")
            return await super().accept(envelope)

    with structlog.testing.capture_logs() as logs:
        async with listening(Failing()) as address:
            assert await all_of(address, encode(b"1") + encode(b"fail") + encode(b"2")) == encode(b"ACK 1")
            assert await exchange(address, b"3") == encode(b"ACK 3")
    failed = [one for one in logs if one["event"] == "listener.failed"]
    assert [(one["part"], one["error"]) for one in failed] == [("custody", "RuntimeError")]


async def test_a_silent_connection_is_ended() -> None:
    async with listening(Intake(), idle_timeout=0.2) as address:
        assert await closed(address)


async def test_f43_stop_waits_for_what_a_lost_connection_brought() -> None:
    intake = Intake()
    intake.held = {b"1": asyncio.Event(), b"2": asyncio.Event()}
    async with listening(intake) as address:
        with socket.create_connection(address) as lost:
            lost.sendall(encode(b"1") + encode(b"2"))
            await until(lambda: len(intake.taken) == 2)
            lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends with a reset
        intake.held[b"1"].set()  # its answer finds that the connection is gone
        asyncio.get_running_loop().call_later(0.2, intake.held[b"2"].set)
    assert intake.done == [b"1", b"2"]


async def test_f43_stop_waits_for_no_handshake(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("listener", into=tmp_path)
    settings = ListenerSettings(listen="127.0.0.1:0", tls=TlsSettings(certificate=certificate, key=key))
    server = MllpServer(Intake(), settings)  # type: ignore[arg-type]
    with socket.create_connection(host_port(await server.start())) as silent:
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await server.stop(10.0)
        with contextlib.suppress(ConnectionError):
            assert silent.recv(1) == b""


async def test_f43_a_peer_that_never_reads_does_not_hold_up_stop() -> None:
    class Big(Intake):
        async def accept(self, envelope: Envelope) -> Answer:
            self.taken.append(envelope.body)
            return Answer(b"x" * 4_000_000)

    intake = Big()
    server = MllpServer(intake, ListenerSettings(listen="127.0.0.1:0"))  # type: ignore[arg-type]
    with socket.create_connection(host_port(await server.start())) as deaf:
        deaf.sendall(encode(b"1") * 3)
        await until(lambda: bool(intake.taken))
        async with asyncio.timeout(5):
            await server.stop(0.2)


async def test_a_listener_without_file_handles_rests_and_goes_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening(Intake()) as address:
        with structlog.testing.capture_logs() as logs, socket.socket() as late:
            late.setblocking(False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                late.connect_ex(address)
                await until(lambda: bool(logs))
                began = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - began < 0.1  # it does not spin
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert [one["event"] for one in logs] == ["connection.not_accepted"]
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                await loop.sock_sendall(late, encode(b"1"))
                assert await loop.sock_recv(late, 100) == encode(b"ACK 1")


def test_peers_are_one_address_however_it_is_spelt() -> None:
    assert peer_of(("::ffff:10.1.2.3", 4711, 0, 0)) == "10.1.2.3"
    assert peer_of(("fe80::1%eth0", 4711, 0, 2)) == "fe80::1"
    listed = Gate(ListenerSettings(allow=("10.1.0.0/16", "2001:db8::/32")))
    assert [listed.enter(one) for one in ("10.1.2.3", "2001:db8::7", "10.2.0.1", "::1")] == [
        "",
        "",
        *["not_allowed"] * 2,
    ]


def test_sixty_four_connections_of_an_address_and_as_many_as_there_are_from_loopback() -> None:
    door = Gate(ListenerSettings(max_connections=1000))
    assert {door.enter("10.1.2.3") for _ in range(PER_PEER)} == {""}
    assert door.enter("10.1.2.3") == "too_many_of_peer"
    assert {door.enter(one) for one in ("127.0.0.1", "::1") for _ in range(PER_PEER + 1)} == {""}
    door.leave("10.1.2.3")
    assert door.enter("10.1.2.3") == ""


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("listener", into=tmp_path)
    locked = tmp_path / "locked.key"
    run("rsa", "-in", key, "-aes128", "-passout", "pass:invented", "-out", locked)
    load = (
        "import sys; from bridge.receive.certificates import server_context; from bridge.settings import TlsSettings\n"
        "server_context(TlsSettings(certificate=sys.argv[1], key=sys.argv[2]), 'hl7.tls')"
    )
    ours, terminal = pty.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", load, certificate, locked],
            stdin=terminal, capture_output=True, text=True, timeout=20, start_new_session=True, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(terminal)
    assert "CannotListen: hl7.tls:" in ended.stderr


NEED_NOTHING_BUT_A_LOOP = (
    test_answers_go_out_in_the_order_of_arrival_whatever_is_done_first,
    test_f2_a_drip_is_ended_by_the_deadline_of_the_frame,
    test_the_answers_before_a_frame_that_is_too_long_go_out_first_though_more_comes_behind_it,
    test_an_answer_that_closes_ends_a_connection_whose_reader_waits_for_room,
    test_a_peer_that_never_reads_its_answers_is_ended,
    test_f43_stop_waits_for_what_a_lost_connection_brought,
    test_a_listener_without_file_handles_rests_and_goes_on,
)


@pytest.mark.parametrize("scenario", NEED_NOTHING_BUT_A_LOOP, ids=lambda one: one.__name__.removeprefix("test_"))
def test_on_the_loop_that_the_service_runs_on(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
