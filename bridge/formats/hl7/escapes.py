"""Escape sequences of text (HL7 v2.5.1 §2.7): read once, after splitting; written for everything that we put in."""

import re
from collections.abc import Callable
from functools import lru_cache

from bridge.formats.hl7.header import Delimiters

_MOST_LINES = 100  # of one \.sp\: a number in the text must not become memory

Bytes = Callable[[bytes], str]


def unescape(text: str, delimiters: Delimiters, decode: Bytes | None = None) -> str:
    r"""The text that is meant. `decode` reads the bytes of `\X..\` in the message's set (default Latin-1).

    Highlighting is dropped, line breaks and spacing become newlines and spaces. A lone or unknown escape stays as it
    was; so do `\C..\`, `\M..\` and `\Z..\`, which only the sender can read.
    """
    if delimiters.escape not in text:
        return text
    pattern, plain = _reader(delimiters)

    def meant(found: re.Match[str]) -> str:
        if (key := found["plain"]) is not None:
            return plain[key]
        if (hexes := found["hex"]) is not None:
            return _hex(hexes, delimiters.escape, decode)
        command, number = found["format"], int(found["number"] or 1)
        if command in {"br", "ce", "sp"}:
            return "\n" * min(max(number, 1), _MOST_LINES)
        return " " * min(max(number, 1), _MOST_LINES) if command in {"sk", "in", "ti"} else ""

    return pattern.sub(meant, text)


def has_unknown(text: str, delimiters: Delimiters, *, begin: int = 0) -> bool:
    """Whether, from `begin` on, an escape character stands there that begins no escape of the standard."""
    if text.find(delimiters.escape, begin) < 0:  # nearly every message: nothing of it is copied
        return False
    return delimiters.escape in _known(delimiters.escape).sub("", text[begin:])


@lru_cache(maxsize=64)
def _known(character: str) -> re.Pattern[str]:
    """Every escape of HL7 v2.5.1 §2.7, those of character sets and of a site's own (Z) among them."""
    e = re.escape(character)
    inside = r"[FSTREHNP]|X(?:[0-9A-Fa-f]{2})+|\.(?:br|ce|sp|sk|in|ti|fi|nf)\s?\+?-?\d{0,6}|[CM][0-9A-Fa-f]{4,6}|Z"
    return re.compile(rf"{e}(?:{inside}[^\r\n{e}]{{0,40}}){e}")


def escape(text: str, delimiters: Delimiters) -> str:
    """The text as it may stand in a field: delimiters escaped, line ends and other control characters as spaces."""
    return text.translate(_writer(delimiters))


def _hex(run: str, escape_character: str, decode: Bytes | None) -> str:
    # Neighbours are read together: `\XC3\\XBC\` is one character of two bytes.
    digits = "".join(part[1:] for part in run.split(escape_character) if part)
    raw = bytes.fromhex(digits)
    text = decode(raw) if decode is not None else raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


@lru_cache(maxsize=64)
def _reader(delimiters: Delimiters) -> tuple[re.Pattern[str], dict[str, str]]:
    e = re.escape(delimiters.escape)
    plain = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
        "H": "",
        "N": "",
    }
    if delimiters.truncation:  # v2.7 §2.7.2; below it \P\ means nothing
        plain["P"] = delimiters.truncation
    pattern = (
        rf"{e}(?P<plain>[{''.join(plain)}]){e}"
        rf"|(?P<hex>(?:{e}X(?:[0-9A-Fa-f]{{2}})+{e})+)"
        rf"|{e}\.(?P<format>br|ce|sp|sk|in|ti|fi|nf)\s?\+?(?P<number>-?\d{{1,6}})?{e}"
    )
    return re.compile(pattern), plain


@lru_cache(maxsize=64)
def _writer(delimiters: Delimiters) -> dict[int, str]:
    e = delimiters.escape
    table: dict[int, str] = dict.fromkeys((*range(0x20), 0x7F), " ")
    named = {"F": delimiters.field, "S": delimiters.component, "R": delimiters.repetition, "E": e}
    named["T"] = delimiters.subcomponent
    table |= {ord(character): f"{e}{name}{e}" for name, character in named.items()}
    if delimiters.truncation:
        table[ord(delimiters.truncation)] = f"{e}P{e}"
    return table
