"""One N-EVENT-REPORT to a peer: pynetdicom's, and one that does everything wrong that a peer can."""

import asyncio
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from bridge.dicom_settings import PeerSettings
from bridge.errors import PeerUnreachable, SettingsError
from bridge.formats.dicom.commitment import (
    INSTANCE,
    PUSH_MODEL,
    Failure,
    Reference,
    Told,
    event_information,
    event_type,
)
from bridge.hl7_settings import ClientTlsSettings
from bridge.receive.dicom.commitment_sender import Report, is_taken, send
from bridge.receive.dicom.pdus import RELEASE_RP, RELEASE_RQ, PduType, abort, p_data, reject
from tests.authority import Authority
from tests.protocol.commitment_cart import Cart, Line, listening, scripted

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
RESTING = "1.2.840.10008.5.1.4.1.1.9.1.1"


def report(*told: Told, transaction: str = "2.25.9") -> Report:
    told = told or (Told(Reference(RESTING, "2.25.1"), None),)
    return Report("BRIDGE", "CART", event_type(told), lambda syntax: event_information(transaction, told, syntax))


def peer(address: str, tls: ClientTlsSettings | None = None) -> PeerSettings:
    return PeerSettings(address=address, tls=tls)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("roles", [None, True])
async def test_ps3_4_j_3_3_a_peer_is_told_on_an_association_of_our_own(syntax: str, roles: bool | None) -> None:
    told = (Told(Reference(RESTING, "2.25.1"), None), Told(Reference(RESTING, "2.25.2"), Failure.NO_SUCH_INSTANCE))
    with listening(Cart(), syntax=syntax, roles=roles) as cart:
        assert await send(report(*told), peer(cart.address), 10) == 0x0000
    (heard,) = cart.journal
    assert (heard.transaction_uid, heard.event_type) == ("2.25.9", 2)
    assert (heard.committed, heard.failed) == (["2.25.1"], {"2.25.2": 0x0112})
    assert (heard.calling, heard.called) == ("BRIDGE", "CART")
    assert (heard.sop_class, heard.sop_instance) == (PUSH_MODEL, INSTANCE)


async def test_a_report_of_many_instances_goes_out_in_pieces() -> None:
    told = tuple(Told(Reference(RESTING, f"2.25.{10**37 + n}"), None) for n in range(6000))
    with listening(Cart()) as cart:
        assert await send(report(*told), peer(cart.address), 60) == 0x0000
    assert len(cart.journal[0].committed) == 6000


async def test_the_peers_status_is_its_answer() -> None:
    with listening(Cart(lambda _: 0x0112)) as cart:
        assert await send(report(), peer(cart.address), 10) == 0x0112
    assert [is_taken(s) for s in (0x0000, 0x0107, 0x0116, 0xB000, 0x0110, 0x0112, 0xC000)] == [True] * 4 + [False] * 3


async def test_a_peer_that_is_not_there_or_of_another_name_or_class_is_said_to_be_so() -> None:
    not_recognized = pytest.raises(PeerUnreachable, match="rejected 1/1/7")  # the called AE title
    with listening(Cart(), ae_title="OTHER") as cart, not_recognized:
        await send(report(), peer(cart.address), 10)
    with pytest.raises(PeerUnreachable, match="ConnectionRefusedError"):
        await send(report(), peer(cart.address), 10)
    not_accepted = pytest.raises(PeerUnreachable, match="storage commitment is not accepted")
    with listening(Cart(), sop_class="1.2.840.10008.1.1") as cart, not_accepted:
        await send(report(), peer(cart.address), 10)
    with listening(Cart(), roles=False) as cart:
        with pytest.raises(PeerUnreachable, match="not accepted"):
            await send(report(), peer(cart.address), 10)
        assert cart.journal == []


def accept(*, syntax: str = EXPLICIT, most: int = 16384, result: int = 0, role: bytes = b"") -> bytes:
    """An A-ASSOCIATE-AC, byte by byte (PS3.8 table 9-17)."""

    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    context = item(0x21, bytes((1, 0, result, 0)) + item(0x40, syntax.encode()))
    user = item(0x50, item(0x51, most.to_bytes(4, "big")) + role)
    body = struct.pack(">HH", 1, 0) + b"CART".ljust(16) + b"BRIDGE".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BxI", PduType.ASSOCIATE_AC, len(body)) + body


def answer(*, field: int = 0x8100, to: int = 1, status: bytes = b"\0\0") -> bytes:
    """The command set of an N-EVENT-REPORT-RSP."""
    elements = ((0x0100, struct.pack("<H", field)), (0x0120, struct.pack("<H", to)), (0x0800, b"\x01\x01"))
    elements += ((0x0900, status),) if status else ()
    return b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)


def said(value: bytes) -> bytes:
    return p_data(1, value, 0, command=True)


async def heard_all(line: Line) -> None:
    """The whole report: its command set, then its data set."""
    last = 0
    while last < 2:
        _, body = await line.pdu()
        last += body[5] >> 1


def exchange(*pdus: bytes, accepting: bytes | None = None) -> Any:
    """A peer that accepts, takes the report, and says this."""

    async def script(line: Line) -> None:
        await line.pdu()
        await line.say(accepting or accept())
        await heard_all(line)
        await line.say(*pdus)
        while True:  # until we close
            await line.pdu()

    return script


def instead(*pdus: bytes) -> Any:
    """A peer that answers the association request with this."""

    async def script(line: Line) -> None:
        await line.pdu()
        await line.say(*pdus)
        while True:
            await line.pdu()

    return script


async def silent(line: Line) -> None:
    await line.reader.read()


async def drips(line: Line) -> None:
    await line.say(accept()[:6])
    while True:
        await line.say(b"\0")
        await asyncio.sleep(0.01)


ROLE_DENIED = struct.pack(">BxHH", 0x54, 4 + len(PUSH_MODEL), len(PUSH_MODEL)) + PUSH_MODEL.encode() + b"\1\0"
HUGE = struct.pack(">BxI", PduType.ASSOCIATE_AC, 0xFFFFFFFF)
LONG = struct.pack(">BxI", PduType.P_DATA_TF, 1 << 19)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (silent, "TimeoutError"),
        (drips, "TimeoutError"),
        (instead(HUGE), "too long"),
        (instead(LONG), "longer than offered"),
        (instead(b"GET / HTTP/1.1\r\n\r\n"), "a PDU of no type"),
        (instead(reject(2, 3, 2)), "rejected 2/3/2"),
        (instead(abort(None)), "no answer to the association request"),
        (instead(accept()[:-3]), "TimeoutError"),
        (instead(accept(result=3)), "not accepted"),
        (instead(accept(syntax="1.2.840.10008.1.2.1.99")), "not accepted"),  # deflated, which we did not offer
        (instead(accept(most=64)), "too short"),
        (instead(accept(role=ROLE_DENIED)), "role of SCP"),
        (instead(accept(role=b"\x54\0\0\xff1.2")), "EOFError"),
        (exchange(abort(None)), "ended without an answer"),
        (exchange(RELEASE_RQ), "ended without an answer"),
        (exchange(said(answer(to=2))), "an answer to something else"),
        (exchange(said(answer(field=0x8001))), "an answer to something else"),
        (exchange(said(answer(status=b""))), "an answer to something else"),
        (exchange(said(answer()[:-1])), "reaches beyond"),
        (exchange(p_data(1, bytes(99), 0, command=False)), "without its command set"),
        (exchange(p_data(1, bytes(40_000), 16_000, command=True)), "too long"),
    ],
)
async def test_f1_f2_f44_what_a_peer_does_wrong_ends_in_time_and_says_what_it_was(script: Any, reason: str) -> None:
    async with scripted(script) as (address, _):
        with pytest.raises(PeerUnreachable, match=reason):
            await send(report(), peer(address), 0.5)


async def test_a_peer_that_closes_before_its_answer_has_said_nothing() -> None:
    async def script(line: Line) -> None:
        await line.pdu()
        await line.say(accept())
        await heard_all(line)

    async with scripted(script) as (address, _):
        with pytest.raises(PeerUnreachable, match=r"IncompleteReadError|ConnectionResetError"):
            await send(report(), peer(address), 5)


async def test_an_association_that_failed_is_aborted() -> None:
    kinds: list[int] = []

    async def script(line: Line) -> None:
        await line.pdu()
        await line.say(accept(result=4))
        kinds.append((await line.pdu())[0])

    async with scripted(script) as (address, _):
        with pytest.raises(PeerUnreachable):
            await send(report(), peer(address), 5)
        await _until(lambda: kinds)
    assert kinds == [PduType.ABORT]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("most", [0, 128, 4096])
async def test_ps3_8_d_1_1_pdus_are_no_longer_than_the_peer_takes(most: int) -> None:
    lengths: list[int] = []
    gone: list[int] = []

    async def script(line: Line) -> None:
        await line.pdu()
        await line.say(accept(most=most))
        last = 0
        while last < 2:
            _, body = await line.pdu()
            lengths.append(len(body))
            last += body[5] >> 1
        await line.say(said(answer()))
        gone.append((await line.pdu())[0])
        await line.say(RELEASE_RP)

    told = tuple(Told(Reference(RESTING, f"2.25.{n}"), None) for n in range(500))
    async with scripted(script) as (address, _):
        assert await send(report(*told), peer(address), 10) == 0x0000
        await _until(lambda: gone)
    assert max(lengths) <= (most or 16384)
    assert gone == [PduType.RELEASE_RQ]


async def test_ps3_8_7_2_2_a_release_that_collides_with_ours_is_answered() -> None:
    kinds: list[int] = []

    async def script(line: Line) -> None:
        await line.pdu()
        await line.say(accept())
        await heard_all(line)
        await line.say(said(answer()), RELEASE_RQ)
        kinds.extend([(await line.pdu())[0], (await line.pdu())[0]])
        await line.say(RELEASE_RP)

    async with scripted(script) as (address, ended):
        assert await send(report(), peer(address), 10) == 0x0000
        await _until(lambda: ended)
    assert kinds == [PduType.RELEASE_RQ, PduType.RELEASE_RP]


async def test_an_event_reply_behind_the_answer_is_passed_over() -> None:
    reply = p_data(1, bytes(3000), 1000, command=False)
    async with scripted(exchange(said(answer(status=b"\x07\x01")), reply, RELEASE_RP)) as (address, _):
        assert await send(report(), peer(address), 10) == 0x0107


async def test_ps3_15_b_12_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    certificate, key = authority.sign("cart")
    own, own_key = authority.sign("bridge")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with listening(Cart(), tls=context) as cart:
        ours = ClientTlsSettings(ca=authority.certificate, certificate=own, key=own_key)
        assert await send(report(), peer(cart.address, ours), 10) == 0x0000
        stranger = Authority.make(tmp_path, "stranger")
        with pytest.raises(PeerUnreachable, match="SSLCertVerificationError"):
            await send(report(), peer(cart.address, ClientTlsSettings(ca=stranger.certificate)), 10)
        with pytest.raises(SettingsError, match=r"dicom\.peers: tls"):
            await send(report(), peer(cart.address, ClientTlsSettings(ca=tmp_path / "none.pem")), 10)
    assert len(cart.journal) == 1
