"""An HL7 message as its page shows it: as it was sent, each value with its field's name, what was used marked."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.console.access.hl7_masks import MOST, Part, is_open, parts
from bridge.console.access.masks import MASK
from bridge.errors import BadInput
from bridge.formats.hl7 import address as addresses
from bridge.formats.hl7.lint import FieldName, field_names
from bridge.formats.hl7.message import Message, Segment
from bridge.formats.hl7.reader import read

Used = Mapping[tuple[str, int, int, int, int], tuple[str, ...]]
"""Task fields by the place that they come from: segment, its number, field, repeat, component; 0 is the whole field."""
_FIRST = FieldName("")


@dataclass(frozen=True, slots=True)
class Piece:
    """A value between its delimiters. `text` may be a mask; `used` names the task fields that were made of it."""

    before: str
    text: str
    place: str = ""
    anchor: str = ""
    name: str = ""
    used: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A segment."""

    name: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A message. `notes` are the tolerances that reading it took; `more`: it is longer than what is shown."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    more: bool = False

    def values(self) -> Iterator[Piece]:
        """What is not empty, for the table."""
        return (p for line in self.lines for p in line.pieces if p.text and p.place)


def used_places(traces: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, int, int, int], tuple[str, ...]]:
    """Where the task fields of some traces come from in an HL7 message."""
    found: dict[tuple[str, int, int, int, int], tuple[str, ...]] = {}
    for trace in traces:
        for place in re.split(r", | \+ ", trace["where"]):
            at = addresses.parse(place)
            if at is not None and at.field:
                key = (at.segment, at.number or 1, at.field, at.repeat or 1, at.component)
                found[key] = (*found.get(key, ()), trace["field"])
    return found


def anchor_of(where: str) -> str:
    """The anchor of a trace's first place, in the page of the message that it names."""
    place = re.split(r", | \+ ", where)[0]
    at = addresses.parse(place)
    if at is None or not at.field:
        return re.sub(r"[^A-Za-z0-9.-]", "-", f"at-{place}")
    return _anchor(at.segment, at.number or 1, at.field, at.repeat or 1, at.component or 1)


def _anchor(segment: str, number: int, field: int, repeat: int, component: int) -> str:
    return f"at-{segment}.{number}-{field}.{repeat}.{component}"


def hl7_shown(raw: bytes, *, revealed: bool, used: Used | None = None, fallback: str = "cp1252") -> Shown:
    """The message. What cannot be read as one is a single masked line, or its text where it is revealed."""
    try:
        message = read(raw, fallback_charset=fallback)
    except BadInput:
        return plain_shown(raw, revealed=revealed)
    lines: list[Line] = []
    room, counts = MOST, Counter(segment.name for segment in message.segments)
    for segment in message.segments:
        if room <= 0:
            break
        several = counts[segment.name] > 1
        lines.append(_line(segment, message, used or {}, revealed=revealed, several=several, room=room))
        room -= sum(len(p.text) + 1 for p in lines[-1].pieces)
    return Shown(tuple(lines), message.notes, more=room <= 0)


def plain_shown(raw: bytes, *, revealed: bool) -> Shown:
    """The bytes without a look at what they mean: for what the bridge once failed on (F28), and what is no message."""
    if not revealed:
        return Shown((Line("", (Piece("", MASK),)),), more=False)
    text = raw[:MOST].decode("utf-8", "replace")
    said = tuple(Line("", (Piece("", line),)) for line in re.split(r"\r\n?|\n", text) if line)
    return Shown(said, more=len(raw) > MOST)


def _line(segment: Segment, message: Message, used: Used, *, revealed: bool, several: bool, room: int) -> Line:
    if not segment.name:
        return Line("", (Piece("", segment.line[:room] if revealed else MASK),))
    names = field_names(segment.name, message.header.version)
    pieces: list[Piece] = []
    for part in parts(segment, message):
        if room <= 0:
            break
        pieces.append(_piece(segment, part, names, used, revealed=revealed, several=several, room=room))
        room -= len(part.text) + 1
    return Line(segment.name, tuple(pieces))


def _piece(
    segment: Segment,
    part: Part,
    names: tuple[FieldName, ...],
    used: Used,
    *,
    revealed: bool,
    several: bool,
    room: int,
) -> Piece:
    if not part.text:
        return Piece(part.before, "")
    known = names[part.field - 1] if part.field <= len(names) else _FIRST
    composed = len(known.components) > 1
    inner = known.components[part.component - 1] if composed and part.component <= len(known.components) else ""
    at = (segment.name, segment.number, part.field, part.repeat)
    number = f"[{segment.number}]" if several else ""
    repeat = f"[{part.repeat}]" if part.repeat > 1 else ""
    is_shown = revealed or is_open(segment.name, part.field, part.text)
    return Piece(
        before=part.before,
        text=part.text[:room] if is_shown else MASK,
        place=f"{segment.name}{number}-{part.field}{repeat}{f'.{part.component}' if composed else ''}",
        anchor=_anchor(*at, part.component),
        name=f"{known.name}: {inner}" if inner else known.name,
        used=tuple(dict.fromkeys((*used.get((*at, part.component), ()), *used.get((*at, 0), ())))),
    )
