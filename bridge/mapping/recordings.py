"""One recording: its numbers, its task fields and its start in UTC (dicom_ecg.md §3.4)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from bridge.domain.found import Found, Source
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.mapping import measures
from bridge.mapping.patients import Trail, person_from_dicom
from bridge.mapping.rules import Part, Rules
from bridge.mapping.sources import first_at, found_at

_NUMBERS = (
    (NumberKind.ACCESSION, "AccessionNumber", "IssuerOfAccessionNumberSequence"),
    (NumberKind.ACCESSION, "RequestAttributesSequence.AccessionNumber", ""),
    (NumberKind.PROCEDURE, "RequestedProcedureID", ""),
    (NumberKind.PROCEDURE, "RequestAttributesSequence.RequestedProcedureID", ""),
    (NumberKind.FILLER, "FillerOrderNumberImagingServiceRequest", ""),
    (NumberKind.PLACER, "PlacerOrderNumberImagingServiceRequest", ""),
)
_DATE_TIME = re.compile(r"^(\d{4})(\d\d)(\d\d)(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6}))?([+-]\d{4})?$")
_CHAINS = (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"), ("StudyDate", "StudyTime"))


@dataclass(frozen=True, slots=True)
class _Start:
    """A moment as the object says it; `offset` None: local time of a zone that the object does not name."""

    local: datetime
    offset: timedelta | None
    where: str


def recording_numbers(source: Source) -> tuple[OrderNumber, ...]:
    """Every order number of the object, best first. StudyID and AdmissionID are none (dicom_ecg.md §3.4)."""
    numbers: dict[str, OrderNumber] = {}
    for kind, address, issuers in _NUMBERS:
        for found in found_at(source, (address,)):
            issuer = first_at(source, (f"{issuers}.LocalNamespaceEntityID",)) if issuers else None
            numbers.setdefault(found.value, OrderNumber(found.value, kind, issuer.value if issuer else ""))
    return tuple(numbers.values())


def map_recording(source: Source, rules: Rules, *, time_zone: str, time_offset_ms: Decimal) -> Mapped:
    """The task fields of one recording. `time_zone` is the site's; `time_offset_ms` the rhythm group's."""
    mine = rules.of(source)
    trail = Trail.new()
    identifier = person_from_dicom(source, mine, trail)
    started = _start(source, mine.time_zone or time_zone, time_offset_ms, trail)
    _age(source, mine, started, trail)
    for field, read in (("patient_height", measures.dicom_height), ("patient_weight", measures.dicom_weight)):
        value, where, wrong = read(source, mine)
        if wrong:
            trail.warn(wrong)
        elif value is not None:
            trail.put(field, value, where, "centimetres" if field == "patient_height" else "grams")
    _plain(source, mine, trail)
    return Mapped(
        fields=trail.fields,
        traces=tuple(trail.traces),
        warnings=tuple(trail.warnings),
        patient_authority=identifier.authority if identifier else "",
        numbers=recording_numbers(source),
    )


def _plain(source: Source, mine: Part, trail: Trail) -> None:
    for field in ("investigation_id", "device_id"):
        rule = getattr(mine.fields, field)
        if rule.omit:
            continue
        if rule.constant:
            trail.put(field, rule.constant, "(rules)", "constant")
            continue
        found = first_at(source, rule.dicom)
        if found is not None:
            trail.put(field, found.value, found.where, "first of the chain")
    for field, rule in (("indications", mine.fields.indications), ("searching_tags", mine.fields.searching_tags)):
        once: dict[str, Found] = {}
        for found in found_at(source, rule.dicom):
            once.setdefault(found.value.casefold(), found)
        if once and not rule.omit:
            places = ", ".join(dict.fromkeys(f.where for f in once.values()))
            trail.put(field, [f.value for f in once.values()], places, "all of the chain, each once")


def _age(source: Source, mine: Part, started: datetime | None, trail: Trail) -> None:
    """Sent only where there is no birth date; a birth date after the recording is none."""
    born = trail.fields.get("patient_birth_date")
    if born is not None and started is not None and born > started.date().isoformat():
        trail.fields.pop("patient_birth_date")
        trail.traces[:] = [t for t in trail.traces if t.field != "patient_birth_date"]
        trail.warn("PatientBirthDate: after the recording; left out")
        born = None
    found = first_at(source, mine.fields.patient_age.dicom)
    if born is not None or found is None or mine.fields.patient_age.omit:
        return
    age = measures.dicom_age(found.value)
    if age is None:
        trail.warn(f"{found.where}: not an age; left out")
    else:
        trail.put("patient_age", age, found.where, "whole years; no birth date")


def _start(source: Source, zone_name: str, time_offset_ms: Decimal, trail: Trail) -> datetime | None:
    """The start in UTC: the object's own offset, else TimezoneOffsetFromUTC, else the site's zone."""
    said = _said(source)
    if said is None:
        trail.warn("the object has no usable acquisition time")
        return None
    zone = ZoneInfo(zone_name)
    offset = said.offset
    if offset is None:
        given = first_at(source, ("TimezoneOffsetFromUTC",))
        offset = _offset(given.value) if given else None
    notes = []
    if offset is not None:
        moment = said.local.replace(tzinfo=timezone(offset)).astimezone(UTC)
        named = moment.astimezone(zone).utcoffset() == offset
        if not named:
            notes.append("the offset is not the site's zone at that time; the zone is left out")
    else:
        aware = said.local.replace(tzinfo=zone)
        moment, named = aware.astimezone(UTC), True
        if aware.utcoffset() != aware.replace(fold=1).utcoffset():
            exists = moment.astimezone(zone).replace(tzinfo=None) == said.local
            notes.append("an hour that comes twice: the first is taken" if exists else "an hour that the clock skipped")
    moment += timedelta(milliseconds=float(time_offset_ms))
    for note in notes:
        trail.warn(f"{said.where}: {note}")
    text = moment.strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    )
    rule = "own offset" if offset is not None else f"local time of {zone_name}"
    trail.put("recording_start_time", f"{text}Z", said.where, rule, "; ".join(notes))
    if named:
        trail.put("recording_time_zone", zone_name, "(site)", "the zone that the start was read in")
    return moment.astimezone(zone)


def _said(source: Source) -> _Start | None:
    found = first_at(source, ("AcquisitionDateTime",))
    if found is not None:
        read = _read(found.value)
        if read is not None:
            return _Start(*read, found.where)
    for day, clock in _CHAINS:
        date, time = first_at(source, (day,)), first_at(source, (clock,))
        if date is not None and time is not None:
            read = _read(date.value.replace(".", "") + time.value.replace(":", ""))
            if read is not None:
                return _Start(*read, f"{day}, {clock}")
    return None


def _read(text: str) -> tuple[datetime, timedelta | None] | None:
    """A DT, or a DA with its TM behind it (PS3.5 §6.2). A date alone is no start."""
    parts = _DATE_TIME.match(text)
    if parts is None or parts[4] is None:
        return None
    year, month, day, hour, minute, second = (int(parts[n] or 0) for n in range(1, 7))
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001  local, as the object says it
    except ValueError:
        return None
    moment += timedelta(microseconds=int((parts[7] or "").ljust(6, "0") or 0))
    return moment, _offset(parts[8]) if parts[8] else None


def _offset(text: str) -> timedelta | None:
    read = re.match(r"^([+-])(\d\d)(\d\d)$", text.strip())
    if read is None or int(read[2]) > 14 or int(read[3]) > 59:
        return None
    size = timedelta(hours=int(read[2]), minutes=int(read[3]))
    return size if read[1] == "+" else -size
