"""What a webhook and a mail say: the same edge has the same id, and a text never fails."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.alarm_settings import AlarmSettings, MailSettings, Rule
from bridge.dispatch.alarms.letters import SCHEMA, Letter, Writer, as_json, as_mail, signature
from bridge.dispatch.alarms.meanings import MEANINGS, meaning, place, said
from bridge.store.alarms import ON, OVER, Alarm, Due

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
DETAIL = {"number": 3, "oldest_at": "2026-03-02T11:00:00+00:00"}
MAIL = MailSettings(
    host="127.0.0.1", security="none", sender="bridge@klinik.example", to=("a@b.example", "c@d.example")
)


def alarm(number: int = 1, rule: str = "queue_old", subject: str = "cardio", **more: Any) -> Alarm:
    return Alarm(
        **{"id": number, "rule": rule, "subject": subject, "since": NOW, "over_at": None, "detail": DETAIL, **more}
    )


def letter(*due: Due, key: bytes = b"k" * 32, **settings: Any) -> Letter:
    return Writer(AlarmSettings(**settings), key, BERLIN).letter(due, on=len(due), at=NOW)


def test_the_document_of_a_webhook() -> None:
    made = letter(Due(5, ON, 1, alarm()), label="Süd", console_url="https://bridge.example/")
    (event,) = made.events
    assert json.loads(as_json(made)) == {
        "schema": SCHEMA,
        "id": made.id,
        "sent_at": "2026-03-02T12:00:00+00:00",
        "bridge": "Süd",
        "on": 1,
        "events": [
            {
                "id": event.id,
                "edge": "on",
                "rule": "queue_old",
                "subject": "cardio",
                "since": "2026-03-02T12:00:00+00:00",
                "over_at": None,
                "title": "Messages wait for long",
                "text": "3 for cardio wait, the oldest since 2026-03-02 12:00",
                "means": MEANINGS[Rule.QUEUE_OLD].means,
                "what_to_do": MEANINGS[Rule.QUEUE_OLD].act,
                "counts": DETAIL,
                "link": "https://bridge.example" + MEANINGS[Rule.QUEUE_OLD].where,
            }
        ],
    }


def test_without_an_address_of_ours_there_is_no_link() -> None:
    assert json.loads(as_json(letter(Due(5, ON, 1, alarm()))))["events"][0]["link"] is None


def test_an_edge_has_one_id_at_every_attempt_and_no_other_has_it() -> None:
    first = letter(Due(5, ON, 1, alarm()), Due(6, ON, 1, alarm(2)))
    again = letter(Due(5, ON, 9, alarm(detail={"number": 4})), Due(6, ON, 9, alarm(2)))
    assert (again.id, [e.id for e in again.events]) == (first.id, [e.id for e in first.events])
    others = [
        letter(Due(5, OVER, 1, alarm())),
        letter(Due(5, ON, 1, alarm(2))),
        letter(Due(5, ON, 1, alarm(since=NOW + timedelta(seconds=1)))),  # of a store that began anew
        letter(Due(5, ON, 1, alarm()), key=b"o" * 32),
    ]
    ids = {first.events[0].id, *(one.events[0].id for one in others)}
    assert len(ids) == 5
    assert letter(Due(5, ON, 1, alarm())).id != first.id


def test_the_signature_covers_time_and_body() -> None:
    made = signature(b"{}", b"s" * 32, NOW)
    seconds = int(NOW.timestamp())
    assert made == f"t={seconds},v1=" + hmac.new(b"s" * 32, b"%d.{}" % seconds, hashlib.sha256).hexdigest()
    assert signature(b"{ }", b"s" * 32, NOW) != made
    assert signature(b"{}", b"s" * 32, NOW + timedelta(seconds=1)).partition("v1=")[2] != made.partition("v1=")[2]


def test_a_mail_is_plain_text_that_nothing_answers_and_a_resend_is_recognised() -> None:
    made = letter(Due(5, ON, 1, alarm()), label="Süd", console_url="https://bridge.example")
    mail = message_from_bytes(as_mail(made, MAIL, BERLIN).as_bytes(), policy=policy.default)
    assert mail["Subject"] == "[Cardio bridge Süd] Messages wait for long (cardio)"
    assert (mail["From"], mail["To"]) == ("bridge@klinik.example", "a@b.example, c@d.example")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"] == f"<{made.id}.alarms@klinik.example>"
    assert mail["Date"] == "Mon, 02 Mar 2026 13:00:00 +0100"
    assert mail.get_content_type() == "text/plain"
    text = mail.get_content()
    assert "3 for cardio wait, the oldest since 2026-03-02 12:00 (since 2026-03-02 13:00 CET)" in text
    assert f"What to do: {MEANINGS[Rule.QUEUE_OLD].act}" in text
    assert "https://bridge.example/messages?" in text
    assert f"[queue_old {made.events[0].id}]" in text
    again = letter(Due(5, ON, 2, alarm()), label="Süd", console_url="https://bridge.example")
    assert as_mail(again, MAIL, BERLIN)["Message-ID"] == mail["Message-ID"]


def test_a_gathered_mail_counts_what_began_and_what_is_over() -> None:
    over = alarm(2, "in_doubt", "7", over_at=NOW + timedelta(hours=1))
    made = letter(Due(5, ON, 1, alarm()), Due(6, OVER, 1, over), Due(7, ON, 1, alarm(3, "disk", "full")))
    mail = as_mail(made, MAIL, BERLIN)
    assert mail["Subject"] == "[Cardio bridge] 2 begun, 1 over"
    text = mail.get_content()
    assert "Over: A task is in doubt" in text
    assert "over since 2026-03-02 14:00 CET" in text


def test_a_subject_cannot_break_the_head_of_a_mail() -> None:
    mail = as_mail(letter(Due(5, ON, 1, alarm(subject="A\r\nBcc: x@y.example"))), MAIL, BERLIN)
    assert "Bcc" not in mail
    assert b"\r\nBcc:" not in mail.as_bytes().partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("rule", Rule)
def test_every_rule_has_its_meaning_and_its_text_never_fails(rule: Rule) -> None:
    means = MEANINGS[rule]
    assert all((means.title, means.said, means.means, means.act, means.where))
    assert means.where.startswith("/")
    text = said(rule.value, "", {}, BERLIN)
    assert "{" not in text
    assert place(rule.value, "7").startswith("/")


@pytest.mark.parametrize("stored", [None, 7, "yesterday", ""])
def test_what_another_version_stored_does_not_break_a_text(stored: Any) -> None:
    assert said("queue_old", "cardio", {"number": [3], "oldest_at": stored}, BERLIN).endswith(f"since {stored}")


def test_a_rule_of_another_version_is_shown_as_it_is() -> None:
    assert said("of_tomorrow", "cardio", {}, BERLIN) == "cardio"
    assert meaning("of_tomorrow").where == "/alarms"


def test_braces_in_a_subject_are_no_places_to_fill() -> None:
    assert said("queue_old", "{number.__class__}", {"number": 3}, BERLIN).startswith("3 for {number.__class__} wait")
