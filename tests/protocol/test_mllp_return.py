"""Our own end of an MLLP connection, to a return address: TLS both ways, and whose answer it is (F44, IHE ITI-19)."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.dispatch.mllp_peer import MllpPeer
from bridge.errors import PeerUnreachable, SettingsError
from bridge.formats.hl7.mllp import encode
from bridge.settings import ClientTlsSettings
from tests.authority import Authority

Answering = Callable[[bytes], bytes | None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@contextlib.asynccontextmanager
async def receiving(answering: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A receiver's address, and what it was sent."""
    journal: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                journal.append(await reader.readuntil(b"\x1c\r"))
                answer = answering(journal[-1])
                if answer is None:
                    break
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}", journal
    finally:
        server.close()


def asking(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """A receiver that asks for a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_iti_19_both_sides_show_their_certificate(authority: Authority, tmp_path: Path) -> None:
    tls = asking(*authority.sign("his", into=tmp_path), authority.certificate)
    certificate, key = authority.sign("bridge", into=tmp_path)
    own = ClientTlsSettings(ca=authority.certificate, certificate=certificate, key=key)
    async with receiving(lambda _: encode(b"ACK"), tls) as (address, journal), MllpPeer(address, own, 10.0) as peer:
        assert await peer.exchange(b"1") == b"ACK"
        assert await peer.exchange(b"2") == b"ACK"
    assert journal == [encode(b"1"), encode(b"2")]


@pytest.mark.parametrize("wrong", ["no certificate of ours", "a stranger's receiver", "plaintext to TLS"])
async def test_iti_19_nothing_is_sent_to_a_receiver_that_is_not_the_one(
    authority: Authority, tmp_path: Path, wrong: str
) -> None:
    tls = asking(*authority.sign("his", into=tmp_path), authority.certificate)
    stranger = Authority.make(tmp_path, "stranger").certificate
    own = {
        "no certificate of ours": ClientTlsSettings(ca=authority.certificate),
        "a stranger's receiver": ClientTlsSettings(ca=stranger),
        "plaintext to TLS": None,
    }[wrong]
    patience = 5.0 if own else 1.0  # TLS awaits a hello and says nothing, however long
    async with receiving(lambda _: encode(b"ACK"), tls) as (address, journal), MllpPeer(address, own, patience) as peer:
        with pytest.raises(PeerUnreachable):
            await peer.exchange(b"1")
    assert journal == []


def test_a_certificate_that_cannot_be_used_names_its_setting(tmp_path: Path) -> None:
    async def connect() -> None:
        missing = ClientTlsSettings(ca=tmp_path / "missing.pem")
        async with MllpPeer("127.0.0.1:9", missing, 5.0) as peer:
            await peer.exchange(b"1")

    with pytest.raises(SettingsError, match=r"hl7\.return_tls"):
        asyncio.run(connect())


@pytest.mark.parametrize(
    "said", [encode(b"ACK 0") + encode(b"ACK 1"), encode(b"ACK 0") + b"\x0bMSH|", b"x" * 2000, None]
)
async def test_f44_what_is_not_one_answer_ends_the_connection_and_the_next_one_is_new(said: bytes | None) -> None:
    def answering(message: bytes) -> bytes | None:
        return said if message == encode(b"1") else encode(b"ACK 2")

    async with receiving(answering) as (address, journal), MllpPeer(address, None, 10.0) as peer:
        with pytest.raises(PeerUnreachable):
            await peer.exchange(b"1")
        assert await peer.exchange(b"2") == b"ACK 2"
    assert journal == [encode(b"1"), encode(b"2")]


async def test_f44_an_answer_that_comes_late_is_not_the_next_messages() -> None:
    """The receiver answers the first message only when the second has come, on the connection of the first."""
    first_line: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first_line.append(writer)
        message = await reader.readuntil(b"\x1c\r")
        if message == encode(b"2"):
            with contextlib.suppress(ConnectionError):
                first_line[0].write(encode(b"ACK 1"))
            writer.write(encode(b"ACK 2"))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        async with MllpPeer(f"{host}:{port}", None, 0.3) as peer:
            with pytest.raises(PeerUnreachable):
                await peer.exchange(b"1")
            assert await peer.exchange(b"2") == b"ACK 2"
    finally:
        for one in first_line:
            one.close()
        server.close()
