"""The pretended HIS and cart, against scripted peers, pynetdicom's SCP and DCMTK's storescp."""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import General32bitECGWaveformStorage

from bridge.cli.send_command import command
from bridge.errors import BadInput
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.sandbox.ecg_object import Kind, Scale, Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from bridge.sandbox.peer import Address, AddressError, PeerError, client_tls
from tests import authority
from tests.ports import free_port

SAMPLES = Path(__file__).parents[2] / "sample_messages"
MESSAGE = b"MSH|^~\\&|KIS|TEST|||20260914||ADT^A04|ID-7|P|2.5.1\rPID|1||T1^^^TEST^MR||Testfrau^Erika\r"


def message(control_id: str) -> bytes:
    return MESSAGE.replace(b"ID-7", control_id.encode())


def ack(body: bytes, code: str = "AA", text: str = "task=1") -> bytes:
    told = b"".join(
        b"MSA|%b|%b|%b\r" % (code.encode(), control_id, text.encode()) for control_id in mllp_sender.control_ids(body)
    )
    return b"MSH|^~\\&|||||||ACK|1|P|2.5.1\r" + told


def framed(body: bytes) -> bytes:
    return b"\x0b" + body + b"\x1c\r"


@contextlib.asynccontextmanager
async def mllp_peer(*replies, tls=None):
    """A listener whose n-th frame, over all connections, is handled by the n-th reply (the last one repeats).

    A reply is bytes to write, a function of the body that gives them, or None: close. Yields port, bodies seen.
    """
    seen: list[bytes] = []
    talking: dict[asyncio.Task, asyncio.StreamWriter] = {}

    async def talk(reader, writer):
        talking[asyncio.current_task()] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await reader.readuntil(b"\x1c\r")
                reply = replies[min(len(seen), len(replies) - 1)]
                seen.append(frame.removeprefix(b"\x0b").removesuffix(b"\x1c\r"))
                if reply is None:
                    break
                writer.write(reply(seen[-1]) if callable(reply) else reply)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        for writer in talking.values():
            writer.transport.abort()
        await asyncio.gather(*talking)


def honest(body: bytes) -> bytes:
    return framed(ack(body))


async def test_one_message_is_framed_and_its_answer_unframed():
    async with mllp_peer(honest) as (port, seen):
        answer = await mllp_sender.send("127.0.0.1", port, MESSAGE, timeout=5)
    assert seen == [MESSAGE]
    assert mllp_sender.answers(answer) == [mllp_sender.Answer("AA", b"ID-7", "task=1")]


async def test_a_connection_is_kept_for_the_next_message_and_pipelining_keeps_the_order():
    many = [message(f"P{number}") + b"NTE|1||" + b"x" * 20_000 for number in range(60)]
    async with (
        mllp_peer(honest) as (port, seen),
        await mllp_sender.Connection.open("127.0.0.1", port, timeout=10) as connection,
    ):
        for number in range(3):
            await connection.send(message(f"S{number}"))
        answers = await connection.pipeline(many)
    assert [mllp_sender.control_ids(body)[0] for body in seen[:3]] == [b"S0", b"S1", b"S2"]
    assert seen[3:] == many
    assert [mllp_sender.answers(answer)[0].control_id for answer in answers] == [b"P%d" % n for n in range(60)]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda body: framed(ack(message("OTHER"))), "another message"),
        (lambda body: framed(ack(message("ID-7 "))), "another message"),
        (framed(b"MSH|^~\\&|||||||ACK|1|P|2.5.1\r"), "no MSA"),
        (b"HTTP/1.1 400 Bad Request\x1c\r", "no MLLP listener"),
        (None, "without an answer"),
    ],
    ids=["other id", "id with a blank more", "no MSA", "no VT", "closed"],
)
async def test_hl7_v2_2_9_2_an_answer_that_is_not_ours_is_no_answer(reply, says):
    async with mllp_peer(reply) as (port, _):
        with pytest.raises(PeerError, match=says) as told:
            await mllp_sender.send("127.0.0.1", port, MESSAGE, timeout=5)
    assert f"127.0.0.1:{port}" in str(told.value)
    assert "Testfrau" not in str(told.value)


async def test_unchecked_any_frame_is_an_answer():
    async with (
        mllp_peer(framed(b"MSH|?")) as (port, _),
        await mllp_sender.Connection.open("127.0.0.1", port, timeout=5, checked=False) as connection,
    ):
        assert await connection.send(MESSAGE) == b"MSH|?"


async def test_a_batch_is_answered_message_by_message():
    batch = b"BHS|^~\\&|KIS\r" + message("A") + message("B") + b"BTS|2\r"
    async with mllp_peer(honest) as (port, _):
        answer = await mllp_sender.send("127.0.0.1", port, batch, timeout=5)
    assert [one.control_id for one in mllp_sender.answers(answer)] == [b"A", b"B"]


async def test_control_ids_and_answers_follow_the_senders_own_delimiters():
    assert mllp_sender.control_ids(b"MSH#*~\\&#K#####ADT*A01###") == [b""]
    assert mllp_sender.control_ids(b"\xef\xbb\xbf" + MESSAGE.replace(b"\r", b"\r\n")) == [b"ID-7"]
    assert mllp_sender.answers(b"MSH#*~\\&#\rMSA#AE#X|1#t\r") == [mllp_sender.Answer("AE", b"X|1", "t")]
    assert mllp_sender.control_ids(b"MSH") == [b""]


async def test_silence_ends_with_the_deadline_and_nobody_there_is_said_so():
    async with mllp_peer(b"") as (port, _):
        with pytest.raises(PeerError, match=r"no answer within 0\.1 s"):
            await mllp_sender.send("127.0.0.1", port, MESSAGE, timeout=0.1)
    with pytest.raises(PeerError, match=f"127.0.0.1:{port} cannot be reached: Connection refused"):
        await mllp_sender.send("127.0.0.1", port, MESSAGE, timeout=5)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "server.pem", folder / "server.key"
    authority.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", key,
        "-out", made, "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
    return made, key


def server_context(certificate, *, ask=False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if ask:
        context.load_verify_locations(certificate[0])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_mllp_over_tls_verifies_the_listener_and_shows_itself(certificate):
    both = client_tls(authority=certificate[0], certificate=certificate[0], key=certificate[1])
    async with mllp_peer(honest, tls=server_context(certificate, ask=True)) as (port, seen):
        await mllp_sender.send("127.0.0.1", port, MESSAGE, tls=both, timeout=5)
        with pytest.raises(PeerError, match="agree on no TLS"):
            await mllp_sender.send("127.0.0.1", port, MESSAGE, tls=client_tls(), timeout=5)
        with pytest.raises(PeerError):  # it shows no certificate
            await mllp_sender.send("127.0.0.1", port, MESSAGE, tls=client_tls(authority=certificate[0]), timeout=5)
    assert seen == [MESSAGE]


def test_tls_files_that_cannot_be_used_are_named(tmp_path, certificate):
    for given in (
        {"authority": tmp_path / "no.pem"},
        {"certificate": tmp_path / "no.pem"},
        {"key": tmp_path / "no.pem"},
    ):
        with pytest.raises(AddressError, match=r"no\.pem"):
            client_tls(**given)
    with pytest.raises(AddressError, match=r"server\.pem"):
        client_tls(certificate=certificate[0])


@pytest.mark.parametrize("text", ["", "2575", "host", "host:", ":2575", "host:0", "host:65536", "host:x", "host:²"])
def test_an_address_that_is_none_says_how_one_looks(text):
    with pytest.raises(AddressError, match=r"127\.0\.0\.1:2575"):
        Address.parse(text)


def test_addresses_of_both_families():
    assert Address.parse("[::1]:2575") == Address("::1", 2575)
    assert str(Address("::1", 2575)) == "[::1]:2575"
    assert str(Address.parse("his.test:2575")) == "his.test:2575"


# DICOM


def dataset_bytes(path: Path) -> bytes:
    """The data set of a DICOM file: what follows the file meta (PS3.10 §7.1)."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[140:144], "little")
    return raw[144 + length :]


@contextlib.contextmanager
def dicom_peer(statuses=(0x0000,), *, tls=None, called="CARDIOBRIDGE", contexts=AllStoragePresentationContexts):
    """The SCP of pynetdicom: keeps what comes byte for byte, answers with the statuses in turn."""
    kept: list[tuple[str, str, bytes]] = []

    def store(event):
        status = statuses[min(len(kept), len(statuses) - 1)]
        data = event.request.DataSet.getvalue()
        kept.append((event.context.abstract_syntax, event.context.transfer_syntax, data))
        return status

    ae = AE(ae_title=called)
    ae.require_called_aet = True
    ae.supported_contexts = contexts
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)], ssl_context=tls)
    try:
        yield server.server_address[1], kept
    finally:
        server.shutdown()


def test_every_sample_goes_out_byte_for_byte_in_its_own_class_and_syntax():
    paths = sorted(SAMPLES.glob("*.dcm"))
    with dicom_peer() as (port, kept):
        assert dicom_sender.store("127.0.0.1", port, paths) == [0] * len(paths)
    assert [data for _, _, data in kept] == [dataset_bytes(path) for path in paths]
    assert General32bitECGWaveformStorage in {sop_class for sop_class, _, _ in kept}
    assert {syntax for _, syntax, _ in kept} == {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}


def test_statuses_come_back_in_order_and_say_what_was_taken():
    path = SAMPLES / "10_ecg_holter.dcm"
    with dicom_peer((0x0000, 0xA700, 0xB007, 0xC000)) as (port, _):
        assert dicom_sender.store("127.0.0.1", port, [path] * 4) == [0x0000, 0xA700, 0xB007, 0xC000]
    assert [dicom_sender.Stored(s).taken for s in (0, 1, 0xB007, 0xA700, 0xC000, 0x0122)] == [True] * 3 + [False] * 3


def rejections(reasons: list[int]) -> list[str]:
    """What our cart says of a peer that rejects it with these reasons and ends the connection at once."""

    def reject(server: socket.socket) -> None:
        for reason in reasons:
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, reason]))

    told = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = threading.Thread(target=reject, args=(server,))
        peer.start()
        for _ in reasons:
            with pytest.raises(PeerError) as why:
                dicom_sender.echo(*server.getsockname(), timeout=2)
            told.append(str(why.value).partition("rejected the association: ")[2])
        peer.join()
    return told


def test_a_rejection_that_ends_the_connection_at_once_is_told_each_time():
    assert set(rejections([7] * 150)) == {"Rejected (Permanent), Called AE title not recognised"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # pynetdicom's own thread
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_rejection_for_a_reason_that_no_table_knows_is_told_by_its_numbers():
    assert rejections([99]) == ["result 1, source 1, reason 99"]


def test_c_echo_and_a_rejected_association():
    with dicom_peer() as (port, _):
        assert dicom_sender.echo("127.0.0.1", port) == 0
        with pytest.raises(PeerError, match=r"rejected the association.*[Cc]alled AE"):
            dicom_sender.echo("127.0.0.1", port, called="SOMEBODY")
        with pytest.raises(PeerError, match=r"no-such-host\.invalid"):
            dicom_sender.echo("no-such-host.invalid", port)
    with pytest.raises(PeerError, match=f"127.0.0.1:{port} cannot be reached"):
        dicom_sender.echo("127.0.0.1", port)


def test_a_class_that_is_not_taken_is_said_so():
    general = SAMPLES / "08_ecg_32_bit.dcm"
    known = [cx for cx in AllStoragePresentationContexts if cx.abstract_syntax != General32bitECGWaveformStorage]
    with dicom_peer(contexts=known[:100]) as (port, kept), pytest.raises(PeerError, match="none of the classes"):
        dicom_sender.store("127.0.0.1", port, [general])
    assert kept == []


def test_a_file_that_is_no_dicom_file_is_named_before_anything_is_sent(tmp_path):
    wrong = tmp_path / "wrong.dcm"
    wrong.write_bytes(b"\x00" * 200)
    with pytest.raises(BadInput, match=r"wrong\.dcm"):
        dicom_sender.store("127.0.0.1", 1, [wrong])


def test_dicom_over_tls(certificate):
    with dicom_peer(tls=server_context(certificate)) as (port, kept):
        trusting = client_tls(authority=certificate[0])
        assert dicom_sender.store("127.0.0.1", port, [SAMPLES / "10_ecg_holter.dcm"], tls=trusting) == [0]
        with pytest.raises(PeerError, match="cannot be reached with TLS"):
            dicom_sender.echo("127.0.0.1", port, tls=client_tls())
    assert len(kept) == 1


@pytest.mark.peer
async def test_dcmtk_storescp_takes_what_the_cart_sends(peer, tmp_path):
    storescp, port = peer("storescp"), free_port()
    server = await asyncio.create_subprocess_exec(
        storescp, "-v", "-aet", "CARDIOBRIDGE", "-od", tmp_path, "+xa", str(port),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        # DCMTK 3.6.7 does not know the 32-bit class (dicom_ecg.md §1)
        paths = [path for path in sorted(SAMPLES.glob("*.dcm")) if "32_bit" not in path.name]
        statuses: list[int] = []
        for _ in range(100):  # it says nothing when it listens; a refused connection takes its time
            with contextlib.suppress(PeerError):
                statuses = await asyncio.to_thread(dicom_sender.store, "127.0.0.1", port, paths)
                break
        assert statuses == [0] * len(paths)
    finally:
        server.terminate()
        await server.communicate()
    assert len([path for path in tmp_path.iterdir() if path.is_file()]) == len(paths)


@pytest.mark.peer
async def test_dcmtk_storescu_sends_what_we_build(peer, tmp_path):
    storescu = peer("storescu")
    own = tmp_path / "own.dcm"
    made = build(
        ecg(seconds=2, rate=1000), rate=1000, seed="own", subject=Subject("T1", "Testfrau^Erika"),
        start=datetime(2026, 9, 14, 8, 0), kind=Kind.GENERAL, scale=Scale(), implicit=True,  # noqa: DTZ001  a cart without a zone
    )  # fmt: skip
    write(own, made)
    with dicom_peer() as (port, kept):
        sent = await asyncio.create_subprocess_exec(
            storescu, "-R", "-aec", "CARDIOBRIDGE", "127.0.0.1", str(port), own, SAMPLES / "03_ecg_for_order.dcm",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await asyncio.wait_for(sent.communicate(), 30)
    assert sent.returncode == 0, told
    assert len(kept) == 2


# bridge send


async def run(*arguments: object):
    return await asyncio.to_thread(CliRunner().invoke, command, [str(a) for a in arguments])


async def test_send_prints_a_line_a_file_and_exits_1_where_one_was_refused():
    files = [SAMPLES / "01_adt_a04_register.hl7", SAMPLES / "19_mdm_t02_not_handled.hl7"]
    refusal = lambda body: framed(ack(body, "AR", "Unsupported message type"))  # noqa: E731  a reply of the script
    async with mllp_peer(honest, refusal) as (port, seen):
        result = await run(*files, "--to", f"127.0.0.1:{port}", "--answer")
    assert result.exit_code == 1
    assert seen == [path.read_bytes() for path in files]
    lines = result.output.splitlines()
    assert re.fullmatch(rf"{re.escape(str(files[0]))}  AA  task=1  \d+ ms", lines[0])
    assert any(re.search(r"19_mdm.*  AR  Unsupported message type  \d+ ms$", line) for line in lines)
    assert "MSA|AA|MSG00001|task=1" in lines, "--answer gives a line to each segment"


async def test_send_all_taken_is_0_and_repeats_are_counted_in_one_line():
    async with mllp_peer(honest) as (port, seen):
        path = SAMPLES / "02_orm_o01_order.hl7"
        result = await run(path, "--to", f"127.0.0.1:{port}", "--repeat", 12, "--parallel", 3)
    assert result.exit_code == 0, result.output
    assert len(seen) == 12
    assert re.search(r"AA  task=1 x12  median \d+ ms, longest \d+ ms\n$", result.output)
    assert result.output.count("\n") == 1


async def test_send_a_lost_answer_is_said_and_the_next_file_gets_a_new_connection():
    files = [SAMPLES / "01_adt_a04_register.hl7", SAMPLES / "02_orm_o01_order.hl7"]
    async with mllp_peer(None, honest) as (port, seen):
        result = await run(*files, "--to", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert len(seen) == 2
    first, second = result.output.splitlines()
    assert "01_adt" in first
    assert "no answer: " in first
    assert "AA" in second


async def test_send_plays_a_cart_for_dicom_files():
    files = [SAMPLES / "10_ecg_holter.dcm", SAMPLES / "14_ecg_without_order.dcm"]
    with dicom_peer((0x0000, 0xA700)) as (port, kept):
        result = await run(*files, "--to", f"127.0.0.1:{port}", "--calling", "CART9")
    assert result.exit_code == 1
    assert len(kept) == 2
    assert re.search(r"10_ecg_holter\.dcm  0000  \d+ ms\n.*14_ecg_without_order\.dcm  A700  \d+ ms\n", result.output)


async def test_send_dicom_in_parallel_over_several_associations():
    with dicom_peer() as (port, kept):
        path = SAMPLES / "18_ecg_without_sensitivity.dcm"
        result = await run(path, "--to", f"127.0.0.1:{port}", "--repeat", 6, "--parallel", 2)
    assert result.exit_code == 0, result.output
    assert len(kept) == 6


async def test_send_refuses_what_it_cannot_send_and_names_it(tmp_path):
    other = tmp_path / "note.txt"
    other.write_text("hello")
    neither = await run(other, "--to", "127.0.0.1:1")
    assert isinstance(neither.exception, BadInput)
    assert "note.txt" in str(neither.exception)
    missing = await run(tmp_path / "gone.hl7", "--to", "127.0.0.1:1")
    assert "gone.hl7: cannot be read" in str(missing.exception)
    mixed = await run(SAMPLES / "01_adt_a04_register.hl7", SAMPLES / "10_ecg_holter.dcm", "--to", "127.0.0.1:1")
    assert mixed.exit_code == 2
    assert "two commands" in mixed.output


async def test_send_over_tls(certificate):
    async with mllp_peer(honest, tls=server_context(certificate, ask=True)) as (port, _):
        result = await run(
            SAMPLES / "01_adt_a04_register.hl7", "--to", f"127.0.0.1:{port}",
            "--tls-ca", certificate[0], "--tls-cert", certificate[0], "--tls-key", certificate[1],
        )  # fmt: skip
    assert result.exit_code == 0, result.output
