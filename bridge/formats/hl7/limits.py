"""Limits of a message, counted before anything of it is split (failures.md §4).

Linear, and nothing is copied: the counts run over the message as it stands. One that keeps far from its limits costs
four counts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import AnyStr

from bridge.domain.verdict import Condition
from bridge.errors import BadInput
from bridge.settings import ListenerSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """What a message may have at the most: segments, fields of a segment, repetitions of a field."""

    segments: int = 2000
    fields: int = 500
    repetitions: int = 500


def limits_of(rules: ListenerSettings) -> Limits:
    """What a listener takes at the most."""
    return Limits(rules.max_segments, rules.max_fields, rules.max_repetitions)


def check(
    body: AnyStr,
    *,
    field_separator: AnyStr,
    repetition: AnyStr,
    max_segments: int,
    max_fields: int,
    max_repetitions: int,
) -> None:
    """Raises BadInput for too many segments, fields of a segment (its separators are counted) or repetitions of one.

    The text names the place, the limit and its setting, never a value; `where` is the segment's name, and `MSH` for a
    line without one. CR ends a segment; LF and CRLF do where one begins after them, else they are text, as in the
    reader. Blank lines are no segments.

    Give the bytes where a delimiter's byte is always a delimiter (`charset.splits_in_bytes`), and the decoded text
    elsewhere: in Big5 or ISO-2022-JP the second bytes of honest characters would be counted as delimiters.
    """
    if _line_ends(body) >= max_segments:
        _check_segments(body, field_separator, max_segments)
    if body.count(field_separator) > max_fields:
        _check_fields(body, field_separator, max_fields)
    if body.count(repetition) >= max_repetitions:
        _check_repetitions(body, field_separator, repetition, max_repetitions)


def _check_segments(body: AnyStr, separator: AnyStr, limit: int) -> None:
    for number, (start, _) in enumerate(_segments(body, separator), 1):
        if number > limit:
            what = f"more than {limit} segments (hl7.max_segments)"
            raise BadInput(what, where=_name(body, start), code=Condition.SEGMENT_SEQUENCE)


def _check_fields(body: AnyStr, separator: AnyStr, limit: int) -> None:
    for number, (start, end) in enumerate(_segments(body, separator), 1):
        if body.count(separator, start, end) > limit:
            what = f"segment {number} has more than {limit} fields (hl7.max_fields)"
            raise BadInput(what, where=_name(body, start), code=Condition.DATA_TYPE)


def _check_repetitions(body: AnyStr, separator: AnyStr, repetition: AnyStr, limit: int) -> None:
    for number, (start, end) in enumerate(_segments(body, separator), 1):
        if body.count(repetition, start, end) < limit:
            continue
        in_header = number == 1 and _name(body, start) == "MSH"
        for field, (begin, stop) in enumerate(_fields(body, separator, start, end)):
            # MSH-1 is the separator itself; MSH-2 names the repetition character and does not repeat.
            if body.count(repetition, begin, stop) >= limit and not (in_header and field == 1):
                place = f"field {field + in_header} of segment {number}"
                what = f"{place} has more than {limit} repetitions (hl7.max_repetitions)"
                raise BadInput(what, where=_name(body, start), code=Condition.DATA_TYPE)


def _line_ends(body: AnyStr) -> int:
    if isinstance(body, str):
        return body.count("\r") + body.count("\n")
    return body.count(b"\r") + body.count(b"\n")


def _segments(body: AnyStr, separator: AnyStr) -> Iterator[tuple[int, int]]:
    """Begin and end of each segment, as far as they are asked for."""
    first, ends = _patterns(separator)
    leading = first.match(body)
    start = leading.end() if leading else 0
    for found in ends.finditer(body, start):
        yield start, found.start()
        start = found.end()
    yield start, len(body)


def _fields(body: AnyStr, separator: AnyStr, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Begin and end of what stands between separators; the first is the segment's name."""
    while (at := body.find(separator, start, end)) >= 0:
        yield start, at
        start = at + 1
    yield start, end


def _name(body: AnyStr, start: int) -> str:
    line = body[start : start + 3]
    name = line if isinstance(line, str) else line.decode("latin-1")
    named = len(name) == 3 and name.isascii() and name.isalnum() and name[0].isupper() and name.isupper()
    return name if named else "MSH"  # never the beginning of a line that may be a patient's data


def _patterns(separator: AnyStr) -> tuple[re.Pattern[AnyStr], re.Pattern[AnyStr]]:
    return _text_patterns(separator) if isinstance(separator, str) else _byte_patterns(separator)


@lru_cache(maxsize=64)
def _text_patterns(separator: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    # No alternative looks further than four characters: a run of line ends must not be read once for each of them.
    begins = "[A-Z][A-Z0-9]{2}(?:" + re.escape(separator) + r"|[\r\n]|\Z)"
    return re.compile(r"[\r\n]*"), re.compile(rf"\r\n?(?=[^\r\n])|\n(?={begins})")


@lru_cache(maxsize=64)
def _byte_patterns(separator: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    first, ends = _text_patterns(separator.decode("latin-1"))
    return re.compile(first.pattern.encode("latin-1")), re.compile(ends.pattern.encode("latin-1"))
