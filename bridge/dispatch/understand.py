"""What a kept message asks for, worked out without touching anything: `bridge map` runs exactly this.

The result says what goes into the books, what the sender is told, and whether a task is due.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bridge.domain.admission import EVENTS, Admission
from bridge.domain.found import OnConnection, Source
from bridge.domain.order import Action, Asked, asked
from bridge.domain.patient import Demographics, Identifier, Merge, PatientUpdate
from bridge.domain.plan import Plan, fits, short_number
from bridge.domain.recording import Selection
from bridge.domain.states import State
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.domain.verdict import AckCode, Condition, Problem, Verdict
from bridge.errors import CannotScale
from bridge.formats.dicom.reader import EcgObject, require_scalable
from bridge.formats.hl7.reader import Message
from bridge.mapping.merges import merges_of
from bridge.mapping.orders import map_order
from bridge.mapping.patients import UNKNOWN_CODE, demographics, patient_update
from bridge.mapping.plans import plan_of
from bridge.mapping.recordings import map_recording
from bridge.mapping.rules import Rules
from bridge.mapping.times import moment_of, odd
from bridge.settings import ListenerSettings, Settings

VERSIONS = frozenset(
    {"2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2"}
)
MOST_DOUBTS = 10
"""Warnings in one answer: an answer is read by people."""

_WHAT_IS_ORDERED = ("OBR-4", "OBR-13", "OBR-18", "OBR-31", "IPC-1", "ORC-3", "OBR-3")


@dataclass(frozen=True, slots=True)
class UnderstoodOrder:
    """One order of a message. `refusal` says why it is not taken, `passed_over` why it is not ours."""

    position: int
    mapped: Mapped
    patient: Identifier
    own_number: OrderNumber | None
    digest: str
    asked: Asked | None
    refusal: Problem | None = None
    passed_over: str = ""
    visit: str = ""
    plan: Plan = field(default_factory=Plan)  # where there is a worklist


@dataclass(frozen=True, slots=True)
class Person:
    """What an ADT says of one person, and which identifiers it merges into his."""

    update: PatientUpdate
    known: Demographics
    merges: tuple[Merge, ...] = ()
    visits: tuple[str, str] | None = None  # the prior number and the one that stays


@dataclass(frozen=True, slots=True)
class Understood:
    """What a message says. `verdict` is set where the answer needs no look into the books.

    `doubts` are warnings for the sender (ERR severity W), `warnings` those for the operator.
    """

    state: State
    reason: str = ""
    verdict: Verdict | None = None
    orders: tuple[UnderstoodOrder, ...] = ()
    recording: Mapped | None = None
    event: str = ""
    persons: tuple[Person, ...] = ()
    patient: Identifier | None = None
    known: Demographics = field(default_factory=Demographics)
    warnings: tuple[str, ...] = ()
    doubts: tuple[Problem, ...] = ()
    sent_at: datetime | None = None


def understand_message(
    message: Message, sender: str, rules: Rules, settings: Settings, now: datetime, listener: ListenerSettings
) -> Understood:
    """An HL7 message of a type that the listener takes. `listener` holds what counts for this sender."""
    zone = listener.time_zone or settings.site.time_zone
    sent = next(iter(message.find("MSH-7.1")), None)
    sent_at = moment_of(sent.value, zone) if sent is not None else None
    tolerated = odd(sent.value, zone) if sent is not None else ""
    if tolerated:
        message.notes = (*message.notes, f"MSH-7: {tolerated}")
    doubts = [] if message.header.version in VERSIONS else [_unknown_version(message)]
    if message.header.type == "ADT":
        return _admission(message, sender, rules, settings, now, sent_at, doubts)
    planner = rules if settings.dicom.worklist.enabled else None
    return _orders(message, sender, rules, now, listener, zone, sent_at, doubts, planner)


def _unknown_version(message: Message) -> Problem:
    what = "an unknown version" if message.header.version else "no version"
    return Problem(Condition.UNSUPPORTED_VERSION_ID, f"{what}; read as 2.5", "MSH-12", severity="W")


def _admission(
    message: Message,
    sender: str,
    rules: Rules,
    settings: Settings,
    now: datetime,
    sent_at: datetime | None,
    doubts: list[Problem],
) -> Understood:
    event = message.trigger
    several = EVENTS[event] in {Admission.MERGE, Admission.RENAME, Admission.MOVE, Admission.VISIT}
    views: Sequence[Source] = message.persons() if several else [message]
    persons: list[Person] = []
    for view in views:
        source = OnConnection(view, {"@sender": sender})
        update = patient_update(source, rules, now=now)
        if update is None:
            return _refused(_no_patient(), sent_at=sent_at)
        doubts += _doubts(update.warnings)
        merges: tuple[Merge, ...] = ()
        if EVENTS[event] in {Admission.MERGE, Admission.RENAME, Admission.MOVE}:
            trusted = settings.patients.trusted_authorities
            own = settings.site.assigning_authority
            merges, missing = merges_of(source, rules, trusted=trusted, site_authority=own, now=now)
            if missing and EVENTS[event] is not Admission.MOVE:
                text = f"no identifier in {missing} of a trusted authority that both sides have"
                return _refused(Problem(Condition.REQUIRED_FIELD_MISSING, text, missing), sent_at=sent_at)
        known = Demographics(**{key: value or "" for key, value in update.said.items()})
        persons.append(Person(update, known, merges, _visits(source)))
    if not persons:
        return _refused(_no_patient(), sent_at=sent_at)
    return Understood(
        State.DONE,
        reason="patient_record",
        event=event,
        persons=tuple(persons),
        patient=persons[0].update.identifier,
        known=persons[0].known,
        warnings=tuple(dict.fromkeys((*message.notes, *(w for p in persons for w in p.update.warnings)))),
        doubts=tuple(doubts[:MOST_DOUBTS]),
        sent_at=sent_at,
    )


def _visits(source: Source) -> tuple[str, str] | None:
    old = next(iter(source.find("MRG-5.1")), None)
    new = next(iter(source.find("PV1-19.1")), None)
    return (old.value, new.value) if old is not None and new is not None and old.value != new.value else None


def _orders(
    message: Message,
    sender: str,
    rules: Rules,
    now: datetime,
    listener: ListenerSettings,
    zone: str,
    sent_at: datetime | None,
    doubts: list[Problem],
    planner: Rules | None,
) -> Understood:
    views = message.orders()
    if not views:
        problem = Problem(Condition.SEGMENT_SEQUENCE, "the message holds no order: ORC or OBR is needed", "ORC")
        return _refused(problem, sent_at=sent_at)
    orders = []
    warnings: list[str] = list(message.notes)
    for position, view in enumerate(views, 1):
        source = OnConnection(view, {"@sender": sender})
        mapped = map_order(source, rules, time_zone=zone, now=now)
        warnings.extend(mapped.warnings)
        if view.orc is None:
            warnings.append(f"order {position} has no ORC: taken as NW")
        own = f"{sender}|{message.header.control_id}"
        order = _order(source, position, mapped, listener, has_orc=view.orc is not None, message_number=own)
        short = short_number(order.own_number, mapped.numbers) if order.own_number is not None else None
        if short is not None:
            warnings.append(f"order {position} has no number that a cart can carry: {short.value} stands for it there")
            order = replace(order, mapped=replace(mapped, numbers=(*mapped.numbers, short)))
        if planner is not None:
            order = replace(order, plan=plan_of(source, planner, time_zone=zone))
            if short is None and any(n.kind is NumberKind.ACCESSION and not fits(n) for n in mapped.numbers):
                warnings.append(f"order {position} has an accession number that no cart can carry: another is told")
        orders.append(order)
    doubts += _doubts(warnings)
    first = orders[0]
    patient = first.patient if first.patient.value else None
    if all(o.refusal is not None and o.refusal.where == "PID-3" for o in orders):
        return _refused(_no_patient(), orders=tuple(orders), sent_at=sent_at)
    return Understood(
        State.READY,
        orders=tuple(orders),
        patient=patient,
        known=demographics(first.mapped),
        warnings=tuple(dict.fromkeys(warnings)),
        doubts=tuple(doubts[:MOST_DOUBTS]),
        sent_at=sent_at,
    )


def _order(
    source: Source,
    position: int,
    mapped: Mapped,
    listener: ListenerSettings,
    *,
    has_orc: bool,
    message_number: str,
) -> UnderstoodOrder:
    own = next((n for n in mapped.numbers if n.kind is NumberKind.PLACER), None) or next(
        (n for n in mapped.numbers if n.kind is NumberKind.FILLER), None
    )
    patient = Identifier(str(mapped.fields.get("patient_id", "")), mapped.patient_authority)
    control = next((f.value.upper() for f in source.find("ORC-1")), "" if has_orc else "NW")
    status = next((f.value.upper() for f in source.find("ORC-5.1")), "")
    visit = next((f.value for f in source.find("PV1-19.1")), "")
    wanted = asked(control, status)
    if control == "SN" and own is None:
        # The sender asks us for the number: his message is what makes this order one.
        own = OrderNumber(f"{message_number}|{position}", NumberKind.FILLER, "SN")
    refusal: Problem | None = None
    passed_over = ""
    if wanted is None:
        text = f"order control {control} is not handled here" if control else "an order control is needed"
        refusal = Problem(Condition.TABLE_VALUE_NOT_FOUND, text, "ORC-1")
    elif wanted.action is Action.NOTE:
        passed_over = f"order control {control} is noted, not acted on"
    elif _others(source, listener.order_filter, silence=wanted.action is Action.CREATE):
        passed_over = "not an ECG order here"
    elif not patient.value:
        refusal = _no_patient()
    elif own is None and (wanted.action in {Action.CREATE, Action.CHANGE} or not mapped.numbers):
        refusal = Problem(Condition.REQUIRED_FIELD_MISSING, "an order number is needed in ORC-2 or OBR-2", "ORC-2")
    return UnderstoodOrder(position, mapped, patient, own, _content(source), wanted, refusal, passed_over, visit)


def _content(source: Source) -> str:
    """A digest of what is ordered, as sent: the site's rules may change between two sendings (F32). Whose it is, is
    compared apart, since an identifier may be merged in between.
    """
    said = [[f.value for f in source.find(address)] for address in _WHAT_IS_ORDERED]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _others(source: Source, codes: tuple[str, ...], *, silence: bool) -> bool:
    """Whether OBR-4 (either triplet), OBR-24 and IPC-5 have none of the site's codes.

    `silence` is the answer for an order that does not say what it is: a new one is not ours then, while a cancel is
    looked up by its number.
    """
    if not codes:
        return False
    wanted = {c.casefold() for c in codes}
    places = ("OBR-4.1", "OBR-4.2", "OBR-4.4", "OBR-4.5", "OBR-24", "IPC-5.1")
    said = [f.value.casefold() for place in places for f in source.find(place)]
    return not wanted & set(said) if said else silence


def _no_patient() -> Problem:
    return Problem(Condition.REQUIRED_FIELD_MISSING, "a patient identifier is needed in PID-3", "PID-3")


def _doubts(warnings: Sequence[str]) -> list[Problem]:
    """Warnings that name their place, as the sender is told them: a code not in its table, or a bad value."""
    made = []
    for warning in dict.fromkeys(warnings):
        where, separator, text = warning.partition(": ")
        if separator and "-" in where and " " not in where:
            code = Condition.TABLE_VALUE_NOT_FOUND if text == UNKNOWN_CODE else Condition.DATA_TYPE
            made.append(Problem(code, text, where, severity="W"))
    return made


def _refused(problem: Problem, orders: tuple[UnderstoodOrder, ...] = (), sent_at: datetime | None = None) -> Understood:
    return Understood(
        State.REJECTED,
        reason=problem.condition.name.lower(),
        verdict=Verdict(AckCode.AE, problem.text, (), (problem,)),
        orders=orders,
        sent_at=sent_at,
    )


def understand_recording(found: EcgObject, calling_ae: str, rules: Rules, settings: Settings) -> Understood:
    """An ECG object that was checked when it came in. The start is that of its longest group (`mapping.of_group`)."""
    rhythm = found.recording.rhythm()
    selection = found.recording.selected(settings.recordings.several_groups)
    mapped = map_recording(
        OnConnection(found.source, {"@calling_ae_title": calling_ae}),
        rules,
        time_zone=settings.site.time_zone,
        time_offset_ms=rhythm.time_offset_ms,
        duration_s=float(rhythm.samples / rhythm.rate),
    )
    patient = Identifier(str(mapped.fields.get("patient_id", "")), mapped.patient_authority)
    warnings = (*found.recording.warnings, *mapped.warnings, *_about(selection))
    if not patient.value:
        return Understood(State.HELD, reason="no_patient_id", recording=mapped, warnings=warnings)
    state, reason = State.READY, ""
    if selection.held:
        state, reason = State.HELD, selection.held
    try:
        for group in selection.groups:
            require_scalable(group)
    except CannotScale as problem:
        state, reason, warnings = State.HELD, "cannot_scale", (*warnings, f"{problem.where}: {problem}")
    known = demographics(mapped)
    return Understood(state, reason=reason, recording=mapped, patient=patient, known=known, warnings=warnings)


_HELD_GROUPS = {
    "groups_differ": "its original groups have unlike leads, or leads without a name: they may be parts of one "
    "recording, which no upload holds together",
    "several_groups": "it has several original groups, or some that do not say whether they are",
}


def _about(selection: Selection) -> list[str]:
    """What the site's `recordings.several_groups` leaves out, or holds."""
    if selection.held:
        return [f"WaveformSequence: {_HELD_GROUPS[selection.held]}"]
    if not selection.left_out:
        return []
    numbers = ", ".join(map(str, selection.left_out))
    return [f"WaveformSequence[{selection.groups[0].number}] is uploaded alone, the longest; left out: {numbers}"]


def order_to_json(order: UnderstoodOrder, mapped: dict[str, Any]) -> dict[str, Any]:
    """What the store keeps of an order until its task is made."""
    own, wanted = order.own_number, order.asked
    return {
        "position": order.position,
        "mapped": mapped,
        "digest": order.digest,
        "authority": order.patient.authority,
        "own_number": [own.value, own.kind.value, own.authority] if own else None,
        "asked": [wanted.control, wanted.status] if wanted else None,
        "visit": order.visit,
        "plan": order.plan.as_json(),
        "refusal": [order.refusal.condition.value, order.refusal.text, order.refusal.where] if order.refusal else None,
        "passed_over": order.passed_over,
    }


def order_from_json(document: dict[str, Any], mapped: Mapped) -> UnderstoodOrder:
    """The other way round."""
    own, refusal = document["own_number"], document["refusal"]
    return UnderstoodOrder(
        position=document["position"],
        mapped=mapped,
        patient=Identifier(str(mapped.fields.get("patient_id", "")), document["authority"]),
        own_number=OrderNumber(own[0], NumberKind(own[1]), own[2]) if own else None,
        digest=document["digest"],
        asked=asked(*(document.get("asked") or ("NW", ""))),
        refusal=Problem(Condition(refusal[0]), refusal[1], refusal[2]) if refusal else None,
        passed_over=document["passed_over"],
        visit=document.get("visit", ""),
        plan=Plan.from_json(document.get("plan") or {}),
    )


def doubts_to_json(doubts: Sequence[Problem]) -> list[list[Any]]:
    """Warnings for the sender, kept until his message is answered."""
    return [[d.condition.value, d.text, d.where] for d in doubts]


def doubts_from_json(document: dict[str, Any]) -> tuple[Problem, ...]:
    """The other way round."""
    return tuple(Problem(Condition(c), text, where, "W") for c, text, where in document.get("doubts", ()))
