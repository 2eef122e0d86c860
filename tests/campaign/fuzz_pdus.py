"""PDUs of a peer that does not keep to the protocol: scripts of association, echo and store, damaged on their way.

An input is one connection's whole stream, to the real listener with its intake. The association's thread never fails,
what was answered 0000 is kept whole, nothing of passing use stays behind, and an honest peer is served at the end of
each batch. Between two connections the coders alone are given some dozens of damaged PDUs: they refuse by `Breach`.
"""

import itertools
import random
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from structlog.testing import capture_logs

from bridge.receive.dicom.commands import read_command
from bridge.receive.dicom.negotiation import Negotiator
from bridge.receive.dicom.pdus import HEAD, Breach, PduType, pdvs, read_head
from bridge.settings import DicomSettings
from tests.campaign.fuzz_findings import Findings, raised
from tests.campaign.results import Result, Say
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
    cancel_command,
    data_set_of,
    echo_command,
    honest_echo,
    p_data,
    request,
    store_pdus,
)
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines

SETTINGS = DicomSettings(max_resting=1 << 20)
PURE = 60
"""Damaged PDUs for the coders alone between two connections."""
UID = "1.2.826.0.1.3680043.10.9999.9.1000000"
WAITS = 20.0
"""Seconds that a peer waits for the end; the listener's own deadlines come first."""
_NUMBERS = (0, 1, 2, 3, 4, 5, 6, 11, 0x7F, 0xFF, 0xFFFF, 0x10000, 0xFFFFF, 0x100000, 0x100001, 0x7FFFFFFF, 0xFFFFFFFF)

Script = list[bytes]


class Scripts:
    """What peers send: honest scripts, and what chance makes of them."""

    def __init__(self, dice: random.Random, folder: Path) -> None:
        self._dice = dice
        self._count = itertools.count(1_000_001)
        self._uid, self._object = data_set_of(saved(folder, ecg(Group(sines(20, 3)), SOPInstanceUID=UID)))
        self._requests = [
            request(),
            request(calling="X", most=0),
            request(contexts={TWELVE_LEAD: (IMPLICIT, EXPLICIT), VERIFICATION: (IMPLICIT,), "1.2.3": (EXPLICIT,)}),
            request(contexts={TWELVE_LEAD: ("1.2.840.10008.1.2.1.99",)}),
        ]

    def honest(self) -> Script:
        """An association with some operations, and its end."""
        dice, script = self._dice, [self._dice.choice(self._requests)]
        for _ in range(dice.randrange(4)):
            way = dice.randrange(4)
            if way == 0:
                script.append(p_data(echo_command(dice.randrange(1, 99)), command=True))
            elif way == 1:
                script.append(p_data(cancel_command(1), command=True))
            else:
                script += self._store()
        return [*script, dice.choice((RELEASE_RQ, RELEASE_RQ, ABORT, b""))]

    def _store(self) -> Script:
        """An object under a UID of its own, in pieces of any length."""
        uid = f"{self._uid[:-7]}{next(self._count)}"
        data_set = self._object.replace(self._uid.encode(), uid.encode())
        piece = self._dice.choice((64, 300, 1024, 16376))
        return store_pdus(uid, data_set, context=self._dice.choice((1, 3, 3, 3)), piece=piece)

    def damaged(self) -> Script:
        """A script after one to three mishaps; one in eight stays honest."""
        script = self.honest()
        for _ in range(self._dice.choice((0, 1, 1, 1, 1, 2, 2, 3))):
            self._mishap(script)
        return script

    def _mishap(self, script: Script) -> None:
        dice = self._dice
        at = dice.randrange(len(script)) if script else 0
        way = dice.randrange(8)
        if not script or way == 0:
            others = (REJECT, RELEASE_RP, RELEASE_RQ, ABORT, self._requests[0], dice.randbytes(40))
            script.insert(at, dice.choice(others))
        elif way == 1:
            del script[at]
        elif way == 2:
            script.insert(at, script[dice.randrange(len(script))])
        elif way == 3:
            other = dice.randrange(len(script))
            script[at], script[other] = script[other], script[at]
        elif way == 4:
            script[at:] = [script[at][: dice.randrange(len(script[at]) + 1)]]
        else:
            script[at] = self.bent(script[at])

    def bent(self, pdu: bytes) -> bytes:
        """A PDU with a number in it changed: of its head, of a value's, of an item's; or a byte or two."""
        dice, bad = self._dice, bytearray(pdu)
        if len(bad) < 12:
            return dice.randbytes(dice.randrange(20))
        way = dice.randrange(6)
        if way == 0:
            bad[0] = dice.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 255))
        elif way == 1:
            bad[2:6] = struct.pack(">I", dice.choice(_NUMBERS))
        elif way == 2:
            bad[6:10] = struct.pack(">I", dice.choice((len(bad) - 10, *_NUMBERS)))
        elif way == 3:
            bad[10:12] = bytes((dice.choice((0, 1, 2, 3, 5, 255)), dice.choice((0, 1, 2, 3, 7, 255))))
        elif way == 4:
            at = dice.randrange(6, len(bad) - 1)
            bad[at : at + 2] = struct.pack(dice.choice("<>") + "H", dice.choice((0, 1, 2, 8, 0xFF, 0x7FFF, 0xFFFF)))
        else:
            for _ in range(dice.choice((1, 2, 8))):
                bad[dice.randrange(len(bad))] = dice.randrange(256)
        return bytes(bad)


class Coders:
    """The pure readers of what a peer sends."""

    def __init__(self) -> None:
        offers = {TWELVE_LEAD: (EXPLICIT, IMPLICIT), VERIFICATION: (IMPLICIT,)}
        self._negotiator = Negotiator(SETTINGS, offers)

    def fault(self, pdu: bytes) -> str:
        """What is wrong with how a PDU is read; empty where nothing is."""
        try:
            self._read(pdu)
        except Breach:
            return ""
        except Exception as problem:  # noqa: BLE001  whatever it raises is the finding
            return raised(problem)
        return ""

    def _read(self, pdu: bytes) -> None:
        if len(pdu) < HEAD:
            return
        kind, _ = read_head(memoryview(pdu)[:HEAD])
        if kind == PduType.ASSOCIATE_RQ:
            self._negotiator.read(pdu)
        elif kind == PduType.P_DATA_TF:
            for pdv in pdvs(memoryview(pdu)[HEAD:]):
                if pdv.is_command:
                    read_command(bytes(pdv.fragment))


def conversation(address: tuple[str, int], script: Script) -> bytes:
    """Send all of it, then nothing more; everything that came back. A listener that does not end it is late."""
    back = bytearray()
    with socket.create_connection(address, timeout=WAITS) as sock:
        try:
            sock.sendall(b"".join(script))
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                back += part
        except ConnectionError:
            pass  # it had enough before it had all
    return bytes(back)


def stored(back: bytes) -> Iterator[str]:
    """SOP Instance UIDs of the C-STORE answers that say 0000 (PS3.7 §9.3.1.2)."""
    at = 0
    while at + HEAD <= len(back):
        kind, length = back[at], int.from_bytes(back[at + 2 : at + 6])
        value = back[at + HEAD + 6 : at + HEAD + length]
        at += HEAD + length
        if kind == PduType.P_DATA_TF and b"\x00\x01\x02\0\0\0\x01\x80" in value:
            status = value.partition(b"\x00\x00\x00\x09\x02\x00\x00\x00")[2][:2]
            uid = value.partition(b"\x00\x00\x00\x10")[2]
            if status == b"\0\0":
                yield uid[4 : 4 + int.from_bytes(uid[:4], "little")].rstrip(b"\0").decode("ascii", "replace")


def after(house: Door, answered: set[str]) -> str:
    """What is wrong once all connections of a batch are over; empty where nothing is."""
    try:
        honest_echo(house.address)
    except (OSError, AssertionError) as problem:
        return f"an honest peer is not served: {type(problem).__name__}"
    kept = {row.sop_instance_uid for row in house.rows() if row.state == "RECEIVED"}
    if answered - kept:
        return f"answered 0000 and not kept: {len(answered - kept)}"
    return f"{len(left)} files of passing use are left" if (left := house.spooled()) else ""


def run(seed: int, minutes: float, say: Say) -> Result:
    """Connections for so long, each batch to a listener of its own."""
    found = Findings("pdus", seed, say)
    coders = Coders()
    with tempfile.TemporaryDirectory() as name:
        scripts = Scripts(found.dice, Path(name))
        place = Path(name) / "house"

        def batch() -> None:
            with capture_logs() as log, door(place, max_resting=SETTINGS.max_resting, pdu_timeout=2) as house:
                answered: set[str] = set()
                for _ in range(200):
                    script = scripts.damaged()
                    found.add("inputs")
                    try:
                        answered.update(stored(conversation(house.address, script)))
                    except TimeoutError:
                        found.note("the listener does not end it", script)
                    for _ in range(PURE):
                        found.add("coded")
                        bad = scripts.bent(found.dice.choice(script) if script else b"")
                        if wrong := coders.fault(bad):
                            found.note(wrong, bad)
                found.add("objects_stored", len(answered))
                if wrong := after(house, answered):
                    found.note(wrong, "the batch before")
            for line in log:
                if line["event"] == "association.failed":
                    found.note(f"raised {line['error']} in an association", "the batch before")
            shutil.rmtree(place)

        return found.go_on(minutes, batch)
