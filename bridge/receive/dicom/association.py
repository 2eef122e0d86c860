"""One association, from the connection's first byte to its last, in a thread of its own.

The states are those of PS3.8 table 9-10 that an acceptor can be in: Sta2 (a connection, no request yet), Sta6
(established), Sta7, Sta10 and Sta12 (we ask for the release, and the peer may ask at the same moment), Sta13 (over,
and the peer has yet to close). Names in comments are the table's actions.
"""

import ssl
import threading
import time
from dataclasses import dataclass, field

import structlog

from bridge.dicom_settings import DicomSettings
from bridge.receive.dicom.commands import MOST as MOST_COMMAND
from bridge.receive.dicom.commands import Command, Field, read_command, response
from bridge.receive.dicom.negotiation import NO_ROOM, TOO_MANY, Asked, Context, Negotiator, Rejection
from bridge.receive.dicom.operations import CANCELLED, PENDING, PENDING_WITH_WARNING, Operation, Response, Services
from bridge.receive.dicom.pdus import (
    HEAD,
    MOST,
    RELEASE_RP,
    RELEASE_RQ,
    AbortReason,
    Breach,
    PduType,
    abort,
    p_data,
    pdvs,
    read_head,
    reject,
)
from bridge.receive.dicom.places import Places
from bridge.receive.dicom.request import LONGEST
from bridge.receive.dicom.session import Session
from bridge.receive.dicom.wire import End, Wire

log = structlog.get_logger()

HANDSHAKE = 10.0
_COPIED = 32 * 1024
PARTING = 2.0
"""Seconds that a peer has to close after the last PDU, or to answer our release (ARTIM, PS3.8 §9.1.5)."""

_Pdu = tuple[int, memoryview]


@dataclass(slots=True)
class Peer:
    """A connection as the acceptor took it in."""

    address: str
    ticket: int
    is_allowed: bool


@dataclass(slots=True)
class _Request:
    """A DIMSE request that is coming in: its command first, then its data set, all on one context (PS3.7 §6.3)."""

    context_id: int
    command: bytearray = field(default_factory=bytearray)
    read: Command | None = None
    operation: Operation | None = None


class Association:
    """`run` returns when the connection is over."""

    def __init__(
        self,
        wire: Wire,
        peer: Peer,
        negotiator: Negotiator,
        services: Services,
        places: Places,
        settings: DicomSettings,
        stopping: threading.Event,
    ) -> None:
        self._wire = wire
        self._peer = peer
        self._negotiator = negotiator
        self._services = services
        self._places = places
        self._settings = settings
        self._stopping = stopping
        self._asked: Asked | None = None
        self._session = Session("", "", peer.address)
        self._request: _Request | None = None
        self._meanwhile = bytearray()  # a command that comes while another operation is answered

    def run(self, tls: ssl.SSLContext | None) -> None:
        """Serve the peer until one side ends it. Never raises."""
        by = time.monotonic() + self._settings.first_pdu_timeout
        try:
            within = min(HANDSHAKE, self._settings.first_pdu_timeout)
            subject = self._wire.handshake(tls, within) if tls is not None else ""
            if self._open(subject, by):
                self._serve()
        except Breach as breach:
            # AA-8, and AA-1 where there is no association yet
            self._abort(str(breach), breach.reason if self._asked else None)
        except OSError as problem:
            log.info("connection.failed", listener="dicom", error=type(problem).__name__, address=self._peer.address)
        except Exception as problem:  # noqa: BLE001  edge of the thread: nobody knows what was kept, so nothing is said
            log.error("association.failed", error=type(problem).__name__, address=self._peer.address)
            self._abort("failed", None)
        finally:
            try:
                self._abandon()
            finally:  # whatever else fails: a place is given back
                self._places.leave(self._peer.ticket)
                self._wire.close()

    # --- Sta2: the request ------------------------------------------------------------------------------------

    def _open(self, subject: str, by: float) -> bool:
        """Whether there is an association now. The request must be whole before `by` (ARTIM, PS3.8 §9.1.5)."""
        found = self._wire.fill(1, by, wakeable=True) or self._next_by(by, most=LONGEST)
        if isinstance(found, End):
            log.info("connection.ended", listener="dicom", reason=str(found), address=self._peer.address)
            return False
        kind, pdu = found
        if kind == PduType.ABORT:  # AA-2
            return False
        if kind != PduType.ASSOCIATE_RQ:
            raise Breach("not an association request", AbortReason.UNEXPECTED_PDU)
        asked = self._negotiator.read(bytes(pdu))
        refused = self._negotiator.refusal(asked.request, subject, is_allowed=self._peer.is_allowed) or self._no_place(
            asked
        )
        if refused is not None:
            log.warning("association.rejected", reason=refused.why, address=self._peer.address)
            self._wire.send(reject(refused.result, refused.source, refused.diagnostic), PARTING)  # AE-8
            self._part()
            return False
        self._asked = asked
        self._session = Session(asked.request.calling_ae, asked.request.called_ae, self._peer.address, subject)
        return self._wire.send(asked.acceptance, self._settings.pdu_timeout)  # AE-7

    def _no_place(self, asked: Asked) -> Rejection | None:
        """Refuse before a cart sends what cannot be kept: it then tries again later."""
        stores = any(self._services.stores(context.abstract_syntax) for context in asked.contexts.values())
        if stores and not self._services.has_room():
            return NO_ROOM
        return None if self._places.come_in(self._peer.ticket, self._peer.address) else TOO_MANY

    # --- Sta6: established ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            idle = self._request is None
            if idle and self._stopping.is_set():
                self._release()
                return
            found = self._next(self._settings.idle_timeout, self._settings.pdu_timeout, wakeable=idle)
            if found is End.WOKEN:
                continue
            if found is End.LATE:
                self._abort("timed_out", AbortReason.NOT_SPECIFIED)
                return
            if isinstance(found, End):
                self._note_loss(str(found))
                return
            kind, pdu = found
            if kind == PduType.P_DATA_TF:
                if not self._take(pdu[HEAD:]):
                    return
            elif kind == PduType.RELEASE_RQ:  # AR-2, AR-4
                self._abandon()
                self._wire.send(RELEASE_RP, PARTING)
                self._part()
                return
            elif kind == PduType.ABORT:  # AA-3
                self._note_loss("aborted")
                return
            else:
                raise Breach("a PDU that has no place in an association", AbortReason.UNEXPECTED_PDU)

    def _note_loss(self, reason: str) -> None:
        """The peer is gone: in the midst of an object, or between two."""
        if self._request is not None:
            log.warning("object.cut_off", reason=reason, address=self._peer.address)

    def _take(self, body: memoryview) -> bool:
        """What a P-DATA holds. False where the association is over."""
        if len(body) <= _COPIED:  # more may be read from the wire before the last of its pieces is looked at
            body = memoryview(bytes(body))
        for pdv in pdvs(body):
            context = self._context(pdv.context_id)
            request = self._request = self._request or _Request(pdv.context_id)
            if pdv.context_id != request.context_id or pdv.is_command != (request.operation is None):
                raise Breach("a piece of another message", AbortReason.INVALID_PARAMETER)
            if request.operation is not None:
                request.operation.write(pdv.fragment)
            elif len(request.command) + len(pdv.fragment) > MOST_COMMAND:
                raise Breach("a command set is too long", AbortReason.INVALID_PARAMETER)
            else:
                request.command += pdv.fragment
                if pdv.is_last:
                    self._begin(request, context)
            command, operation = request.read, request.operation
            if not pdv.is_last or command is None or operation is None or (pdv.is_command and command.has_data_set):
                continue
            if not self._finish(request.context_id, command, operation):
                return False
            self._request = None
        return True

    def _context(self, context_id: int) -> Context:
        context = self._asked.contexts.get(context_id) if self._asked is not None else None
        if context is None:
            raise Breach("a presentation context that was not accepted", AbortReason.INVALID_PARAMETER)
        return context

    def _begin(self, request: _Request, context: Context) -> None:
        """A command is whole."""
        command = read_command(bytes(request.command))
        if command.is_response:
            raise Breach("an answer to nothing", AbortReason.NOT_SPECIFIED)
        if command.field == Field.C_CANCEL_RQ:  # of what is over already: passed over (PS3.7 §9.3.2.3)
            self._request = None
            return
        request.read = command
        request.operation = self._services.begin(command, context, self._session)

    def _finish(self, context_id: int, command: Command, operation: Operation) -> bool:
        """Answer a request. False where the association is over."""
        for answer in operation.finish():
            final = answer.status not in {PENDING, PENDING_WITH_WARNING}
            if not final and self._is_cancelled(command):
                answer, final = Response(CANCELLED), True  # noqa: PLW2901  the peer wants no more of them
            if not self._answer(context_id, command, answer):
                self._note_loss("not_answered")
                return False
            if final:
                return True
        self._abort("not_known_whether_kept", None)  # A3: the resend is absorbed
        return False

    def _answer(self, context_id: int, command: Command, answer: Response) -> bool:
        most = self._asked.request.most if self._asked is not None else 0
        has_data_set = answer.data_set is not None
        told = response(command, answer.status, answer.comment, has_data_set=has_data_set)
        said = p_data(context_id, told, most, command=True)
        if answer.data_set is not None:
            said += p_data(context_id, answer.data_set, most, command=False)
        return self._wire.send(said, self._settings.pdu_timeout)

    def _is_cancelled(self, command: Command) -> bool:
        """Whether the peer has said meanwhile that it wants no more answers (C-CANCEL, PS3.7 §9.3.2.3).

        Looks and never waits: a PDU that is not whole yet is left for the next look. A release is the peer's word too;
        it is answered when the operation is over.
        """
        while self._wire.offered(HEAD):
            kind, length = read_head(self._wire.peek(HEAD))
            if kind == PduType.RELEASE_RQ:
                return True
            if not self._wire.offered(HEAD + length):
                return False
            body = bytes(self._wire.take(HEAD + length))[HEAD:]
            if kind == PduType.ABORT:
                raise ConnectionAbortedError("the peer has aborted")
            if kind != PduType.P_DATA_TF:
                raise Breach("a PDU in the midst of an operation", AbortReason.UNEXPECTED_PDU)
            if command.message_id in self._cancels(body):
                return True
        return False

    def _cancels(self, body: bytes) -> list[int]:
        """The message ids whose C-CANCEL is whole with this P-DATA. Nothing else may come while we answer."""
        found = []
        for pdv in pdvs(memoryview(body)):
            self._meanwhile += pdv.fragment
            if not pdv.is_command or len(self._meanwhile) > MOST_COMMAND:
                raise Breach("one operation at a time was agreed", AbortReason.UNEXPECTED_PDU)
            if pdv.is_last:
                asked = read_command(bytes(self._meanwhile))
                self._meanwhile.clear()
                if asked.field != Field.C_CANCEL_RQ:
                    raise Breach("one operation at a time was agreed", AbortReason.UNEXPECTED_PDU)
                found.append(asked.message_id)
        return found

    # --- Sta7 to Sta13: the end -------------------------------------------------------------------------------

    def _release(self) -> None:
        """We are stopping: ask for the release, which the peer may do in the same moment (Sta7, Sta10, Sta12)."""
        self._wire.send(RELEASE_RQ, PARTING)
        by = time.monotonic() + PARTING
        collided = False
        while not isinstance(found := self._next_by(by), End):
            match found[0]:
                case PduType.RELEASE_RP if collided:  # AR-10, AR-4
                    self._wire.send(RELEASE_RP, PARTING)
                    self._part()
                    return
                case PduType.RELEASE_RP | PduType.ABORT:  # AR-3, AA-3
                    return
                case PduType.RELEASE_RQ if not collided:  # AR-8: we are the acceptor, so the peer answers first
                    collided = True
                case PduType.P_DATA_TF if not collided:  # AR-6: what comes now is not kept, and comes again
                    continue
                case _:
                    raise Breach("a PDU that has no place in a release", AbortReason.UNEXPECTED_PDU)
        self._wire.send(abort(None), PARTING)

    def _abort(self, why: str, reason: AbortReason | None) -> None:
        """A-ABORT: of us for None, of the protocol for a reason. What was coming in is not kept."""
        log.warning("association.aborted", reason=why, address=self._peer.address)
        self._abandon()
        self._places.go_out(self._peer.ticket, self._peer.address, self._wire.shut)
        if self._wire.send(abort(reason), PARTING):
            self._wire.drain(time.monotonic() + PARTING)  # what follows cannot be told apart any more

    def _abandon(self) -> None:
        request, self._request = self._request, None
        if request is not None and request.operation is not None:
            request.operation.abandon()

    def _part(self) -> None:
        """Sta13: the peer closes. What it says meanwhile counts no more (AA-6, AA-7)."""
        self._places.go_out(self._peer.ticket, self._peer.address, self._wire.shut)
        by = time.monotonic() + PARTING
        try:
            while not isinstance(found := self._next_by(by), End) and found[0] != PduType.ABORT:
                if found[0] == PduType.ASSOCIATE_RQ:
                    self._wire.send(abort(AbortReason.UNEXPECTED_PDU), PARTING)
        except Breach as breach:
            self._wire.send(abort(breach.reason), PARTING)

    # --- PDUs -------------------------------------------------------------------------------------------------

    def _next(self, idle: float, within: float, *, wakeable: bool = False, most: int = MOST) -> _Pdu | End:
        """The next PDU, head and body: `idle` seconds until it begins, `within` for the whole of it (F2)."""
        ended = self._wire.fill(1, time.monotonic() + idle, wakeable=wakeable)
        return ended or self._next_by(time.monotonic() + within, most=most)

    def _next_by(self, by: float, *, most: int = MOST) -> _Pdu | End:
        ended = self._wire.fill(HEAD, by)
        if ended is not None:
            return ended
        kind, length = read_head(self._wire.peek(HEAD), most)
        ended = self._wire.fill(HEAD + length, by)
        return ended or (kind, self._wire.take(HEAD + length))
