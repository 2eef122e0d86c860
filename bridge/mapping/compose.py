"""The whole request of a task: order, recording and patient record laid over each other, field by field."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from bridge.domain.patient import Demographics
from bridge.domain.task import FieldTrace, Mapped, TaskRequest

_OF_THE_RECORDING = frozenset({"recording_start_time", "recording_time_zone", "device_id"})
"""What the object knows best."""
_PERSON = {
    "patient_last_name": "last_name",
    "patient_first_name": "first_name",
    "patient_gender": "gender",
    "patient_birth_date": "birth_date",
}

Composed = tuple[TaskRequest, tuple[FieldTrace, ...]]


def compose_draft(order: Mapped, *, patient: Demographics | None, tags: tuple[str, ...]) -> Composed:
    """A task without a recording: the order's fields, the patient record in their gaps."""
    fields, traces = dict(order.fields), {t.field: t for t in order.traces}
    _fill_gaps(fields, traces, patient)
    _tag(fields, traces, tags)
    return _request(fields, traces)


def compose_recording(
    recording: Mapped,
    *,
    order: Mapped | None,
    patient: Demographics | None,
    tags: tuple[str, ...],
    draft_task_id: int | None,
    upload_id: str,
    auto_complete: bool,
) -> Composed:
    """A recording's task. The order speaks before the object, since the match has shown that they agree; the object
    speaks for its start, zone and device; the patient record fills what both leave out.
    """
    fields, traces = dict(recording.fields), {t.field: t for t in recording.traces}
    if order is not None:
        for trace in order.traces:
            if trace.field not in _OF_THE_RECORDING or trace.field not in fields:
                fields[trace.field] = order.fields[trace.field]
                traces[trace.field] = trace
    _fill_gaps(fields, traces, patient)
    draft = (f"draft={draft_task_id}",) if draft_task_id is not None else ()
    _tag(fields, traces, (*tags, *draft))
    fields["upload_id"] = upload_id
    if auto_complete:
        fields["auto_complete"] = True
        traces["auto_complete"] = FieldTrace("auto_complete", True, "(settings)", "cardio.auto_complete")
    return _request(fields, traces)


def _fill_gaps(fields: dict[str, Any], traces: dict[str, FieldTrace], patient: Demographics | None) -> None:
    known = asdict(patient) if patient is not None else {}
    for field, ours in _PERSON.items():
        if field not in fields and known.get(ours):
            fields[field] = known[ours]
            traces[field] = FieldTrace(field, known[ours], "(patient record)", "a gap filled")
    if "patient_birth_date" in fields and "patient_age" in fields:
        fields.pop("patient_age")
        traces.pop("patient_age", None)


def _tag(fields: dict[str, Any], traces: dict[str, FieldTrace], ours: Sequence[str]) -> None:
    tags = [*ours, *fields.get("searching_tags", ())]
    fields.pop("searching_tags", None)
    if tags:
        fields["searching_tags"] = tags
        traces["searching_tags"] = FieldTrace("searching_tags", tags, "(bridge)", "task key, draft, the site's tags")


def _request(fields: Mapping[str, Any], traces: dict[str, FieldTrace]) -> Composed:
    """The request. A value that the API would not take is left out, and its trace says so."""
    wanted = dict(fields)
    while True:
        try:
            return TaskRequest.model_validate(wanted), tuple(traces.values())
        except ValidationError as problem:
            for error in problem.errors(include_input=False, include_url=False):
                field = str(error["loc"][0])
                wanted.pop(field)
                traces[field] = FieldTrace(
                    field, None, traces[field].where if field in traces else "", "left out", error["msg"]
                )
