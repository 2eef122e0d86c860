"""Patients' values masked before they reach a template or a script: a list of what is none, and all else is hidden.

Shown are states, times of ours, types, peers, reasons, task ids, field names, places and rules; and, since work could
not be found without them, control ids, UIDs, order and accession numbers with the code of what was ordered, and the
times that an order itself bears. What nobody has listed is masked: a value that is new in the store is hidden until
somebody has thought about it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from bridge.console.access.hl7_masks import DOTS, is_number_place, masked_text
from bridge.domain.states import State


class Mask(str):
    """What stands for a value, the same for every one: neither its length nor its script can be told."""

    __slots__ = ()

    def __html__(self) -> str:
        """In a page; a screen reader says the word."""
        return f'<span class="masked"><span aria-hidden="true">{DOTS}</span><span class="unseen">masked</span></span>'


MASK = Mask(DOTS)
Rule = Callable[[Any], Any]


def shown(value: Any) -> Any:
    """No patient's value."""
    return value


def hidden(value: Any) -> Any:
    """Anything that may be one. That nothing is there may be seen."""
    return MASK if value not in (None, "", [], {}) else value


def each(rule: Rule) -> Rule:
    """A list of such."""
    return lambda values: [rule(value) for value in values] if isinstance(values, list | tuple) else hidden(values)


def formed(pattern: str) -> Rule:
    """Shown where it is text of that form, whole."""
    form = re.compile(pattern, re.ASCII)
    return lambda value: value if isinstance(value, str) and form.fullmatch(value) else hidden(value)


def record(names: str = "", /, **rules: Rule) -> Rule:
    """An object of which these names are shown, and others by a rule of their own."""
    known: dict[str, Rule] = {**dict.fromkeys(names.split(), shown), **rules}

    def masked(document: Any) -> Any:
        if not isinstance(document, Mapping):
            return hidden(document)
        return {name: known.get(name, hidden)(value) for name, value in document.items()}

    return masked


_OUR_TAG = formed(r"br1-[a-z2-7]{26}(-g\d{1,9})?|draft=\d{1,20}")
_FIELDS: dict[str, Rule] = {
    **dict.fromkeys(("upload_id", "auto_complete", "recording_time_zone"), shown),
    "searching_tags": each(_OUR_TAG),
}
"""Task fields that are no patient's, besides the order number in `investigation_id`."""


def _of_task(traces: Any) -> Mapping[str, Rule]:
    """The rule of each field of a task. Where a site's rules take `investigation_id` from elsewhere, it is hidden."""
    places = {t["field"]: t["where"] for t in traces} if isinstance(traces, list) else {}
    known = is_number_place(places.get("investigation_id", ""))
    return {**_FIELDS, "investigation_id": shown if known else hidden}


def fields(document: Any, traces: Any) -> Any:
    """The fields of a task."""
    return record(**_of_task(traces))(document)


def traces(found: Any) -> Any:
    """How each field came about: the value alone may be a patient's. A note is no value (`mapping.trail`)."""
    if not isinstance(found, list):
        return hidden(found)
    rules = _of_task(found)
    return [{**record("field where rule note")(t), "value": rules.get(t["field"], hidden)(t["value"])} for t in found]


def mapped(document: Any) -> Any:
    """What the rules made of an order or a recording."""
    if not isinstance(document, Mapping):
        return hidden(document)
    made = record("warnings", numbers=each(record("value kind")))(document)
    return {**made, "fields": fields(document["fields"], document["traces"]), "traces": traces(document["traces"])}


def _task(document: Any) -> Any:
    """A task row. The API's words may repeat what it was given."""
    made = record(
        "position key generation purpose state reason task_ids intent_at settled_at api_status sent order_id",
        watched=record("looks processed report status watched"),
    )(document)
    if not document["api_text"]:
        made["api_text"] = ""
    return {**made, "body": fields(document["body"], document["traces"]), "traces": traces(document["traces"])}


def _event(document: Any) -> Any:
    """A row of the history. What a person typed may name anybody; what the bridge says of a fault may not."""
    ours = document.get("actor") == "bridge"
    detail = record(
        "warnings notes destination route orders agree contradict group same_as proof step status generations order "
        "without_order position given_up tag task created anomaly of was way_out error",
        why=shown if ours else hidden,
    )
    return record("at actor state reason", detail=detail)(document)


_SIDE = record("numbers")
_SIDES = record(
    "record_agrees record_contradicts",
    recording=_SIDE,
    record=_SIDE,
    candidates=each(
        record(
            "order_id message_id standing by_number recorded agree contradict likeness hours_apart",
            side=_SIDE,
        )
    ),
)
_PLAN = record("scheduled_at codes priority message_id", study_uid=formed(r"[0-9.]{1,64}"))


def _understood(document: Any) -> Any:
    order = record("position own_number", mapped=mapped, plan=_PLAN)
    return record("warnings doubts", orders=each(order), recording=mapped)(document)


_TOLD = record("id kind address control_id state reason attempts", body=masked_text, answer=masked_text)
_MESSAGE = record(
    "id state reason kind type received_at peer control_id sop_instance_uid order task_ids attempts destination sender "
    "size payload answer_code held commands anomalies",
    decision=record("order as_said"),
    raw=lambda raw: raw if isinstance(raw, Mask) else masked_text(raw),
    answer=masked_text,
    understood=_understood,
    tasks=each(_task),
    told_later=each(_TOLD),
    history=each(_event),
    sides=_SIDES,
    doubts=each(record("tag position destination created_between quiet_until")),
)


def message(found: Mapping[str, Any]) -> dict[str, Any]:
    """A message as `listing.whole` and `outlook` tell it, for somebody who may not see whose it is."""
    masked: dict[str, Any] = _MESSAGE({**found, "raw": MASK} if found["raw"] and is_untried(found) else found)
    return masked


def is_untried(found: Mapping[str, Any]) -> bool:
    """Whether a message is not to be read here: nobody has read it yet, or the bridge failed on it once (F28)."""
    return found["state"] == State.RECEIVED or any(event["reason"] == "poison" for event in found["history"])


_ORDER = record(
    "id number message_id position standing ordered sent_at due_at replaced_by replaces withdrawn_by numbers tasks "
    "messages",
    mapped=mapped,
    plan=_PLAN,
)
_PATIENT = record(
    "id message_id inactive now_id orders tasks messages", aliases=each(record("id message_id at undone_at"))
)


def order(found: Mapping[str, Any]) -> dict[str, Any]:
    """An order of the book."""
    masked: dict[str, Any] = _ORDER(found)
    return masked


def patient(found: Mapping[str, Any]) -> dict[str, Any]:
    """A patient's record."""
    masked: dict[str, Any] = _PATIENT(found)
    return masked


_OPEN_ATTRIBUTES = frozenset(
    [
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "AccessionNumber",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "TransferSyntaxUID",
        "TimezoneOffsetFromUTC",
        "PatientIdentityRemoved",
        "WaveformOriginality",
        "InstanceNumber",
        "SeriesNumber",
    ]
)


def attribute(place: str, value: str) -> str:
    """A value of an object's header, by its place (`RequestAttributesSequence[1].AccessionNumber`)."""
    keyword = place.rpartition(".")[2].partition("[")[0]
    return value if keyword in _OPEN_ATTRIBUTES else hidden(value)
