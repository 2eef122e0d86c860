"""F4, F5: what a broken line, and a broken sender, do to an object: nothing half-kept, and the resend is taken."""

import random
import struct
import time
from pathlib import Path

import pytest

from tests.acceptance.test_ecg_to_task import recording
from tests.protocol.dicom_door import Door, door
from tests.protocol.dicom_peer import (
    EXPLICIT,
    IMPLICIT,
    RELEASE_RQ,
    TWELVE_LEAD,
    Peer,
    data_set_of,
    p_data,
    store_command,
    store_pdus,
    until,
)

CUTS = 1000
GENERAL = "1.2.840.10008.5.1.4.1.1.9.1.2"
STEP = 97


def cut_off(up: Door, wire: bytes) -> None:
    """A peer that is gone after these bytes of an object."""
    with Peer.to(up.address) as peer:
        peer.open()
        peer.send(wire)


def is_clean(up: Door) -> bool:
    return not up.acceptor.busy and not up.spooled() and not up.rows() and not up.kept()


def is_taken(up: Door, uid: str, data_set: bytes) -> bool:
    with Peer.to(up.address) as peer:
        peer.open()
        return bool(peer.store(uid, data_set).Status == 0) and [row.state for row in up.rows()] == ["RECEIVED"]


@pytest.mark.parametrize("piece", [16_376, 1_000], ids=["16-KB-PDUs", "1-KB-PDUs"])
def test_f4_cut_at_each_pdu(tmp_path: Path, piece: int) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    pdus = store_pdus(uid, data_set, piece=piece)
    with door(tmp_path) as up:
        for count in range(len(pdus)):
            cut_off(up, b"".join(pdus[:count]))
        until(lambda: is_clean(up))
        assert is_taken(up, uid, data_set)


def test_f4_cut_at_a_thousand_random_bytes(tmp_path: Path) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    wire = b"".join(store_pdus(uid, data_set))
    dice = random.Random(20260301)
    with door(tmp_path) as up:
        for end in sorted(dice.randrange(len(wire)) for _ in range(CUTS)):
            cut_off(up, wire[:end])
        until(lambda: is_clean(up))
        assert is_taken(up, uid, data_set)


def test_f4_an_answer_that_cannot_be_given_is_given_to_the_resend(tmp_path: Path) -> None:
    """F8: the object is whole and kept; its sender was gone before it heard so."""
    uid, data_set = data_set_of(recording(tmp_path))
    with door(tmp_path) as up:
        cut_off(up, b"".join(store_pdus(uid, data_set)))
        until(lambda: len(up.rows()) == 1)
        assert is_taken(up, uid, data_set)


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
@pytest.mark.timeout(300)
def test_f5_a_data_set_cut_at_every_97th_byte_is_never_taken_for_a_whole_one(tmp_path: Path, syntax: str) -> None:
    path = recording(tmp_path)
    if syntax == "implicit":
        path = Path(__file__).parents[2] / "sample_messages" / "06_ecg_implicit_vr_correction.dcm"
    uid, data_set = data_set_of(path)
    told: dict[int, int] = {}
    with door(tmp_path) as up:
        for begin in range(STEP, len(data_set), STEP * 100):
            with Peer.to(up.address) as peer:
                contexts = {"1.2.840.10008.1.1": (IMPLICIT,), TWELVE_LEAD: (IMPLICIT,)}
                peer.open(**({"contexts": contexts} if syntax == "implicit" else {}))
                for end in range(begin, min(begin + STEP * 100, len(data_set)), STEP):
                    status = int(peer.store(uid, data_set[:end], number=end // STEP % 60_000 + 1).Status)
                    told[status] = told.get(status, 0) + 1
                peer.send(RELEASE_RQ)
                assert peer.kind() == "RELEASE-RP"
        states = {(row.state, row.reason) for row in up.rows()}
        print(syntax, {f"{status:04X}": count for status, count in told.items()}, states)
        assert sum(told.values()) == len(range(STEP, len(data_set), STEP))
        assert set(told) <= {0xC000, 0xA900}, "never A700: the disk is well; never 0000"
        assert {state for state, _ in states} == {"REJECTED"}
        assert len(up.kept()) == len(up.rows()), "each is there to be looked at"
        with Peer.to(up.address) as peer:
            peer.open(**({"contexts": contexts} if syntax == "implicit" else {}))
            assert peer.store(uid, data_set).Status == 0


def test_f5_a_garbled_length_is_refused_and_never_a_disk_fault(tmp_path: Path) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    at = data_set.index(struct.pack("<HH", 0x5400, 0x1010)) + 8
    with door(tmp_path) as up, Peer.to(up.address) as peer:
        peer.open()
        for length in (0xFFFFFFFE, 2, 0, 0x7FFFFFFF):
            garbled = data_set[:at] + struct.pack("<L", length) + data_set[at + 4 :]
            assert peer.store(uid, garbled).Status == 0xC000
        assert peer.store(uid, data_set).Status == 0


def test_ps3_4_b_2_3_an_object_that_is_not_what_was_announced_is_a900(tmp_path: Path) -> None:
    uid, data_set = data_set_of(recording(tmp_path))
    with door(tmp_path) as up, Peer.to(up.address) as peer:
        peer.open(contexts={"1.2.840.10008.1.1": (IMPLICIT,), TWELVE_LEAD: (EXPLICIT,), GENERAL: (EXPLICIT,)})
        assert peer.store(f"{uid}1", data_set).Status == 0xA900
        command = store_command(uid, sop_class=GENERAL)
        peer.send(p_data(command, context=5, command=True), p_data(data_set, context=5))
        answer = peer.answer()
        assert (answer.Status, answer.ErrorComment) == (
            0xA900,
            "SOPClassUID: the object is not what the request announced",
        )
        assert peer.store(uid, data_set).Status == 0
        assert [(row.state, row.reason) for row in up.rows()] == [
            ("REJECTED", "not_what_it_says"),
            ("REJECTED", "not_what_it_says"),
            ("RECEIVED", ""),
        ]


def test_f24_a_long_object_that_finds_no_room_is_read_to_its_end_and_told_a700(tmp_path: Path) -> None:
    """The room went between the association and its object."""
    with door(tmp_path) as up, Peer.to(up.address) as peer:
        peer.open()
        up.payloads.free = lambda: -1  # type: ignore[method-assign]
        time.sleep(0.15)  # the last look at the disk holds for a tenth of a second
        peer.send(p_data(store_command("1.2.3"), context=3, command=True))
        peer.send(p_data(bytes(120_000), context=3, last=False) * 200, p_data(b"", context=3))
        assert peer.answer().Status == 0xA700
        assert (up.rows(), up.spooled()) == ([], [])
