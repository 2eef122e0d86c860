"""Command sets: what a peer asks for, and what it is told (PS3.7 §9, §10, annex E).

A coder of our own: a command set is a flat list of a dozen elements, implicit VR little endian (PS3.7 §6.3.1), and
pynetdicom goes through whole data sets for it, which costs more than everything else that an answer needs (0.3 ms to
read and 0.6 ms to write, measured). A test holds every answer against pynetdicom's reading of it.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from bridge.receive.dicom.pdus import AbortReason, Breach

MOST = 16 * 1024
"""Bytes of a command set. None that we take has more than some hundred."""

NO_DATA_SET = 0x0101  # PS3.7 table E.1-1: CommandDataSetType
_ANSWER = 0x8000

_SOP_CLASS, _REQUESTED_CLASS = 0x0002, 0x0003
_FIELD, _MESSAGE_ID, _RESPONDED_TO, _DATA_SET_TYPE = 0x0100, 0x0110, 0x0120, 0x0800
_STATUS, _COMMENT = 0x0900, 0x0902
_INSTANCE, _REQUESTED_INSTANCE, _ACTION_TYPE = 0x1000, 0x1001, 0x1008
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")


class Field(IntEnum):
    """CommandField of what we take (PS3.7 table E.1-1)."""

    C_STORE_RQ = 0x0001
    C_FIND_RQ = 0x0020
    C_ECHO_RQ = 0x0030
    C_CANCEL_RQ = 0x0FFF
    N_ACTION_RQ = 0x0130


@dataclass(frozen=True, slots=True)
class Command:
    """A request. UIDs are trimmed of their padding and otherwise as they came: devices write odd ones."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool
    action_type_id: int = 0

    @property
    def is_response(self) -> bool:
        return bool(self.field & _ANSWER)


def read_command(value: bytes) -> Command:
    """A command set. Raises Breach where it is none."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(value):
        if at + _ELEMENT.size > len(value):
            raise Breach("a command set is cut short", AbortReason.INVALID_PARAMETER)
        group, element, length = _ELEMENT.unpack_from(value, at)
        at += _ELEMENT.size
        if group or at + length > len(value):
            raise Breach("a command set holds something else", AbortReason.INVALID_PARAMETER)
        found[element] = value[at : at + length]
        at += length
    field = _number(found, _FIELD)
    kind = _number(found, _DATA_SET_TYPE)
    if field is None or kind is None:
        raise Breach("a command set without its command", AbortReason.INVALID_PARAMETER)
    message_id = _number(found, _RESPONDED_TO if field == Field.C_CANCEL_RQ or field & _ANSWER else _MESSAGE_ID)
    if message_id is None:
        raise Breach("a command set without its message id", AbortReason.INVALID_PARAMETER)
    return Command(
        field,
        message_id,
        _uid(found.get(_SOP_CLASS) or found.get(_REQUESTED_CLASS) or b""),
        _uid(found.get(_INSTANCE) or found.get(_REQUESTED_INSTANCE) or b""),
        kind != NO_DATA_SET,
        _number(found, _ACTION_TYPE) or 0,
    )


def response(command: Command, status: int, comment: str = "", *, has_data_set: bool = False) -> bytes:
    """The command set of an answer, its UIDs as they were asked for. `comment` holds no patient value."""
    elements = b"".join(
        (
            _element(_SOP_CLASS, _uid_value(command.sop_class_uid)) if command.sop_class_uid else b"",
            _element(_FIELD, _US.pack(command.field | _ANSWER)),
            _element(_RESPONDED_TO, _US.pack(command.message_id)),
            _element(_DATA_SET_TYPE, _US.pack(0x0001 if has_data_set else NO_DATA_SET)),
            _element(_STATUS, _US.pack(status)),
            _element(_COMMENT, _text_value(comment)) if comment else b"",
            _element(_INSTANCE, _uid_value(command.sop_instance_uid)) if command.sop_instance_uid else b"",
            _element(_ACTION_TYPE, _US.pack(command.action_type_id)) if command.field == Field.N_ACTION_RQ else b"",
        )
    )
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _number(found: dict[int, bytes], element: int) -> int | None:
    value = found.get(element)
    return int(_US.unpack(value)[0]) if value is not None and len(value) == _US.size else None


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _uid_value(text: str) -> bytes:
    value = text.encode("ascii", "replace")
    return value + b"\0" * (len(value) % 2)


def _text_value(text: str) -> bytes:
    value = text[:64].encode("ascii", "replace")
    return value + b" " * (len(value) % 2)
