"""An order as the scheduled procedure step that a cart is told of (PS3.4 K.6.1.2.2, PS3.3 C.4.10 and C.4.11).

What comes back with the ECG must be what the match compares: numbers and identifiers are told as they are or not at
all, never cut. Only what people read is made to fit.
"""

import hashlib
import hmac
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any

from bridge.dicom_settings import WorklistSettings
from bridge.domain.patient import Demographics, Identifier, folded
from bridge.domain.plan import LONGEST_NUMBER, Code, fits
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.mapping.matching import compare
from bridge.mapping.patients import demographics
from bridge.store.schema import moment
from bridge.store.worklist import Waiting

_SEX = {"MALE": "M", "FEMALE": "F", "UNDIFFERENTIATED": "O"}
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
_OID = re.compile(r"\d+(\.\d+)+", re.ASCII)
_ID = 64
"""Characters of an LO (PS3.5 table 6.2-1)."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How orders are told: to whom, in which zone, under which secret their study UIDs are made."""

    settings: WorklistSettings
    station: str  # of an order that names none
    zone: tzinfo
    now: datetime
    site_key: bytes
    site_authority: str


def known_of(waiting: Waiting, telling: Telling) -> dict[str, Any] | None:
    """The step of an order, by attribute keywords.

    None where telling it could bring the ECG to the wrong patient: the identifier cannot be told as it is, or it may be
    somebody else's by now, in particular where a merge retired it (F34).
    """
    said = demographics(waiting.order.mapped)
    person = _person(waiting, said)
    identifier = waiting.patient
    if person is None or not _tells(identifier.value) or not _tells(identifier.authority or "none"):
        return None
    numbers = waiting.order.mapped.numbers
    accession = _accession(numbers, telling.settings)
    placer, filler = (_numbered(numbers, kind) for kind in (NumberKind.PLACER, NumberKind.FILLER))
    procedure = next((n for n in numbers if n.kind is NumberKind.PROCEDURE and fits(n)), None) or next(
        (n for n in (accession, *numbers) if n is not None and fits(n)), None
    )
    plan = waiting.plan
    described = _text(plan.description) or "ECG"
    codes = [_code(c) for c in plan.codes if _tells(c.value, LONGEST_NUMBER) and _tells(c.scheme, LONGEST_NUMBER)]
    return {
        **_patient(identifier, person, waiting, telling),
        "AccessionNumber": accession.value if accession else "",
        "IssuerOfAccessionNumberSequence": _issuer(accession),
        "RequestedProcedureID": procedure.value if procedure else "",
        "RequestedProcedureDescription": described,
        "RequestedProcedureCodeSequence": codes,
        "RequestedProcedurePriority": plan.priority,
        "ReasonForTheRequestedProcedure": _reasons(waiting.order.mapped),
        "StudyInstanceUID": plan.study_uid or study_uid(waiting.order.number, telling.site_key),
        "PlacerOrderNumberImagingServiceRequest": placer.value if placer else "",
        "OrderPlacerIdentifierSequence": _issuer(placer),
        "FillerOrderNumberImagingServiceRequest": filler.value if filler else "",
        "OrderFillerIdentifierSequence": _issuer(filler),
        "RequestingPhysician": plan.requested_by if _is_name(plan.requested_by) else "",
        "ReferringPhysicianName": plan.referred_by if _is_name(plan.referred_by) else "",
        "AdmissionID": waiting.visit if _tells(waiting.visit) else "",
        "CurrentPatientLocation": _text(_location(waiting)),
        "ScheduledProcedureStepSequence": [_step(waiting, telling, procedure, described, codes)],
    }


def study_uid(own: OrderNumber, site_key: bytes) -> str:
    """The study of an order's ECG: the same at every query, and no other site's (PS3.5 B.2).

    An order number alone is not unique in the world, so the site's secret is part of it.
    """
    named = b"".join(len(part).to_bytes(4, "big") + part for part in (own.value.encode(), own.authority.encode()))
    digest = hmac.new(site_key, b"study" + named, hashlib.sha256).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


# --- the patient --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Person:
    known: Demographics
    name: str


def _person(waiting: Waiting, said: Demographics) -> _Person | None:
    """Who it is: what was said last counts, the other fills its gaps. None where they may be two people."""
    record, plan = waiting.record, waiting.plan
    if record is None:
        return _named(said, plan.name)
    against = compare(said, record.known).contradict
    if len(against) > 1 or (against and waiting.patient != waiting.order.patient):
        return None  # a new name or a corrected date is one thing; two are somebody else
    if record.message_id <= (plan.message_id or waiting.order.message_id):
        return _named(said.over(record.known) if said.last_name else record.known.over(said), plan.name)
    # Half of one name is never joined to half of another.
    name = record.known if record.known.last_name else said
    known = record.known.over(said)
    whole = Demographics(name.last_name, name.first_name, known.gender, known.birth_date)
    return _named(whole, plan.name)


def _named(known: Demographics, planned: str) -> _Person | None:
    """The name as the order wrote it, with all its parts, as long as it is the name that is known."""
    plain = "^".join(map(_name_part, (known.last_name, known.first_name))).rstrip("^")
    name = planned if planned and (not plain or _is_of(planned, known)) else plain
    return _Person(known, name) if _is_name(name) else None


def _is_of(name: str, known: Demographics) -> bool:
    """Whether one of its component groups is this person's name."""
    wanted = folded(known.last_name), folded(known.first_name)
    groups = [group.split("^") for group in name.split("=")]
    return any((folded(g[0]), folded(" ".join(g[1:3]))) == wanted for g in groups)


def _name_part(text: str) -> str:
    return " ".join("".join(" " if c in "^=\\" or not c.isprintable() else c for c in text).split())


def _is_name(name: str) -> bool:
    """Whether it can be told whole: 64 characters a component group (PS3.5 table 6.2-1, PN)."""
    return all(len(group) <= _ID for group in name.split("="))


def _patient(identifier: Identifier, person: _Person, waiting: Waiting, telling: Telling) -> dict[str, Any]:
    fields = waiting.order.mapped.fields
    height, weight = fields.get("patient_height"), fields.get("patient_weight")
    return {
        "PatientName": person.name,
        "PatientID": identifier.value,
        "IssuerOfPatientID": identifier.authority or telling.site_authority,
        "PatientBirthDate": person.known.birth_date.replace("-", ""),
        "PatientSex": _SEX.get(person.known.gender, ""),
        "PatientSize": _decimal(height, 100),
        "PatientWeight": _decimal(weight, 1000),
    }


def _decimal(value: Any, parts: int) -> str:
    return f"{Decimal(value) / parts:f}" if value else ""


def _location(waiting: Waiting) -> str:
    """Where the patient lies: a transfer after the order counts."""
    record, plan = waiting.record, waiting.plan
    moved = record.visit.get("location", "") if record is not None else ""
    later = record is not None and record.message_id > (plan.message_id or waiting.order.message_id)
    return moved if moved and (later or not plan.location) else plan.location


# --- numbers ------------------------------------------------------------------------------------------------


def _accession(numbers: tuple[OrderNumber, ...], settings: WorklistSettings) -> OrderNumber | None:
    """The best number that can be told whole, by the kinds that the site takes for it; else the one made for it."""
    kinds = (*(NumberKind(kind) for kind in settings.accession_number), NumberKind.PROCEDURE)
    return next((n for kind in kinds for n in numbers if n.kind is kind and fits(n)), None)


def _numbered(numbers: tuple[OrderNumber, ...], kind: NumberKind) -> OrderNumber | None:
    return next((n for n in numbers if n.kind is kind and _tells(n.value)), None)


def _issuer(number: OrderNumber | None) -> list[dict[str, str]]:
    """Who issued a number (PS3.3 table 10-17)."""
    if number is None or not number.authority:
        return []
    if _OID.fullmatch(number.authority):
        return [{"UniversalEntityID": number.authority, "UniversalEntityIDType": "ISO"}]
    return [{"LocalNamespaceEntityID": number.authority}]


def _tells(value: str, longest: int = _ID) -> bool:
    """Whether an identifier can be told as it is."""
    return 0 < len(value) <= longest and value.isprintable() and "\\" not in value


# --- the step -----------------------------------------------------------------------------------------------


def _step(
    waiting: Waiting,
    telling: Telling,
    procedure: OrderNumber | None,
    described: str,
    codes: list[dict[str, str]],
) -> dict[str, Any]:
    plan, start = waiting.plan, start_of(waiting, telling)
    station = plan.station if _AE_TITLE.fullmatch(plan.station) else telling.station
    step_id = plan.step_id if _tells(plan.step_id, LONGEST_NUMBER) else ""
    return {
        "Modality": telling.settings.modality,
        "ScheduledStationAETitle": station,
        "ScheduledProcedureStepStartDate": f"{start:%Y%m%d}",
        "ScheduledProcedureStepStartTime": f"{start:%H%M%S}",
        "ScheduledPerformingPhysicianName": "",
        "ScheduledProcedureStepDescription": described,
        "ScheduledProtocolCodeSequence": codes,
        "ScheduledProcedureStepID": step_id or (procedure.value if procedure else ""),
        "ScheduledStationName": _text(plan.station_name, LONGEST_NUMBER),
        "ScheduledProcedureStepLocation": "",
        "ScheduledProcedureStepStatus": "SCHEDULED",
    }


def start_of(waiting: Waiting, telling: Telling) -> datetime:
    """When the ECG is planned for, in the zone of the answer; where no time was said, since when it is due."""
    if waiting.plan.scheduled_at is not None:
        return waiting.plan.scheduled_at.astimezone(telling.zone)
    came = moment(waiting.came_at).astimezone(telling.zone)
    today = telling.now.astimezone(telling.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(came, today) if telling.settings.unplanned == "today" else came


def _code(code: Code) -> dict[str, str]:
    return {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme, "CodeMeaning": _text(code.meaning)}


def _reasons(mapped: Mapped) -> str:
    """As many of the reasons as fit whole: half a sentence may say the opposite."""
    told = ""
    for reason in mapped.fields.get("indications", ()):
        longer = "; ".join(filter(None, (told, _plain(reason))))
        if len(longer) <= _ID:
            told = longer
    return told


def _text(text: str, longest: int = _ID) -> str:
    """What is for people to read, made to fit."""
    return _plain(text)[:longest].rstrip()


def _plain(text: str) -> str:
    """Without what delimits values, and without control characters."""
    return " ".join("".join("/" if c == "\\" else c if c.isprintable() else " " for c in text).split())
