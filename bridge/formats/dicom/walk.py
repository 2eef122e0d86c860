"""The elements of a data set, found in a file without loading its waveform.

A reader of our own, because the usual one loads `WaveformData` twice (4 GB for a 24 h Holter), reports a cut
sequence as `OSError`, reads a value that is cut short without complaint, and falls to 300 nested sequences
(failures.md F5, F28). This one is bounded in depth, elements and memory, and knows one way to fail: `BadInput`.
An `OSError` from here is the disk's, never the sender's.

A walk ends before anything is handed out: whoever holds an element can no longer meet a fault of the object.
It stands on the way of every C-STORE, so the loop over elements does its work in place: in Python a call for each
costs as much as the rest.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag

from bridge.errors import BadInput
from bridge.formats.dicom import plain_items

CANNOT_UNDERSTAND = 0xC000  # PS3.4 table B.2-1

MAX_DEPTH = 16
MAX_ELEMENTS = 20_000  # items of sequences count too
MAX_VALUE = 64 * 1024  # a longer value is found, but not loaded; nothing that we read is longer
MAX_LOADED = 16 * 1024 * 1024  # of values longer than _SMALL; those below it are bounded by their number
_SMALL = 64

WAVEFORM_DATA = 0x54001010
_DELIMITERS = 0xFFFE  # the group of the three marks below
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_UNDEFINED = 0xFFFFFFFF
_WINDOW = 16 * 1024  # holds what stands before the samples of most ECGs

_SHORT = {vr: vr.decode() for vr in b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()}
_LONG = {vr: vr.decode() for vr in b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()}
_MAY_HOLD_ITEMS = frozenset({"SQ", "UN"})
EXPLICIT_VRS = frozenset(_SHORT) | frozenset(_LONG)

# Headers of elements and items by byte order (PS3.5 §7.1.2, §7.1.3, §7.5)
_EXPLICIT = {"<": struct.Struct("<HH2sH"), ">": struct.Struct(">HH2sH")}
_IMPLICIT = {"<": struct.Struct("<HHL"), ">": struct.Struct(">HHL")}
_LENGTH = {"<": struct.Struct("<L"), ">": struct.Struct(">L")}


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


class Element(NamedTuple):
    """One element. `value` is None where it was not loaded, `items` is None where it is no sequence, or passed over.

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
    """Walks one file. Its limits count over everything that it walks.

    `only` names the sequences that are wanted. Of any other one nothing is kept but its place: one of defined length
    is passed over unseen, and one of undefined length is followed to its end.
    """

    def __init__(self, file: BinaryIO, size: int, *, only: frozenset[int] | None = None) -> None:
        self._file = file
        self._size = size
        self._only = only
        self._window = b""
        self._base = 0
        self._elements = MAX_ELEMENTS  # that may still come
        self._room = MAX_LOADED

    def take(self, at: int, count: int, *, tag: int | None = None) -> bytes:
        """`count` bytes at `at`. Refused where the file has fewer; `tag` is the element that wants them."""
        here = at - self._base
        if here < 0 or here + count > len(self._window):
            self._reach(at, count, tag)
            here = 0
        return self._window[here : here + count]

    def data_set(self, at: int, encoding: Encoding) -> Item:
        """The data set from `at` to the end of the file."""
        return self._item(at, self._size, encoding, 0, closed=False)[0]

    def group(self, at: int, number: int) -> tuple[Item, int]:
        """The elements up to the end of that group, explicit little endian, and where that is (PS3.10 §7.1)."""
        return self._item(at, self._size, EXPLICIT_LITTLE, 0, closed=False, last=number)

    def _reach(self, at: int, count: int, tag: int | None = None) -> bytes:
        """The window, begun anew at `at` and at least `count` long."""
        self._file.seek(at)
        self._window = self._file.read(max(count, _WINDOW))
        self._base = at
        if count > len(self._window):
            raise refuse("the object is cut short", "" if tag is None else name_of(tag))
        return self._window

    def _item(  # noqa: C901, PLR0912, PLR0915  one loop that calls next to nothing: see the head of this file
        self, at: int, end: int, encoding: Encoding, depth: int, *, closed: bool, last: int = 0xFFFF
    ) -> tuple[Item, int]:
        """The elements up to `end`, up to a group above `last`, or up to the delimiter that the item is `closed` by."""
        found: Item = {}
        explicit, order = encoding.explicit, encoding.order
        header, length_of = (_EXPLICIT if explicit else _IMPLICIT)[order].unpack_from, _LENGTH[order].unpack_from
        new = tuple.__new__  # a named tuple's own constructor takes twice as long
        window, base = self._window, self._base
        while at < end:
            here = at - base
            if here < 0 or here + 8 > len(window):
                window, base, here = self._reach(at, 8), at, 0
            if explicit:
                group, number, code, length = header(window, here)
            else:
                group, number, length = header(window, here)
            if group == _DELIMITERS or group > last:
                if group > last:
                    return found, at
                if number == _ITEM_END and closed:
                    return found, at + 8
                raise refuse("a delimiter stands where an element should")
            tag = group << 16 | number
            if tag in found:
                raise refuse("an element stands twice in one data set", name_of(tag))
            self._elements -= 1
            if self._elements < 0:
                raise _too_many(tag)
            at += 8
            here += 8
            vr = _SHORT.get(code) if explicit else None
            if vr is None:
                if explicit:
                    vr = _LONG.get(code)
                    if vr is None:
                        raise refuse("an element has no value representation of DICOM", name_of(tag))
                    if here + 4 > len(window):
                        window, base, here = self._reach(at, 4, tag), at, 0
                    (length,) = length_of(window, here)
                    at += 4
                    here += 4
                else:
                    vr = _dictionary_vr(tag)
                if length == _UNDEFINED or vr in _MAY_HOLD_ITEMS:
                    found[tag], at = self._open(tag, vr, length, at, end, encoding, depth)
                    window, base = self._window, self._base
                    continue
            stop = at + length
            if stop > end:
                raise refuse("a value reaches beyond its data set", name_of(tag))
            if length > _SMALL or here + length > len(window) or tag == WAVEFORM_DATA:
                value = self._value(tag, at, length)
                window, base = self._window, self._base
            else:
                value = window[here : here + length]
            found[tag] = new(Element, (vr, value, None, at, length, order))
            at = stop
        if closed or at > end:
            raise refuse("the object is cut short, or an item is longer than its sequence")
        return found, at

    def _value(self, tag: int, at: int, length: int) -> bytes | None:
        """A value, or None where it is one of those that are not loaded."""
        if tag == WAVEFORM_DATA or length > MAX_VALUE:
            return None
        self._room -= length
        if self._room < 0:
            raise refuse("the header is too large", name_of(tag))
        return self.take(at, length, tag=tag)

    def _open(
        self, tag: int, vr: str, length: int, at: int, end: int, encoding: Encoding, depth: int
    ) -> tuple[Element, int]:
        """An element that is a sequence, or may be one, and where it ends."""
        inner = encoding
        if vr == "UN" and encoding.explicit:
            vr = _dictionary_vr(tag)
            if length == _UNDEFINED or vr == "SQ":
                inner = IMPLICIT_LITTLE  # PS3.5 §6.2.2, note 4: what UN holds was implicit little endian
        closed = length == _UNDEFINED
        if closed and vr == "UN":
            vr = "SQ"  # nothing else in an uncompressed data set may leave its length open (PS3.5 §7.1.1)
        stop = end if closed else at + length
        if stop > end:
            raise refuse("a value reaches beyond its data set", name_of(tag))
        if vr == "SQ":
            if depth == MAX_DEPTH:
                raise refuse(f"sequences are nested deeper than {MAX_DEPTH}", name_of(tag))
            items: tuple[Item, ...] | None = None
            after = stop
            if self._only is None or tag in self._only:
                items, after = self._sequence(at, stop, inner, depth + 1, tag, closed=closed)
            elif closed:
                start = self._past_plain_items(at, stop, inner)
                _, after = self._sequence(start, stop, inner, depth + 1, tag, closed=True, kept=False)
            return Element(vr, None, items, at, after - at, inner.order), after
        if closed:
            raise refuse("a value has no length", name_of(tag))
        return Element(vr, self._value(tag, at, length), None, at, length, inner.order), stop

    def _sequence(
        self, at: int, end: int, encoding: Encoding, depth: int, tag: int, *, closed: bool, kept: bool = True
    ) -> tuple[tuple[Item, ...], int]:
        """The items of a sequence (PS3.5 §7.5). Not `kept`: only its end is wanted."""
        items: list[Item] = []
        header = _IMPLICIT[encoding.order]
        while at < end:
            group, mark, length = header.unpack(self.take(at, 8, tag=tag))
            at += 8
            if group == _DELIMITERS and mark == _SEQUENCE_END and closed:
                return tuple(items), at
            if group != _DELIMITERS or mark != _ITEM:
                raise refuse("a sequence holds something that is no item", name_of(tag))
            self._elements -= 1
            if self._elements < 0:
                raise _too_many(tag)
            stop = end if length == _UNDEFINED else at + length
            if stop > end:
                raise refuse("an item is longer than its sequence", name_of(tag))
            if not kept and length != _UNDEFINED:
                at = stop
                continue
            item, at = self._item(at, stop, encoding, depth, closed=length == _UNDEFINED)
            items.append(item)
        if closed:
            raise refuse("the object is cut short inside a sequence", name_of(tag))
        return tuple(items), at

    def _past_plain_items(self, at: int, end: int, encoding: Encoding) -> int:
        """Where a sequence that is not wanted has to be walked from: every item before that is whole."""
        self.take(at, min(self._size - at, _WINDOW // 2))
        pattern = plain_items.EXPLICIT if encoding.explicit else plain_items.IMPLICIT
        plain = pattern.match(self._window, at - self._base, end - self._base)
        return self._base + plain.end() if plain else at


def _too_many(tag: int) -> BadInput:
    return refuse(f"more than {MAX_ELEMENTS} elements", name_of(tag))


@lru_cache(maxsize=4096)
def _dictionary_vr(tag: int) -> str:
    """The VR of PS3.6; UN for what it does not list. `OB or OW` gives the first."""
    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"
