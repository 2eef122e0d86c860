"""A message that went through a text field of a browser, as its sender would have sent it."""

import re

from bridge.errors import BadInput
from bridge.formats.hl7 import charset
from bridge.formats.hl7.reader import read_header

_LINE_ENDS = re.compile(r"((?:\r\n)++)((?=[A-Z][A-Z0-9]{2}(?:[^A-Za-z0-9]|\Z)|\x1c|\Z))?")
"""A run of them as a whole, and whether a segment or the end follows: ten million of them cost one pass."""


def as_sent(text: str) -> bytes:
    """The bytes of a pasted message.

    A browser makes CRLF of every line end (WHATWG HTML §4.10.22.4): it is CR again where a segment or the end follows,
    LF in a text. The set is the one that MSH-18 names where it holds every character, else UTF-8.
    """
    text = _LINE_ENDS.sub(lambda run: run[1].replace("\r\n", "\n" if run[2] is None else "\r"), text)
    as_utf8 = text.encode()
    if text.isascii():
        return as_utf8
    try:
        charsets = read_header(as_utf8.lstrip(b"\x0b")).charsets
    except BadInput:
        return as_utf8
    codec = charset.declared(charsets)
    if codec is None:
        return as_utf8
    encoded = charset.encode_field(text, codec)
    return encoded if charset.decode(encoded, charsets).text == text else as_utf8
