"""When a recording began, in UTC, and in which zone (dicom_ecg.md §3.4; PS3.5 §6.2, DA, DT, TM)."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from bridge.domain.found import Source
from bridge.mapping.sources import first_at
from bridge.mapping.times import offset_of
from bridge.mapping.trail import Trail

_DATE_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?([+-]\d\d:?\d\d|Z)?", re.ASCII)
_PAIRS = (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"), ("StudyDate", "StudyTime"))
_YEARS = range(1950, 2200)
"""No ECG object is older, and nothing near the ends of the calendar can be moved between zones."""
LONGEST_OFFSET_MS = 35 * 24 * 3600 * 1000
"""The longest recording that the API takes (cardio_api.md)."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A moment as the object says it; `offset` None: local time of a zone that it does not name there."""

    local: datetime
    offset: timedelta | None
    where: str


def start_of(
    source: Source, *, zone_name: str, duration_s: float | None, time_offset_ms: Decimal, trail: Trail
) -> date | None:
    """The start into the trail, in UTC; its local date comes back, as the object's own clock has it.

    The zone is the object's own (the DT's suffix, else TimezoneOffsetFromUTC), else `zone_name`, the IANA name of the
    AE title's or the site's zone. An hour that comes twice in autumn is taken the first time. The zone's name is told
    only where it agrees with the object. The group begins `time_offset_ms` after the object's own start.
    """
    said = _said(source, trail)
    if said is None:
        trail.warn("the object has no usable acquisition time")
        return None
    if abs(time_offset_ms) > LONGEST_OFFSET_MS:
        trail.warn("MultiplexGroupTimeOffset: longer than any recording; the start is left out")
        return None
    zone = ZoneInfo(zone_name)
    offset, rule = said.offset, "the offset behind it"
    if offset is None:
        given = first_at(source, ("TimezoneOffsetFromUTC",))
        offset, rule = (offset_of(given.value), "TimezoneOffsetFromUTC") if given else (None, "")
        if given and offset is None:
            trail.warn(f"{given.where}: not an offset; the zone of the rules is used")
    notes: list[str] = []
    named = True
    if offset is None:
        rule = f"local time of {zone_name}"
        began = _local(said.local, zone, notes)
    else:
        began = said.local.replace(tzinfo=timezone(offset)).astimezone(UTC)
        named = began.astimezone(zone).utcoffset() == offset
        if not named:
            notes.append("its offset is not that of the site's zone at that time; the zone is left out")
    began += timedelta(microseconds=int(time_offset_ms * 1000))
    local = began.astimezone(zone)
    if duration_s and (began + timedelta(seconds=duration_s)).astimezone(zone).utcoffset() != local.utcoffset():
        notes.append("the clocks changed during the recording")
    for note in notes:
        trail.warn(f"{said.where}: {note}")
    trail.put("recording_start_time", utc(began), said.where, rule, "; ".join(notes))
    if named:
        trail.put("recording_time_zone", zone_name, "(rules)", "the zone of the AE title or the site")
    # In the object's own offset: in the site's zone a newborn could come out as recorded on the day before its birth.
    return local.date() if offset is None else began.astimezone(timezone(offset)).date()


def _local(local: datetime, zone: ZoneInfo, notes: list[str]) -> datetime:
    aware = local.replace(tzinfo=zone)
    moment = aware.astimezone(UTC)
    if aware.utcoffset() != aware.replace(fold=1).utcoffset():
        there = moment.astimezone(zone).replace(tzinfo=None) == local
        notes.append("an hour that comes twice; the first is taken" if there else "an hour that the clock skipped")
    return moment


def utc(moment: datetime) -> str:
    """The moment as the API takes it."""
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _said(source: Source, trail: Trail) -> _Said | None:
    found = first_at(source, ("AcquisitionDateTime",))
    if found is not None:
        said = _read(found.value, found.where)
        if said is not None:
            return said
        trail.warn(f"{found.where}: not a usable date and time; passed over")
    for day, clock in _PAIRS:
        dated, timed = first_at(source, (day,)), first_at(source, (clock,))
        if dated is None or timed is None:
            continue
        where = f"{dated.where}, {timed.where}"
        # ACR-NEMA wrote 1993.08.22 and 13:30:00, and readers should understand it (PS3.5 §6.2, notes on DA and TM).
        said = _read(dated.value.replace(".", "") + timed.value.replace(":", ""), where)
        if said is not None:
            return said
        trail.warn(f"{where}: not a usable date and time; passed over")
    return None


def _read(text: str, where: str) -> _Said | None:
    """A DT, or a DA with its TM behind it. A date alone is no start."""
    read = _DATE_TIME.fullmatch(text.strip())
    if read is None or int(read[1]) not in _YEARS:
        return None
    year, month, day, hour, minute, second = (int(read[n] or 0) for n in range(1, 7))
    try:
        # 60 is a leap second, which neither datetime nor the API can tell.
        local = datetime(year, month, day, hour, minute, 59 if second == 60 else second)  # noqa: DTZ001  local time
    except ValueError:
        return None
    local += timedelta(microseconds=int((read[7] or "").ljust(6, "0")))
    offset = offset_of(read[8]) if read[8] else None
    return None if read[8] and offset is None else _Said(local, offset, where)
