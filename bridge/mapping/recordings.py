"""One recording: its numbers and its task fields (dicom_ecg.md §3.4)."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

from bridge.domain.found import Found, Source
from bridge.domain.task import FieldTrace, Mapped, NumberKind, OrderNumber
from bridge.mapping import measures, reasons
from bridge.mapping.patients import person_from_dicom
from bridge.mapping.plain import destination, device, investigation, tags
from bridge.mapping.rules import Part, Rules
from bridge.mapping.sources import first_at, found_at
from bridge.mapping.starts import LONGEST_OFFSET_MS, start_of, utc
from bridge.mapping.trail import Trail

_ISSUERS = {
    NumberKind.ACCESSION: "IssuerOfAccessionNumberSequence",
    NumberKind.PLACER: "OrderPlacerIdentifierSequence",
    NumberKind.FILLER: "OrderFillerIdentifierSequence",
}
_ENTITIES = ("FillerOrderNumberImagingServiceRequest", "PlacerOrderNumberImagingServiceRequest")
_BEST_FIRST = (NumberKind.ACCESSION, NumberKind.PROCEDURE, NumberKind.FILLER, NumberKind.PLACER)


def recording_numbers(source: Source, rules: Rules) -> tuple[OrderNumber, ...]:
    """Every order number of the object, best first, with its issuer. StudyID and AdmissionID are none by default."""
    mine = rules.of(source).numbers
    numbers: list[OrderNumber] = []
    for kind in _BEST_FIRST:
        for found in found_at(source, getattr(mine, kind.value).dicom):
            value, authority = found.value, ""
            if kind in {NumberKind.PLACER, NumberKind.FILLER}:
                value, authority = _entity(value)
            number = OrderNumber(value, kind, authority or _issuer(source, kind, found))
            if value and not any(_covers(known, number) for known in numbers):
                numbers.append(number)
    return tuple(numbers)


def _entity(value: str) -> tuple[str, str]:
    """Number and namespace: carts copy HL7's whole EI, number^namespace, into the placer's and the filler's."""
    number, _, rest = (piece.strip() for piece in value.partition("^"))
    return number, rest.partition("^")[0].strip()


def _covers(known: OrderNumber, number: OrderNumber) -> bool:
    """Whether the number says no more than the known one. The same value of two issuers is two numbers."""
    same = known.authority.casefold() == number.authority.casefold()
    return known.value == number.value and (same or not known.authority or not number.authority)


def _issuer(source: Source, kind: NumberKind, found: Found) -> str:
    """Who issued it: said beside the number, in the same item (PS3.3 C.12.1.1.9, 10.6)."""
    if kind not in _ISSUERS:
        return ""
    beside = found.where.rpartition(".")[0]
    sequence = f"{beside}.{_ISSUERS[kind]}" if beside else _ISSUERS[kind]
    issuer = first_at(source, (f"{sequence}.LocalNamespaceEntityID", f"{sequence}.UniversalEntityID"))
    return issuer.value if issuer else ""


def _number_of(found: Found) -> str:
    """The value; of an order number its number alone, which is what HL7's order says too."""
    return _entity(found.value)[0] if found.where.rpartition(".")[2].startswith(_ENTITIES) else found.value


def map_recording(
    source: Source, rules: Rules, *, time_zone: str, time_offset_ms: Decimal, duration_s: float | None = None
) -> Mapped:
    """The task fields of one recording.

    `time_zone` is the site's; `time_offset_ms` and `duration_s` are those of the group that is uploaded.
    """
    mine, trail = rules.of(source), Trail()
    zone = mine.time_zone or time_zone
    recorded = start_of(source, zone_name=zone, duration_s=duration_s, time_offset_ms=time_offset_ms, trail=trail)
    identifier = person_from_dicom(source, mine, trail, recorded=recorded)
    _age(source, mine, recorded, trail)
    _measured(source, mine, trail)
    investigation(source, mine.fields.investigation_id, mine.fields.investigation_id.dicom, trail, read=_number_of)
    device(source, mine.fields.device_id, mine.fields.device_id.dicom, trail)
    reasons.from_dicom(source, mine.fields.indications, trail)
    tags(source, mine.fields.searching_tags, mine.fields.searching_tags.dicom, trail)
    routed = destination(source, mine.destination, mine.destination.dicom)
    return trail.mapped(identifier, recording_numbers(source, rules), destination=routed)


def of_group(recording: Mapped, *, later_ms: Decimal) -> Mapped:
    """The fields of a further group, which begins so much later than the one that was mapped; negative: earlier."""
    began = recording.fields.get("recording_start_time")
    if not later_ms or began is None:
        return recording
    fields = {name: value for name, value in recording.fields.items() if name != "recording_start_time"}
    if abs(later_ms) > LONGEST_OFFSET_MS:
        warning = "MultiplexGroupTimeOffset: longer than any recording; the start is left out"
        traces = tuple(t for t in recording.traces if t.field != "recording_start_time")
        return replace(recording, fields=fields, traces=traces, warnings=(*recording.warnings, warning))
    moved = utc(datetime.fromisoformat(began) + timedelta(microseconds=int(later_ms * 1000)))
    traces = tuple(_moved(t, moved) if t.field == "recording_start_time" else t for t in recording.traces)
    return replace(recording, fields={**fields, "recording_start_time": moved}, traces=traces)


def _moved(trace: FieldTrace, moved: str) -> FieldTrace:
    note = "; ".join(part for part in (trace.note, "by MultiplexGroupTimeOffset of its group") if part)
    return replace(trace, value=moved, note=note)


def _age(source: Source, mine: Part, recorded: date | None, trail: Trail) -> None:
    """Sent only where there is no birth date; where there is one, a difference of more than a year is told."""
    rule = mine.fields.patient_age
    found = None if rule.omit else first_at(source, rule.dicom)
    if found is None:
        return
    age = measures.dicom_age(found.value)
    if age is None:
        trail.warn(f"{found.where}: not an age; left out")
    elif "patient_birth_date" not in trail.fields:
        trail.put("patient_age", age, found.where, "age in whole years; no birth date")
    elif recorded is not None:
        born = date.fromisoformat(trail.fields["patient_birth_date"])
        then = recorded.year - born.year - ((recorded.month, recorded.day) < (born.month, born.day))
        if abs(then - age) > 1:
            trail.warn(f"{found.where}: more than a year from what the birth date makes; the birth date is used")


def _measured(source: Source, mine: Part, trail: Trail) -> None:
    for field, read, unit in (
        ("patient_height", measures.dicom_height, mine.height_unit),
        ("patient_weight", measures.dicom_weight, "kg"),
    ):
        told = None if getattr(mine.fields, field).omit else read(source, mine)
        if told is None:
            continue
        found, value = told
        if value is None:
            trail.warn(f"{found.where}: not a possible value in {unit}; left out")
        else:
            rule = "in centimetres" if field == "patient_height" else "in grams"
            trail.put(field, value, found.where, f"from {unit}, {rule}")
