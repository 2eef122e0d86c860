"""Limits of a message, counted before anything of it is split (failures.md §4).

One pass for each limit, over the message as it stands: nothing is copied, and what is allocated is a number. A message
that keeps far from its limits costs three counts.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import AnyStr

from bridge.domain.verdict import Condition
from bridge.errors import BadInput


def check(
    body: AnyStr,
    *,
    field_separator: AnyStr,
    repetition: AnyStr,
    max_segments: int,
    max_fields: int,
    max_repetitions: int,
) -> None:
    """Raises BadInput for too many segments, fields of a segment (delimiters are counted) or repetitions of a field.

    The text names the place, the limit and its setting, never a value; `where` is the segment's name, `MSH` where it
    has none. CR ends a segment; LF and CRLF do where one begins after it, else they are text (as in the reader). Blank
    lines are no segments.

    Bytes are right for every set in which a delimiter's byte is always a delimiter (`charset.splits_in_bytes`); for the
    others the text must be given, decoded, or the second bytes of honest characters are counted as delimiters.
    """
    lines = _Lines(body, field_separator)
    if lines.may_be_over(max_segments):
        for number, (start, _) in enumerate(lines, 1):
            if number > max_segments:
                where = lines.name(start)
                raise _over(f"more than {max_segments} segments (hl7.max_segments)", where, Condition.SEGMENT_SEQUENCE)
    if body.count(field_separator) > max_fields:
        for number, (start, end) in enumerate(lines, 1):
            if body.count(field_separator, start, end) > max_fields:
                what = f"segment {number} has more than {max_fields} fields (hl7.max_fields)"
                raise _over(what, lines.name(start), Condition.DATA_TYPE)
    if body.count(repetition) >= max_repetitions:
        for number, (start, end) in enumerate(lines, 1):
            if (field := _repeated(body, lines, start, end, (field_separator, repetition, max_repetitions))) >= 0:
                what = f"field {field} of segment {number} has more than {max_repetitions} repetitions"
                raise _over(f"{what} (hl7.max_repetitions)", lines.name(start), Condition.DATA_TYPE)


class _Lines:
    """Where the segments of a message stand, found one after the other."""

    def __init__(self, body: "str | bytes", separator: "str | bytes") -> None:
        self._body = body
        self._separator = separator

    def may_be_over(self, limit: int) -> bool:
        body = self._body
        ends = body.count("\r") + body.count("\n") if isinstance(body, str) else body.count(b"\r") + body.count(b"\n")
        return ends >= limit

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = 0
        for found in _starts(self._separator).finditer(self._body):  # type: ignore[arg-type]
            yield start, found.start()
            start = found.end()
        yield start, len(self._body)

    def name(self, start: int) -> str:
        return ""
