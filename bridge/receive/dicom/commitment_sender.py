"""One N-EVENT-REPORT on an association of our own, in the service's loop: bounded in time and in what is read.

PDUs that we send are pynetdicom's; those that come are read here, since its reader believes any length. Its own
requestor is not used: two threads a report, a socket left open where nobody listens, and no deadline for a PDU that has
begun.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

from pynetdicom.dimse_messages import N_EVENT_REPORT_RQ
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context

from bridge.dicom_settings import PeerSettings
from bridge.errors import BadInput, PeerUnreachable, SettingsError
from bridge.formats.dicom.commitment import INSTANCE, PUSH_MODEL
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bridge.formats.dicom.part10 import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from bridge.formats.dicom.walk import IMPLICIT_LITTLE, Walker
from bridge.receive.dicom.pdus import HEAD, RELEASE_RP, RELEASE_RQ, Breach, PduType, abort, pdvs, read_head
from bridge.settings import ClientTlsSettings, host_port

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 annex A
_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_CONTEXT, _MESSAGE_ID = 1, 1
_EVENT_REPORT_RSP = 0x8100  # PS3.7 table E.1-1
_TAKEN = frozenset({0x0000, 0x0001, 0x0107, 0x0116})  # success, and warnings (PS3.7 annex C)

_OFFERED = 16 * 1024
_LONGEST_COMMAND = 16 * 1024
_SMALLEST_PDU = 128
"""A peer that takes less cannot take a command set in pieces worth the name."""

_GOODBYE = 5.0
"""Seconds for the release: the answer is known by then."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one peer is to be told. `calling` is the AE title by which the peer knows us.

    `information` gives the Event Information in a transfer syntax.
    """

    calling: str
    called: str
    event_type_id: int
    information: Callable[[str], bytes]


def is_taken(status: int) -> bool:
    """Whether the peer has the report: success, or a warning."""
    return status in _TAKEN or status >> 12 == 0xB


async def send(report: Report, peer: PeerSettings, within: float) -> int:
    """Tell one peer; its status, `within` so many seconds. Raises PeerUnreachable: it may have it or not."""
    try:
        async with asyncio.timeout(within):
            host, port = host_port(peer.address)
            context = client_context(peer.tls) if peer.tls is not None else None
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            async with asyncio.timeout(within):
                status = await _exchange(reader, writer, report)
        except BaseException:
            writer.write(abort(None))
            raise
        else:
            await _release(reader, writer)
        finally:
            await _close(writer)
    except (OSError, TimeoutError, EOFError, ssl.SSLError) as cause:
        raise PeerUnreachable(type(cause).__name__) from cause
    except (Breach, BadInput) as cause:
        raise PeerUnreachable(str(cause)) from cause
    return status


def client_context(settings: ClientTlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, the peer verified, and our certificate where one is set (PS3.15 B.12). Files are read anew.

    Raises SettingsError where they cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None:
            # A key with a passphrase is an error: without a passphrase OpenSSL would ask for one at the terminal.
            context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ssl.SSLError) as cause:
        raise SettingsError(f"dicom.peers: tls: the certificate or key cannot be used: {cause}") from cause
    return context


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Report) -> int:
    writer.write(_request(report))
    await writer.drain()
    kind, body = await _pdu(reader)
    if kind == PduType.ASSOCIATE_RJ:
        raise PeerUnreachable(f"rejected {'/'.join(str(n) for n in body[1:4])}")  # result, source, reason
    if kind != PduType.ASSOCIATE_AC:
        raise PeerUnreachable("no answer to the association request")
    syntax, most = _accepted(body)
    information = await asyncio.to_thread(report.information, syntax)  # some hundred milliseconds for thousands
    for pdu in _event_report(report.event_type_id, information, most):
        writer.write(pdu)
        await writer.drain()
    return await _status(reader)


def _request(report: Report) -> bytes:
    """A-ASSOCIATE-RQ in which the requestor proposes to be the SCP (PS3.4 J.3.3.1.2, PS3.7 D.3.3.4)."""
    length = MaximumLengthNotification()
    length.maximum_length_received = _OFFERED
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = PUSH_MODEL, False, True
    context = build_context(PUSH_MODEL, list(_SYNTAXES))
    context.context_id = _CONTEXT
    asked = A_ASSOCIATE()
    asked.application_context_name = _APPLICATION_CONTEXT
    asked.calling_ae_title, asked.called_ae_title = report.calling, report.called
    asked.presentation_context_definition_list = [context]
    asked.user_information = [length, implementation, version, role]
    return bytes(A_ASSOCIATE_RQ(asked).encode())


def _accepted(body: bytes) -> tuple[str, int]:
    """The transfer syntax of our context, and the longest PDU that the peer takes (PS3.8 §9.3.3).

    A peer that says nothing of the role takes the report all the same, as many do; one that denies it does not.
    """
    syntax, most = "", 0
    for kind, value in _items(body[68:]):
        if kind == 0x21 and value[:1] == bytes([_CONTEXT]) and value[2:3] == b"\0":
            for sub, name in _items(value[4:]):
                syntax = name.decode("ascii", "replace").strip("\0 ") if sub == 0x40 else syntax
        elif kind == 0x50:
            for sub, name in _items(value):
                if sub == 0x51 and len(name) == 4:
                    most = int.from_bytes(name, "big")
                if sub == 0x54 and name[-1:] == b"\0":
                    raise PeerUnreachable("the role of SCP is not accepted")
    if syntax not in _SYNTAXES:
        raise PeerUnreachable("storage commitment is not accepted")
    if most and most < _SMALLEST_PDU:
        raise PeerUnreachable("its PDUs are too short")
    return syntax, most


def _items(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Items of an association PDU: type, a reserved byte, length, value."""
    at = 0
    while at < len(value):
        if at + 4 > len(value):
            raise EOFError
        kind, length = struct.unpack_from(">BxH", value, at)
        at += 4
        if at + length > len(value):
            raise EOFError
        yield kind, value[at : at + length]
        at += length


def _event_report(event_type_id: int, information: bytes, most: int) -> Iterator[bytes]:
    event = N_EVENT_REPORT()
    event.MessageID = _MESSAGE_ID
    event.AffectedSOPClassUID, event.AffectedSOPInstanceUID = PUSH_MODEL, INSTANCE
    event.EventTypeID = event_type_id
    event.EventInformation = BytesIO(information)
    message = N_EVENT_REPORT_RQ()
    message.primitive_to_message(event)
    for piece in message.encode_msg(_CONTEXT, min(most, _OFFERED) if most else _OFFERED):
        yield bytes(P_DATA_TF(piece).encode())


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the answer to our report. An Event Reply behind it is not waited for."""
    command = bytearray()
    while True:
        kind, body = await _pdu(reader)
        if kind != PduType.P_DATA_TF:
            raise PeerUnreachable("the association ended without an answer")
        for pdv in pdvs(memoryview(body)):
            if not pdv.is_command:
                raise PeerUnreachable("an answer without its command set")
            command += pdv.fragment
            if len(command) > _LONGEST_COMMAND:
                raise PeerUnreachable("an answer that is too long")
            if pdv.is_last:
                return _status_in(bytes(command))


def _status_in(command: bytes) -> int:
    """Status (0000,0900); a command set is implicit VR little endian (PS3.7 §6.3.1)."""
    answer = DataSet(Walker(BytesIO(command), len(command)).data_set(0, IMPLICIT_LITTLE))
    status = answer.integer("Status")
    ours = (_EVENT_REPORT_RSP, _MESSAGE_ID)
    if status is None or (answer.integer("CommandField"), answer.integer("MessageIDBeingRespondedTo")) != ours:
        raise PeerUnreachable("an answer to something else")
    return status


async def _pdu(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, length = read_head(memoryview(await reader.readexactly(HEAD)))
    if length > 2 * _OFFERED:
        raise PeerUnreachable("a PDU longer than offered")
    return kind, await reader.readexactly(length)


async def _release(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A-RELEASE; where the peer asks for it at the same time, it gets its answer (PS3.8 §7.2.2)."""
    with contextlib.suppress(OSError, EOFError, TimeoutError, Breach, PeerUnreachable):
        async with asyncio.timeout(_GOODBYE):
            writer.write(RELEASE_RQ)
            await writer.drain()
            while (await _pdu(reader))[0] not in {PduType.RELEASE_RP, PduType.ABORT}:
                writer.write(RELEASE_RP)
                await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
