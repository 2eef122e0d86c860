"""A peer that speaks DICOM PDU by PDU, coded by pynetdicom, and a door to speak to: the real listener and intake."""

import contextlib
import io
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    P_DATA,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

VERIFICATION = "1.2.840.10008.1.1"
TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")
ABORT = bytes.fromhex("07000000000400000000")
REJECT = bytes.fromhex("03000000000400010101")

KIND = {
    1: "ASSOCIATE-RQ",
    2: "ASSOCIATE-AC",
    3: "ASSOCIATE-RJ",
    4: "P-DATA",
    5: "RELEASE-RQ",
    6: "RELEASE-RP",
    7: "ABORT",
}


def request(
    *,
    calling: str = "TESTCART",
    called: str = "CARDIOBRIDGE",
    contexts: Mapping[str, tuple[str, ...]] | None = None,
    most: int = 16382,
    more: tuple[Any, ...] = (),
) -> bytes:
    """An A-ASSOCIATE-RQ; contexts are numbered 1, 3, 5 … in their order."""
    said = A_ASSOCIATE()
    said.application_context_name = UID("1.2.840.10008.3.1.1.1")
    said.calling_ae_title, said.called_ae_title = calling, called
    wanted = contexts or {VERIFICATION: (IMPLICIT,), TWELVE_LEAD: (EXPLICIT,)}
    listed = []
    for number, (uid, syntaxes) in enumerate(wanted.items()):
        context = build_context(uid, list(syntaxes))
        context.context_id = 2 * number + 1
        listed.append(context)
    said.presentation_context_definition_list = listed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = most
    implementation.implementation_class_uid = UID("2.25.1")
    said.user_information = [length, implementation, *more]
    return bytes(A_ASSOCIATE_RQ(said).encode())


def p_data(value: bytes, *, context: int = 1, command: bool = False, last: bool = True) -> bytes:
    """A P-DATA-TF with one value."""
    flags = (1 if command else 0) | (2 if last else 0)
    return struct.pack(">BxIIBB", 4, len(value) + 6, len(value) + 2, context, flags) + value


def command_of(message: DIMSEMessage, primitive: Any) -> bytes:
    """The command set of a message, without its head."""
    message.primitive_to_message(primitive)
    first = next(iter(message.encode_msg(1, 0)))
    return bytes(first.presentation_data_value_list[0][1][1:])


def echo_command(number: int = 1) -> bytes:
    said = C_ECHO()
    said.MessageID, said.AffectedSOPClassUID = number, UID(VERIFICATION)
    return command_of(C_ECHO_RQ(), said)


def cancel_command(number: int) -> bytes:
    said = C_CANCEL()
    said.MessageIDBeingRespondedTo = number
    return command_of(C_CANCEL_RQ(), said)


def store_command(uid: str, *, sop_class: str = TWELVE_LEAD, number: int = 1) -> bytes:
    said = C_STORE()
    said.MessageID, said.AffectedSOPClassUID, said.AffectedSOPInstanceUID = number, UID(sop_class), UID(uid)
    said.Priority, said.DataSet = 2, io.BytesIO(b"\0\0")
    return command_of(C_STORE_RQ(), said)


def store_pdus(uid: str, data_set: bytes, *, context: int = 3, piece: int = 16376, number: int = 1) -> list[bytes]:
    """A whole C-STORE as the PDUs that carry it."""
    cut = [data_set[n : n + piece] for n in range(0, len(data_set), piece)]
    return [
        p_data(store_command(uid, number=number), context=context, command=True),
        *(p_data(part, context=context, last=n == len(cut)) for n, part in enumerate(cut, 1)),
    ]


def data_set_of(path: Path) -> tuple[str, bytes]:
    """SOP Instance UID and data set of a file that was written with preamble and group length."""
    whole = path.read_bytes()
    (length,) = struct.unpack("<L", whole[140:144])
    meta = whole[144 : 144 + length]
    at = meta.index(b"\x02\x00\x03\x00UI")
    (size,) = struct.unpack("<H", meta[at + 6 : at + 8])
    return meta[at + 8 : at + 8 + size].decode().strip("\0"), whole[144 + length :]


@dataclass
class Peer:
    """One connection, as a script drives it. What comes back is read PDU by PDU."""

    sock: socket.socket

    @classmethod
    def to(
        cls, address: tuple[str, int], *, tls: ssl.SSLContext | None = None, timeout: float = 15, source: str = ""
    ) -> Self:
        sock = socket.create_connection(address, timeout=timeout, source_address=(source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(tls.wrap_socket(sock, server_hostname=address[0]) if tls else sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *pdus: bytes) -> None:
        self.sock.sendall(b"".join(pdus))

    def pdu(self) -> bytes:
        """The next PDU; empty where the other side has closed."""
        with contextlib.suppress(ConnectionError):
            head = self._exactly(6)
            return head + self._exactly(int.from_bytes(head[2:6])) if head else b""
        return b""

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.sock.recv(count - len(found))
            if not part:
                return b""
            found += part
        return found

    def kind(self) -> str:
        """What the next PDU is called; `closed` where there is none."""
        pdu = self.pdu()
        return KIND[pdu[0]] if pdu else "closed"

    def open(self, **wanted: Any) -> A_ASSOCIATE_AC:
        """Ask for an association and be accepted."""
        self.send(request(**wanted))
        answer = self.pdu()
        assert answer[:1] == b"\x02", KIND.get(answer[0] if answer else 0, "closed")
        accepted = A_ASSOCIATE_AC()
        accepted.decode(answer)
        return accepted

    def answer(self) -> Any:
        """The next DIMSE answer, as pynetdicom reads it: a primitive."""
        message = DIMSEMessage()
        while True:
            pdu = self.pdu()
            assert pdu[:1] == b"\x04", KIND.get(pdu[0] if pdu else 0, "closed")
            at, pieces = 6, []
            while at < len(pdu):
                (length,) = struct.unpack(">I", pdu[at : at + 4])
                pieces.append([pdu[at + 4], pdu[at + 5 : at + 4 + length]])
                at += 4 + length
            primitive = P_DATA()
            primitive.presentation_data_value_list = pieces
            if message.decode_msg(primitive):
                return message.message_to_primitive()

    def echo(self, *, context: int = 1) -> int:
        self.send(p_data(echo_command(), context=context, command=True))
        return int(self.answer().Status)

    def store(self, uid: str, data_set: bytes, *, context: int = 3, number: int = 1) -> Any:
        self.send(*store_pdus(uid, data_set, context=context, number=number))
        return self.answer()


def honest_echo(address: tuple[str, int], *, tls: ssl.SSLContext | None = None, source: str = "") -> float:
    """Seconds that somebody well-behaved needs for a C-ECHO with its association."""
    began = time.monotonic()
    with Peer.to(address, tls=tls, source=source) as peer:
        peer.open()
        assert peer.echo() == 0
        peer.send(RELEASE_RQ)
        assert peer.kind() == "RELEASE-RP"
    return time.monotonic() - began


def until(is_so: Any, seconds: float = 15) -> None:
    """Wait for something that happens in another thread."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
