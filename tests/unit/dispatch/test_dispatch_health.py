"""What becomes of a destination: down, quiet, back."""

import pytest

from bridge.dispatch.health import DOUBTS_IN_A_ROW, Health
from bridge.dispatch.policy import Created, InDoubt, NewUpload, PauseDestination, Proceed, Reason, Reject, Retry

LOST = InDoubt(Reason.ANSWER_LOST)
CREATED = Created((1,))


def after(health, *decisions, now=100.0):
    for decision in decisions:
        health = health.after(decision, now)
    return health


def test_a_new_destination_may_be_sent_to():
    assert Health().may_send(0.0) == 0.0
    assert not Health().known_down


def test_f13_an_unreachable_destination_is_down_until_its_next_try():
    health = after(Health(), Retry(8.0, Reason.UNREACHABLE, pause_destination=True))
    assert health.known_down
    assert health.may_send(103.0) == 5.0
    assert health.may_send(108.0) == 0.0
    assert not after(health, CREATED, now=108.0).known_down


def test_f13_a_call_that_was_not_made_says_nothing_new_of_it():
    assert after(Health(), Retry(8.0, Reason.UNREACHABLE)) == Health()


def test_f14_a_rate_limit_makes_everybody_wait_and_is_no_failure():
    health = after(Health(), Retry(30.0, Reason.RATE_LIMITED, pause_destination=True))
    assert not health.known_down
    assert health.may_send(100.0) == 30.0


def test_f14_a_success_that_was_under_way_does_not_end_the_window():
    limited = after(Health(), Retry(30.0, Reason.RATE_LIMITED, pause_destination=True))
    assert after(limited, CREATED, now=101.0).may_send(101.0) == 29.0


@pytest.mark.parametrize(
    "shorter",
    [
        PauseDestination(Reason.TOKEN_REFUSED),
        Retry(1.0, Reason.RATE_LIMITED, pause_destination=True),
        Retry(1.0, Reason.UNREACHABLE, pause_destination=True),
        InDoubt(Reason.WRONG_ADDRESS, pause_destination=True),
    ],
)
def test_f14_a_window_is_never_cut_short(shorter):
    limited = after(Health(), Retry(900.0, Reason.RATE_LIMITED, pause_destination=True))
    assert after(limited, shorter, now=101.0).may_send(101.0) == 899.0


def test_f15_a_refused_token_allows_a_probe_a_minute():
    health, probes, now = Health(), 0, 0.0
    while now < 600:
        if health.may_send(now) == 0:
            probes += 1
            health = health.after(PauseDestination(Reason.TOKEN_REFUSED), now)
            assert health.known_down
        now += 1
    assert probes == 10


def test_f12_a_lost_answer_alone_stops_nobody():
    health = after(Health(), *[LOST] * (DOUBTS_IN_A_ROW - 1))
    assert not health.known_down
    assert health.may_send(100.0) == 0


def test_f19_doubts_in_a_row_hold_the_rest_back_ever_longer():
    health, waits = after(Health(), *[LOST] * (DOUBTS_IN_A_ROW - 1)), []
    for _ in range(9):
        health = after(health, LOST)
        assert health.known_down
        waits.append(health.may_send(100.0))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("well", [CREATED, Reject(Reason.API_REFUSED, "no", 400)])
def test_f19_a_task_that_was_answered_ends_the_row(well):
    health = after(Health(), *[LOST] * DOUBTS_IN_A_ROW, well)
    assert not health.known_down
    assert not after(health, LOST).known_down


@pytest.mark.parametrize("fine", [Proceed("u"), NewUpload(Reason.UPLOAD_LOST)])
def test_f19_an_upload_that_goes_well_shows_that_it_is_there_but_not_that_tasks_are_safe(fine):
    assert after(Health(), *[LOST] * DOUBTS_IN_A_ROW, fine).known_down
    assert not after(Health(), Retry(1.0, Reason.UNREACHABLE, pause_destination=True), fine).known_down


def test_one_calls_misfortune_leaves_the_destination_as_it_is():
    down = after(Health(), PauseDestination(Reason.NOT_ALLOWED))
    for health in (Health(), down):
        assert after(health, Retry(3.0, Reason.ANSWER_LOST)) == health
        assert after(health, Retry(3.0, Reason.SERVER_ERROR)) == health


def test_a_wrong_address_costs_one_doubt_a_minute_at_the_most():
    health = after(Health(), InDoubt(Reason.WRONG_ADDRESS, pause_destination=True))
    assert health.known_down
    assert health.may_send(100.0) == 60.0
