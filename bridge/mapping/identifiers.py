"""Which of a patient's identifiers is the one (hl7.md §5)."""

from dataclasses import dataclass
from datetime import datetime

from bridge.clock import SystemClock
from bridge.domain.found import Source
from bridge.domain.patient import Identifier
from bridge.mapping.rules import Part, Rules
from bridge.mapping.sources import fields_at, first_at, part
from bridge.mapping.times import date_of, earliest_today, latest_today

_ISSUERS = ("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence.UniversalEntityID")


@dataclass(frozen=True, slots=True)
class Choice:
    """An identifier, where it stood, and why it is chosen before those behind it."""

    identifier: Identifier
    where: str
    why: str
    kind: str = ""  # CX.5


def ranked(source: Source, mine: Part, now: datetime, chain_of: tuple[str, ...] = ()) -> tuple[list[Choice], list[str]]:
    """PID's identifiers, or those of `chain_of`, best first, and the places of those that are not valid now.

    A configured authority decides (CX.4, namespace or OID), then the chain of fields, then the type code (CX.5), then
    the order in the message. Check digits are never appended, leading zeros are kept.
    """
    rows: list[tuple[tuple[int, int, int, int], Choice]] = []
    invalid: list[str] = []
    last_resort = ("PID-18",) if mine.patient.account_number else ()
    for chain, text in enumerate(chain_of or (*mine.fields.patient_id.hl7, *last_resort)):
        for index, (field, found, chained) in enumerate(fields_at(source, (text,))):
            value = part(source, field, "1") if found.where == field else found.value
            value = next(chained.applied(value), "")
            if not value:
                continue
            place = f"{field}.1" if found.where == field else found.where
            if not _valid(source, field, now):
                invalid.append(place)
                continue
            namespace, universal = part(source, field, "4.1"), part(source, field, "4.2")
            kind = part(source, field, "5")
            authorities, types = mine.patient.authorities, mine.patient.types
            by_authority = _rank((namespace, universal), authorities)
            by_type = _rank((kind,), types)
            if by_authority < len(authorities):
                why = "the site's authority"
            else:
                why = f"type {kind.upper()}" if by_type < len(types) else "the first"
            choice = Choice(
                Identifier(value, namespace or universal), place, f"patient identifier: {why}", kind.upper()
            )
            rows.append(((by_authority, chain, by_type, index), choice))
    rows.sort(key=lambda row: row[0])
    return [choice for _, choice in rows], invalid


def patient_identifiers(source: Source, rules: Rules, *, now: datetime | None = None) -> tuple[Identifier, ...]:
    """PID's identifiers that are valid now, best first."""
    choices, _ = ranked(source, rules.of(source), now or SystemClock().now())
    return tuple(choice.identifier for choice in choices)


def dicom_identifier(source: Source, mine: Part) -> Choice | None:
    """PatientID with its issuer."""
    found = first_at(source, mine.fields.patient_id.dicom)
    if found is None:
        return None
    issuer = first_at(source, _ISSUERS)
    return Choice(Identifier(found.value, issuer.value if issuer else ""), found.where, "patient identifier")


def _valid(source: Source, field: str, now: datetime) -> bool:
    """CX.7 not in the future, CX.8 not past; a date that cannot be read limits nothing."""
    begins, ends = date_of(part(source, field, "7")), date_of(part(source, field, "8"))
    return not (begins and begins > latest_today(now)) and not (ends and ends < earliest_today(now))


def _rank(values: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    known = [w.casefold() for w in wanted]
    return min((known.index(v.casefold()) for v in values if v and v.casefold() in known), default=len(known))
