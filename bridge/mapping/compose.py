"""The whole request of a task: order, recording and patient record laid over each other, field by field."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from bridge.domain.patient import Demographics, Identifier, folded
from bridge.domain.task import FieldTrace, Mapped, TaskRequest
from bridge.mapping.matching import compare
from bridge.mapping.patients import demographics

_OF_THE_RECORDING = frozenset({"recording_start_time", "recording_time_zone", "device_id"})
"""What the object knows best."""
_PERSON = {
    "patient_last_name": "last_name",
    "patient_first_name": "first_name",
    "patient_gender": "gender",
    "patient_birth_date": "birth_date",
}

Composed = tuple[TaskRequest, tuple[FieldTrace, ...]]


class _Draft:
    """The fields while they are laid over each other, each with its trace."""

    def __init__(self, mapped: Mapped) -> None:
        self.fields: dict[str, Any] = dict(mapped.fields)
        self.traces = {t.field: t for t in mapped.traces}

    def put(self, field: str, value: Any, where: str, rule: str) -> None:
        self.fields[field] = value
        self.traces[field] = FieldTrace(field, value, where, rule)

    def lay_over(self, order: Mapped) -> None:
        """The order speaks first, except for what the recording knows best; its tags join the recording's."""
        traces = {t.field: t for t in order.traces}
        for field, value in order.fields.items():
            if field == "searching_tags" and field in self.fields:
                self.put(field, [*value, *self.fields[field]], "(order, recording)", "the site's tags")
            elif field not in _OF_THE_RECORDING or field not in self.fields:
                self.fields[field] = value
                self.traces[field] = traces.get(field, FieldTrace(field, value, "(order)", ""))

    def follow(self, merged: Identifier | None) -> None:
        """The identifier that counts since a merge."""
        if merged is not None:
            where = self.traces["patient_id"].where if "patient_id" in self.traces else ""
            self.put("patient_id", merged.value, where, "merged into another identifier")

    def rename(self, patient: Demographics) -> None:
        """The patient record speaks before the order: it is newer, and agrees with the recording."""
        known = patient.as_json()
        for field, ours in _PERSON.items():
            if known[ours]:
                self.put(field, known[ours], "(patient record)", "changed since the order")

    def fill_gaps(self, patient: Demographics | None) -> None:
        """What the patient record knows besides. A record that contradicts what was sent fills nothing."""
        mine = demographics(Mapped(self.fields))
        if patient is not None and not compare(mine, patient).contradict:
            known = patient.as_json()
            # Half of one name is never joined to half of another person's.
            one_name = all(
                not a or folded(a) == folded(b)
                for a, b in ((mine.last_name, patient.last_name), (mine.first_name, patient.first_name))
            )
            for field, ours in _PERSON.items():
                if field not in self.fields and known[ours] and (one_name or not ours.endswith("name")):
                    self.put(field, known[ours], "(patient record)", "a gap filled")
        if "patient_birth_date" in self.fields and "patient_age" in self.fields:
            self.fields.pop("patient_age")
            self.traces.pop("patient_age", None)

    def tag(self, ours: Sequence[str]) -> None:
        """Our own tags before the site's, each once."""
        tags = list(dict.fromkeys((*ours, *self.fields.pop("searching_tags", ()))))
        if tags:
            self.put("searching_tags", tags, "(bridge)", "task key, draft, the site's tags")

    def request(self) -> Composed:
        """The request. What the API would not take is left out, and its trace says so; nothing is raised."""
        while True:
            try:
                return TaskRequest.model_validate(self.fields), tuple(self.traces.values())
            except ValidationError as problem:
                wrong = {str(e["loc"][0]): e["msg"] for e in problem.errors(include_input=False, include_url=False)}
                for field, why in wrong.items():
                    self._leave_out(field, why)

    def _leave_out(self, field: str, why: str) -> None:
        where = self.traces[field].where if field in self.traces else ""
        value = self.fields.pop(field)
        texts = [v for v in value if isinstance(v, str) and v.strip()] if isinstance(value, list | tuple) else []
        if texts and len(texts) < len(value):  # one bad element does not take its neighbours with it
            self.fields[field] = texts
            self.traces[field] = FieldTrace(field, texts, where, "in part", why)
        else:
            self.traces[field] = FieldTrace(field, None, where, "left out", why)


def compose_draft(
    order: Mapped, *, patient: Demographics | None, tags: tuple[str, ...], merged: Identifier | None = None
) -> Composed:
    """A task without a recording: the order's fields, the patient record in their gaps.

    `merged` is the identifier that stands for the order's own since a merge.
    """
    draft = _Draft(order)
    draft.follow(merged)
    draft.fill_gaps(patient)
    draft.tag(tags)
    return draft.request()


def compose_recording(
    recording: Mapped,
    *,
    order: Mapped | None,
    patient: Demographics | None,
    tags: tuple[str, ...],
    draft_task_id: int | None,
    upload_id: str,
    auto_complete: bool,
    merged: Identifier | None = None,
    renamed: bool = False,
) -> Composed:
    """A recording's task. The order speaks before the object, since the match has shown that they agree; the object
    speaks for its start, zone and device; the patient record fills what both leave out. `renamed`: the record speaks
    before the order, since the patient was renamed after it.

    Raises ValueError where `upload_id` is empty: without one the API would make a draft of a recording.
    """
    if not upload_id.strip():
        raise ValueError("a recording's task needs its upload")
    draft = _Draft(recording)
    if order is not None:
        draft.lay_over(order)
    if renamed and patient is not None:
        draft.rename(patient)
    draft.follow(merged)
    draft.fill_gaps(patient)
    draft.tag((*tags, *((f"draft={draft_task_id}",) if draft_task_id is not None else ())))
    draft.put("upload_id", upload_id, "(bridge)", "the upload of the recording")
    if auto_complete:
        draft.put("auto_complete", True, "(settings)", "cardio.auto_complete")
    return draft.request()
