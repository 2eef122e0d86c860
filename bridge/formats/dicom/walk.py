"""The elements of a data set, found in a file without loading its waveform.

A reader of our own, because the usual one loads `WaveformData` twice (4 GB for a 24 h Holter), reports a cut
sequence as `OSError`, reads a value that is cut short without complaint, and falls to 300 nested sequences
(failures.md F5, F28). This one is bounded in depth, elements and memory, and knows one way to fail: `BadInput`.
An `OSError` from here is the disk's, never the sender's.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from pydicom.datadict import dictionary_VR, keyword_for_tag

from bridge.errors import BadInput

CANNOT_UNDERSTAND = 0xC000  # PS3.4 table B.2-1

MAX_DEPTH = 16
MAX_ELEMENTS = 20_000  # items of sequences count too
MAX_VALUE = 64 * 1024  # a longer value is found, but not loaded; nothing that we read is longer
MAX_LOADED = 16 * 1024 * 1024

WAVEFORM_DATA = 0x54001010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_WINDOW = 64 * 1024

_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
EXPLICIT_VRS = _SHORT | _LONG


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a transfer syntax writes elements (PS3.5 §7.1)."""

    explicit: bool
    little: bool = True

    @property
    def order(self) -> str:
        return "<" if self.little else ">"


IMPLICIT_LITTLE = Encoding(explicit=False)
EXPLICIT_LITTLE = Encoding(explicit=True)
EXPLICIT_BIG = Encoding(explicit=True, little=False)


@dataclass(frozen=True, slots=True)
class Element:
    """One element. `value` is None where it was not loaded, `items` is None where it is no sequence.

    `offset` and `length` are the value's place in the file.
    """

    vr: str
    value: bytes | None
    items: tuple["Item", ...] | None
    offset: int
    length: int
    order: str  # "<" or ">", the byte order of a binary value


Item = dict[int, Element]


def name_of(tag: int) -> str:
    """A tag as operators read it: its keyword, or `(gggg,eeee)`."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def refuse(text: str, where: str = "") -> BadInput:
    """The object cannot be understood: status C000."""
    return BadInput(text, where=where, code=CANNOT_UNDERSTAND)


class Walker:
    """Walks one file. Its limits count over everything that it walks."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._window = b""
        self._base = 0
        self._elements = 0
        self._loaded = 0

    def take(self, at: int, count: int, *, where: str = "") -> bytes:
        """`count` bytes at `at`. Refused where the file has fewer."""
        start = at - self._base
        if start < 0 or start + count > len(self._window):
            self._file.seek(at)
            self._window = self._file.read(max(count, _WINDOW))
            self._base, start = at, 0
            if count > len(self._window):
                raise refuse("the object is cut short", where)
        return self._window[start : start + count]

    def data_set(self, at: int, encoding: Encoding) -> Item:
        """The data set from `at` to the end of the file."""
        return self._item(at, self._size, encoding, depth=0, closed=False)[0]

    def group(self, at: int, number: int) -> tuple[Item, int]:
        """The elements of one group, explicit little endian, and where they end: file meta (PS3.10 §7.1)."""
        return self._item(at, self._size, EXPLICIT_LITTLE, depth=0, closed=False, only=number)

    def _item(
        self, at: int, end: int, encoding: Encoding, *, depth: int, closed: bool, only: int | None = None
    ) -> tuple[Item, int]:
        """The elements up to `end`, or up to the delimiter where the item is `closed` by one."""
        found: Item = {}
        header = struct.Struct(encoding.order + ("HH2sH" if encoding.explicit else "HHL"))
        while at < end:
            raw = self.take(at, 8)
            group, element = header.unpack(raw)[:2]
            if only is not None and group != only:
                return found, at
            tag = group << 16 | element
            if tag == _ITEM_END and closed:
                return found, at + 8
            if group == 0xFFFE:
                raise refuse("a delimiter stands where an element should")
            self._count(tag)
            vr, length, at = self._header(at, raw, tag, encoding)
            if tag in found:
                raise refuse("an element stands twice in one data set", name_of(tag))
            found[tag], at = self._element(tag, vr, length, at, end, encoding, depth)
        if closed or at > end:
            raise refuse("the object is cut short, or an item is longer than its sequence")
        return found, at

    def _count(self, tag: int) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise refuse(f"more than {MAX_ELEMENTS} elements", name_of(tag))

    def _header(self, at: int, raw: bytes, tag: int, encoding: Encoding) -> tuple[str, int, int]:
        """VR, length, and where the value begins (PS3.5 §7.1.2, §7.1.3)."""
        if not encoding.explicit:
            (length,) = struct.unpack(encoding.order + "4xL", raw)
            return _dictionary_vr(tag), length, at + 8
        vr = raw[4:6]
        if vr in _SHORT:
            (length,) = struct.unpack(encoding.order + "6xH", raw)
            return vr.decode(), length, at + 8
        if vr not in _LONG:
            raise refuse("an element has no value representation of DICOM", name_of(tag))
        (length,) = struct.unpack(encoding.order + "L", self.take(at + 8, 4, where=name_of(tag)))
        return vr.decode(), length, at + 12

    def _element(
        self, tag: int, vr: str, length: int, at: int, end: int, encoding: Encoding, depth: int
    ) -> tuple[Element, int]:
        inner = encoding
        if vr == "UN" and encoding.explicit:
            vr = _dictionary_vr(tag)
            if length == _UNDEFINED or vr == "SQ":
                inner = IMPLICIT_LITTLE  # PS3.5 §6.2.2, note 4: what UN holds was implicit little endian
        if length == _UNDEFINED and vr == "UN":
            vr = "SQ"  # nothing else in an uncompressed data set may leave its length open (PS3.5 §7.1.1)
        stop = end if length == _UNDEFINED else at + length
        if stop > end:
            raise refuse("a value reaches beyond its data set", name_of(tag))
        if vr == "SQ":
            items, after = self._sequence(at, stop, inner, depth + 1, tag, closed=length == _UNDEFINED)
            return Element(vr, None, items, at, after - at, inner.order), after
        if length == _UNDEFINED:
            raise refuse("a value has no length", name_of(tag))
        value = None
        if tag != WAVEFORM_DATA and length <= MAX_VALUE:
            self._loaded += length
            if self._loaded > MAX_LOADED:
                raise refuse("the header is too large", name_of(tag))
            value = self.take(at, length, where=name_of(tag))
        return Element(vr, value, None, at, length, inner.order), stop

    def _sequence(
        self, at: int, end: int, encoding: Encoding, depth: int, tag: int, *, closed: bool
    ) -> tuple[tuple[Item, ...], int]:
        """The items of a sequence (PS3.5 §7.5)."""
        if depth > MAX_DEPTH:
            raise refuse(f"sequences are nested deeper than {MAX_DEPTH}", name_of(tag))
        items: list[Item] = []
        header = struct.Struct(encoding.order + "HHL")
        while at < end:
            group, element, length = header.unpack(self.take(at, 8, where=name_of(tag)))
            mark = group << 16 | element
            at += 8
            if mark == _SEQUENCE_END and closed:
                return tuple(items), at
            if mark != _ITEM:
                raise refuse("a sequence holds something that is no item", name_of(tag))
            self._count(tag)
            stop = end if length == _UNDEFINED else at + length
            if stop > end:
                raise refuse("an item is longer than its sequence", name_of(tag))
            item, at = self._item(at, stop, encoding, depth=depth, closed=length == _UNDEFINED)
            items.append(item)
        if closed:
            raise refuse("the object is cut short inside a sequence", name_of(tag))
        return tuple(items), at


@lru_cache(maxsize=4096)
def _dictionary_vr(tag: int) -> str:
    """The VR of PS3.6; UN for what it does not list. `OB or OW` gives the first."""
    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"
