"""Who it is: identifiers, names, gender and birth date, from HL7's PID and from a DICOM object (hl7.md §5)."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from bridge.domain.found import Found, Source
from bridge.domain.patient import Demographics, Identifier, PatientUpdate
from bridge.domain.task import FieldTrace, Mapped
from bridge.mapping.rules import Part, Rules
from bridge.mapping.sources import first_at, is_null, part

EARLIEST_BIRTH = date(1890, 1, 1)
_NAME_TYPES = ("L", "", "D", "N")
"""PID-5 repeats by XPN.7, best first: legal, unsaid, display, as displayed. Maiden, alias and pseudonym: never."""


@dataclass(slots=True)
class Trail:
    """The fields of one mapping while it is made, each with its trace."""

    fields: dict[str, Any]
    traces: list[FieldTrace]
    warnings: list[str]

    @classmethod
    def new(cls) -> "Trail":
        """An empty one."""
        return cls({}, [], [])

    def put(self, field: str, value: Any, where: str, rule: str, note: str = "") -> None:
        """A value that is used."""
        self.fields[field] = value
        self.traces.append(FieldTrace(field, value, where, rule, note))

    def warn(self, text: str) -> None:
        """Something for the operator; never a patient's value."""
        self.warnings.append(text)


def patient_identifiers(source: Source, rules: Rules) -> tuple[tuple[Identifier, str, str], ...]:
    """PID's identifiers, best first, each with where it stood and why it is chosen.

    A configured authority decides, then the type code (MR, PI, PT, PK), then the order in the message. An identifier
    past its expiration date (CX.8) is not one. Check digits are never appended, leading zeros are kept.
    """
    mine = rules.of(source)
    ranked: list[tuple[tuple[int, int, int], Identifier, str, str]] = []
    today = date.today().strftime("%Y%m%d")  # noqa: DTZ011  a calendar date against a calendar date
    for chain, address in enumerate(_addresses(mine)):
        for index, found in enumerate(source.find(address)):
            value = part(source, found.where, "1")
            expired = part(source, found.where, "8")[:8]
            if found.null or not value or (expired.isdigit() and len(expired) == 8 and expired < today):
                continue
            namespace, universal = part(source, found.where, "4.1"), part(source, found.where, "4.2")
            kind = part(source, found.where, "5").upper()
            by_authority = _rank((namespace, universal), mine.patient.authorities)
            by_type = _rank((kind,), mine.patient.types)
            why = (
                "the site's authority"
                if by_authority < len(mine.patient.authorities)
                else (f"type {kind}" if by_type < len(mine.patient.types) else "the first")
            )
            rank = (by_authority, chain * 100 + by_type, index)
            ranked.append((rank, Identifier(value, namespace or universal), f"{found.where}.1", why))
    ranked.sort(key=lambda entry: entry[0])
    return tuple((identifier, where, why) for _, identifier, where, why in ranked)


def _addresses(mine: Part) -> tuple[str, ...]:
    return (*mine.fields.patient_id.hl7, *(("PID-18",) if mine.patient.account_number else ()))


def _rank(values: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    known = [w.casefold() for w in wanted]
    return min((known.index(v.casefold()) for v in values if v and v.casefold() in known), default=len(known))


def person_from_hl7(source: Source, rules: Rules, trail: Trail) -> Identifier | None:
    """Identifier, names, gender and birth date of PID into the trail; the identifier with its authority."""
    mine = rules.of(source)
    identifiers = patient_identifiers(source, rules)
    if identifiers and not mine.fields.patient_id.omit:
        identifier, where, why = identifiers[0]
        trail.put("patient_id", identifier.value, where, f"patient identifier: {why}")
    last, first, place = _hl7_name(source, mine)
    if last:
        trail.put("patient_last_name", last, place, "name by type L, then unsaid, D, N")
    if first:
        trail.put("patient_first_name", first, place, "given names")
    _gender(source, mine, mine.fields.patient_gender.hl7, trail)
    _birth_date(source, mine.fields.patient_birth_date.hl7, trail)
    return identifiers[0][0] if identifiers else None


def _hl7_name(source: Source, mine: Part) -> tuple[str, str, str]:
    """XPN.1 family (its own-surname part comes whole), XPN.2 and XPN.3 given; `Doe, John` in XPN.1 is split."""
    best: tuple[int, Found] | None = None
    for address in mine.fields.patient_name.hl7:
        for found in source.find(address):
            kind = part(source, found.where, "7").upper()
            if found.null or kind not in _NAME_TYPES or part(source, found.where, "8").upper() in {"I", "P"}:
                continue
            if not (part(source, found.where, "1.1") or part(source, found.where, "2")):
                continue
            rank = _NAME_TYPES.index(kind)
            if best is None or rank < best[0]:
                best = (rank, found)
    if best is None:
        return "", "", ""
    where = best[1].where
    last = part(source, where, "1.1")
    given = " ".join(filter(None, (part(source, where, "2"), part(source, where, "3"))))
    if not given and "," in last:
        last, _, given = (p.strip() for p in last.partition(","))
    return last, given, where


def _gender(source: Source, mine: Part, addresses: tuple[str, ...], trail: Trail) -> None:
    found = first_at(source, addresses)
    if found is None:
        return
    word = mine.tables.gender.get(found.value.upper(), "")
    if word:
        trail.put("patient_gender", word, found.where, "gender table")
    else:
        trail.warn(f"{found.where}: a code that the gender table does not have; left out")


def _birth_date(source: Source, addresses: tuple[str, ...], trail: Trail) -> None:
    """The first eight digits, never shifted by a zone: a birth date is a date. A part of a date is left out."""
    found = first_at(source, addresses)
    if found is None:
        return
    digits = re.match(r"\d*", found.value.replace("-", "").replace(".", ""))
    text = digits[0][:8] if digits else ""
    try:
        born = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        trail.warn(f"{found.where}: not a whole, possible date of birth; left out")
        return
    if not EARLIEST_BIRTH <= born <= date.today():  # noqa: DTZ011  a calendar date against a calendar date
        trail.warn(f"{found.where}: a date of birth before 1890 or in the future; left out")
        return
    trail.put("patient_birth_date", born.isoformat(), found.where, "first eight digits")


def person_from_dicom(source: Source, mine: Part, trail: Trail) -> Identifier | None:
    """Identifier with its issuer, names by component group, sex and birth date of an object (dicom_ecg.md §3.4)."""
    identifier: Identifier | None = None
    found = first_at(source, mine.fields.patient_id.dicom)
    if found is not None:
        issuer = first_at(source, ("IssuerOfPatientID",))
        identifier = Identifier(found.value, issuer.value if issuer else "")
        trail.put("patient_id", found.value, found.where, "patient identifier")
    name = first_at(source, mine.fields.patient_name.dicom)
    if name is not None:
        last, first, group = _dicom_name(name.value, mine.name_group)
        if last:
            trail.put("patient_last_name", last, name.where, f"family name, {group}")
        if first:
            trail.put("patient_first_name", first, name.where, f"given and middle names, {group}")
    _gender(source, mine, mine.fields.patient_gender.dicom, trail)
    _birth_date(source, mine.fields.patient_birth_date.dicom, trail)
    return identifier


def _dicom_name(value: str, wanted: str) -> tuple[str, str, str]:
    """Family and given names of the wanted component group, else of the first that has any (PS3.5 §6.2.1)."""
    names = ("alphabetic", "ideographic", "phonetic")
    groups = dict(zip(names, value.split("="), strict=False))
    for name in sorted(groups, key=lambda n: (n != wanted, names.index(n))):
        family, given, middle, *_ = [c.strip() for c in groups[name].split("^")] + [""] * 3
        if family or given:
            return family, " ".join(filter(None, (given, middle))), name
    return "", "", wanted


def patient_update(source: Source, rules: Rules) -> PatientUpdate | None:
    """What an ADT says of a patient; None where it has no usable identifier.

    A field that is absent is kept, HL7's null clears it, and a value that cannot be read is as if not said.
    """
    trail = Trail.new()
    identifier = person_from_hl7(source, rules, trail)
    if identifier is None:
        return None
    names = {
        "patient_last_name": "last_name",
        "patient_first_name": "first_name",
        "patient_gender": "gender",
        "patient_birth_date": "birth_date",
    }
    said: dict[str, str | None] = {ours: str(trail.fields[f]) for f, ours in names.items() if f in trail.fields}
    for address, fields in (
        ("PID-5", ("last_name", "first_name")),
        ("PID-5.1", ("last_name",)),
        ("PID-5.2", ("first_name",)),
        ("PID-8", ("gender",)),
        ("PID-7", ("birth_date",)),
    ):
        if is_null(source, address):
            said |= dict.fromkeys(fields)
    return PatientUpdate(identifier, said)


def demographics(mapped: Mapped) -> Demographics:
    """What a mapping says of the person."""
    get = mapped.fields.get
    return Demographics(
        last_name=get("patient_last_name", ""),
        first_name=get("patient_first_name", ""),
        gender=get("patient_gender", ""),
        birth_date=get("patient_birth_date", ""),
    )
