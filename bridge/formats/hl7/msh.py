"""Reads the MSH segment alone, so that every message with one can be answered."""

from functools import lru_cache

from bridge.domain.verdict import Condition
from bridge.errors import BadInput
from bridge.formats.hl7 import charset
from bridge.formats.hl7.escapes import unescape
from bridge.formats.hl7.header import Delimiters, Header

_BLANK = b"\x0b\r\n\t \x00"
_BOM = b"\xef\xbb\xbf"
_MSH_FIELDS = 30  # more than any version has


def body_of(raw: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The message from its MSH on, and what stood before it. Framing bytes of a saved message are taken off.

    Raises BadInput 100 where no MSH stands at the beginning.
    """
    if raw.startswith(b"MSH") and not raw.endswith((b"\x1c", b"\x1c\r")):
        return raw, ()
    notes: list[str] = []
    body = raw.lstrip(_BLANK)
    if len(body) != len(raw):
        notes.append("blank lines or framing bytes before MSH")
    if body.startswith(_BOM):
        body = body[3:].lstrip(_BLANK)
        notes.append("byte order mark before MSH")
    if body.endswith((b"\x1c", b"\x1c\r")):
        body = body.rstrip(b"\x1c\r") + b"\r"
        notes.append("framing bytes after the message")
    if not body.startswith(b"MSH"):
        wide = raw[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\x00" in raw[:8]
        reason = "UTF-16 and UTF-32 cannot be framed by MLLP; send UTF-8" if wide else "no MSH segment at the beginning"
        raise _unreadable(reason)
    return body, tuple(notes)


def parse(body: bytes) -> Header:
    """The header of a body that begins with MSH. Raises BadInput 100 where MSH-1 or MSH-2 cannot be used."""
    ends = [at for at in (body.find(b"\r"), body.find(b"\n", 0, 1 << 20)) if at >= 0]
    line = body[: min(ends)] if ends else body
    delimiters, notes = _delimiters(line)
    separator = delimiters.field.encode("ascii")
    fields = [b"MSH", separator, *line[4:].split(separator, _MSH_FIELDS)]
    charsets = _charsets(fields, delimiters)
    codec = charset.declared(charsets)
    if codec is not None and not charset.splits_in_bytes(codec) and not (line.isascii() and b"\x1b" not in line):
        decoded = charset.decode(line, charsets)
        whole = decoded.text[4:].split(delimiters.field, _MSH_FIELDS)
        fields = [b"MSH", separator, *(charset.encode_field(f, decoded.codec) for f in whole)]
        texts = ["MSH", delimiters.field, *whole]
    elif line.isascii():
        texts = [f.decode("ascii") for f in fields]
    else:
        texts = [charset.decode(f, charsets).text for f in fields]
    texts += [""] * (19 - len(texts))
    kind = texts[9].split(delimiters.component, 3)
    kind += ["", ""]
    return Header(
        delimiters,
        _first(texts[3], delimiters),
        _first(texts[4], delimiters),
        _first(texts[5], delimiters),
        _first(texts[6], delimiters),
        _first(texts[7], delimiters),
        kind[0].strip(),
        kind[1].strip(),
        kind[2].strip(),
        texts[10].strip(),
        fields[10] if len(fields) > 10 else b"",
        _first(texts[11], delimiters),
        _first(texts[12], delimiters),
        texts[15].strip(),
        texts[16].strip(),
        charsets,
        tuple(fields),
        notes,
    )


def read_header(raw: bytes) -> Header:
    """Only the MSH of a message. Raises BadInput(code=100, where="MSH") where none can be read."""
    body, _ = body_of(raw)
    return parse(body)


def _delimiters(line: bytes) -> tuple[Delimiters, tuple[str, ...]]:
    separator = line[3:4]
    if len(line) < 6 or not _usable(separator):
        raise _unreadable("MSH-1 is no field separator")
    return _of_msh_2(separator, line[4:].split(separator, 1)[0][:8])


@lru_cache(maxsize=256)
def _of_msh_2(separator: bytes, encoding: bytes) -> tuple[Delimiters, tuple[str, ...]]:
    """Two to five characters; missing ones take the default (HL7 v2.5.1 §2.5.4, v2.7 §2.5.5.2 for the fifth)."""
    if not 2 <= len(encoding) <= 5 or not all(_usable(encoding[i : i + 1]) for i in range(len(encoding))):
        raise _unreadable("MSH-2 has not two to five usable encoding characters")
    given = encoding.decode("ascii")
    whole = given + "^~\\&"[len(given) :]
    delimiters = Delimiters(separator.decode("ascii"), whole[0], whole[1], whole[2], whole[3], whole[4:])
    if len({delimiters.field, *whole}) != len(whole) + 1:
        raise _unreadable("MSH-1 and MSH-2 name one delimiter twice")
    notes = () if len(given) >= 4 else ("MSH-2 is short; the default characters are used",)
    return delimiters, notes


def _usable(character: bytes) -> bool:
    return len(character) == 1 and 0x21 <= character[0] <= 0x7E and not character.isalnum()


def _charsets(fields: list[bytes], delimiters: Delimiters) -> tuple[str, ...]:
    if len(fields) <= 18 or not fields[18]:
        return ()
    return tuple(name.strip() for name in fields[18].decode("latin-1").split(delimiters.repetition)[:16])


def _first(field: str, delimiters: Delimiters) -> str:
    value = field.split(delimiters.component, 1)[0]
    return unescape(value, delimiters).strip()


def _unreadable(reason: str) -> BadInput:
    return BadInput(reason, where="MSH", code=Condition.SEGMENT_SEQUENCE)
