"""PDUs: their heads, the pieces that P-DATA carries, and the short ones that we send (PS3.8 §9.3).

Pure: no socket. What the association request and its acceptance hold is coded in `negotiation`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from bridge.errors import BridgeError

MOST = 1 << 20
"""Bytes: a PDU that claims more is not read (dicom_ecg.md §2). A stock reader takes 600 MiB for a forged length."""

HEAD = 6
_HEAD = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")
_COMMAND, _LAST = 1, 2


class PduType(IntEnum):
    """PS3.8 §9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Of the service provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Breach(BridgeError):
    """The peer broke the protocol: the association is aborted with `reason`. Nothing of it is kept."""

    def __init__(self, message: str, reason: AbortReason) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pdv:
    """A presentation data value: a piece of a command set or of a data set (PS3.8 annex E)."""

    context_id: int
    is_command: bool
    is_last: bool
    fragment: memoryview


def read_head(head: memoryview, most: int = MOST) -> tuple[int, int]:
    """Type and length of a PDU. Raises Breach for a type that does not exist, or a length over `most`."""
    kind, length = _HEAD.unpack(head)
    if not PduType.ASSOCIATE_RQ <= kind <= PduType.ABORT:
        raise Breach("a PDU of no type", AbortReason.UNRECOGNIZED_PDU)
    if length > most:
        raise Breach("a PDU is too long", AbortReason.INVALID_PARAMETER)
    if kind >= PduType.RELEASE_RQ and length != 4:
        raise Breach("a PDU has not the length of its type", AbortReason.INVALID_PARAMETER)
    return kind, length


def pdvs(body: memoryview) -> Iterator[Pdv]:
    """The pieces in a P-DATA-TF. Raises Breach where their lengths do not add up."""
    at = 0
    if not body:
        raise Breach("P-DATA without a value", AbortReason.INVALID_PARAMETER)
    while at < len(body):
        if at + _PDV.size > len(body):
            raise Breach("P-DATA is cut short", AbortReason.INVALID_PARAMETER)
        length, context_id, control = _PDV.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise Breach("a value reaches beyond its P-DATA", AbortReason.INVALID_PARAMETER)
        yield Pdv(context_id, bool(control & _COMMAND), bool(control & _LAST), body[at + _PDV.size : end])
        at = end


def p_data(context_id: int, value: bytes, most: int, *, command: bool) -> bytes:
    """A command set or a data set as P-DATA-TF PDUs of `most` bytes each behind their heads; 0: as long as it is."""
    room = max(most - _PDV.size, 2) if most else max(len(value), 1)
    pieces = [value[n : n + room] for n in range(0, len(value), room)] or [b""]
    flags = _COMMAND if command else 0
    return b"".join(
        _HEAD.pack(PduType.P_DATA_TF, len(piece) + _PDV.size)
        + _PDV.pack(len(piece) + 2, context_id, flags | (_LAST if number == len(pieces) else 0))
        + piece
        for number, piece in enumerate(pieces, 1)
    )


def reject(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return _HEAD.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def abort(reason: AbortReason | None) -> bytes:
    """A-ABORT of the provider for a reason; of the user, that is of us, for None (PS3.8 table 9-26)."""
    return _HEAD.pack(PduType.ABORT, 4) + bytes((0, 0, 0 if reason is None else 2, reason or 0))


RELEASE_RQ = _HEAD.pack(PduType.RELEASE_RQ, 4) + bytes(4)
RELEASE_RP = _HEAD.pack(PduType.RELEASE_RP, 4) + bytes(4)
