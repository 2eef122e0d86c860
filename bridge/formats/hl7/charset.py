"""Character sets of HL7 messages (MSH-18, table 0211) and what senders really write there.

The rule: what is declared and decodes cleanly; else UTF-8 where the bytes are valid UTF-8; else the site's fallback,
with a note. MSH-18 is empty in most real messages: the standard says ASCII then, reality is the site's code page.
"""

import codecs
import unicodedata
from dataclasses import astuple, dataclass
from functools import lru_cache

from bridge.formats.hl7 import cns11643, iso2022
from bridge.formats.hl7.header import Header

_PARTS = (*range(1, 12), *range(13, 17))
_CODECS = {
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISOIR6": "ascii",
    **{f"{before}8859{n}": f"iso8859-{n}" for n in _PARTS for before in ("", "ISO")},
    "88591": "cp1252",  # a superset; senders of 8859/1 mean it (Š and ž arrive as 0x8A and 0x9E)
    "ISO88591": "cp1252",
    "LATIN1": "cp1252",
    **{f"{before}{n}": f"cp{n}" for n in range(1250, 1259) for before in ("CP", "WINDOWS")},
    "CP850": "cp850",
    "CP437": "cp437",
    "ISOIR14": "cp932",  # its half-width kana are there, and the Kanji that senders of Shift JIS mean by it
    "SHIFTJIS": "cp932",
    "CP932": "cp932",
    "WINDOWS31J": "cp932",
    "ISOIR87": "iso2022:ascii,ir87",
    "ISOIR159": "iso2022:ascii,ir159",
    "ISO2022JP": "iso2022:ascii,ir87,ir159",
    "GB180302000": "gb18030",
    "GB18030": "gb18030",
    "GB2312": "gb18030",
    "GBK": "gb18030",
    "KSX1001": "cp949",
    "EUCKR": "cp949",
    "CP949": "cp949",
    "CNS116431992": cns11643.CODEC,
    "BIG5": "cp950",
    "CP950": "cp950",
    "UNICODE": "utf-8",  # a readable MSH shows that it is not UCS-2
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
}
_WIDE = frozenset(f"{before}{n}" for n in ("UTF16", "UTF32", "UCS2", "UCS4") for before in ("", "UNICODE"))
_SETS = {
    **dict.fromkeys(("ASCII", "USASCII", "ISOIR6"), "ascii"),
    **{f"{before}8859{n}": f"8859-{n}" for n in (*range(1, 10), 15) for before in ("", "ISO")},
    "ISOIR14": "ir14",
    "ISOIR87": "ir87",
    "ISOIR159": "ir159",
    "KSX1001": "ksx",
    "CNS116431992": "cns",
}
_ISO_2022 = "iso2022:"
_CUTS_DELIMITERS = frozenset({"cp932", "gb18030", "cp949", "cp950"})
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
    """Text, the codec that made it, and what had to be tolerated (empty: nothing).

    The codec is Python's, or `iso2022:` and the keys of `bridge.formats.hl7.iso2022`.
    """

    text: str
    codec: str
    note: str = ""


@lru_cache(maxsize=256)
def declared(charsets: tuple[str, ...]) -> str | None:
    """The codec that MSH-18 asks for; None where it is empty or names nothing known.

    The first name is the set that a message begins in; the others are those that escape sequences switch to.
    """
    names = [_bare(name) for name in charsets]
    sets = _sets(charsets)
    if len(sets) > 1 and (names[0] in _SETS or names[0] not in _CODECS):
        return _ISO_2022 + ",".join(sets)
    return _CODECS.get(names[0]) if names else None


def splits_in_bytes(codec: str | None) -> bool:
    """Whether a delimiter's byte is always a delimiter; not in the sets whose second bytes reach into ASCII."""
    return codec is None or not (codec in _CUTS_DELIMITERS or codec.startswith(_ISO_2022))


def decode(raw: bytes, charsets: tuple[str, ...], fallback: str = "cp1252") -> Decoded:
    """The text of these bytes by the rule above. Never fails; a note never holds a value."""
    codec = declared(charsets)
    escapes = b"\x1b" in raw
    if escapes and not _stays_seven_bit(raw, codec) and (found := _switched(raw, charsets)) is not None:
        return found
    if raw.isascii():
        return Decoded(raw.decode("ascii"), codec or "ascii", _unknown(charsets) if codec is None else "")
    if (codec or "").startswith(_ISO_2022) and not escapes:
        codec = _plain(charsets) or codec
    if codec is not None and (found := _as_declared(raw, codec)) is not None:
        return found
    why = "the text is not of the set that MSH-18 names" if codec else _unknown(charsets)
    why = why or "MSH-18 is empty and the text is not ASCII"
    if (text := _strict(raw, "utf-8")) is not None:
        return Decoded(text, "utf-8", f"{why}: read as UTF-8")
    return Decoded(raw.decode(fallback, _TOTAL), fallback, f"{why}: read as {fallback}")


def readable(body: bytes) -> str:
    """Text for a person, of bytes whose set nobody names: UTF-8 where it is that, else Latin-1."""
    text = _strict(body, "utf-8")
    return body.decode("latin-1") if text is None else text


def _as_declared(raw: bytes, codec: str) -> Decoded | None:
    # Nearly every byte string is valid in an 8-bit set, so success proves nothing there; UTF-8 does prove itself.
    eight_bit = codec.startswith(("cp125", "iso8859", "cp437", "cp850"))
    if eight_bit and (text := _strict(raw, "utf-8")) is not None:
        return Decoded(text, "utf-8", "MSH-18 names an 8-bit set, the text is UTF-8")
    if (text := _strict(raw, codec)) is not None:
        return Decoded(text, codec)
    if eight_bit:
        return Decoded(raw.decode(codec, _TOTAL), codec, "some bytes are not of the set that MSH-18 names")
    return None


def _switched(raw: bytes, charsets: tuple[str, ...]) -> Decoded | None:
    """The text where it switches sets: to those that MSH-18 names, or unmistakably to others (then with a note)."""
    codec, own = declared(charsets) or "", _sets(charsets)
    if codec.startswith(_ISO_2022) and (text := _strict(raw, codec)) is not None:
        return Decoded(text, codec)
    if not iso2022.switches(raw) or (codec and not own and not raw.isascii()):  # UTF-8 and Big5 do not switch
        return None
    read_as = _ISO_2022 + ",".join(dict.fromkeys((*(own or ("ascii",)), "ir87", "ir159", "ksx")))
    if (text := _strict(raw, read_as)) is None:
        return None
    named = {"ir14", "ksx", "cns"} & set(own)  # they have forms with escape sequences and forms without
    return Decoded(text, read_as, "" if named else "escape sequences of ISO 2022 to sets that MSH-18 does not name")


def _stays_seven_bit(raw: bytes, codec: str | None) -> bool:
    """Whether this is an MSH alone, in seven bits, that `encode_field` could give back in eight only.

    Its reader takes the fields back as ASCII then, so the escape sequences stay in them as they are.
    """
    if splits_in_bytes(codec) or not raw.isascii() or not raw.startswith(b"MSH") or b"\r" in raw:
        return False
    sets = set((codec or "").removeprefix(_ISO_2022).split(","))
    kana = b"\x1b(I" in raw or b"\x1b)I" in raw or b"\x0e" in raw
    return kana or not sets <= {"ascii", "ir14", "ir87", "ir159", "cns"}


def _plain(charsets: tuple[str, ...]) -> str | None:
    """The codec of the first set that can do without escape sequences and is more than ASCII."""
    codecs_named = (_CODECS.get(_bare(name), "ascii") for name in charsets)
    return next((c for c in codecs_named if c != "ascii" and not c.startswith(_ISO_2022)), None)


def _sets(charsets: tuple[str, ...]) -> tuple[str, ...]:
    """The sets of ISO 2022 that MSH-18 names, each once. What begins in nothing of them begins in ASCII."""
    names = [_bare(name) for name in charsets]
    keys = [_SETS[name] for name in names if name in _SETS]
    if names[:1] and _SETS.get(names[0]) in {None, "ir87", "ir159"}:
        keys.insert(0, "ascii")
    return tuple(dict.fromkeys(keys))


def _bare(name: str) -> str:
    return "".join(c for c in name.upper() if c.isalnum())


def _unknown(charsets: tuple[str, ...]) -> str:
    if any(_bare(name) in _WIDE for name in charsets):
        return "MSH-18 names UTF-16 or UTF-32, which MLLP cannot carry and the text is not"
    return "MSH-18 names an unknown character set" if any(charsets) else ""


def encode_answer(text: str, header: Header, encoding: str) -> bytes:
    """The bytes of an answer's text: in the set that MSH-18 declares, else in the one the sender was read with.

    A character that the set does not hold becomes its base letters in ASCII (`ł` is `l`, `ß` is `ss`), and `_` where
    it has none: a question mark would look like a broken transfer, and a hex escape would be read in the wrong set.
    Nothing that is put in place of a character is ever a delimiter or a control character.
    """
    codec = declared(header.charsets) or encoding
    if codec.startswith(_ISO_2022) and encoding == _plain(header.charsets):
        codec = encoding  # several sets are declared, and the sender does without escape sequences
    try:
        return _encode(text, codec)
    except UnicodeEncodeError:
        forbidden = frozenset(astuple(header.delimiters))
        return _encode("".join(c if _holds(codec, c) else _ascii(c, forbidden) for c in text), codec, _TOTAL)


def keep_to_declared(text: str, header: Header) -> str:
    """Our own words, kept to the set that is declared: 8859/1 is read as cp1252, but we write only 8859/1 there."""
    if text.isascii() or declared(header.charsets) != "cp1252" or "8859" not in header.charsets[0]:
        return text
    forbidden = frozenset(astuple(header.delimiters))
    return "".join(c if _holds("latin-1", c) else _ascii(c, forbidden) for c in text)


def encode_field(field: str, codec: str) -> bytes:
    """The bytes that a field was decoded from; the inverse of `decode` for one field."""
    return _encode(field, codec, "replace" if codec.startswith(_ISO_2022) else _TOTAL)


def _encode(text: str, codec: str, errors: str = "strict") -> bytes:
    if codec.startswith(_ISO_2022):
        return iso2022.encode(text, codec.removeprefix(_ISO_2022).split(","), errors)
    return text.encode(codec, errors)


def _holds(codec: str, character: str) -> bool:
    if "\x80" <= character <= "\x9f":  # an undefined byte of the sender's own: it goes back as it came
        return True
    try:
        _encode(character, codec)
    except UnicodeEncodeError:
        return False
    return True


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        if codec.startswith(_ISO_2022):
            return iso2022.decode(raw, codec.removeprefix(_ISO_2022).split(","))
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _ascii(character: str, forbidden: frozenset[str]) -> str:
    plain = _TRANSLITERATED.get(character) or unicodedata.normalize("NFKD", character)
    kept = "".join(c for c in plain if c.isascii() and c.isprintable() and c not in forbidden)
    return kept or "_"


codecs.register_error(_TOTAL, _bytes_as_they_are)
