"""The tolerant reader: bytes of one message in, a `Message` out (hl7.md §6 is its list of tolerances).

Linear in the bytes, with limits (failures.md §4): a message over one of them is refused by name, before anything of
it is split.
"""

import re
from typing import AnyStr

from bridge.domain.verdict import Condition
from bridge.errors import BadInput
from bridge.formats.hl7 import charset, limits, msh
from bridge.formats.hl7.escapes import has_unknown
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
    in_bytes = _splits_in_bytes(body, header, fallback_charset)
    if in_bytes:
        _within(body, header.field_separator.encode("ascii"), header.repetition.encode("ascii"), most)
    decoded = charset.decode(body, header.charsets, fallback_charset)
    notes = [*before, *header.notes]
    if decoded.note:
        notes.append(decoded.note)
    if not in_bytes:
        _within(decoded.text, header.field_separator, header.repetition, most)
    lines = _lines(decoded.text, header.field_separator, notes)
    if any(line.startswith("MSH" + header.field_separator) for line in lines[1:]):
        raise BadInput("a second MSH segment", where="MSH[2]", code=Condition.SEGMENT_SEQUENCE)
    if has_unknown(decoded.text, header.delimiters, begin=8):
        notes.append("a lone or unknown escape; it stays as it was")
    message = Message(header, raw, lines, decoded.codec, tuple(notes), fallback_charset)
    if header.type in _ORDER_TYPES and decoded.text.count("PID" + header.field_separator) > 1:
        _one_patient(message)
    return message


def _lines(text: str, separator: str, notes: list[str]) -> list[str]:
    """The segments' lines. CR ends a segment; LF does where one begins after it, else it is the sender's text."""
    if "\n" in text:
        text = _line_feeds(text, separator, notes)
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


def _line_feeds(text: str, separator: str, notes: list[str]) -> str:
    """LF and CRLF as segment ends where a segment or the end comes after them, and blank lines; else they are text.

    A run of line ends is looked at as a whole, once: ten million of them cost one pass.
    """
    segment = r"[A-Z][A-Z0-9]{2}(?:" + re.escape(separator) + r"|[\r\n]|\Z)"
    runs = re.compile(rf"(?<![\r\n])[\r\n]++(?={segment}|\Z)")
    found: set[str] = set()

    def ended(run: re.Match[str]) -> str:
        if "\n" in run[0]:
            found.add("segments end in LF")
            if len(run[0].replace("\r\n", "\n")) > 1:
                found.add("blank lines")
            return "\r"
        return run[0]

    text = runs.sub(ended, text)
    notes += sorted(found, reverse=True)
    return text


def _splits_in_bytes(body: bytes, header: Header, fallback: str) -> bool:
    """Whether a delimiter's byte is a delimiter everywhere in this message, whatever set it is read as."""
    read_as = charset.declared(header.charsets) or fallback
    return b"\x1b" not in body and charset.splits_in_bytes(read_as)


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
