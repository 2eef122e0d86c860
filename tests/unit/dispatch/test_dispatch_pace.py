"""Tasks a second: never more, and no fewer than that."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.pace import BURST, Pace


def test_without_a_rate_there_is_no_limit():
    pace = Pace(0.0, 0.0)
    assert (pace.there(0.0), pace.next_in(0.0), pace.take(0.0)) == (None, 0.0, 0.0)


def test_at_two_a_second_one_goes_out_each_half_second():
    pace = Pace(2.0, 100.0)
    assert (pace.there(100.0), pace.take(100.0)) == (1, 0.0)
    assert (pace.there(100.0), pace.next_in(100.0)) == (0, 0.5)
    assert pace.there(100.4) == 0
    assert pace.there(100.5) == 1
    assert pace.there(1000.0) == 1  # what was not used is not saved up


def test_whoever_takes_a_turn_that_is_not_there_yet_waits_for_it_and_those_behind_it_longer():
    pace = Pace(1.0, 0.0)
    assert [pace.take(0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert pace.next_in(0.0) == 3.0
    pace.give_back()
    assert pace.next_in(0.0) == 2.0


@given(
    rate=st.floats(0.1, 500.0),
    steps=st.lists(st.floats(0.0, 2.0), max_size=200),
)
def test_in_any_time_no_more_go_out_than_rate_and_burst(rate: float, steps: list[float]):
    pace, now, sent = Pace(rate, 0.0), 0.0, list[float]()
    for step in steps:
        now += step
        for _ in range(pace.there(now) or 0):
            assert pace.take(now) < 1e-6
            sent.append(now)
    most = max(1.0, rate * BURST)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            assert last - first + 1 <= (sent[last] - sent[first]) * rate + most + 1e-6


@given(rate=st.floats(0.5, 500.0))
def test_who_waits_as_long_as_he_is_told_may_go(rate: float):
    pace, now = Pace(rate, 0.0), 0.0
    for _ in range(50):
        now += pace.next_in(now) + 1e-9
        assert (pace.there(now) or 0) >= 1
        pace.take(now)


def test_those_who_share_a_rate_have_an_even_part_each():
    """Also as they come and go; what was taken in advance is paid for at the rate of the moment."""
    there = 1
    pace = Pace(20.0, 0.0, lambda: there)
    assert pace.there(0.0) == 2
    there = 4
    assert pace.there(0.0) == 1
    assert [pace.take(0.0) for _ in range(2)] == [0.0, 0.2]
    there = 1
    assert pace.next_in(0.0) == 0.1
    assert pace.there(1.0) == 2
