"""What a kept message asks for, worked out without touching anything: `bridge map` runs exactly this.

The result says what goes into the books, what the sender is told, and whether a task is due.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.domain.found import OnConnection, Source
from bridge.domain.patient import Demographics, Identifier, PatientUpdate
from bridge.domain.states import State
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.domain.verdict import AckCode, Condition, OrderReply, Problem, Verdict
from bridge.formats.dicom.reader import EcgObject
from bridge.formats.hl7.reader import Message
from bridge.mapping.orders import map_order
from bridge.mapping.patients import demographics, patient_update
from bridge.mapping.recordings import map_recording
from bridge.mapping.rules import Rules
from bridge.settings import Settings

NOTED = frozenset({"OK", "UA", "NA", "CR", "UC", "DR", "UD", "OC", "OD", "HR", "UH", "OR", "UR", "XR", "UX", "RE"})
"""ORC-1 values that answer or report and never order: noted, never acted on (hl7.md §4.1)."""
CREATES = frozenset({"NW"})


_WHAT_IS_ORDERED = ("PID-2", "PID-3", "OBR-4", "OBR-13", "OBR-18", "OBR-31", "IPC-1", "ORC-3", "OBR-3")


@dataclass(frozen=True, slots=True)
class UnderstoodOrder:
    """One order of a message. `refusal` says why it is not taken, `passed_over` why it is not ours."""

    position: int
    mapped: Mapped
    patient: Identifier
    own_number: OrderNumber | None
    digest: str
    refusal: Problem | None = None
    passed_over: str = ""

    @property
    def due(self) -> bool:
        """Whether a task is asked for."""
        return self.refusal is None and not self.passed_over


@dataclass(frozen=True, slots=True)
class Understood:
    """What becomes of a message. `verdict` is set where the answer is known already; READY waits for the API."""

    state: State
    reason: str = ""
    verdict: Verdict | None = None
    orders: tuple[UnderstoodOrder, ...] = ()
    recording: Mapped | None = None
    update: PatientUpdate | None = None
    patient: Identifier | None = None
    known: Demographics = field(default_factory=Demographics)
    warnings: tuple[str, ...] = ()


def understand_message(message: Message, sender: str, rules: Rules, settings: Settings, now: datetime) -> Understood:
    """An HL7 message of a type that the listener takes."""
    if message.header.type == "ADT":
        return _admission(OnConnection(message, {"@sender": sender}), rules, now)
    return _orders(message, sender, rules, settings, now)


def _admission(source: Source, rules: Rules, now: datetime) -> Understood:
    update = patient_update(source, rules, now=now)
    if update is None:
        return _refused(_no_patient())
    return Understood(
        State.DONE,
        reason="patient_record",
        verdict=Verdict(AckCode.AA),
        update=update,
        patient=update.identifier,
    )


def _orders(message: Message, sender: str, rules: Rules, settings: Settings, now: datetime) -> Understood:
    views = message.orders()
    if not views:
        problem = Problem(Condition.SEGMENT_SEQUENCE, "the message holds no order: ORC or OBR is needed", "ORC")
        return _refused(problem)
    orders = []
    warnings: list[str] = list(message.notes)
    for position, view in enumerate(views, 1):
        source = OnConnection(view, {"@sender": sender})
        mapped = map_order(source, rules, time_zone=settings.site.time_zone, now=now)
        warnings.extend(mapped.warnings)
        if view.orc is None:
            warnings.append(f"order {position} has no ORC: taken as NW")
        orders.append(_order(source, position, mapped, settings, has_orc=view.orc is not None))
    if all(o.refusal is not None and o.refusal.where == "PID-3" for o in orders):
        return _refused(_no_patient(), orders=tuple(orders))
    due = [o for o in orders if o.due]
    first = orders[0]
    state, reason, verdict = State.READY, "", None
    if not due:
        state, reason, verdict = _nothing_due(orders)
    elif settings.orders.create == "on_recording" and len(due) == len(orders):
        state, reason, verdict = State.DONE, "waits_for_recording", Verdict(AckCode.AA, "accepted", _all(orders, "OK"))
    return Understood(
        state,
        reason=reason,
        verdict=verdict,
        orders=tuple(orders),
        patient=first.patient if first.patient.value else None,
        known=demographics(first.mapped),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _order(source: Source, position: int, mapped: Mapped, settings: Settings, *, has_orc: bool) -> UnderstoodOrder:
    own = next((n for n in mapped.numbers if n.kind is NumberKind.PLACER), None) or next(
        (n for n in mapped.numbers if n.kind is NumberKind.FILLER), None
    )
    patient = Identifier(str(mapped.fields.get("patient_id", "")), mapped.patient_authority)
    control = next((f.value.upper() for f in source.find("ORC-1")), "" if has_orc else "NW")
    refusal: Problem | None = None
    passed_over = ""
    if control in NOTED:
        passed_over = f"order control {control} is noted, not acted on"
    elif control not in CREATES:
        refusal = Problem(
            Condition.TABLE_VALUE_NOT_FOUND, f"order control {control or 'missing'} is not handled; NW is", "ORC-1"
        )
    elif not _ours(source, settings.hl7.order_filter):
        passed_over = "not an ECG order here"
    elif not patient.value:
        refusal = _no_patient()
    elif own is None:
        refusal = Problem(Condition.REQUIRED_FIELD_MISSING, "an order number is needed in ORC-2 or OBR-2", "ORC-2")
    return UnderstoodOrder(position, mapped, patient, own, _content(source), refusal, passed_over)


def _content(source: Source) -> str:
    """A digest of what is ordered and for whom, as sent: the site's rules may change between two sendings (F32)."""
    said = [[f.value for f in source.find(address)] for address in _WHAT_IS_ORDERED]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _ours(source: Source, codes: tuple[str, ...]) -> bool:
    """Whether OBR-4 (either triplet) or OBR-24 has one of the site's codes; no codes: every order is ours."""
    if not codes:
        return True
    wanted = {c.casefold() for c in codes}
    places = ("OBR-4.1", "OBR-4.2", "OBR-4.4", "OBR-4.5", "OBR-24", "IPC-5.1")
    return any(f.value.casefold() in wanted for place in places for f in source.find(place))


def _no_patient() -> Problem:
    return Problem(Condition.REQUIRED_FIELD_MISSING, "a patient identifier is needed in PID-3", "PID-3")


def _refused(problem: Problem, orders: tuple[UnderstoodOrder, ...] = ()) -> Understood:
    replies = tuple(OrderReply("UA", reason=problem.text) for _ in orders)
    return Understood(
        State.REJECTED,
        reason=problem.condition.name.lower(),
        verdict=Verdict(AckCode.AE, problem.text, replies, (problem,)),
        orders=orders,
    )


def _all(orders: list[UnderstoodOrder], control: str) -> tuple[OrderReply, ...]:
    return tuple(OrderReply(control) for _ in orders)


def _nothing_due(orders: list[UnderstoodOrder]) -> tuple[State, str, Verdict]:
    """Every order is refused or not ours."""
    problems = tuple(o.refusal for o in orders if o.refusal is not None)
    replies = tuple(
        OrderReply("UA", reason=o.refusal.text) if o.refusal else OrderReply("OK", reason="") for o in orders
    )
    if problems:
        verdict = Verdict(AckCode.AE, problems[0].text, replies, problems)
        return State.REJECTED, problems[0].condition.name.lower(), verdict
    text = f"not processed: {orders[0].passed_over}"
    return State.FILTERED, "not_ours", Verdict(AckCode.AA, text, replies)


def understand_recording(found: EcgObject, calling_ae: str, rules: Rules, settings: Settings) -> Understood:
    """An ECG object that was checked when it came in."""
    rhythm = found.recording.rhythm()
    mapped = map_recording(
        OnConnection(found.source, {"@calling_ae_title": calling_ae}),
        rules,
        time_zone=settings.site.time_zone,
        time_offset_ms=rhythm.time_offset_ms,
        duration_s=float(rhythm.samples / rhythm.rate),
    )
    patient = Identifier(str(mapped.fields.get("patient_id", "")), mapped.patient_authority)
    warnings = (*found.recording.warnings, *mapped.warnings)
    if not patient.value:
        return Understood(State.HELD, reason="no_patient_id", recording=mapped, warnings=warnings)
    return Understood(State.READY, recording=mapped, patient=patient, known=demographics(mapped), warnings=warnings)


def order_to_json(order: UnderstoodOrder, mapped: dict[str, Any]) -> dict[str, Any]:
    """What the store keeps of an order until its task is made."""
    own = order.own_number
    return {
        "position": order.position,
        "mapped": mapped,
        "digest": order.digest,
        "authority": order.patient.authority,
        "own_number": [own.value, own.kind.value, own.authority] if own else None,
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
        refusal=Problem(Condition(refusal[0]), refusal[1], refusal[2]) if refusal else None,
        passed_over=document["passed_over"],
    )
