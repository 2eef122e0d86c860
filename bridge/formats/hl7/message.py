"""A message as segments, read lazily: a segment is split when somebody first asks for one of its fields.

Splitting is linear, components are cut out without splitting the rest, and nothing of a split component is kept: a
hostile field of a million delimiters costs one pass.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise

from bridge.domain.found import Found
from bridge.formats.hl7 import address as addresses
from bridge.formats.hl7 import charset
from bridge.formats.hl7.address import Address, RepeatFilter, SegmentFilter
from bridge.formats.hl7.escapes import unescape
from bridge.formats.hl7.groups import group
from bridge.formats.hl7.header import Delimiters, Header

NULL = '""'


class Segment:
    """One line. `number` counts the segments of that name in the message, from 1; `line` is as sent, decoded.

    `name` is empty for a line that does not begin with a segment name.
    """

    __slots__ = ("_fields", "_separator", "line", "name", "number")

    def __init__(self, name: str, line: str, number: int, separator: str) -> None:
        self.name = name
        self.line = line
        self.number = number
        self._separator = separator
        self._fields: list[str] | None = None

    @property
    def fields(self) -> list[str]:
        """Fields as sent; index n is field n (in MSH too: MSH-1 is the separator)."""
        if self._fields is None:
            self._fields = self.line.split(self._separator)
            if self.name in {"MSH", "FHS", "BHS"}:
                self._fields.insert(1, self._separator)
        return self._fields

    def field(self, number: int) -> str:
        """Field `number` as sent, escapes and delimiters kept; empty where there is none."""
        fields = self._fields
        if fields is None:
            fields = self.fields
        return fields[number] if number < len(fields) else ""

    def __repr__(self) -> str:
        return f"<Segment {self.name}[{self.number}]>"  # a line holds patient values


class _Reader:
    """Finds values: shared by a message and the views on its orders."""

    def __init__(self, header: Header, encoding: str, counts: dict[str, int], *, fallback: str) -> None:
        self._delimiters = header.delimiters
        self._repetition = header.delimiters.repetition
        self._component = header.delimiters.component
        self._escape = header.delimiters.escape
        self._charsets = header.charsets
        self._encoding = encoding
        self._fallback = fallback
        self._counts = counts

    def find(self, candidates: Iterable[Segment], address: Address) -> list[Found]:
        found: list[Found] = []
        field, number, wanted = address.field, address.number, address.segments_with
        for segment in candidates:
            if not field or (number and segment.number != number) or not (text := segment.field(field)):
                continue
            if wanted is None or self._has(segment, wanted):
                self._collect(segment, text, address, found)
        return found

    def _collect(self, segment: Segment, text: str, address: Address, found: list[Found]) -> None:
        repeats = self._repeats(segment, address.field) if self._repetition in text else (text,)
        wanted, several = address.repeats_with, len(repeats) > 1
        for number, repeat in enumerate(repeats, 1):
            if address.repeat and number != address.repeat:
                continue
            if wanted is not None and not self._agrees(repeat, wanted):
                continue
            value = self._part(repeat, address.component, address.subcomponent)
            if not value:
                continue
            null = value == NULL
            if not null and (address.field > 2 or segment.name != "MSH"):
                value = self._text(value)
            if value:
                numbered = segment.number if self._counts[segment.name] > 1 else 0
                place = _place(segment.name, numbered, address.field, number if several else 0, address.within)
                found.append(Found("" if null else value, place, null))

    def _repeats(self, segment: Segment, field: int) -> Sequence[str]:
        text = segment.field(field) if field else ""
        if not text:
            return ()
        if segment.name == "MSH" and field <= 2:  # they name the delimiters, and are not cut by them
            return (text,)
        return text.split(self._repetition)

    def _part(self, repeat: str, component: int, subcomponent: int) -> str:
        """The component, trimmed, still escaped. `""` for a whole repeat deletes each of its parts as well."""
        if NULL in repeat and repeat.strip() == NULL:
            return NULL
        value = _nth(repeat, self._component, component) if component else repeat
        if subcomponent and value.strip() != NULL:
            value = _nth(value, self._delimiters.subcomponent, subcomponent)
        return value.strip()

    def _text(self, value: str) -> str:
        if self._escape not in value:
            return value
        return unescape(value, self._delimiters, self._decode).strip()

    def _decode(self, raw: bytes) -> str:
        charsets = self._charsets or (("UTF-8",) if self._encoding == "utf-8" else ())
        return charset.decode(raw, charsets, self._fallback).text

    def _has(self, segment: Segment, wanted: SegmentFilter) -> bool:
        text = segment.field(wanted.field)
        if self._escape not in text and wanted.value not in text.casefold():
            return False  # casefold works character by character: what is not in the whole is in none of its parts
        one = RepeatFilter(wanted.component, wanted.subcomponent, wanted.value)
        return any(self._agrees(repeat, one) for repeat in self._repeats(segment, wanted.field))

    def _agrees(self, repeat: str, wanted: RepeatFilter) -> bool:
        value = self._part(repeat, wanted.component, wanted.subcomponent)
        return self._text(value).casefold() == wanted.value


@lru_cache(maxsize=4096)
def _place(name: str, number: int, field: int, repeat: int, within: str) -> str:
    """An address as `Found.where` gives it; a number of 0 is left out."""
    return f"{name}{f'[{number}]' if number else ''}-{field}{f'[{repeat}]' if repeat else ''}{within}"


class View:
    """A part of a message as a `Source`: its own segments first, then those that it shares with others.

    Numbers in addresses, and in what is found, are those of the whole message.
    """

    def __init__(self, own: Sequence[Segment], shared: Sequence[Segment], reader: _Reader) -> None:
        self.segments = list(own)
        self._reader = reader
        self._named: dict[str, list[Segment]] = {}
        for segment in (*self.segments, *shared):
            self._named.setdefault(segment.name, []).append(segment)

    def find(self, address: str) -> list[Found]:
        """Every value at that address in this part, and in what is common to all (`Source.find`)."""
        named = self._named.get(address[:3])
        wanted = addresses.parse(address) if named else None
        return self._reader.find(named, wanted) if named and wanted is not None else []


class OrderView(View):
    """One order of a message: its own segments first, then those that stand before the first order.

    `orc` and `obr` may be missing; `shares_orc`: the ORC is that of the order before (one ORC with several OBR).
    """

    def __init__(self, index: int, own: Sequence[Segment], shared: Sequence[Segment], reader: _Reader) -> None:
        super().__init__(own, shared, reader)
        self.index = index
        self.shares_orc = False
        self.orc = next((s for s in own if s.name == "ORC"), None)
        self.obr = next((s for s in own if s.name == "OBR"), None)


class Message:
    """A message that was read. `raw` is exactly what was received; `text_encoding` is the Python codec used.

    `notes` name each tolerance that was used, without a patient value.
    """

    def __init__(
        self, header: Header, raw: bytes, lines: list[str], text_encoding: str, notes: tuple[str, ...], fallback: str
    ) -> None:
        self.header = header
        self.raw = raw
        self.text_encoding = text_encoding
        self.notes = notes
        self._lines = lines
        self._fallback = fallback

    @property
    def delimiters(self) -> Delimiters:
        return self.header.delimiters

    @property
    def trigger(self) -> str:
        """MSH-9.2, else EVN-1: some senders name the event only there."""
        if self.header.trigger:
            return self.header.trigger
        event = self.find("EVN-1")
        return event[0].value if event else ""

    @cached_property
    def segments(self) -> list[Segment]:
        """All segments in order."""
        separator = self.header.field_separator
        counts: dict[str, int] = {}
        segments: list[Segment] = []
        for line in self._lines:
            name = segment_name(line, separator)
            number = counts.get(name, 0) + 1
            counts[name] = number
            segments.append(Segment(name, line, number, separator))
        return segments

    @cached_property
    def _named(self) -> dict[str, list[Segment]]:
        named: dict[str, list[Segment]] = {}
        for segment in self.segments:
            named.setdefault(segment.name, []).append(segment)
        return named

    @cached_property
    def _reader(self) -> _Reader:
        counts = {name: len(segments) for name, segments in self._named.items()}
        return _Reader(self.header, self.text_encoding, counts, fallback=self._fallback)

    @cached_property
    def _orders(self) -> list[OrderView]:
        shared, owns = group(self.segments)
        orders = [OrderView(index, own, shared, self._reader) for index, own in enumerate(owns, 1)]
        for before, order in pairwise(orders):
            order.shares_orc = order.orc is not None and order.orc is before.orc
        return orders

    def find(self, address: str) -> list[Found]:
        """Every value at that address (`bridge.domain.found.Source`); an address that is not HL7's finds nothing."""
        wanted = addresses.parse(address)
        if wanted is None:
            return []
        return self._reader.find(self._named.get(wanted.segment, ()), wanted)

    def orders(self) -> list[OrderView]:
        """A view for each order, in the order in which they stand; empty for a message without ORC and OBR."""
        return list(self._orders)

    def persons(self) -> list[View]:
        """A view for each PID, with what stands behind it up to the next one (HL7 v2.5.1 §3.3.40: PID, PD1, MRG)."""
        parts: list[list[Segment]] = []
        shared: list[Segment] = []
        for segment in self.segments:
            if segment.name == "PID":
                parts.append([segment])
            else:
                (parts[-1] if parts else shared).append(segment)
        return [View(own, shared, self._reader) for own in parts]


def segment_name(line: str, separator: str) -> str:
    """The name that the line begins with, or "" (HL7 v2.5.1 §2.5.2: three characters)."""
    return _name(line[:4], separator)


@lru_cache(maxsize=1024)
def _name(head: str, separator: str) -> str:
    name = head[:3]
    named = len(name) == 3 and head[3:] in {separator, ""}
    return name if named and name.isascii() and name.isalnum() and name[0].isupper() and name.isupper() else ""


def _nth(text: str, separator: str, number: int) -> str:
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""
