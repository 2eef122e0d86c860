"""The tolerant reader: bytes of one message in, a `Message` out (hl7.md §6 is its list of tolerances).

Linear in the bytes, with limits (failures.md §4): a message over one of them is refused by name, before anything of
it is split.
"""

import re
from typing import AnyStr

from bridge.domain.verdict import Condition
from bridge.errors import BadInput
from bridge.formats.hl7 import charset, limits, msh
from bridge.formats.hl7.groups import other_patient
from bridge.formats.hl7.header import Header
from bridge.formats.hl7.limits import Limits
from bridge.formats.hl7.message import Message, OrderView, Segment, segment_name
from bridge.formats.hl7.msh import read_header

__all__ = ["Header", "Message", "OrderView", "Segment", "read", "read_header"]


_DEFAULT = Limits()
_ORDER_TYPES = frozenset({"ORM", "OMG", "OMI"})


def read(raw: bytes, *, fallback_charset: str = "cp1252", most: Limits = _DEFAULT) -> Message:
    """The message. Raises BadInput: code 100 at MSH where there is no header, and at a segment over a limit."""
    body, before = msh.body_of(raw)
    header = msh.parse(body)
    in_bytes = charset.splits_in_bytes(charset.declared(header.charsets))
    if in_bytes:
        _within(body, header.field_separator.encode("ascii"), header.repetition.encode("ascii"), most)
    decoded = charset.decode(body, header.charsets, fallback_charset)
    notes = [*before, *header.notes]
    if decoded.note:
        notes.append(decoded.note)
    if not in_bytes:
        _within(decoded.text, header.field_separator, header.repetition, most)
    if "\rMSH" + header.field_separator in decoded.text:
        raise BadInput("a second MSH segment", where="MSH[2]", code=Condition.SEGMENT_SEQUENCE)
    lines = _lines(decoded.text, header.field_separator, notes)
    message = Message(header, raw, lines, decoded.codec, tuple(notes), fallback_charset)
    if header.type in _ORDER_TYPES and decoded.text.count("PID" + header.field_separator) > 1:
        _one_patient(message)
    return message


def _lines(text: str, separator: str, notes: list[str]) -> list[str]:
    """The segments' lines. CR ends a segment; LF does where one begins after it, else it is the sender's text."""
    if "\n" in text:
        ends = re.compile(r"\r?\n(?=[A-Z][A-Z0-9]{2}(?:" + re.escape(separator) + r"|[\r\n]|\Z)|[\r\n]|\Z)")
        ended = ends.sub("\r", text)
        if ended != text:
            notes.append("segments end in LF")
            text = ended
    if not text.endswith("\r"):
        notes.append("the last segment does not end in CR")
    if "\r\r" in text:
        notes.append("blank lines")
        text = re.sub("\r{2,}", "\r", text)
    lines = text.split("\r")
    if not lines[-1]:
        lines.pop()
    if "" in (segment_name(line, separator) for line in lines):
        notes.append("a line does not begin with a segment name; it is left out")
    return lines


def _within(text: AnyStr, separator: AnyStr, repetition: AnyStr, most: Limits) -> None:
    limits.check(
        text,
        field_separator=separator,
        repetition=repetition,
        max_segments=most.segments,
        max_fields=most.fields,
        max_repetitions=most.repetitions,
    )


def _one_patient(message: Message) -> None:
    # An order behind another patient's PID would otherwise be read with the first patient.
    if number := other_patient(message.segments, message.header):
        raise BadInput(
            "an order message names more than one patient", where=f"PID[{number}]", code=Condition.SEGMENT_SEQUENCE
        )
