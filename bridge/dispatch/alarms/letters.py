"""What a channel is told: the edges of one batch, as JSON for machines and as text for people.

An edge has the same id at every attempt, and a batch has an id of those in it: whoever is told twice can see that it is
the same. Figures and links, never a patient: detail holds counts, moments, reasons and numbers that we minted.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from bridge.alarm_settings import AlarmSettings, MailSettings
from bridge.dispatch.alarms.meanings import meaning, place, said
from bridge.store.alarms import ON, Alarm, Due

SCHEMA = "cardio-bridge/alarms/1"


@dataclass(frozen=True, slots=True)
class Event:
    """One edge: an alarm began, or is over."""

    id: str
    edge: str
    alarm: Alarm
    text: str
    link: str  # empty where alarms.console_url is not set


@dataclass(frozen=True, slots=True)
class Letter:
    """What goes out at once. `on` is how many alarms are on at the moment."""

    id: str
    at: datetime
    label: str
    on: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel has it. `reason`: what is to be known of it all the same."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now. `after`: seconds that were asked for; 0: none were."""

    reason: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Never:
    """It will not be taken, however often it is sent."""

    reason: str


Outcome = Sent | Later | Never


class Writer:
    """Makes letters. The site's key makes their ids, so that those of two bridges are never the same."""

    def __init__(self, settings: AlarmSettings, key: bytes, zone: tzinfo) -> None:
        self._settings = settings
        self._key = key
        self._zone = zone

    def letter(self, due: Sequence[Due], *, on: int, at: datetime) -> Letter:
        """One batch."""
        events = tuple(self._event(one) for one in due)
        return Letter(self._id(*(one.id for one in events)), at, self._settings.label, on, events)

    def _event(self, due: Due) -> Event:
        alarm = due.alarm
        own = self._id(str(alarm.id), alarm.rule, alarm.subject, alarm.since.isoformat(), due.edge)
        link = self._settings.console_url and self._settings.console_url + place(alarm.rule, alarm.subject)
        return Event(own, due.edge, alarm, said(alarm.rule, alarm.subject, alarm.detail, self._zone), link)

    def _id(self, *parts: str) -> str:
        made = hmac.digest(self._key, json.dumps(["alarm", *parts]).encode(), "sha256")
        return base64.b32encode(made).decode("ascii")[:26].lower()


def as_json(letter: Letter) -> bytes:
    """The body of a webhook; deploy/alarms.md describes it."""
    document = {
        "schema": SCHEMA,
        "id": letter.id,
        "sent_at": _iso(letter.at),
        "bridge": letter.label,
        "on": letter.on,
        "events": [_event(one) for one in letter.events],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _event(event: Event) -> dict[str, Any]:
    alarm, means = event.alarm, meaning(event.alarm.rule)
    return {
        "id": event.id,
        "edge": event.edge,
        "rule": alarm.rule,
        "subject": alarm.subject,
        "since": _iso(alarm.since),
        "over_at": _iso(alarm.over_at) if alarm.over_at is not None else None,
        "title": means.title,
        "text": event.text,
        "means": means.means,
        "what_to_do": means.act,
        "counts": dict(alarm.detail),
        "link": event.link or None,
    }


def signature(body: bytes, secret: bytes, at: datetime) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over the seconds, a full stop and the body, so that neither can be another's."""
    seconds = str(int(at.timestamp()))
    made = hmac.new(secret, seconds.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={made}"


def as_mail(letter: Letter, settings: MailSettings, zone: tzinfo) -> EmailMessage:
    """Plain text in UTF-8 (RFC 5322), marked as nobody's (RFC 3834 §5): nothing answers it by itself."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = _subject(letter)
    mail["Date"] = format_datetime(letter.at.astimezone(zone))
    mail["Message-ID"] = f"<{letter.id}.alarms@{settings.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    paragraphs = [_paragraph(one, zone) for one in letter.events]
    own = f" of {letter.label}" if letter.label else ""
    paragraphs.append(f"-- \nCardio bridge{own}: {letter.on} on at {_local(letter.at, zone)}.")
    mail.set_content("\n\n".join(paragraphs) + "\n", charset="utf-8")
    return mail


def _subject(letter: Letter) -> str:
    name = f"[Cardio bridge {letter.label}]" if letter.label else "[Cardio bridge]"
    first = letter.events[0]
    if len(letter.events) == 1:
        over = "" if first.edge == ON else "Over: "
        about = f" ({first.alarm.subject})" if first.alarm.subject else ""
        return " ".join(f"{name} {over}{meaning(first.alarm.rule).title}{about}".split())
    begun = sum(one.edge == ON for one in letter.events)
    return f"{name} {begun} begun, {len(letter.events) - begun} over"


def _paragraph(event: Event, zone: tzinfo) -> str:
    alarm, means = event.alarm, meaning(event.alarm.rule)
    times = f"since {_local(alarm.since, zone)}"
    if alarm.over_at is not None:
        times += f", over since {_local(alarm.over_at, zone)}"
    lines = [means.title if event.edge == ON else f"Over: {means.title}", f"{event.text} ({times})"]
    if event.edge == ON:
        lines += [means.means, f"What to do: {means.act}"]
    if event.link:
        lines.append(event.link)
    return "\n".join([*lines, f"[{alarm.rule} {event.id}]"])


def _local(moment: datetime, zone: tzinfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
