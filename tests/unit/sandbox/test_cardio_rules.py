"""The request bodies' rules, each at its limit and one past it."""

import base64
from typing import Any

import pytest

from bridge.sandbox.cardio_rules import UINT32, UINT64, CreateTasks, OpenUpload, Refusal, document, unsigned, validated

HASH = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"patient_age": 0, "patient_height": UINT32, "patient_weight": 80000},
        {"auto_complete": False, "indications": ["syncope"], "searching_tags": ["a", "b"]},
        {"patient_gender": "UNDIFFERENTIATED", "patient_birth_date": "2024-02-29"},
        {"recording_start_time": "2024-06-23T18:30:00Z", "recording_time_zone": "Europe/London"},
        {"recording_start_time": "2024-06-23T18:30:00.123456Z"},
    ],
)
def test_what_is_documented_is_taken(body: dict[str, Any]) -> None:
    assert validated(CreateTasks, body).model_dump(exclude_none=True) == body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patient_age", -1),
        ("patient_age", UINT32 + 1),
        ("patient_age", True),
        ("patient_age", 70.0),
        ("patient_weight", "80000"),
        ("auto_complete", 1),
        ("auto_complete", "true"),
        ("indications", "syncope"),
        ("indications", []),
        ("indications", ["a", 1]),
        ("searching_tags", [""]),
        ("patient_id", 4711),
        ("patient_id", ""),
        ("patient_id", " "),
        ("patient_id", None),
        ("patient_id", "\ud800"),
        ("patient_gender", "male"),
        ("patient_gender", "OTHER"),
        ("patient_birth_date", "19700131"),
        ("patient_birth_date", "31.01.1970"),
        ("patient_birth_date", "1970-02-30"),
        ("patient_birth_date", "1970-W05-6"),
        ("recording_start_time", "2024-06-23T18:30:00"),
        ("recording_start_time", "2024-06-23T18:30:00+00:00"),
        ("recording_start_time", "2024-06-23 18:30:00Z"),
        ("recording_start_time", "20240623T183000Z"),
        ("recording_start_time", "2024-06-23T18Z"),
        ("recording_start_time", "2024-06-23T25:30:00Z"),
        ("recording_start_time", "2024-06-23"),
        ("recording_time_zone", "CEST"),
        ("recording_time_zone", "+01:00"),
        ("patient_name", "Muster"),
    ],
)
def test_what_is_not_documented_is_refused_without_its_value(field: str, value: Any) -> None:
    with pytest.raises(Refusal) as no:
        validated(CreateTasks, {field: value})
    assert no.value.status == 400
    assert str(no.value).startswith(field)
    if isinstance(value, str) and len(value) > 5 and "such as" not in str(no.value):
        assert value not in str(no.value)


@pytest.mark.parametrize("secret", ["31.01.1970", "Musterstadt/Zone"])
def test_no_refusal_repeats_a_patients_value(secret: str) -> None:
    for field in ("patient_birth_date", "recording_start_time", "recording_time_zone", "patient_gender"):
        with pytest.raises(Refusal) as no:
            validated(CreateTasks, {field: secret})
        assert secret not in str(no.value)


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (-1, HASH),
        (UINT32 + 1, HASH),
        ("1", HASH),
        (1, HASH.rstrip("=")),
        (1, HASH[:-2] + "9="),  # bits beyond the last byte
        (1, base64.urlsafe_b64encode(b"\xff" * 32).decode()),
        (1, base64.b64encode(bytes(31)).decode()),
        (1, bytes(32).hex()),
        (1, "é"),
    ],
)
def test_an_upload_needs_a_uint32_and_a_sha256_in_standard_padded_base64(size: Any, digest: str) -> None:
    with pytest.raises(Refusal):
        validated(OpenUpload, {"total_size": size, "hash_sum": digest})
    assert validated(OpenUpload, {"total_size": UINT32, "hash_sum": HASH}).total_size == UINT32


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"patient_age": NaN}',
        b'{"patient_id": "a", "patient_id": "b"}',
        b'{"patient_id": "\xfc"}',
        '{"patient_id": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"patient_age": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(Refusal) as no:
        document("application/json", content)
    assert no.value.status == 400


def test_the_content_type_is_json_with_any_parameters() -> None:
    assert document("Application/JSON; charset=utf-8", b"{}") == {}
    for other in ("", "text/json", "application/jsonp", "application/octet-stream"):
        with pytest.raises(Refusal) as no:
            document(other, b"{}")
        assert no.value.status == 415


def test_numbers_of_paths_are_plain_digits_in_range() -> None:
    assert unsigned(str(UINT64), UINT64, "task_id") == UINT64
    for text in ("", "-1", "+1", "1.0", "²", " 1", "1_0", str(UINT64 + 1), "9" * 5000):
        with pytest.raises(Refusal):
            unsigned(text, UINT64, "task_id")
