"""Whether a value matches a key of a query (PS3.4 C.2.2.2), by value representation.

A pattern is compared in one pass that never goes back further than its last `*`: a hostile key of a thousand `*` costs
its length times the value's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bridge.domain.patient import folded
from bridge.errors import BadInput

LONGEST_KEY = 1024
"""Characters. A key may be longer than its representation allows (PS3.4 C.2.2.2), and none needs this."""

UNABLE_TO_PROCESS = 0xC000  # PS3.4 table K.4.1-1

WITH_WILDCARDS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""PS3.4 C.2.2.2.4."""

_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d)(?::?([0-5]\d)(?::?([0-5]\d|60)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_FIRST, _LAST = "00", "59"


@dataclass(frozen=True, slots=True)
class Span:
    """What a date or a time key lets through, both ends included; `""` is open.

    Dates are YYYYMMDD, times HHMMSS with six digits of the second behind them.
    """

    low: str
    high: str
    is_range: bool

    def holds(self, value: str) -> bool:
        """Whether a known value lies within. One that is not known lies in none (PS3.4 K.2.2.1.1.1)."""
        return bool(value) and (not self.low or self.low <= value) and (not self.high or value <= self.high)


def date_span(key: str, where: str) -> Span | None:
    """A date key (PS3.4 C.2.2.2.1.2, C.2.2.2.5.1). None: it lets everything through."""
    return _span(key, where, _DATE, lambda read, _at_end: "".join(read.groups()))


def time_span(key: str, where: str) -> Span | None:
    """A time key (PS3.4 C.2.2.2.1.3, C.2.2.2.5.2). What it leaves out is unsaid: `10` is from 10:00 to before 11:00."""
    return _span(key, where, _TIME, _moment)


def _span(key: str, where: str, form: re.Pattern[str], spelled: Callable[[re.Match[str], bool], str]) -> Span | None:
    text = key.strip()
    if not text.strip("*"):
        return None
    low, hyphen, high = (piece.strip() for piece in text.partition("-"))
    ends = [form.fullmatch(end) if end else None for end in (low, high)]
    if any(end and read is None for end, read in zip((low, high), ends, strict=True)) or not (low or high):
        raise BadInput("a key is no date, time or range", where=where, code=UNABLE_TO_PROCESS)
    if not hyphen:
        ends[1] = ends[0]
    first, last = (spelled(read, at_end) if read else "" for read, at_end in zip(ends, (False, True), strict=True))
    return Span(first, last, bool(hyphen))


def _moment(read: re.Match[str], at_end: bool) -> str:
    rest = _LAST if at_end else _FIRST
    fraction = (read[4] or "").ljust(6, "9" if at_end else "0")
    return f"{read[1]}{read[2] or rest}{read[3] or rest}{fraction}"


def text_matches(vr: str, key: str, value: str) -> bool:
    """A key that is neither date, time nor sequence against a known value.

    Case counts, except in names (PS3.4 C.2.2.2.1, C.2.2.2.4), where accents and punctuation do not count either.
    """
    key, value = key.strip(), value.strip()
    if vr in WITH_WILDCARDS and key and not key.strip("*"):
        return True  # `*` is universal matching
    if not value:
        return False
    if vr == "PN":
        return _name_matches(key, value)
    return _glob(key, value) if vr in WITH_WILDCARDS else key == value


def _name_matches(key: str, value: str) -> bool:
    """A name: one component group of the key finds any of the value's, several find their own.

    Components that the key leaves out or empty are not compared: `Muster` finds `Muster^Max`, and so does `^Max`.
    """
    asked, known = key.split("="), value.split("=")
    if len(asked) == 1:
        return any(_group_matches(asked[0], group) for group in known)
    known += [""] * (len(asked) - len(known))
    return all(_group_matches(a, k) for a, k in zip(asked, known, strict=False) if a.strip("^* "))


def _group_matches(key: str, value: str) -> bool:
    if not value.strip("^ "):
        return False
    asked, known = [_pattern(c) for c in key.split("^")], [folded(c) for c in value.split("^")]
    if "*" in key and _glob("^".join(asked), "^".join(known)):
        return True  # `*` may stand for several components
    known += [""] * (len(asked) - len(known))
    return all(_glob(a, k) for a, k in zip(asked, known, strict=False) if a)


def _pattern(text: str) -> str:
    """A pattern folded as the names are, its wildcards kept."""
    pieces = re.split(r"([*?])", text)
    made = "".join(p if p in {"*", "?"} else _spaced(p) for p in pieces)
    return " ".join(made.split())


def _spaced(piece: str) -> str:
    """Folded, with the spaces at its ends: `von *` asks for a second word."""
    middle = folded(piece)
    if not middle:
        return " " * bool(piece)
    return f"{' ' * piece[0].isspace()}{middle}{' ' * piece[-1].isspace()}"


def _glob(pattern: str, text: str) -> bool:
    """`*` is any run of characters, `?` is one."""
    at = here = 0
    star = mark = -1
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", text[here]}:
            at += 1
            here += 1
        elif star >= 0:
            mark += 1
            at, here = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")
