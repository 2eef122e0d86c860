"""What is an alarm and what is none: each rule at its threshold, and one short of it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.alarm_settings import AlarmSettings, Rule
from bridge.dispatch.alarms.rules import Facts, Finding, awake, found
from bridge.store.alarm_facts import REUSED, Down, News, Pile
from bridge.store.alarms import Trouble
from bridge.store.gauges import Doubt

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def judged(settings: dict[str, Any] | None = None, **facts: Any) -> list[Finding]:
    made = Facts(**{"now": NOW, "started": ago(86_400), **facts})
    return found(made, AlarmSettings(**(settings or {})))


def on(settings: dict[str, Any] | None = None, **facts: Any) -> list[tuple[str, str]]:
    return [one.key for one in judged(settings, **facts) if one.sure]


def unsure(settings: dict[str, Any] | None = None, **facts: Any) -> list[tuple[str, str]]:
    return [one.key for one in judged(settings, **facts) if not one.sure]


def test_where_nothing_is_wrong_nothing_is_found() -> None:
    assert judged() == []


@pytest.mark.parametrize(("seconds", "silent"), [(599, False), (600, True)])
def test_a_feed_is_silent_after_its_time(seconds: float, silent: bool) -> None:
    facts = {"silence": {"hl7": 600.0}, "heard": {"hl7": ago(seconds)}}
    assert (on(**facts) == [("feed_silent", "hl7")]) is silent
    assert unsure(**facts) == []


def test_a_start_gives_a_feed_its_time_and_is_no_sign_that_it_speaks() -> None:
    facts = {"silence": {"hl7": 600.0}, "heard": {"hl7": ago(5000)}, "started": ago(100)}
    assert on(**facts) == []
    assert unsure(**facts) == [("feed_silent", "hl7")]
    assert on(**{**facts, "started": ago(600)}) == [("feed_silent", "hl7")]


def test_a_listener_is_expected_from_the_start_and_a_sender_once_it_has_spoken() -> None:
    silence = {"hl7.north": 600.0, "HIS|WARD": 600.0, "CART1": 600.0}
    assert on(silence=silence) == [("feed_silent", "hl7.north")]
    heard = {"HIS|WARD": ago(700), "CART1": ago(10)}
    assert on(silence=silence, heard=heard) == [("feed_silent", "hl7.north"), ("feed_silent", "HIS|WARD")]


@pytest.mark.parametrize(
    ("begin", "end", "hours", "seconds"),
    [
        ("2026-03-01T21:50", "2026-03-02T06:10", "22:00-06:00", 1200),  # ten minutes before, ten behind
        ("2026-03-01T23:00", "2026-03-02T05:00", "22:00-06:00", 0),
        ("2026-03-01T12:00", "2026-03-01T14:00", "22:00-06:00", 7200),
        ("2026-03-01T11:00", "2026-03-01T15:00", "12:00-13:00", 3 * 3600),
        ("2026-03-01T12:00", "2026-03-04T12:00", "22:00-06:00", 3 * 16 * 3600),
        ("2026-03-28T21:00", "2026-03-29T07:00", "22:00-06:00", 7200),  # a night of seven hours: summer time begins
        ("2026-03-01T12:00", "2026-03-01T14:00", "", 7200),
        ("2026-03-01T14:00", "2026-03-01T12:00", "22:00-06:00", 0),  # the clock was set back
    ],
)
def test_quiet_hours_are_left_out(begin: str, end: str, hours: str, seconds: float) -> None:
    moments = (datetime.fromisoformat(one).replace(tzinfo=BERLIN).astimezone(UTC) for one in (begin, end))
    assert awake(*moments, hours, BERLIN) == seconds


def test_in_its_quiet_hours_a_feed_that_was_silent_before_stays_so() -> None:
    night = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)
    facts = {"now": night, "silence": {"hl7": 3600.0}, "heard": {"hl7": night - timedelta(hours=9)}}
    assert on({"quiet_hours": "20:00-05:00"}, **facts) == [("feed_silent", "hl7")]


def test_f13_what_waits_for_long_is_one_alarm_a_destination() -> None:
    piles = [Pile("cardio", 3, ago(1000)), Pile("north", 1, ago(950))]
    (first, second) = judged(waiting=piles, queued={"cardio": 3})
    assert [first.key, second.key] == [("queue_old", "cardio"), ("queue_old", "north")]
    assert first.detail == {"number": 3, "oldest_at": ago(1000).isoformat(timespec="seconds")}


@pytest.mark.parametrize(
    ("number", "subjects"),
    [(999, []), (1000, ["cardio"]), (9999, ["cardio"]), (10_000, ["cardio", "cardio, 10000 or more"])],
)
def test_a_long_queue_is_said_anew_at_ten_times_its_length(number: int, subjects: list[str]) -> None:
    assert on(queued={"cardio": number}) == [("queue_long", one) for one in subjects]
    assert on({"queue_length": 0}, queued={"cardio": number}) == []


@pytest.mark.parametrize(
    ("reason", "seconds", "alarm"),
    [
        ("unreachable", 59, False),
        ("unreachable", 60, True),
        ("answer_lost", 61, True),
        ("token_refused", 0, True),
        ("not_allowed", 0, True),
        ("wrong_address", 0, True),
        ("quarantine", 9999, False),
    ],
)
def test_f15_f16_a_destination_is_down_after_a_while_or_at_once(reason: str, seconds: float, alarm: bool) -> None:
    facts = {"down": [Down("cardio", reason, ago(seconds))]}
    assert on(**facts) == ([("destination_down", "cardio")] if alarm else [])
    assert on({"destination_down": 0}, **facts) == []


@pytest.mark.parametrize(
    ("stat", "seconds", "alarm"), [(False, 899, False), (False, 900, True), (True, 299, False), (True, 300, True)]
)
def test_a_doubt_is_an_alarm_of_its_own_and_an_urgent_one_sooner(stat: bool, seconds: float, alarm: bool) -> None:
    assert on(doubts=[Doubt(7, ago(seconds), stat)]) == ([("in_doubt", "7")] if alarm else [])


@pytest.mark.parametrize(
    ("pile", "subjects"),
    [
        (Pile("no_match", 1, ago(3599)), []),
        (Pile("no_match", 1, ago(3600)), ["no_match"]),
        (Pile("no_match", 19, ago(10)), []),
        (Pile("no_match", 20, ago(10)), ["no_match"]),
        (Pile("no_match", 200, ago(9999)), ["no_match", "no_match, 200 or more"]),
        (Pile("poison", 1, ago(0)), ["poison"]),
        (Pile("uid_conflict", 1, ago(0)), ["uid_conflict"]),
        (Pile("identity_update", 10, ago(0)), ["identity_update", "identity_update, 10 or more"]),
    ],
)
def test_f28_f29_what_is_held_is_said_by_age_by_number_or_at_once(pile: Pile, subjects: list[str]) -> None:
    assert on(held=[pile]) == [("held", one) for one in subjects]


def news(reason: str, number: int, seconds: float = 10.0) -> list[News]:
    return [News(n, ago(seconds), reason, "hl7") for n in range(number)]


@pytest.mark.parametrize(
    ("reason", "number", "subjects"),
    [
        ("api_refused", 1, ["api_refused"]),
        ("api_refused", 10, ["api_refused", "api_refused, 10 or more"]),
        ("missing_field", 19, []),
        ("missing_field", 20, ["missing_field"]),
    ],
)
def test_f17_one_that_the_api_refused_is_enough_and_of_others_several(
    reason: str, number: int, subjects: list[str]
) -> None:
    assert on(news=news(reason, number)) == [("rejected", one) for one in subjects]
    assert on(news=news(reason, number, 3601)) == []
    assert on({"rejected_number": 0}, news=news(reason, number)) == []


def test_f31_a_number_that_was_used_twice_is_said_by_listener() -> None:
    assert on(news=[*news(REUSED, 3), News(9, ago(5), REUSED, "hl7.north")]) == [
        ("control_id_reuse", "hl7"),
        ("control_id_reuse", "hl7.north"),
    ]


def test_f23_f38_what_a_person_must_settle() -> None:
    piles = [Pile("order_cancelled", 1, ago(5)), Pile("not_processed", 2, ago(5)), Pile("task_gone", 1, ago(5))]
    assert on(anomalies=piles) == [
        ("anomaly", "order_cancelled"),
        ("not_processed", "not_processed"),
        ("not_processed", "task_gone"),
    ]


def test_f44_ids_that_nobody_takes() -> None:
    assert on(untold=[Pile("outbound 10.0.0.1:2575", 2, ago(5))]) == [("outbound_held", "outbound 10.0.0.1:2575")]


@pytest.mark.parametrize(
    ("room", "missing", "subjects"),
    [(2**30, 0, []), (2**30 - 1, 0, ["room"]), (-1, 0, ["room", "full"]), (2**40, 1, ["ballast"])],
)
def test_f24_the_disk(room: int, missing: int, subjects: list[str]) -> None:
    assert on(room=room, ballast_missing=missing) == [("disk", one) for one in subjects]


@pytest.mark.parametrize(
    ("days", "steps"),
    [
        (30.1, []),
        (30, ["30 days"]),
        (7, ["30 days", "7 days"]),
        (1, ["30 days", "7 days", "1 day"]),
        (-5, ["30 days", "7 days", "1 day"]),
    ],
)
def test_each_step_before_a_certificate_expires_is_an_edge_of_its_own(days: float, steps: list[str]) -> None:
    facts = {"certificates": {"hl7.tls": NOW + timedelta(days=days)}}
    assert on(**facts) == [("certificate", f"hl7.tls, {one}") for one in steps]


def test_a_certificate_that_cannot_be_read_is_said() -> None:
    assert on(certificates={"hl7.tls": None}) == [("certificate", "hl7.tls, not readable")]


def test_f41_quarantine() -> None:
    assert on(quarantine="the epoch file is ahead") == [("quarantine", "")]


@pytest.mark.parametrize(
    ("trouble", "alarm"),
    [
        (Trouble(), False),
        (Trouble(ago(899)), False),
        (Trouble(ago(900)), True),
        (Trouble(None, 1), True),
    ],
)
def test_a_channel_that_does_not_work_is_one_too(trouble: Trouble, alarm: bool) -> None:
    assert on(troubles={"mail": trouble}) == ([("not_told", "mail")] if alarm else [])


def test_every_rule_can_be_found() -> None:
    everything = judged(
        silence={"hl7": 600.0},
        waiting=[Pile("cardio", 1, ago(1000))],
        queued={"cardio": 1000},
        down=[Down("cardio", "token_refused", NOW)],
        doubts=[Doubt(1, ago(900), False)],
        held=[Pile("no_match", 20, NOW)],
        news=[*news("api_refused", 1), *news(REUSED, 1)],
        anomalies=[Pile("not_processed", 1, NOW), Pile("order_cancelled", 1, NOW)],
        untold=[Pile("outbound 10.0.0.1:1", 1, NOW)],
        room=-1,
        certificates={"hl7.tls": None},
        quarantine="why",
        troubles={"mail": Trouble(None, 1)},
    )
    assert {one.rule for one in everything} == set(Rule) - {Rule.TEST}
