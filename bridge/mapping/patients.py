"""Who it is: identifier, names, gender and birth date, from HL7's PID and from a DICOM object (hl7.md §5)."""

from datetime import date, datetime

from bridge.clock import SystemClock
from bridge.domain.found import Source
from bridge.domain.patient import Demographics, Identifier, PatientUpdate, folded
from bridge.domain.task import Mapped
from bridge.mapping.identifiers import dicom_identifier, patient_identifiers, ranked
from bridge.mapping.names import Name, dicom_name, hl7_name
from bridge.mapping.rules import FieldRule, Part, Rules
from bridge.mapping.sources import first_at, is_null, parse_source
from bridge.mapping.times import date_of, latest_today
from bridge.mapping.trail import Trail

__all__ = ["demographics", "patient_identifiers", "patient_update", "person_from_dicom", "person_from_hl7"]

UNKNOWN_CODE = "a code that the gender table does not have; left out"
EARLIEST_BIRTH = date(1890, 1, 1)
_KNOWN = {
    "patient_last_name": "last_name",
    "patient_first_name": "first_name",
    "patient_gender": "gender",
    "patient_birth_date": "birth_date",
}


def person_from_hl7(source: Source, mine: Part, trail: Trail, now: datetime) -> Identifier | None:
    """What PID says of the person goes into the trail; the identifier comes back with its authority."""
    choices, invalid = ranked(source, mine, now)
    for place in invalid:
        trail.warn(f"{place}: an identifier that is not valid now; passed over")
    if choices:
        trail.put("patient_id", choices[0].identifier.value, choices[0].where, choices[0].why)
    rules = mine.fields
    if not rules.patient_name.omit:
        _name(hl7_name(source, mine), trail)
    _gender(source, mine, rules.patient_gender, rules.patient_gender.hl7, trail)
    _birth_date(source, rules.patient_birth_date, rules.patient_birth_date.hl7, trail, latest=latest_today(now))
    return choices[0].identifier if choices else None


def person_from_dicom(source: Source, mine: Part, trail: Trail, *, recorded: date | None) -> Identifier | None:
    """What an object says of the person (dicom_ecg.md §3.4). `recorded` is the local date of the recording, if it is
    known; else nobody is born after today.
    """
    choice, latest = dicom_identifier(source, mine), recorded or latest_today(SystemClock().now())
    if choice is not None:
        trail.put("patient_id", choice.identifier.value, choice.where, choice.why)
    rules = mine.fields
    name = None if rules.patient_name.omit else dicom_name(source, mine)
    if (
        name is not None
        and choice is not None
        and not name.first
        and folded(name.last) == folded(choice.identifier.value)
    ):
        # Seen with GE objects: a cart that knows no name repeats the identifier.
        trail.warn(f"{name.where}: the patient identifier in the place of a name; left out")
        name = None
    _name(name, trail)
    _gender(source, mine, rules.patient_gender, rules.patient_gender.dicom, trail)
    _birth_date(source, rules.patient_birth_date, rules.patient_birth_date.dicom, trail, latest=latest)
    return choice.identifier if choice else None


def _name(name: Name | None, trail: Trail) -> None:
    if name is not None and name.last:
        trail.put("patient_last_name", name.last, name.where, f"family {name.how}")
    if name is not None and name.first:
        trail.put("patient_first_name", name.first, name.where, f"given {name.how}")


def _gender(source: Source, mine: Part, rule: FieldRule, chain: tuple[str, ...], trail: Trail) -> None:
    """By the table; a code that it does not have leaves the field out, with a warning."""
    found = None if rule.omit else first_at(source, chain)
    if found is None:
        return
    word = mine.tables.gender.get(found.value.upper())
    if word:
        trail.put("patient_gender", word, found.where, "gender table")
    elif word is None:
        trail.warn(f"{found.where}: {UNKNOWN_CODE}")


def _birth_date(source: Source, rule: FieldRule, chain: tuple[str, ...], trail: Trail, *, latest: date) -> None:
    """The first eight digits, never shifted by a zone: a birth date is a date. A part of a date is left out."""
    found = None if rule.omit else first_at(source, chain)
    if found is None:
        return
    born = date_of(found.value)
    if born is None:
        trail.warn(f"{found.where}: not a whole, possible date of birth; left out")
    elif born < EARLIEST_BIRTH or born > latest:
        trail.warn(f"{found.where}: a date of birth before 1890 or in the future; left out")
    else:
        trail.put("patient_birth_date", born.isoformat(), found.where, "first eight digits")


def patient_update(source: Source, rules: Rules, *, now: datetime | None = None) -> PatientUpdate | None:
    """What an ADT says of a patient and his visit; None where it has no usable identifier.

    A field that is absent is kept, HL7's null clears it, and a value that cannot be read is as if not said.
    """
    mine, trail = rules.of(source), Trail()
    identifier = person_from_hl7(source, mine, trail, now or SystemClock().now())
    if identifier is None:
        return None
    said: dict[str, str | None] = {ours: str(trail.fields[f]) for f, ours in _KNOWN.items() if f in trail.fields}
    for address, ours in _clearing(source, mine):
        if ours not in said and is_null(source, address):
            said[ours] = None
    return PatientUpdate(identifier, said, _visit(source), tuple(trail.warnings))


def _visit(source: Source) -> dict[str, str | None]:
    """What PV1 says of the visit: number, class and location; null clears."""
    said: dict[str, str | None] = {}
    for name, address in (("number", "PV1-19.1"), ("class", "PV1-2.1"), ("location", "PV1-3.1")):
        found = next(iter(source.find(address)), None)
        if found is not None:
            said[name] = None if found.null else found.value
    return said


def _clearing(source: Source, mine: Part) -> list[tuple[str, str]]:
    """Where a null clears which value. Parts of a name: in the repeat that is used, else in the whole field."""
    rules, places = mine.fields, list[tuple[str, str]]()
    if not rules.patient_name.omit:
        used = hl7_name(source, mine)
        for field in (used.where,) if used else rules.patient_name.hl7:
            places += [(f"{field}.1", "last_name"), (f"{field}.2", "first_name")]
    for rule, ours in ((rules.patient_gender, "gender"), (rules.patient_birth_date, "birth_date")):
        if not rule.omit:
            places += [(address, ours) for text in rule.hl7 for address in parse_source(text).addresses]
    return places


def demographics(mapped: Mapped) -> Demographics:
    """What a mapping says of the person."""
    return Demographics(**{ours: str(mapped.fields.get(field, "")) for field, ours in _KNOWN.items()})
