"""Dates and moments as HL7 writes them (HL7 v2.5.1 §2.A.22, hl7.md §6)."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_MOMENT = re.compile(r"(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)?(\d\d)?)?(?:\.(\d{1,6})\d*)?([+-]\d\d:?\d\d|Z)?", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_DATE = re.compile(r"(\d{4})([-.]?)(\d\d)\2(\d\d)", re.ASCII)
EARTH = timedelta(hours=14)
"""The zone that is furthest ahead of UTC: a date is in the future only where it is one everywhere."""


def offset_of(text: str) -> timedelta | None:
    """`+0100`, `+01:00` or `Z` as a difference from UTC, from -12:00 to +14:00 (PS3.5 §6.2, DT)."""
    if text == "Z":
        return timedelta(0)
    read = _OFFSET.fullmatch(text.strip())
    if read is None or int(read[3]) > 59:
        return None
    size = timedelta(hours=int(read[2]), minutes=int(read[3])) * (1 if read[1] == "+" else -1)
    return size if timedelta(hours=-12) <= size <= EARTH else None


def date_of(text: str) -> date | None:
    """The first eight digits of a DT, DTM or ISO date as a date, whatever time or zone follows. None: no whole date.

    The offset behind a part of a date (`1970-0330`, `197001-0500`) is never read as its month or day.
    """
    read = _DATE.match(text.strip())
    if read is None:
        return None
    try:
        return date(int(read[1]), int(read[3]), int(read[4]))
    except ValueError:
        return None


def moment_of(text: str, zone: str) -> datetime | None:
    """A DTM in UTC, its missing parts at their beginning; without an offset of its own in that zone.

    `24:00` is the beginning of the next day, and second 60 is read as 59 (`odd` says so).
    """
    read = _MOMENT.fullmatch(text.strip())
    if read is None or not 1900 <= int(read[1]) <= 9000:
        return None
    if read[4] == "24" and not int(read[5] or 0) and not int(read[6] or 0):
        before = moment_of(text.strip()[:8] + "00" + text.strip()[10:], zone)
        return before + timedelta(days=1) if before is not None else None
    year, month, day, hour, minute, second = (int(read[n] or least) for n, least in enumerate((1, 1, 1, 0, 0, 0), 1))
    try:
        local = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=ZoneInfo(zone))
    except ValueError:
        return None
    local += timedelta(microseconds=int((read[7] or "").ljust(6, "0")))
    offset = offset_of(read[8]) if read[8] else None
    return (local if offset is None else local.replace(tzinfo=timezone(offset))).astimezone(UTC)


def odd(text: str, zone: str) -> str:
    """What had to be tolerated in a DTM, in words without its value; empty where nothing had to be."""
    read = _MOMENT.fullmatch(text.strip())
    if read is None or moment_of(text, zone) is None:
        return "not a date or time; left out" if text.strip("0 ") else "zeros in the place of a time; left out"
    if read[4] == "24":
        return "24:00, read as the beginning of the next day"
    if read[6] == "60":
        return "second 60, read as 59"
    if read[8] and (read[8] == "Z" or ":" in read[8]):
        return "an offset written otherwise than +ZZZZ"
    if not read[8] and read[4]:
        local = datetime(
            int(read[1]), int(read[2]), int(read[3]), int(read[4]), int(read[5] or 0), tzinfo=ZoneInfo(zone)
        )
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            return "an hour that comes twice or is skipped; the first is taken"
    return ""


def latest_today(now: datetime) -> date:
    """The date where the day is furthest on: a date after it is in the future for everybody."""
    return (now.astimezone(UTC) + EARTH).date()


def earliest_today(now: datetime) -> date:
    """The date where the day is furthest behind: a date before it is past for everybody."""
    return (now.astimezone(UTC) - timedelta(hours=12)).date()
