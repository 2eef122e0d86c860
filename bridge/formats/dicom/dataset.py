"""A data set as names and values: text decoded by its character set, numbers exact, items by position."""

import re
import struct
import warnings
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from pydicom.charset import STAND_ALONE_ENCODINGS, decode_bytes, python_encoding
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from bridge.domain.found import Found
from bridge.formats.dicom.walk import Element, Item, refuse

_SPECIFIC_CHARACTER_SET = 0x00080005
_CUSTOM_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # PS3.5 §6.1.2.3
_PLAIN_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})  # a backslash is a character there (PS3.5 §6.4)
_BINARY = {
    (vr, order): struct.Struct(order + code)
    for vr, code in {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}.items()
    for order in "<>"
}
_NAME_DELIMITERS = {0x5E, 0x3D}
_TEXT_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?", re.ASCII)
_AROUND = "\0 \t\r\n"

_tag = lru_cache(maxsize=1024)(tag_for_keyword)


class DataSet:
    """A data set or an item of a sequence. It is a `domain.found.Source`: `find` knows DICOM keywords.

    Text is trimmed; a name is the whole value, `family^given^middle^prefix^suffix=ideographic=phonetic`.
    """

    __slots__ = ("_encodings", "_item")

    def __init__(self, item: Item, inherited: tuple[str, ...] = ("iso8859",)) -> None:
        self._item = item
        declared = item.get(_SPECIFIC_CHARACTER_SET)
        self._encodings = _encodings(declared.value or b"") if declared else inherited  # PS3.5 §7.5.3

    def element(self, keyword: str) -> Element | None:
        """The element as it stands in the file."""
        tag = _tag(keyword)
        return None if tag is None else self._item.get(tag)

    def items(self, keyword: str) -> list["DataSet"]:
        """The items of a sequence; none where it is absent."""
        element = self.element(keyword)
        return [DataSet(i, self._encodings) for i in element.items or ()] if element else []

    def keywords(self) -> list[str]:
        """What is there, by name and in the order of the tags; private elements have no name, and are left out."""
        return [keyword for tag in sorted(self._item) if (keyword := keyword_for_tag(tag))]

    def texts(self, keyword: str) -> list[str]:
        """Every value as text, trimmed; an empty one keeps its place."""
        element = self.element(keyword)
        if element is None or not element.value:
            return []
        return self._values(element, element.value)

    def text(self, keyword: str) -> str:
        """The first value as text, or nothing."""
        values = self.texts(keyword)
        return values[0] if values else ""

    def number(self, keyword: str) -> Decimal | None:
        """The first value as an exact number; None where there is none. Refuses what is no number (PS3.5, DS)."""
        text = self.text(keyword)
        if not text:
            return None
        number = _exact(text)
        if number is None:
            raise refuse("not a number", keyword)
        return number

    def integer(self, keyword: str) -> int | None:
        """The first value as a whole number; None where there is none."""
        number = self.number(keyword)
        if number is None:
            return None
        if number != number.to_integral_value():
            raise refuse("not a whole number", keyword)
        return int(number)

    def is_undeclared(self, keyword: str) -> bool:
        """Whether the text has bytes that the character set of the data set does not know."""
        element = self.element(keyword)
        if element is None or not element.value or self._encodings != ("iso8859",):
            return False
        return not element.value.isascii()

    def find(self, address: str) -> list[Found]:
        """As `domain.found.Source`. `Keyword[2]` is the second item, or the second of several values."""
        return list(self._find(address.split("."), ""))

    def _find(self, steps: list[str], prefix: str) -> Iterator[Found]:
        step = _STEP.fullmatch(steps[0])
        if step is None:
            return
        keyword, wanted = step[1], int(step[2]) if step[2] else None
        if len(steps) > 1:
            for n, item in enumerate(self.items(keyword), 1):
                if wanted in {None, n}:
                    yield from item._find(steps[1:], f"{prefix}{keyword}[{n}].")  # noqa: SLF001  same class
            return
        values = self.texts(keyword)
        for n, value in enumerate(values, 1):
            if value and wanted in {None, n}:
                yield Found(value, f"{prefix}{keyword}" + (f"[{n}]" if len(values) > 1 else ""))

    def _values(self, element: Element, value: bytes) -> list[str]:
        vr = element.vr
        if vr in _PLAIN_TEXT:
            text = value.decode("latin-1")
        elif vr in _CUSTOM_TEXT:
            text = _decoded(value, self._encodings, is_name=vr == "PN")
        elif one := _BINARY.get((vr, element.order)):
            whole = len(value) - len(value) % one.size
            return [str(n[0]) for n in one.iter_unpack(value[:whole])]
        else:
            return []
        if "\\" not in text or vr in _ONE_VALUE:
            parts = [text.strip(_AROUND)]
        else:
            parts = [part.strip(_AROUND) for part in text.split("\\")]
        if vr == "PN":
            # Component groups that are left empty at the end say nothing (PS3.5 §6.2.1)
            parts = [part.rstrip("=") if part.strip("^= ") else "" for part in parts]
        return parts


@lru_cache(maxsize=512)
def _exact(text: str) -> Decimal | None:
    """A decimal string, or None where it is none. Cached, since each channel of an object repeats its numbers."""
    return Decimal(text) if len(text) <= 64 and _NUMBER.fullmatch(text) else None


@lru_cache(maxsize=64)
def _encodings(value: bytes) -> tuple[str, ...]:
    """The Python codecs of SpecificCharacterSet (PS3.3 C.12.1.1.2).

    Spellings such as `ISO-IR 100` are understood; what is unknown is read as the default repertoire.
    """
    codecs: list[str] = []
    for position, raw in enumerate(value.decode("ascii", "replace").split("\\")):
        term = re.sub(r"^ISO.IR[ _-]?", "ISO_IR ", raw.strip("\0 ").upper())
        term = re.sub(r"^ISO.2022.IR[ _-]?", "ISO 2022 IR ", term)
        if term in STAND_ALONE_ENCODINGS and position:
            continue  # never a code extension
        codecs.append(python_encoding.get(term, "iso8859"))
        if term in STAND_ALONE_ENCODINGS:
            break
    return tuple(codecs)


def _decoded(value: bytes, encodings: tuple[str, ...], *, is_name: bool) -> str:
    """Text in its character set; what cannot be decoded becomes U+FFFD, never an error."""
    if b"\x1b" not in value:
        # Without an escape every codec of these reads ASCII as ASCII, and that one is quick
        return value.decode("ascii" if value.isascii() else encodings[0], "replace")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said by the replacement character already
        return decode_bytes(value, list(encodings), _NAME_DELIMITERS if is_name else _TEXT_DELIMITERS)
