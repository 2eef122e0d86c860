"""Code extension by ISO 2022: MSH-18 names several sets, escape sequences switch between them (HL7 v2.5.1 §2.15.9.18).

Python's own ISO 2022 codecs know seven-bit Japanese and Korean mail; messages mix sets of seven and eight bits, come
back from Kanji by `ESC ( J`, where 0x5C and 0x7E must stay the delimiters that they are, and hold Kanji of vendors
(the first of 髙橋) that no standard has.

A set is named by a key: `ascii`, `ir14`, `ir87`, `ir159`, `ksx`, `cns`, or `8859-n`.
"""

import codecs
import re
from collections.abc import Callable, Sequence

from bridge.formats.hl7 import cns11643

_HIGH = bytes(byte | 0x80 for byte in range(256))
_LOW = bytes(byte & 0x7F for byte in range(256))
_PARTS = {**{f"8859-{n}": final for n, final in zip(range(1, 10), "ABCDLGFHM", strict=True)}, "8859-15": "b"}

# Sets of the upper half: their escape sequence, and a codec that reads them next to ASCII.
_UPPER: dict[str, tuple[bytes, str]] = {
    "ir14": (b"\x1b)I", "cp932"),
    "ksx": (b"\x1b$)C", "cp949"),
    "gb2312": (b"\x1b$)A", "gb2312"),
    "cns": (b"\x1b$)G", cns11643.CODEC),
    **{key: (b"\x1b-" + final.encode(), f"iso8859-{key[5:]}") for key, final in _PARTS.items()},
}
_LOWER: dict[bytes, str] = {
    b"\x1b(B": "ascii",
    b"\x1b(J": "ascii",  # JIS X 0201: by their codes, the yen sign and the overline are delimiters
    b"\x1b(I": "kana",
    b"\x1b$B": "ir87",
    b"\x1b$@": "ir87",
    b"\x1b$(D": "ir159",
    b"\x1b$(C": "ksx",
    b"\x1b$A": "gb2312",
    b"\x1b$(A": "gb2312",
    b"\x1b$(G": "cns",
    b"\x1b$(H": "cns2",
}
_TO_UPPER = {escape: key for key, (escape, _) in _UPPER.items()}
_DESIGNATIONS = sorted((*_LOWER, *_TO_UPPER, b"\x1b$*H"), key=len, reverse=True)
_SHIFT_OUT, _SHIFT_IN, _LINE_END = b"\x0e", b"\x0f", b"\r"
_SWITCH = re.compile(b"(" + b"|".join(map(re.escape, _DESIGNATIONS)) + rb"|\x1bN[\x21-\x7e]{2}|[\x0e\x0f\r])")
_UNMISTAKABLE = re.compile(rb"\x1b(?:\$(?:[@AB]|[()][A-H]|\*H)|[()]I)")
_GRAPHIC = re.compile(rb"([\x21-\x7e]+)")


def switches(raw: bytes) -> bool:
    """Whether the bytes switch to an East Asian set; terminals and printers have no such sequences."""
    return _UNMISTAKABLE.search(raw) is not None


def decode(raw: bytes, sets: Sequence[str]) -> str:
    """The text. Raises UnicodeDecodeError where it is not of these sets, or of those that it switches to.

    Each segment begins as `sets` says: ASCII below, the first set that has an upper half above.
    """
    first_upper = next((key for key in sets if key in _UPPER), "")
    lower, upper, shifted = "ascii", first_upper, False
    parts: list[str] = []
    for number, part in enumerate(_SWITCH.split(raw)):
        if number % 2 == 0:
            if part:
                parts.append(_run(part, upper if shifted and upper else lower, upper))
        elif part in _LOWER:
            lower = _LOWER[part]
        elif part in _TO_UPPER:
            upper = _TO_UPPER[part]
        elif part in {_SHIFT_OUT, _SHIFT_IN}:
            shifted = part == _SHIFT_OUT and not upper.startswith("8859-")  # the European sets have no such form
        elif part == _LINE_END:
            lower, upper, shifted = "ascii", first_upper, False
            parts.append("\r")
        elif part.startswith(b"\x1bN"):
            parts.append(_plane_2(part[2:]))
    return "".join(parts)


def encode(text: str, sets: Sequence[str], errors: str = "strict") -> bytes:
    """The bytes: ASCII, and each run of other characters in the first of the sets that has them.

    A run ends as it began, so that a delimiter is always in ASCII. `errors` is as of Python's codecs.
    """
    writer = _Writer(tuple(sets), errors)
    for run in re.findall(r"[\x00-\x7f]+|[^\x00-\x7f]+", text):
        if run.isascii():
            writer.parts.append(run.encode("ascii"))
        else:
            writer.write(run)
    return b"".join(writer.parts)


class _Writer:
    """What has been written, and the sets that its reader is in now."""

    def __init__(self, sets: tuple[str, ...], errors: str) -> None:
        self.parts: list[bytes] = []
        self._sets = sets
        self._errors = errors
        self._back = b"\x1b(J" if sets[:1] == ("ir14",) else b"\x1b(B"
        self._first_upper = sets[0] if sets and sets[0] in _UPPER else ""
        self._upper = self._first_upper
        self._lower = b""

    def write(self, run: str) -> None:
        key = ""
        for at, character in enumerate(run):
            chosen = self._chosen(character, key)
            if chosen is None:
                problem = UnicodeEncodeError("iso2022", run, at, at + 1, "in none of the sets")
                instead, _ = codecs.lookup_error(self._errors)(problem)
                self._to_ascii()
                self.parts.append(instead if isinstance(instead, bytes) else instead.encode("ascii", "replace"))
            else:
                key, escape, code = chosen
                self._switch(key, escape)
                self.parts.append(code)
        self._to_ascii()
        if self._upper != self._first_upper and self._first_upper:
            self.parts.append(_UPPER[self._first_upper][0])
        self._upper = self._first_upper

    def _chosen(self, character: str, key: str) -> tuple[str, bytes, bytes] | None:
        for wanted in (key, *self._sets) if key else self._sets:
            if (found := _code(character, wanted)) is not None:
                return wanted, *found
        return None

    def _switch(self, key: str, escape: bytes) -> None:
        if escape in _LOWER:
            if escape != self._lower:
                self.parts.append(escape)
            self._lower = escape
            return
        self._to_ascii()
        if key != self._upper:
            self.parts.append(escape)
        self._upper = key

    def _to_ascii(self) -> None:
        if self._lower:
            self.parts.append(self._back)
        self._lower = b""


def _run(run: bytes, lower: str, upper: str) -> str:
    """Bytes without a switch: those below 0x80 in the lower set, the others in the upper one."""
    if lower == "ascii":
        return run.decode(_UPPER[upper][1] if upper else "ascii")
    parts: list[str] = []
    for number, part in enumerate(_GRAPHIC.split(run)):
        if number % 2:
            parts.append(_READ[lower](part) if lower in _READ else part.translate(_HIGH).decode(_UPPER[lower][1]))
        else:
            parts.append(_run(part, "ascii", upper))
    return "".join(parts)


def _kanji(pairs: bytes) -> str:
    """JIS X 0208; where it has no such character, those that vendors of Windows have put there (code page 932)."""
    try:
        return pairs.translate(_HIGH).decode("euc_jp")
    except UnicodeDecodeError:
        if len(pairs) % 2:
            raise
        shifted = bytearray()
        for row, cell in zip(pairs[::2], pairs[1::2], strict=True):
            high = (row - 0x21) // 2 + (0x81 if row < 0x5F else 0xC1)
            shifted += bytes((high, cell + (0x7E if row % 2 == 0 else 0x1F if cell < 0x60 else 0x20)))
        return shifted.decode("cp932")


def _kanji_code(character: str) -> bytes | None:
    if (code := _in(character, "euc_jp")) is not None:
        return code.translate(_LOW) if len(code) == 2 and code[0] > 0xA0 else None
    code = _in(character, "cp932")
    if code is None or len(code) != 2:
        return None
    high, low = code
    row = (high - (0x81 if high < 0xA0 else 0xC1)) * 2 + 0x21 + (low >= 0x9F)
    if row > 0x7E:  # beyond the plane: rows 95 to 120 of code page 932 have no seven-bit code
        return None
    return bytes((row, low - (0x7E if low >= 0x9F else 0x1F if low < 0x7F else 0x20)))


def _supplement(pairs: bytes) -> str:
    """JIS X 0212: in EUC each pair has 0x8F before it."""
    spread = bytearray(b"\x8f" * (len(pairs) // 2 * 3 + len(pairs) % 2 * 2))
    high = pairs.translate(_HIGH)
    spread[1::3], spread[2::3] = high[::2], high[1::2]
    return spread.decode("euc_jp")


def _plane_2(pairs: bytes) -> str:
    high = pairs.translate(_HIGH)
    return b"".join(b"\x8e\xa2" + high[at : at + 2] for at in range(0, len(high), 2)).decode(cns11643.CODEC)


def _kana(codes: bytes) -> str:
    return codes.translate(_HIGH).decode("cp932")


_READ: dict[str, Callable[[bytes], str]] = {
    "ir87": _kanji,
    "ir159": _supplement,
    "kana": _kana,
    "cns2": _plane_2,
}


def _code(character: str, key: str) -> tuple[bytes, bytes] | None:
    """The escape sequence of the set and the character's code in it; None where the set does not have it."""
    if key == "ir87":
        pair = _kanji_code(character)
        return None if pair is None else (b"\x1b$B", pair)
    if key == "ir159":
        code = _in(character, "euc_jp")
        return (b"\x1b$(D", code[1:].translate(_LOW)) if code is not None and len(code) == 3 else None
    if key not in _UPPER:
        return None
    escape, codec = _UPPER[key]
    code = _in(character, "euc_kr" if key == "ksx" else codec)
    if code is None:
        return None
    if key == "cns":
        plane_2 = code.startswith(b"\x8e\xa2")
        if len(code) > 2 and not plane_2:
            return None
        return b"\x1b$(H" if plane_2 else b"\x1b$(G", code[-2:].translate(_LOW)
    if key == "ir14" and len(code) != 1:
        return None
    return (escape, code) if code[0] >= 0xA0 else None


def _in(character: str, codec: str) -> bytes | None:
    try:
        return character.encode(codec)
    except UnicodeEncodeError:
        return None
