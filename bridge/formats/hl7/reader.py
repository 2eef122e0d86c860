"""The tolerant reader: bytes of one message in, a `Message` out (hl7.md §6 is its list of tolerances).

Linear in the bytes, with limits (failures.md §4): a message over one of them is refused by name, before anything of
it is split.
"""

import re

from bridge.domain.verdict import Condition
from bridge.errors import BadInput
from bridge.formats.hl7 import charset, msh
from bridge.formats.hl7.groups import other_patient
from bridge.formats.hl7.header import Header
from bridge.formats.hl7.message import Message, OrderView, Segment, segment_name
from bridge.formats.hl7.msh import read_header

__all__ = ["Header", "Message", "OrderView", "Segment", "read", "read_header"]

MAX_SEGMENTS = 2000
MAX_FIELDS = 500
MAX_REPETITIONS = 500

_ORDER_TYPES = frozenset({"ORM", "OMG", "OMI"})


def read(raw: bytes, *, fallback_charset: str = "cp1252") -> Message:
    """The message. Raises BadInput: code 100 at MSH where there is no header, and at a segment over a limit."""
    body, before = msh.body_of(raw)
    header = msh.parse(body)
    decoded = charset.decode(body, header.charsets, fallback_charset)
    notes = [*before, *header.notes]
    if decoded.note:
        notes.append(decoded.note)
    lines = _lines(decoded.text, header.field_separator, notes)
    _within_limits(decoded.text, lines, header)
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
    lines = text.split("\r", MAX_SEGMENTS + 1)
    if not lines[-1]:
        lines.pop()
    if len(lines) > MAX_SEGMENTS:
        raise _over(f"more than {MAX_SEGMENTS} segments", segment_name(lines[-1][:4], separator))
    if "" in (segment_name(line, separator) for line in lines):
        notes.append("a line does not begin with a segment name; it is left out")
    return lines


def _within_limits(text: str, lines: list[str], header: Header) -> None:
    separator, repetition = header.field_separator, header.repetition
    if "\rMSH" + separator in text:
        raise BadInput("a second MSH segment", where="MSH[2]", code=Condition.SEGMENT_SEQUENCE)
    if text.count(separator) > MAX_FIELDS:
        for line in lines:
            if line.count(separator) > MAX_FIELDS:
                raise _over(f"more than {MAX_FIELDS} fields", segment_name(line, separator))
    if text.count(repetition) >= MAX_REPETITIONS:
        for line in lines:
            if line.count(repetition) >= MAX_REPETITIONS and any(
                field.count(repetition) >= MAX_REPETITIONS for field in line.split(separator)
            ):
                raise _over(f"more than {MAX_REPETITIONS} repetitions of a field", segment_name(line, separator))


def _one_patient(message: Message) -> None:
    # An order behind another patient's PID would otherwise be read with the first patient.
    if number := other_patient(message.segments, message.header):
        raise BadInput(
            "an order message names more than one patient", where=f"PID[{number}]", code=Condition.SEGMENT_SEQUENCE
        )


def _over(what: str, segment: str) -> BadInput:
    segment = segment or "MSH"  # never the beginning of a line that may be a patient's data
    return BadInput(f"{what} in {segment}", where=segment, code=Condition.SEGMENT_SEQUENCE)
