"""An A-ASSOCIATE-RQ, read as devices write it (PS3.8 §9.3.2).

A reader of our own: pynetdicom's refuses a whole request for a NUL behind an AE title, a version name of 17 characters
or one private context that it cannot read, and carts in use send each of these. What is not needed is not looked at.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.receive.dicom.pdus import AbortReason, Breach

LONGEST = 256 * 1024
"""Bytes of a request. 128 contexts of 20 transfer syntaxes each are 70 KB."""

_FIXED = 74  # to where the items begin, counted from the PDU's head (PS3.8 table 9-11)
_TITLES = slice(10, 42)
_ITEM = struct.Struct(">BxH")
_APPLICATION_CONTEXT, _CONTEXT, _ABSTRACT, _TRANSFER = 0x10, 0x20, 0x30, 0x40
_USER, _LENGTH, _WINDOW, _ROLE = 0x50, 0x51, 0x53, 0x54


@dataclass(frozen=True, slots=True)
class Proposed:
    """A presentation context that is asked for. `abstract_syntax` is empty where it cannot be read."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a peer asks for. `titles` are both AE titles as they were sent, and as they go back."""

    version: int
    called_ae: str
    calling_ae: str
    titles: bytes
    application_context: str
    proposed: tuple[Proposed, ...]
    most: int  # bytes of a PDU that the peer takes; 0: any
    roles: tuple[tuple[str, bool, bool], ...]  # SOP class, as its user, as its provider (PS3.7 D.3.3.4)
    wants_window: bool  # of asynchronous operations (PS3.7 D.3.3.3)


def read_request(pdu: bytes) -> Request:
    """Head and body. Raises Breach where its lengths do not add up, or its contexts have no numbers of their own."""
    if not _FIXED <= len(pdu) <= LONGEST:
        raise Breach("an association request of no possible length", AbortReason.INVALID_PARAMETER)
    application_context, proposed, user = "", [], b""
    for kind, value in _items(pdu[_FIXED:]):
        if kind == _APPLICATION_CONTEXT:
            application_context = _text(value)
        elif kind == _CONTEXT:
            proposed.append(_proposed(value))
        elif kind == _USER:
            user = value
    numbers = {one.context_id for one in proposed}
    if not proposed or len(numbers) < len(proposed):
        raise Breach("presentation contexts without a number of their own", AbortReason.INVALID_PARAMETER)
    about = list(_items(user))
    titles = pdu[_TITLES]
    return Request(
        version=int.from_bytes(pdu[6:8]),
        called_ae=_text(titles[:16]),
        calling_ae=_text(titles[16:]),
        titles=titles,
        application_context=application_context,
        proposed=tuple(proposed),
        most=next((int.from_bytes(value) for kind, value in about if kind == _LENGTH and len(value) == 4), 0),
        roles=tuple(
            (_text(value[2:-2]), bool(value[-2]), bool(value[-1]))
            for kind, value in about
            if kind == _ROLE and len(value) >= 4
        ),
        wants_window=any(kind == _WINDOW for kind, _ in about),
    )


def _items(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Items or sub-items; those that the standard does not know are for the caller to pass over (PS3.8 §9.3.1)."""
    at = 0
    while at + _ITEM.size <= len(value):  # fewer bytes than the head of an item are padding
        kind, length = _ITEM.unpack_from(value, at)
        begin = at + _ITEM.size
        at = begin + length
        if at > len(value):
            raise Breach("an item reaches beyond its association request", AbortReason.INVALID_PARAMETER)
        yield kind, value[begin:at]


def _proposed(value: bytes) -> Proposed:
    if len(value) < 4:
        raise Breach("a presentation context is cut short", AbortReason.INVALID_PARAMETER)
    inside = list(_items(value[4:]))
    abstract = next((_text(found) for kind, found in inside if kind == _ABSTRACT), "")
    return Proposed(value[0], abstract, tuple(_text(found) for kind, found in inside if kind == _TRANSFER))


def _text(value: bytes) -> str:
    """Without padding; what is not of the default repertoire is kept, so that it equals nothing that is."""
    return value.decode("latin-1").strip("\0 ")
