"""The request of a task: who speaks first, what fills gaps, what is left out."""

import json

import pytest

from bridge.domain.patient import Demographics
from bridge.domain.task import FieldTrace, Mapped
from bridge.mapping.compose import compose_draft, compose_recording


def mapping(where, **fields):
    return Mapped(fields, tuple(FieldTrace(f, v, where, "rule") for f, v in fields.items()))


RECORDING = mapping(
    "object",
    patient_id="4711", patient_last_name="MUSTER", patient_first_name="MAX", patient_age=56, patient_height=170,
    investigation_id="A1", indications=["alt"], device_id="SN1", searching_tags=["cart"],
    recording_start_time="2026-03-01T12:30:00Z", recording_time_zone="Europe/Berlin",
)  # fmt: skip
ORDER = mapping(
    "order",
    patient_id="4711", patient_last_name="Muster", patient_first_name="Max", patient_birth_date="1970-01-31",
    patient_height=180, investigation_id="O1", indications=["neu"], device_id="ORDERED", searching_tags=["ward"],
)  # fmt: skip


def composed(recording=RECORDING, *, order=None, patient=None, tags=("key",), draft=None, auto=False):
    return compose_recording(
        recording,
        order=order,
        patient=patient,
        tags=tags,
        draft_task_id=draft,
        upload_id="u1",
        auto_complete=auto,
    )


def test_the_order_speaks_before_the_object_except_for_start_zone_and_device():
    request, traces = composed(order=ORDER, draft=4711)
    assert request.fields() == {
        "upload_id": "u1",
        "investigation_id": "O1",
        "device_id": "SN1",
        "indications": ["neu"],
        "searching_tags": ["key", "draft=4711", "ward", "cart"],
        "patient_id": "4711",
        "patient_first_name": "Max",
        "patient_last_name": "Muster",
        "patient_birth_date": "1970-01-31",
        "patient_height": 180,
        "recording_start_time": "2026-03-01T12:30:00Z",
        "recording_time_zone": "Europe/Berlin",
    }
    where = {t.field: t.where for t in traces}
    assert where["investigation_id"] == "order"
    assert where["device_id"] == where["recording_start_time"] == "object"
    assert set(where) == set(request.fields())


def test_without_an_order_the_object_speaks_alone():
    request, _ = composed()
    assert request.investigation_id == "A1"
    assert request.searching_tags == ("key", "cart")
    assert (request.patient_age, request.auto_complete) == (56, None)
    assert composed(auto=True)[0].auto_complete is True


def test_the_patient_record_fills_gaps_and_overrides_nothing():
    record = Demographics("Muster", "Max", "MALE", "1970-01-31")
    request, traces = composed(patient=record)
    assert (request.patient_last_name, request.patient_gender) == ("MUSTER", "MALE")
    assert str(request.patient_birth_date) == "1970-01-31"
    assert request.patient_age is None
    assert {t.field for t in traces if t.where == "(patient record)"} == {"patient_gender", "patient_birth_date"}


@pytest.mark.parametrize(
    "record",
    [
        Demographics("Anders", "Anna", "FEMALE", "1981-02-02"),
        Demographics("Muster", "Anna", "FEMALE", "1981-02-02"),
    ],
)
def test_a_record_that_contradicts_fills_nothing(record):
    bare = mapping("object", patient_id="4711", patient_last_name="Muster", patient_first_name="Max")
    assert composed(bare, patient=record)[0] == composed(bare)[0]


@pytest.mark.parametrize("said", [{"patient_first_name": "Max"}, {"patient_last_name": "Muster"}])
def test_half_a_name_is_joined_only_to_the_same_persons_other_half(said):
    half = mapping("object", patient_id="4711", **said)
    joined, _ = composed(half, patient=Demographics("Muster", "Max", "MALE"))
    assert (joined.patient_last_name, joined.patient_first_name) == ("Muster", "Max")
    other, _ = composed(half, patient=Demographics("Anders", "Anna", "FEMALE"))
    assert None in (other.patient_last_name, other.patient_first_name)


def test_what_the_api_would_refuse_is_left_out_with_a_trace_and_nothing_is_raised():
    bad = mapping(
        "object",
        patient_id="4711", patient_gender="DIVERS", patient_birth_date="1970-02-31", patient_height=-1,
        patient_weight=2**32, patient_age="42", recording_start_time="yesterday", device_id=" ",
        indications=["", "Schwindel", " "], searching_tags=[""], invented="x",
    )  # fmt: skip
    request, traces = composed(bad, tags=())
    assert request.fields() == {"upload_id": "u1", "patient_id": "4711", "indications": ["Schwindel"]}
    left_out = {t.field for t in traces if t.rule == "left out"}
    assert left_out == set(bad.fields) - {"patient_id", "indications", "patient_age"}
    assert all(t.value is None and t.note for t in traces if t.rule == "left out")
    assert [t.rule for t in traces if t.field == "indications"] == ["in part"]


@pytest.mark.parametrize("field", ["patient_last_name", "device_id"])
def test_a_text_that_is_no_unicode_is_left_out_and_the_body_can_be_made(field):
    request, traces = composed(mapping("object", patient_id="4711", **{field: "Mu\udcffster"}), tags=())
    assert request.body() == b'{"upload_id":"u1","patient_id":"4711"}'
    assert [t.field for t in traces if t.rule == "left out"] == [field]


def test_a_draft_has_no_upload_and_a_recording_is_never_without_one():
    request, traces = compose_draft(ORDER, patient=Demographics(gender="MALE"), tags=("key",))
    assert request.upload_id is None
    assert request.patient_gender == "MALE"
    assert request.searching_tags == ("key", "ward")
    assert "upload_id" not in json.loads(request.body())
    assert {t.field for t in traces} == set(request.fields())
    with pytest.raises(ValueError, match="upload"):
        compose_recording(
            RECORDING, order=None, patient=None, tags=(), draft_task_id=None, upload_id=" ", auto_complete=False
        )


def test_nothing_that_goes_in_is_changed():
    before = json.dumps([RECORDING.fields, ORDER.fields])
    composed(order=ORDER, patient=Demographics("Muster", "Max", "MALE", "1970-01-31"), draft=1)
    assert json.dumps([RECORDING.fields, ORDER.fields]) == before
