"""The table of failures.md §3.3 and F13 to F23, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.policy import (
    BACKOFF_MOST,
    Created,
    InDoubt,
    NewUpload,
    PauseDestination,
    Proceed,
    Reason,
    Reject,
    Retry,
    Step,
    backoff,
    decide,
)
from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Refused, Unknown

UPLOADS = [Step.OPEN_UPLOAD, Step.CHUNK]
DOCUMENTED_REFUSALS = {400, 401, 403, 415, 429}


def table(step, outcome, *, attempt=1, jitter=0.5, **more):
    return decide(step, outcome, attempt=attempt, jitter=jitter, **more)


@pytest.mark.parametrize("step", Step)
def test_f13_what_was_not_sent_is_tried_again_and_the_destination_counts_as_down(step):
    assert table(step, NotSent("ConnectError")) == Retry(0.5, Reason.UNREACHABLE, pause_destination=True)


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_f13_backoff_is_full_jitter_with_a_cap_of_five_minutes(attempt, jitter):
    seconds = backoff(attempt, jitter)
    assert 0.2 <= seconds <= BACKOFF_MOST == 300
    assert seconds == max(0.2, jitter * min(300, 2.0 ** min(attempt - 1, 20)))


def test_f13_it_is_tried_for_ever():
    assert isinstance(table(Step.CREATE, NotSent("gaierror"), attempt=1_000_000), Retry)


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(
    ("asked", "waited"), [(7.0, 7.0), (0.0, 1.0), (0.3, 1.0), (900.0, 900.0), (901.0, 900.0), (float("inf"), 900.0)]
)
def test_f14_a_rate_limit_is_honoured_between_a_second_and_a_quarter_of_an_hour(step, asked, waited):
    assert table(step, Refused(429, "", asked)) == Retry(waited, Reason.RATE_LIMITED, pause_destination=True)


@given(attempt=st.integers(1, 50), jitter=st.floats(0, 1, exclude_max=True))
def test_f14_without_a_header_the_wait_is_ours_and_at_least_a_second(attempt, jitter):
    decision = table(Step.CREATE, Refused(429, ""), attempt=attempt, jitter=jitter)
    assert decision.pause_destination
    assert 1 <= decision.after <= 300


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(("status", "reason"), [(401, Reason.TOKEN_REFUSED), (403, Reason.NOT_ALLOWED)])
def test_f15_f16_a_refused_token_stops_the_destination_with_a_probe_a_minute(step, status, reason):
    assert table(step, Refused(status, "no")) == PauseDestination(reason, probe_after=60.0)


@pytest.mark.parametrize("status", [400, 415])
def test_f17_a_refused_task_is_rejected_with_the_words_of_the_api(status):
    assert table(Step.CREATE, Refused(status, "bad field")) == Reject(Reason.API_REFUSED, "bad field", status)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_f17_a_refused_upload_is_rejected(status):
    assert table(Step.OPEN_UPLOAD, Refused(status, "no")) == Reject(Reason.API_REFUSED, "no", status)


@pytest.mark.parametrize("step", UPLOADS)
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425])
def test_f18_server_errors_on_an_upload_are_tried_again(step, status):
    decision = table(step, Refused(status, ""))
    assert isinstance(decision, Retry)
    assert not decision.pause_destination


@pytest.mark.parametrize("step", UPLOADS)
def test_f18_a_lost_or_broken_answer_to_an_upload_is_tried_again(step):
    assert table(step, Unknown("ReadTimeout")) == Retry(0.5, Reason.ANSWER_LOST)
    assert table(step, BrokenAnswer(200, "<html>")) == Retry(0.5, Reason.ANSWER_BROKEN)


def test_f18_a_503_on_an_upload_may_say_when():
    assert table(Step.CHUNK, Refused(503, "", 30.0)) == Retry(30.0, Reason.UNAVAILABLE)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_f19_server_errors_on_the_task_post_are_in_doubt(status):
    assert table(Step.CREATE, Refused(status, "")) == InDoubt(Reason.SERVER_ERROR)


def test_f19_a_503_is_retried_only_on_the_vendors_word():
    decision = table(Step.CREATE, Refused(503, "", 12.0), unavailable_is_not_applied=True)
    assert decision == Retry(12.0, Reason.UNAVAILABLE)
    for status in (500, 502, 504):
        assert isinstance(table(Step.CREATE, Refused(status, ""), unavailable_is_not_applied=True), InDoubt)


@pytest.mark.parametrize("status", [400, 404, 409, 410])
def test_f21_f22_a_session_that_is_gone_is_opened_anew(status):
    assert table(Step.CHUNK, Refused(status, "")) == NewUpload(Reason.UPLOAD_LOST)


@pytest.mark.parametrize("status", [404, 405, 410, 301, 307])
def test_a_wrong_address_stops_uploads_without_rejecting_a_recording(status):
    assert table(Step.OPEN_UPLOAD, Refused(status, "")) == PauseDestination(Reason.WRONG_ADDRESS)


@pytest.mark.parametrize("status", [404, 405, 410, 301, 302, 303, 307, 308])
def test_a_wrong_address_puts_one_task_in_doubt_and_stops_the_others(status):
    assert table(Step.CREATE, Refused(status, "")) == InDoubt(Reason.WRONG_ADDRESS, pause_destination=True)


@pytest.mark.parametrize(("ids", "expected"), [((), 1), ((1, 2), 1), ((1,), 2), ((7, 7), 1)])
def test_f23_another_number_of_ids_than_of_records_is_in_doubt(ids, expected):
    assert table(Step.CREATE, Answered2xx(task_ids=ids), expected=expected) == InDoubt(Reason.NOT_ONE_TASK)


def test_3_3_ids_parsed_is_created():
    assert table(Step.CREATE, Answered2xx(task_ids=(2**64 - 1,))) == Created((2**64 - 1,))


def test_3_3_a_broken_success_is_in_doubt():
    assert table(Step.CREATE, BrokenAnswer(201, "")) == InDoubt(Reason.ANSWER_BROKEN)


def test_f12_a_lost_answer_is_in_doubt():
    assert table(Step.CREATE, Unknown("TimeoutError")) == InDoubt(Reason.ANSWER_LOST)


@given(
    status=st.integers(100, 999).filter(lambda s: not 200 <= s < 300 and s not in DOCUMENTED_REFUSALS),
    wait=st.none() | st.floats(0, 1e9),
    attempt=st.integers(1, 99),
)
def test_3_3_an_undocumented_answer_to_the_task_post_never_leads_to_a_second_one(status, wait, attempt):
    assert isinstance(table(Step.CREATE, Refused(status, "", wait), attempt=attempt), InDoubt)


@given(status=st.integers(100, 999).filter(lambda s: not 200 <= s < 300))
def test_an_upload_is_never_in_doubt(status):
    for step in UPLOADS:
        assert not isinstance(table(step, Refused(status, "")), InDoubt | Created | Proceed)


@pytest.mark.parametrize("step", UPLOADS)
def test_an_upload_step_that_went_well_proceeds(step):
    assert table(step, Answered2xx(upload_id="u-1")) == Proceed("u-1")


def test_reasons_are_short_snake_case():
    assert all(r.value == r.name.lower() and len(r.value) <= 24 for r in Reason)
