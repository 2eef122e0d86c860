"""Character sets of HL7 messages (MSH-18, table 0211) and what senders really write there.

The rule: what is declared and decodes cleanly; else UTF-8 where the bytes are valid UTF-8; else the site's fallback,
with a note. MSH-18 is empty in most real messages: the standard says ASCII then, reality is the site's code page.
"""

import codecs
import unicodedata
from dataclasses import astuple, dataclass
from functools import lru_cache

from bridge.formats.hl7.header import Header

_CODECS = {
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISOIR6": "ascii",
    "88591": "cp1252",  # a superset; senders of 8859/1 mean it (Š and ž arrive as 0x8A and 0x9E)
    **{f"8859{n}": f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"ISO8859{n}": f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    "ISO88591": "cp1252",
    **{f"CP{n}": f"cp{n}" for n in range(1250, 1259)},
    **{f"WINDOWS{n}": f"cp{n}" for n in range(1250, 1259)},
    "CP850": "cp850",
    "CP437": "cp437",
    "ISOIR14": "shift_jis",
    "ISOIR87": "iso2022_jp_2",
    "ISOIR159": "iso2022_jp_2",
    "GB180302000": "gb18030",
    "GB18030": "gb18030",
    "KSX1001": "cp949",
    "BIG5": "cp950",
    "UNICODE": "utf-8",  # a readable MSH shows that it is not UCS-2
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
}
_CUTS_DELIMITERS = frozenset({"shift_jis", "gb18030", "cp949", "cp950", "iso2022_jp_2"})
_TRANSLITERATED = {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "đ": "d"}
_TRANSLITERATED |= {"Đ": "D", "ł": "l", "Ł": "L", "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D", "ı": "i"}
_TRANSLITERATED |= {"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "€": "EUR", "µ": "u"}
_TOTAL = "bridge-bytes"


def _bytes_as_they_are(problem: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes that a code page leaves undefined (0x81 in cp1252) are read as U+0080 to U+00FF, and written back so."""
    if isinstance(problem, UnicodeDecodeError):
        return problem.object[problem.start : problem.end].decode("latin-1"), problem.end
    if isinstance(problem, UnicodeEncodeError):
        return problem.object[problem.start].encode("latin-1", "replace"), problem.start + 1
    raise problem


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the Python codec that made it, and what had to be tolerated (empty: nothing)."""

    text: str
    codec: str
    note: str = ""


@lru_cache(maxsize=256)
def declared(charsets: tuple[str, ...]) -> str | None:
    """The codec that MSH-18 asks for; None where it is empty or names nothing known.

    Repeats name the sets that ISO 2022 escape sequences switch to; the Japanese ones are then one codec.
    """
    known = [_CODECS.get("".join(c for c in name.upper() if c.isalnum())) for name in charsets]
    if "iso2022_jp_2" in known:
        return "iso2022_jp_2"
    return known[0] if known else None


def splits_in_bytes(codec: str | None) -> bool:
    """Whether a delimiter's byte is always a delimiter; not in the sets whose second bytes reach into ASCII."""
    return codec not in _CUTS_DELIMITERS


def decode(raw: bytes, charsets: tuple[str, ...], fallback: str = "cp1252") -> Decoded:
    """The text of these bytes by the rule above. Never fails; a note never holds a value."""
    codec = declared(charsets)
    if raw.isascii() and (codec != "iso2022_jp_2" or b"\x1b" not in raw):
        note = "MSH-18 names an unknown character set" if codec is None and any(charsets) else ""
        return Decoded(raw.decode("ascii"), codec or "ascii", note)
    if codec is not None:
        # Nearly every byte string is valid in an 8-bit set, so success proves nothing there; UTF-8 does prove itself.
        eight_bit = codec.startswith(("cp125", "iso8859"))
        if eight_bit and (text := _strict(raw, "utf-8")) is not None:
            return Decoded(text, "utf-8", "MSH-18 names an 8-bit set, the text is UTF-8")
        if (text := _strict(raw, codec)) is not None:
            return Decoded(text, codec)
        if eight_bit:
            return Decoded(raw.decode(codec, _TOTAL), codec, "some bytes are not of the set that MSH-18 names")
    why = "the text is not of the set that MSH-18 names" if codec else "MSH-18 names no known set"
    why = why if any(charsets) else "MSH-18 is empty and the text is not ASCII"
    if (text := _strict(raw, "utf-8")) is not None:
        return Decoded(text, "utf-8", f"{why}: read as UTF-8")
    return Decoded(raw.decode(fallback, _TOTAL), fallback, f"{why}: read as {fallback}")


def encode_answer(text: str, header: Header, encoding: str) -> bytes:
    """The bytes of an answer's text: in the set that MSH-18 declares, else in the one the sender was read with.

    A character that the set does not hold becomes its base letters in ASCII (`ł` is `l`, `ß` is `ss`), and `_` where
    it has none: a question mark would look like a broken transfer, and a hex escape would be read in the wrong set.
    Nothing that is put in place of a character is ever a delimiter or a control character.
    """
    codec = declared(header.charsets) or encoding
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        forbidden = frozenset(astuple(header.delimiters))
        return "".join(c if _holds(codec, c) else _ascii(c, forbidden) for c in text).encode(codec, _TOTAL)


def keep_to_declared(text: str, header: Header) -> str:
    """Our own words, kept to the set that is declared: 8859/1 is read as cp1252, but we write only 8859/1 there."""
    if text.isascii() or declared(header.charsets) != "cp1252" or "8859" not in header.charsets[0]:
        return text
    forbidden = frozenset(astuple(header.delimiters))
    return "".join(c if _holds("latin-1", c) else _ascii(c, forbidden) for c in text)


def encode_field(field: str, codec: str) -> bytes:
    """The bytes that a field was decoded from; the inverse of `decode` for one field."""
    return field.encode(codec, _TOTAL)


def _holds(codec: str, character: str) -> bool:
    if "\x80" <= character <= "\x9f":  # an undefined byte of the sender's own: it goes back as it came
        return True
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _ascii(character: str, forbidden: frozenset[str]) -> str:
    plain = _TRANSLITERATED.get(character) or unicodedata.normalize("NFKD", character)
    kept = "".join(c for c in plain if c.isascii() and c.isprintable() and c not in forbidden)
    return kept or "_"


codecs.register_error(_TOTAL, _bytes_as_they_are)
