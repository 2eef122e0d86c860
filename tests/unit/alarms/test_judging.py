"""Edges: once each, over only when it was well for a while, and nothing lost or told twice by a start."""

from datetime import UTC, datetime

from bridge.alarm_settings import Rule
from bridge.dispatch.alarms.judging import Judge
from bridge.dispatch.alarms.rules import Finding
from bridge.store.alarms import Alarm

SINCE = datetime(2026, 3, 2, tzinfo=UTC)
LONG = Finding(Rule.QUEUE_LONG, "cardio", {"number": 1000})
ON = Alarm(1, "queue_long", "cardio", SINCE, None, {"number": 1000})


def test_what_is_found_begins_and_what_is_on_stays() -> None:
    judge = Judge(300)
    assert judge.edges([LONG], [], 0.0).begun == [LONG]
    assert not judge.edges([LONG], [ON], 15.0)


def test_another_figure_is_no_edge() -> None:
    more = Finding(Rule.QUEUE_LONG, "cardio", {"number": 1001})
    edges = Judge(300).edges([more], [ON], 0.0)
    assert (edges.begun, edges.over, edges.changed) == ([], [], [(ON, more)])


def test_it_is_over_when_it_was_well_for_long_enough() -> None:
    judge = Judge(300)
    assert not judge.edges([], [ON], 100.0)
    assert not judge.edges([], [ON], 399.0)
    assert judge.edges([], [ON], 400.0).over == [ON]


def test_what_comes_and_goes_is_one_alarm() -> None:
    judge = Judge(300)
    for look in range(100):
        assert not judge.edges([] if look % 2 else [LONG], [ON], look * 200.0)


def test_what_cannot_be_known_neither_begins_nor_ends() -> None:
    judge = Judge(300)
    unsure = Finding(Rule.QUEUE_LONG, "cardio", {}, sure=False)
    assert not judge.edges([unsure], [], 0.0)
    for moment in (0.0, 400.0, 9000.0):
        assert not judge.edges([unsure], [ON], moment)


def test_a_start_only_makes_an_alarm_last() -> None:
    assert not Judge(300).edges([], [ON], 9e9)


def test_no_time_at_all_ends_it_at_the_next_look() -> None:
    assert Judge(0).edges([], [ON], 5.0).over == [ON]


def test_what_is_over_begins_anew() -> None:
    judge = Judge(0)
    judge.edges([], [ON], 0.0)
    assert judge.edges([LONG], [], 1.0).begun == [LONG]
