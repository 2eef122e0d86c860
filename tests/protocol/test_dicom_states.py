"""PS3.8 table 9-10, event by event, as far as an acceptor can come: a scripted peer, PDU by PDU."""

import errno
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)

from bridge.receive.dicom import association
from bridge.receive.dicom.operations import PENDING
from bridge.receive.dicom.pdus import MOST
from tests.acceptance.test_ecg_to_task import recording
from tests.protocol.dicom_door import Door, door
from tests.protocol.dicom_peer import (
    ABORT,
    EXPLICIT,
    IMPLICIT,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    TWELVE_LEAD,
    VERIFICATION,
    Peer,
    cancel_command,
    data_set_of,
    echo_command,
    honest_echo,
    p_data,
    request,
    store_command,
    store_pdus,
    until,
)

ACCEPT = bytes((2, 0)) + request()[2:]
SERVICE_USER, SERVICE_PROVIDER = 0, 2
UNRECOGNIZED, UNEXPECTED, INVALID = 1, 2, 6


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Door]:
    with door(tmp_path) as opened:
        yield opened


@pytest.fixture
def peer(up: Door) -> Iterator[Peer]:
    with Peer.to(up.address) as connected:
        yield connected


def aborted(peer: Peer) -> tuple[int, int]:
    """Source and reason of the A-ABORT that comes, and then the connection ends."""
    pdu = peer.pdu()
    assert pdu[:1] == b"\x07", pdu[:1]
    said = A_ABORT_RQ()
    said.decode(pdu)
    return said.source, said.reason_diagnostic


def rejected(peer: Peer) -> tuple[int, int, int]:
    pdu = peer.pdu()
    assert pdu[:1] == b"\x03", pdu[:1]
    said = A_ASSOCIATE_RJ()
    said.decode(pdu)
    return said.result, said.source, said.reason_diagnostic


def is_accepted(up: Door) -> bool:
    with Peer.to(up.address) as peer:
        peer.send(request())
        return peer.kind() == "ASSOCIATE-AC"


# --- Sta2: a connection, and no request yet ---------------------------------------------------------------------


@pytest.mark.parametrize("pdu", [ACCEPT, REJECT, p_data(b"x"), RELEASE_RQ, RELEASE_RP], ids=str)
def test_ps3_8_9_2_sta2_anything_but_a_request_is_aborted_aa1(peer: Peer, pdu: bytes) -> None:
    peer.send(pdu)
    assert aborted(peer)[0] == SERVICE_USER
    peer.sock.shutdown(1)
    assert peer.kind() == "closed"


def test_ps3_8_9_2_sta2_an_abort_ends_the_connection_aa2(peer: Peer) -> None:
    peer.send(ABORT)
    assert peer.kind() == "closed"


@pytest.mark.parametrize("kind", [0, 8, 0x47, 0xFF])
def test_ps3_8_9_2_sta2_a_pdu_of_no_type_is_aborted_aa1(peer: Peer, kind: int) -> None:
    peer.send(bytes((kind, 0, 0, 0, 0, 4)) + bytes(4))
    assert aborted(peer)[0] == SERVICE_USER


def test_ps3_8_9_2_sta2_a_peer_that_goes_leaves_nothing(up: Door, peer: Peer) -> None:
    peer.sock.close()
    until(lambda: not up.acceptor.busy)
    assert honest_echo(up.address) >= 0


def test_ps3_8_9_3_2_a_request_that_is_cut_or_garbled_is_aborted(up: Door) -> None:
    whole = request()
    for end in range(74, len(whole), 7):
        cut = whole[:2] + struct.pack(">I", end - 6) + whole[6:end]
        with Peer.to(up.address) as peer:
            peer.send(cut)
            assert peer.kind() in {"ABORT", "ASSOCIATE-AC"}  # one that ends between two items is a request too
    garbled = bytearray(whole)
    garbled[76:78] = b"\xff\xff"
    with Peer.to(up.address) as peer:
        peer.send(bytes(garbled))
        assert aborted(peer)[0] == SERVICE_USER


# --- A-ASSOCIATE: who and for what ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "wanted", "told"),
    [
        ({}, {"called": "SOMEBODY"}, (1, 1, 7)),
        ({"calling_ae_titles": ("CART1",)}, {"calling": "CART2"}, (1, 1, 3)),
        ({"allow": ("10.0.0.0/8",)}, {}, (1, 1, 1)),
        ({"max_associations_per_peer": 1}, {}, (2, 3, 2)),
        ({"max_associations": 1}, {}, (2, 3, 2)),
    ],
    ids=["called", "calling", "address", "too-many-of-the-peer", "too-many"],
)
def test_ps3_8_9_3_4_the_rejection_says_why(
    tmp_path: Path, settings: dict[str, Any], wanted: dict[str, Any], told: tuple[int, int, int]
) -> None:
    with door(tmp_path, **settings) as up:
        first = Peer.to(up.address)
        if told == (2, 3, 2):
            first.open()
        with Peer.to(up.address) as peer:
            peer.send(request(**wanted))
            assert rejected(peer) == told
        first.sock.close()


def test_ps3_8_9_3_4_the_limit_of_associations_is_exact_and_ends_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association, "PARTING", 60.0)
    with door(tmp_path, max_associations=3) as up:
        peers = [Peer.to(up.address) for _ in range(3)]
        for one in peers:
            one.open()
        with Peer.to(up.address) as fourth:
            fourth.send(request())
            assert rejected(fourth) == (2, 3, 2)
        peers[0].send(RELEASE_RQ)
        assert peers[0].kind() == "RELEASE-RP"  # it has not closed, and holds nobody up
        until(lambda: is_accepted(up))  # its thread may have no turn yet; its connection is there all the while
        for one in peers:
            one.sock.close()


def test_ps3_8_9_3_4_another_protocol_version_and_another_application_context(up: Door) -> None:
    for at, value, told in ((7, b"\x02", (1, 2, 2)), (78, b"9", (1, 1, 2))):
        asked = bytearray(request())
        asked[at : at + 1] = value
        with Peer.to(up.address) as peer:
            peer.send(bytes(asked))
            assert rejected(peer) == told


def test_ps3_8_9_3_3_each_context_gets_its_result(peer: Peer) -> None:
    wanted = {
        VERIFICATION: (IMPLICIT,),
        TWELVE_LEAD: (IMPLICIT, EXPLICIT),
        "1.2.840.10008.5.1.4.1.1.2": (IMPLICIT,),  # CT
        "1.2.840.10008.5.1.4.1.1.9.1.2": ("1.2.840.10008.1.2.1.99",),  # deflated
        "1.2.840.10008.5.1.4.1.1.9.1.3": ("1.2.840.10008.1.2.2",),  # big endian
    }
    accepted = peer.open(contexts=wanted)
    found = {item.presentation_context_id: item for item in accepted.presentation_context}
    assert [found[n].result for n in (1, 3, 5, 7, 9)] == [0, 0, 3, 4, 4]
    assert found[3].transfer_syntax == EXPLICIT, "ours counts: explicit first"
    assert accepted.user_information.maximum_length == 131072


def test_ps3_8_9_3_1_items_that_nobody_knows_are_passed_over(peer: Peer) -> None:
    unknown = bytes((0x99, 0)) + struct.pack(">H", 3) + b"abc"
    whole = request()
    whole = whole[:74] + unknown + whole[74:] + unknown
    user = whole.rindex(b"\x50\x00")
    (length,) = struct.unpack(">H", whole[user + 2 : user + 4])
    whole = whole[: user + 2] + struct.pack(">H", length + len(unknown)) + unknown + whole[user + 4 :]
    peer.send(whole[:2] + struct.pack(">I", len(whole) - 6) + whole[6:])
    assert peer.kind() == "ASSOCIATE-AC"
    assert peer.echo() == 0


def test_ps3_7_d_3_3_3_several_operations_at_once_are_not_agreed_to(peer: Peer) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    agreed = peer.open(more=(window,)).user_information.async_ops_window
    assert (agreed.maximum_number_operations_invoked, agreed.maximum_number_operations_performed) == (1, 1)


@pytest.mark.parametrize(
    ("proposed", "replied", "result"), [((1, 0), (1, 0), 0), ((1, 1), (1, 0), 0), ((0, 1), None, 1)]
)
def test_ps3_7_d_3_3_4_we_are_the_provider_and_nothing_else(
    peer: Peer, proposed: tuple[int, int], replied: tuple[int, int] | None, result: int
) -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = TWELVE_LEAD, bool(proposed[0]), bool(proposed[1])
    accepted = peer.open(more=(role,))
    assert [item.result for item in accepted.presentation_context] == [0, result]
    told = accepted.user_information.role_selection.get(TWELVE_LEAD)
    if replied is not None:
        assert (told.scu_role, told.scp_role) == replied


def test_ps3_7_d_3_3_7_a_user_name_is_passed_over(peer: Peer) -> None:
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field, user.secondary_field = 2, b"somebody", b"secret"
    user.positive_response_requested = True
    assert peer.open(more=(user,)).user_information.user_identity is None


def test_ps3_8_7_1_1_13_contexts_need_numbers_of_their_own(peer: Peer) -> None:
    whole = bytearray(request())
    whole[whole.index(b"\x20\x00", whole.index(b"\x20\x00", 74) + 1) + 4] = 1
    peer.send(bytes(whole))
    assert aborted(peer)[0] == SERVICE_USER


# --- Sta6: established ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (request(), UNEXPECTED),
        (ACCEPT, UNEXPECTED),
        (REJECT, UNEXPECTED),
        (RELEASE_RP, UNEXPECTED),
        (bytes((9, 0, 0, 0, 0, 4)) + bytes(4), UNRECOGNIZED),
        (bytes((4, 0)) + struct.pack(">I", MOST + 1), INVALID),
        (bytes((5, 0)) + struct.pack(">I", 5) + bytes(5), INVALID),
        (bytes((4, 0, 0, 0, 0, 0)), INVALID),
        (bytes((4, 0, 0, 0, 0, 4)) + bytes(4), INVALID),
        (bytes((4, 0, 0, 0, 0, 6)) + struct.pack(">IBB", 9, 1, 3), INVALID),
        (bytes((4, 0, 0, 0, 0, 6)) + struct.pack(">IBB", 1, 1, 3), INVALID),
        (p_data(echo_command(), context=5, command=True), INVALID),
        (p_data(b"data without a command"), INVALID),
        (p_data(b"\1\2\3", command=True), INVALID),
        (p_data(echo_command()[:-3], command=True), INVALID),
        (p_data(bytes(20_000), command=True), INVALID),
        (p_data(struct.pack("<HHLH", 0, 0x0100, 2, 0x30), command=True), INVALID),
        (p_data(struct.pack("<HHLHHHLH", 0, 0x0100, 2, 0x30, 0, 0x0800, 2, 0x0101), command=True), INVALID),
    ],
    ids=lambda v: v[:14].hex() if isinstance(v, bytes) else str(v),
)
def test_ps3_8_9_2_sta6_what_has_no_place_is_aborted_aa8(up: Door, peer: Peer, pdu: bytes, reason: int) -> None:
    peer.open()
    peer.send(pdu)
    assert aborted(peer) == (SERVICE_PROVIDER, reason)
    peer.sock.shutdown(1)
    assert peer.kind() == "closed"
    assert honest_echo(up.address) >= 0


def test_ps3_8_9_2_sta6_echo_and_release_ar2_ar4(peer: Peer) -> None:
    peer.open()
    assert [peer.echo(), peer.echo()] == [0, 0]
    peer.send(RELEASE_RQ)
    assert peer.kind() == "RELEASE-RP"
    peer.sock.shutdown(1)
    assert peer.kind() == "closed"


def test_ps3_8_9_2_sta6_an_abort_ends_it_aa3(up: Door, peer: Peer) -> None:
    peer.open()
    peer.send(ABORT)
    assert peer.kind() == "closed"
    until(lambda: up.acceptor.associations == 0)


def test_ps3_7_6_3_1_a_command_in_pieces_and_several_values_in_a_pdu(peer: Peer) -> None:
    peer.open()
    command = echo_command()
    peer.send(*(p_data(command[n : n + 1], command=True, last=n == len(command) - 1) for n in range(len(command))))
    assert peer.answer().Status == 0
    pieces = p_data(command[:10], command=True, last=False)[6:] + p_data(command[10:], command=True)[6:]
    peer.send(bytes((4, 0)) + struct.pack(">I", len(pieces)) + pieces)
    assert peer.answer().Status == 0


def test_ps3_7_9_3_2_3_a_cancel_of_nothing_is_passed_over(peer: Peer) -> None:
    peer.open()
    peer.send(p_data(cancel_command(7), command=True))
    assert peer.echo() == 0


def test_ps3_7_6_3_a_piece_of_another_context_in_an_object_is_aborted(up: Door, tmp_path: Path, peer: Peer) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    peer.open()
    pdus = store_pdus(uid, data_set)
    peer.send(*pdus[:3], p_data(echo_command(), command=True))
    assert aborted(peer) == (SERVICE_PROVIDER, INVALID)
    until(lambda: not up.spooled())
    assert up.rows() == []


@pytest.mark.parametrize("end", [RELEASE_RQ, ABORT], ids=["release", "abort"])
@pytest.mark.parametrize("after", range(1, 9))
def test_f4_a_release_or_an_abort_inside_an_object_leaves_nothing(
    up: Door, tmp_path: Path, peer: Peer, end: bytes, after: int
) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    pdus = store_pdus(uid, data_set)
    assert len(pdus) > after
    peer.open()
    peer.send(*pdus[:after], end)
    assert peer.kind() == ("RELEASE-RP" if end is RELEASE_RQ else "closed")
    until(lambda: not up.spooled())
    assert (up.rows(), up.kept()) == ([], [])


def test_ps3_7_annex_c_an_operation_that_is_none_of_ours(peer: Peer) -> None:
    peer.open()
    command = bytearray(store_command("1.2.3"))
    at = command.index(struct.pack("<HHL", 0, 0x0100, 2)) + 8
    command[at : at + 2] = struct.pack("<H", 0x0020)  # C-FIND on a storage class
    peer.send(p_data(bytes(command), context=3, command=True), p_data(b"data set", context=3))
    message = peer.pdu()
    assert struct.pack("<HHLH", 0, 0x0900, 2, 0x0211) in message
    assert peer.echo() == 0, "and the association goes on"


def test_ps3_7_annex_c_a_class_that_is_not_the_contexts(peer: Peer) -> None:
    peer.open()
    peer.send(*store_pdus("1.2.3", b"12", context=1))
    assert peer.answer().Status == 0x0122


# --- Sta7 to Sta13: the release that we ask for, and the end ----------------------------------------------------


@pytest.fixture
def leaving(up: Door, peer: Peer) -> Iterator[Peer]:
    """An association whose acceptor stops: it asks for the release (Sta7)."""
    peer.open()
    stopping = threading.Thread(target=up.acceptor.stop)
    stopping.start()
    assert peer.kind() == "RELEASE-RQ"
    yield peer
    peer.sock.close()
    stopping.join(15)
    assert not stopping.is_alive()


def test_ps3_8_9_2_sta7_the_peer_answers_ar3(leaving: Peer) -> None:
    leaving.send(RELEASE_RP)
    assert leaving.kind() == "closed"


def test_ps3_8_9_2_sta7_the_peer_asks_at_the_same_moment_ar8_ar10_ar4(leaving: Peer) -> None:
    leaving.send(RELEASE_RQ, RELEASE_RP)
    assert leaving.kind() == "RELEASE-RP"
    leaving.sock.shutdown(1)
    assert leaving.kind() == "closed"


def test_ps3_8_9_2_sta7_data_that_crosses_is_passed_over_ar6(leaving: Peer) -> None:
    leaving.send(p_data(echo_command(), command=True), RELEASE_RP)
    assert leaving.kind() == "closed"


@pytest.mark.parametrize("pdu", [request(), ACCEPT, REJECT], ids=["request", "accept", "reject"])
def test_ps3_8_9_2_sta7_anything_else_is_aborted_aa8(leaving: Peer, pdu: bytes) -> None:
    leaving.send(pdu)
    assert aborted(leaving) == (SERVICE_PROVIDER, UNEXPECTED)


@pytest.mark.parametrize("pdu", [RELEASE_RQ, p_data(echo_command(), command=True)], ids=["release", "data"])
def test_ps3_8_9_2_sta10_only_the_answer_may_follow_aa8(leaving: Peer, pdu: bytes) -> None:
    leaving.send(RELEASE_RQ, pdu)
    assert aborted(leaving) == (SERVICE_PROVIDER, UNEXPECTED)


def test_ps3_8_9_2_sta7_an_abort_ends_it_aa3(leaving: Peer) -> None:
    leaving.send(ABORT)
    assert leaving.kind() == "closed"


def test_ps3_8_9_1_5_a_peer_that_never_answers_the_release_is_aborted(leaving: Peer) -> None:
    assert leaving.kind() == "ABORT"


def test_ps3_8_9_2_sta13_what_comes_before_the_close_counts_no_more_aa6_aa7(peer: Peer) -> None:
    peer.open()
    peer.send(RELEASE_RQ, p_data(echo_command(), command=True), RELEASE_RQ, ACCEPT, request())
    assert [peer.kind(), peer.kind()] == ["RELEASE-RP", "ABORT"]
    peer.send(ABORT)
    assert peer.kind() == "closed"


def test_ps3_8_9_1_5_sta13_a_peer_that_does_not_close_is_closed(up: Door, peer: Peer) -> None:
    peer.open()
    peer.send(RELEASE_RQ)
    assert [peer.kind(), peer.kind()] == ["RELEASE-RP", "closed"]
    until(lambda: not up.acceptor.busy)


def test_f43_an_object_that_is_coming_in_is_taken_before_the_listener_stops(
    up: Door, tmp_path: Path, peer: Peer
) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    pdus = store_pdus(uid, data_set)
    peer.open()
    peer.send(*pdus[:4])
    until(up.spooled)
    stopping = threading.Thread(target=up.acceptor.stop)
    stopping.start()
    peer.send(*pdus[4:])
    assert peer.answer().Status == 0
    assert peer.kind() == "RELEASE-RQ"
    peer.send(RELEASE_RP)
    stopping.join(15)
    assert not stopping.is_alive()
    assert len(up.rows()) == 1


# --- C-FIND's many answers --------------------------------------------------------------------------------------


class Endless:
    """A worklist that has always one more."""

    def find(self, identifier: bytes, transfer_syntax_uid: str, session: Any) -> Iterator[tuple[int, bytes]]:
        while True:
            yield PENDING, identifier


def test_ps3_4_c_4_1_a_cancel_ends_the_answers(tmp_path: Path) -> None:
    worklist = "1.2.840.10008.5.1.4.31"
    with door(tmp_path, worklist=Endless()) as up, Peer.to(up.address) as peer:
        peer.open(contexts={worklist: (IMPLICIT,)})
        command = store_command("1.2.3", sop_class=worklist, number=9).replace(
            struct.pack("<HHLH", 0, 0x0100, 2, 0x0001), struct.pack("<HHLH", 0, 0x0100, 2, 0x0020)
        )
        peer.send(p_data(command, command=True), p_data(b"\x08\x00\x52\x00\x00\x00\x00\x00"))
        assert [peer.answer().Status for _ in range(3)] == [PENDING] * 3
        peer.send(p_data(cancel_command(9), command=True))
        while (status := peer.answer().Status) == PENDING:
            pass
        assert status == 0xFE00


@pytest.mark.parametrize("end", ["in-pieces", "of-another-first", "release", "half-a-pdu"])
def test_ps3_7_9_3_2_3_what_comes_while_answers_go_out(tmp_path: Path, end: str) -> None:
    """A cancel may come in pieces, or be of something else; a release ends the answers; half a PDU stops nothing."""
    worklist = "1.2.840.10008.5.1.4.31"
    with door(tmp_path, worklist=Endless()) as up, Peer.to(up.address) as peer:
        peer.open(contexts={worklist: (IMPLICIT,)})
        command = store_command("1.2.3", sop_class=worklist, number=9).replace(
            struct.pack("<HHLH", 0, 0x0100, 2, 0x0001), struct.pack("<HHLH", 0, 0x0100, 2, 0x0020)
        )
        peer.send(p_data(command, command=True), p_data(b"\x08\x00\x52\x00\x00\x00\x00\x00"))
        assert peer.answer().Status == PENDING
        cancel, other = cancel_command(9), p_data(cancel_command(8), command=True)
        pieces = p_data(cancel[:9], command=True, last=False), p_data(cancel[9:], command=True)
        if end == "half-a-pdu":
            peer.send(pieces[0][:7])
            assert [peer.answer().Status for _ in range(50)] == [PENDING] * 50
            peer.send(pieces[0][7:], pieces[1])
        elif end == "release":
            peer.send(RELEASE_RQ)
        else:
            peer.send(*(pieces if end == "in-pieces" else (other, other, p_data(cancel, command=True))))
        while (status := peer.answer().Status) == PENDING:
            pass
        assert status == 0xFE00
        if end == "release":
            assert peer.kind() == "RELEASE-RP"


def test_f43_a_connection_that_asked_for_nothing_holds_up_no_stop(up: Door, peer: Peer) -> None:
    until(lambda: up.acceptor.busy)
    stopping = threading.Thread(target=up.acceptor.stop)
    stopping.start()
    assert peer.kind() == "closed"
    stopping.join(15)
    assert not stopping.is_alive()


def test_f1_a_thread_that_cannot_be_started_ends_no_listener(
    up: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert honest_echo(up.address) >= 0
    with monkeypatch.context() as few:
        few.setattr(threading.Thread, "start", _no_more_threads)
        waiting = [Peer.to(up.address) for _ in range(3)]
        until(lambda: up.acceptor.busy)
    assert honest_echo(up.address) >= 0
    for one in waiting:
        one.sock.close()


def _no_more_threads(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_place_is_given_back_whatever_fails_at_the_end(
    up: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may refuse a close (NFS at its quota)."""
    uid, data_set = data_set_of(recording(tmp_path))
    whole = os.close

    def fails(number: int) -> None:
        whole(number)
        raise OSError(errno.EIO, "invented")

    monkeypatch.setattr("bridge.store.payloads.os.close", fails)
    with Peer.to(up.address) as peer:
        peer.open()
        peer.send(*store_pdus(uid, data_set)[:4])
        until(lambda: up.acceptor.associations == 1 and bool(up.spooled()))
    until(lambda: not up.acceptor.busy)
    assert up.acceptor.associations == 0
    monkeypatch.undo()
    until(lambda: not up.spooled())
