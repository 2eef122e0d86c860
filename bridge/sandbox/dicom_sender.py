"""A cart's end of a DICOM association: C-STORE of files as they are, and C-ECHO (PS3.4 annex B, PS3.7 §9.1).

A file's data set goes out byte for byte: what is wrong in a file is wrong on the wire too, as with a real cart.
"""

import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ

from bridge.errors import BadInput
from bridge.sandbox.peer import Address, PeerError

# Where a path is given, pynetdicom then sends the file's own bytes; otherwise it would decode and encode them anew.
# Its only other effect would be on a C-STORE of a path from elsewhere, and this is the only sender.
_config.STORE_SEND_CHUNKED_DATASET = True

FilePath = str | os.PathLike[str]

_VERIFICATION = UID("1.2.840.10008.1.1")  # PS3.4 A.4
_REJECT = 0x03  # PS3.8 §9.3.4
_MOST_CONTEXTS = 128  # PS3.8 §9.3.2.2: context IDs are the odd numbers of one byte


@dataclass(frozen=True, slots=True)
class Stored:
    """The peer's word on one object: Status (0000,0900) and ErrorComment (0000,0902)."""

    status: int
    comment: str = ""

    @property
    def taken(self) -> bool:
        """Success, or success with a warning (PS3.7 C.1, C.3: 0001, Bxxx)."""
        return self.status in {0x0000, 0x0001} or self.status & 0xF000 == 0xB000


def _context_of(path: FilePath) -> tuple[str, str]:
    """SOP class and transfer syntax from the file meta (PS3.10 §7.1). Raises BadInput that names the file."""
    way_out = "write it as a DICOM file (PS3.10), with preamble and file meta"
    try:
        meta = read_file_meta_info(path)
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, EOFError) as cause:
        raise BadInput(f"{os.fspath(path)}: no SOP class and transfer syntax in it; {way_out}") from cause


def _reasons(pdu: bytes) -> str:
    """Why, in words (PS3.8 table 9-21), or as the numbers where the table does not know them."""
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(pdu)
    try:
        return f"{rejection.result_str}, {rejection.reason_str}"
    except ValueError:
        return f"result {rejection.result}, source {rejection.source}, reason {rejection.reason_diagnostic}"


class _HeldSocket:
    """Takes the place of an SSLContext, with TLS or without, to hold on to the socket.

    pynetdicom 3.0.4 leaves the socket of a failed connection open; whoever holds it can close it.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._socket: socket.socket | None = None

    def wrap_socket(self, plain: socket.socket, *, server_side: bool, server_hostname: str) -> socket.socket:
        """As SSLContext.wrap_socket."""
        self._socket = plain
        if self._tls is not None:
            self._socket = self._tls.wrap_socket(plain, server_side=server_side, server_hostname=server_hostname)
        return self._socket

    def close(self) -> None:
        """Close the socket, once more where it is closed."""
        if self._socket is not None:
            self._socket.close()


class CartAssociation:
    """One association that proposes each file's own class and syntax. Raises PeerError if it is not to be had."""

    def __init__(
        self,
        host: str,
        port: int,
        paths: Iterable[FilePath],
        *,
        calling: str = "TESTCART",
        called: str = "CARDIOBRIDGE",
        tls: ssl.SSLContext | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._peer, self._called = Address(host, port), called
        contexts = sorted({_context_of(path) for path in paths})
        if len(contexts) > _MOST_CONTEXTS:
            raise BadInput(f"more than {_MOST_CONTEXTS} classes and syntaxes; send the files in several calls")
        ae = AE(ae_title=calling)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
        for sop_class, syntax in contexts:
            ae.add_requested_context(sop_class, syntax)
        if not contexts:
            ae.add_requested_context(_VERIFICATION)
        connected: list[Any] = []
        received: list[evt.Event] = []
        self._socket = _HeldSocket(tls)
        held: Any = self._socket  # in the place of an SSLContext
        try:
            self._association: Association = ae.associate(
                host,
                port,
                ae_title=called,
                tls_args=(held, host),
                evt_handlers=[(evt.EVT_CONN_OPEN, connected.append), (evt.EVT_DATA_RECV, received.append)],
            )
        except OSError as cause:
            raise PeerError(f"{self._peer} cannot be reached: {cause.strerror or cause}") from cause
        if not self._association.is_established:
            self._socket.close()
            raise PeerError(self._why_not(connected=bool(connected), received=received, tls=tls is not None))

    def _why_not(self, *, connected: bool, received: Sequence[evt.Event], tls: bool) -> str:
        if not connected:
            return f"{self._peer} cannot be reached{' with TLS' if tls else ''}: is the listener there?"
        # pynetdicom's own verdict misses a rejection that comes, and ends the connection, before its thread wakes
        for event in received:
            if event.data[0] == _REJECT:
                return f"{self._peer} rejected the association: {_reasons(event.data)}"
        if self._association.acceptor.primitive is None:
            return f"{self._peer} ended the association without an answer"
        return f"{self._peer} takes none of the classes and transfer syntaxes of these files"

    def store(self, path: FilePath, *, message_id: int = 1) -> Stored:
        """Send one file. Raises PeerError where its class is not taken, or no status comes back."""
        try:
            told = self._association.send_c_store(Path(path), msg_id=message_id)
        except ValueError as cause:
            raise PeerError(f"{self._peer} takes no {_context_of(path)[0]} in that transfer syntax") from cause
        except RuntimeError as cause:
            raise PeerError(f"{self._peer}: the association has ended") from cause
        if "Status" not in told:
            raise PeerError(f"{self._peer} gave no status")
        return Stored(int(told.Status), str(told.get("ErrorComment", "") or ""))

    def echo(self) -> int:
        """The status of a C-ECHO; needs an association that was opened without files."""
        told = self._association.send_c_echo()
        if "Status" not in told:
            raise PeerError(f"{self._peer} gave no status")
        return int(told.Status)

    def close(self) -> None:
        """Release the association."""
        if self._association.is_established:
            self._association.release()
        self._association.join(self._association.network_timeout)
        self._socket.close()  # of an association that its peer ended, it is open still

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def store(
    host: str,
    port: int,
    paths: Sequence[FilePath],
    *,
    calling: str = "TESTCART",
    called: str = "CARDIOBRIDGE",
    tls: ssl.SSLContext | None = None,
    timeout: float = 30.0,
) -> list[int]:
    """Send files over one association; their statuses, in order. Raises PeerError, BadInput."""
    with CartAssociation(host, port, paths, calling=calling, called=called, tls=tls, timeout=timeout) as cart:
        return [cart.store(path, message_id=number % 65535 + 1).status for number, path in enumerate(paths)]


def echo(
    host: str,
    port: int,
    *,
    calling: str = "TESTCART",
    called: str = "CARDIOBRIDGE",
    tls: ssl.SSLContext | None = None,
    timeout: float = 30.0,
) -> int:
    """The status of a C-ECHO over an association of its own. Raises PeerError."""
    with CartAssociation(host, port, (), calling=calling, called=called, tls=tls, timeout=timeout) as cart:
        return cart.echo()
