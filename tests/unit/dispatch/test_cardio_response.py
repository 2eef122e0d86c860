"""Answers of the Cardio API, read into outcomes (cardio_api.md)."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.cardio.response import (
    Response,
    TaskStatus,
    outcome_of,
    read_nothing,
    read_status,
    read_task_ids,
    read_upload_id,
    seconds_to_wait,
    words,
)
from bridge.domain.outcome import Answered2xx, BrokenAnswer, Refused

DATE = "Mon, 14 Sep 2026 10:00:00 GMT"


def created(body, **more):
    return outcome_of(Response(201, body, **more), read_task_ids)


@pytest.mark.parametrize("ids", [[], [0], [4711], [1, 2], [2**63 + 1], [2**64 - 1]])
@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_f23_ids_are_read_exactly_at_any_success(ids, status):
    body = json.dumps({"created_task_ids": ids, "more": None}).encode()
    assert outcome_of(Response(status, body), read_task_ids) == Answered2xx(task_ids=tuple(ids))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[4711]",
        b"{}",
        b'{"created_task_ids":null}',
        b'{"created_task_ids":4711}',
        b'{"created_task_ids":[true]}',
        b'{"created_task_ids":[4711.0]}',
        b'{"created_task_ids":[4e3]}',
        b'{"created_task_ids":["4711"]}',
        b'{"created_task_ids":[-1]}',
        b'{"created_task_ids":[18446744073709551616]}',
        b'{"created_task_ids":[1,null]}',
        b'{"created_task_ids":[NaN]}',
        b'{"created_task_ids":[' + b"9" * 5000 + b"]}",
        b'{"created_task_ids":[4711]',
        b"\xff\xfe\xff",
        b"[" * 200_000,
    ],
)
def test_f12_f23_anything_else_is_a_broken_answer(body):
    outcome = created(body)
    assert isinstance(outcome, BrokenAnswer)
    assert outcome.status == 201
    assert len(outcome.detail) <= 500


def test_f12_a_success_that_was_cut_off_is_broken_even_where_it_reads_well():
    assert created(b'{"created_task_ids":[1]}', flaw="ReadError") == BrokenAnswer(201, "ReadError")


def test_a_refusal_whose_words_were_cut_off_is_still_one():
    assert outcome_of(Response(400, b'"bad fie', flaw="ReadError"), read_task_ids) == Refused(400, '"bad fie')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'"patient_age: too large"', "patient_age: too large"),
        (b'"f\\u00fcr"', "für"),
        (b"Bad Request", "Bad Request"),
        (b'{"error":"no"}', '{"error":"no"}'),
        (b"", ""),
        (b"f\xfcr", "f\ufffdr"),
        (b'"' + b"x" * 9000 + b'"', "x" * 500),
        (b"y" * 9000, "y" * 500),
    ],
)
def test_the_words_of_the_api_are_a_json_string_or_the_text_as_it_is(body, said):
    assert words(body) == said


@given(st.binary(max_size=300))
def test_no_body_can_break_the_reading(body):
    assert isinstance(created(body), BrokenAnswer)
    assert isinstance(outcome_of(Response(500, body), read_nothing), Refused)


@pytest.mark.parametrize("body", [b'{"upload_id":""}', b'{"upload_id":7}', b"{}", b'"u-1"'])
def test_an_upload_needs_its_id(body):
    assert isinstance(outcome_of(Response(200, body), read_upload_id), BrokenAnswer)
    assert outcome_of(Response(200, b'{"upload_id":"u-1"}'), read_upload_id) == Answered2xx(upload_id="u-1")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Mon, 14 Sep 2026 10:01:30 GMT", 90.0),
        ("Monday, 14-Sep-26 10:01:30 GMT", 90.0),
        ("Mon, 14 Sep 2026 09:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Mon, 99 Sep 2026 10:00:00 GMT", None),
        ("9" * 400, float("inf")),
    ],
)
def test_f14_retry_after_is_seconds_or_a_date_or_nothing(value, seconds):
    assert seconds_to_wait(Response(429, retry_after=value, date=DATE)) == seconds


def test_f14_without_a_date_of_its_own_the_answer_is_taken_by_our_clock():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (seconds_to_wait(Response(429, retry_after=soon)) or 0) <= 100


@given(st.text(max_size=60), st.text(max_size=60))
def test_f14_no_header_can_break_the_reading(value, date):
    wait = seconds_to_wait(Response(429, retry_after=value, date=date))
    assert wait is None or wait >= 0


def test_a_status_is_read_and_an_absent_severity_is_not_none():
    body = b'{"creation_time":"2026-09-14T10:00:00.123456789Z","processed":true,"report_available":false}'
    at = datetime(2026, 9, 14, 10, 0, 0, 123456, UTC)
    assert read_status(body) == TaskStatus(at, processed=True, report_available=False)
    graded = body.replace(b"}", b',"severity":"NONE"}').replace(b"Z", b"+00:00")
    assert read_status(graded) == TaskStatus(at, processed=True, report_available=False, severity="NONE")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"creation_time":"2026-09-14T10:00:00","processed":true,"report_available":false}',
        b'{"creation_time":"yesterday","processed":true,"report_available":false}',
        b'{"creation_time":"2026-09-14T10:00:00Z","processed":"yes","report_available":false}',
        b'{"creation_time":"2026-09-14T10:00:00Z","processed":true}',
        b'{"creation_time":"2026-09-14T10:00:00Z","processed":true,"report_available":true,"severity":3}',
    ],
)
def test_a_status_that_is_none_is_not_read(body):
    assert read_status(body) is None
