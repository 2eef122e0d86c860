"""Which character set an answer is written in: the one that was asked for where it holds the text, else Unicode.

`ISO_IR 192` holds every name. A cart that cannot read it is told so by SpecificCharacterSet, where a replaced letter
would come back as another name.
"""

import re
from collections.abc import Iterable

from pydicom.charset import STAND_ALONE_ENCODINGS, decode_bytes, encode_string, python_encoding

UNICODE = ("ISO_IR 192",)
_DELIMITERS = {0x5E, 0x3D}
_KATAKANA = range(0xFF61, 0xFFA0)
"""Half-width katakana, all that ISO IR 13 has besides Latin letters (PS3.3 table C.12-2)."""


def chosen(asked: Iterable[str], texts: Iterable[str]) -> tuple[str, ...]:
    """The values of SpecificCharacterSet for an answer with these texts; none is the default repertoire.

    `asked` are the values of the request. A set that is not known here counts as none.
    """
    terms, texts = _known(asked), list(texts)
    if all(text.isascii() for text in texts):
        return terms
    return terms if terms and all(_holds(terms, text) for text in texts) else UNICODE


def _known(asked: Iterable[str]) -> tuple[str, ...]:
    """The terms as the standard spells them; none where one of them is not known."""
    terms: list[str] = []
    for position, raw in enumerate(asked):
        term = re.sub(r"^ISO.IR[ _-]?", "ISO_IR ", raw.strip("\0 ").upper())
        term = re.sub(r"^ISO.2022.IR[ _-]?", "ISO 2022 IR ", term)
        if term not in python_encoding or (position and term in STAND_ALONE_ENCODINGS):
            return ()
        terms.append(term)
        if term in STAND_ALONE_ENCODINGS:
            break
    return tuple(terms) if any(terms) else ()


def _holds(terms: tuple[str, ...], text: str) -> bool:
    """Whether the text comes back as it was. Asked letter by letter first: a writer replaces what it does not have."""
    codecs = [python_encoding[term] for term in terms]
    pieces = re.split(r"[\^=]", text)
    if not all(any(_has(codec, c) for codec in codecs) for piece in pieces for c in set(piece)):
        return False
    return all(decode_bytes(encode_string(p, codecs), codecs, _DELIMITERS) == p for p in pieces if p)


def _has(codec: str, letter: str) -> bool:
    if letter.isascii():
        return True
    if codec == "iso8859":  # the default repertoire, whatever Python makes of the name
        return False
    if codec == "shift_jis":
        return ord(letter) in _KATAKANA
    try:
        letter.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
