"""Who may open an association, and for what: by pynetdicom's rules and codecs (PS3.8 §7.1, PS3.7 annex D).

Only this file and the sender of storage commitments know pynetdicom. Called straight, its rules are sound and its
codecs cheap. The same request brings the same answer, and carts repeat theirs at each ECG, so the last ones are
remembered by their bytes.
"""

import logging
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pynetdicom import _config
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from bridge.dicom_settings import DicomSettings
from bridge.formats.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bridge.receive.dicom.request import Proposed, Request, read_request

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 annex A
IMPLICIT_LITTLE = "1.2.840.10008.1.2"

_REMEMBERED = 64
_NOT_READ, _NOT_OFFERED = 2, 3  # PS3.8 table 9-18: no reason (provider), abstract syntax not supported
_ITEM = struct.Struct(">BxH")
_TITLES = slice(10, 42)
_ITEMS = 74
_NOBODYS = "2.25.0"
"""Stands for transfer syntaxes that nobody here knows."""
_Item = MaximumLengthNotification | ImplementationClassUIDNotification | ImplementationVersionNameNotification


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21), and why, as the log says it."""

    result: int
    source: int
    diagnostic: int
    why: str


NO_ROOM = Rejection(2, 3, 2, "no_room")
TOO_MANY = Rejection(2, 3, 2, "too_many")  # transient, local limit exceeded
NOT_ALLOWED = Rejection(1, 1, 1, "address_not_allowed")
CALLING_UNKNOWN = Rejection(1, 1, 3, "calling_ae_title")
CALLING_OF_ANOTHER = Rejection(1, 1, 3, "certificate_of_another")
CALLED_UNKNOWN = Rejection(1, 1, 7, "called_ae_title")
CONTEXT_UNKNOWN = Rejection(1, 1, 2, "application_context")
VERSION_UNKNOWN = Rejection(1, 2, 2, "protocol_version")


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Asked:
    """An association request and its acceptance, if nothing speaks against it. Never changed: threads share it."""

    request: Request
    contexts: Mapping[int, Context]
    acceptance: bytes


class Negotiator:
    """The rules of one listener. `offers`: transfer syntaxes by abstract syntax, the one that we like best first."""

    def __init__(self, settings: DicomSettings, offers: Mapping[str, tuple[str, ...]]) -> None:
        _config.LOG_HANDLER_LEVEL = "none"  # the standard handler logs data sets
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        self._settings = settings
        self._offers = offers
        self._called = {settings.ae_title, *settings.other_ae_titles}
        self._supported = [_supported(uid, syntaxes) for uid, syntaxes in offers.items()]
        self._read = lru_cache(maxsize=_REMEMBERED)(self._answer)

    def read(self, request: bytes) -> Asked:
        """An A-ASSOCIATE-RQ, head and body. Raises Breach where it cannot be understood."""
        return self._read(request)

    def refusal(self, request: Request, peer_subject: str, *, is_allowed: bool) -> Rejection | None:
        """Why this peer may not have this association; None where he may."""
        if not is_allowed:
            return NOT_ALLOWED
        if not request.version & 1:
            return VERSION_UNKNOWN
        if request.application_context != APPLICATION_CONTEXT:
            return CONTEXT_UNKNOWN
        if request.called_ae not in self._called:
            return CALLED_UNKNOWN
        titles = self._settings.calling_ae_titles
        if titles and request.calling_ae not in titles:
            return CALLING_UNKNOWN
        certificates = self._settings.certificates
        if certificates and request.calling_ae not in certificates.get(peer_subject, ()):
            return CALLING_OF_ANOTHER
        return None

    def _answer(self, pdu: bytes) -> Asked:
        request = read_request(pdu)
        wanted = [one for one in request.proposed if _can_be_read(one) and one.abstract_syntax in self._offers]
        others = [one for one in request.proposed if one not in wanted]
        roles: dict[Any, tuple[bool | None, bool | None]] = {uid: (user, own) for uid, user, own in request.roles}
        results, replied = negotiate_as_acceptor([self._context(one) for one in wanted], self._supported, roles)
        answer = A_ASSOCIATE()
        answer.calling_ae_title = answer.called_ae_title = "ANY"
        answer.application_context_name = APPLICATION_CONTEXT
        answer.result = 0
        answer.presentation_context_definition_results_list = results
        answer.user_information = [*self._about_us(), *replied]
        if request.wants_window:
            answer.user_information.append(_one_at_a_time())
        contexts = {
            cx.context_id or 0: Context(str(cx.abstract_syntax), str(cx.transfer_syntax[0]))
            for cx in results
            if cx.result == 0
        }
        return Asked(request, contexts, _completed(A_ASSOCIATE_AC(answer).encode(), request.titles, others))

    def _context(self, proposed: Proposed) -> PresentationContext:
        """As pynetdicom's rules want it. Transfer syntaxes that nobody here knows are left out before they are read."""
        offered = self._offers[proposed.abstract_syntax]
        known = [one for one in dict.fromkeys(proposed.transfer_syntaxes) if one in offered]
        context = build_context(proposed.abstract_syntax, known or [_NOBODYS])
        context.context_id = proposed.context_id
        return context

    def _about_us(self) -> list[_Item]:
        length, uid, name = (
            MaximumLengthNotification(),
            ImplementationClassUIDNotification(),
            ImplementationVersionNameNotification(),
        )
        length.maximum_length_received = self._settings.max_pdu
        uid.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        name.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        return [length, uid, name]


def _can_be_read(proposed: Proposed) -> bool:
    return bool(proposed.context_id % 2 and proposed.abstract_syntax and proposed.transfer_syntaxes)


def _completed(acceptance: bytes, titles: bytes, others: Iterable[Proposed]) -> bytes:
    """With the peer's own AE titles, byte for byte (PS3.8 table 9-17), and a result for every context that he asked."""
    (_, length) = _ITEM.unpack_from(acceptance, _ITEMS)
    first = _ITEMS + _ITEM.size + length  # behind the application context
    results = b"".join(map(_refused, others))
    body = acceptance[6 : _TITLES.start] + titles + acceptance[_TITLES.stop : first] + results + acceptance[first:]
    return acceptance[:2] + struct.pack(">L", len(body)) + body


def _refused(proposed: Proposed) -> bytes:
    """A context of which nothing comes; its transfer syntax means nothing (PS3.8 §9.3.3.2)."""
    result = _NOT_OFFERED if _can_be_read(proposed) else _NOT_READ
    syntax = IMPLICIT_LITTLE.encode()
    inside = _ITEM.pack(0x40, len(syntax)) + syntax
    return _ITEM.pack(0x21, 4 + len(inside)) + bytes((proposed.context_id, 0, result, 0)) + inside


def _supported(uid: str, syntaxes: tuple[str, ...]) -> PresentationContext:
    """A class that we provide; a requestor that wants to be its provider himself is told no (PS3.7 D.3.3.4)."""
    context = build_context(uid, list(syntaxes))
    context.scu_role, context.scp_role = True, False
    return context


def _one_at_a_time() -> AsynchronousOperationsWindowNegotiation:
    """The answer to whoever would like several operations at once (PS3.7 D.3.3.3)."""
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 1
    window.maximum_number_operations_performed = 1
    return window
