"""The made parts of `deploy/alarms.md`: what is an alarm and when, the settings, and what a webhook gets."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from bridge.alarm_settings import AlarmSettings, MailSettings, Rule, WebhookSettings
from bridge.dispatch.alarms.letters import Letter, Writer, as_json, as_mail, signature
from bridge.dispatch.alarms.meanings import MEANINGS
from bridge.store.alarms import ON, Alarm, Due
from tests.interface.page import block, code, table

PAGE = Path(__file__).parents[2] / "deploy" / "alarms.md"

WHEN = {
    Rule.FEED_SILENT: "no message for `silence_alarm` of the listener, or what `silence` says of the feed",
    Rule.QUEUE_OLD: "the oldest that waits for a destination does so for `queue_age`; one alarm a destination",
    Rule.QUEUE_LONG: "`queue_length` wait for a destination; anew at 10 and 100 times as many",
    Rule.DESTINATION_DOWN: "down for `destination_down`; at once where the token, the organization or the address is "
    "refused",
    Rule.IN_DOUBT: "in doubt for `doubt_age`, `doubt_age_stat` where its order is STAT (which is read with "
    "`dicom.worklist` alone); one alarm a message",
    Rule.HELD: "the oldest of a reason is `held_age` old, or there are `held_number`; at once for poison, uid_conflict "
    "and identity_update; anew at 10 and 100 times as many",
    Rule.REJECTED: "`rejected_number` of a reason within an hour; one that the API refused",
    Rule.ANOMALY: "`anomaly_number` of a reason that nobody has settled; anew at 10 and 100 times as many",
    Rule.NOT_PROCESSED: "as anomaly",
    Rule.CONTROL_ID_REUSE: "one within an hour; one alarm a listener",
    Rule.OUTBOUND_HELD: "refused for good, or waiting for `outbound_age`; one alarm a receiver",
    Rule.DISK: "less than `disk_room` above `store.min_free`; nothing left above it; the ballast is away",
    Rule.CERTIFICATE: "each of `certificate_days` before the end; a file that cannot be read",
    Rule.QUARANTINE: "as long as it lasts",
    Rule.NOT_TOLD: "a notice dropped within an hour, or tried for 15 minutes; told by the other channel",
    Rule.TEST: "the button on the alarms page",
}

SETTINGS = {
    "silence": "seconds without a message, by listener (`hl7`, `hl7.NAME`, `dicom`), MSH-3 and MSH-4 (`HIS|WARD`) or "
    "calling AE title; a sender counts once it has spoken",
    "quiet_hours": "`HH:MM-HH:MM` in `site.time_zone` in which no feed is expected to speak: they are not counted",
    "queue_age": "seconds",
    "queue_length": "messages",
    "destination_down": "seconds",
    "doubt_age": "seconds",
    "doubt_age_stat": "seconds",
    "held_age": "seconds",
    "held_number": "messages",
    "rejected_number": "messages within an hour; 0: those of the API are none either",
    "anomaly_number": "tasks",
    "outbound_age": "seconds; 0: those that are refused for good are none either",
    "disk_room": "bytes above `store.min_free`",
    "certificate_days": "days before the end, each told once",
    "well_for": "seconds that all must be well before an alarm is over",
    "mute": "rules that are shown and told to nobody",
    "label": "which bridge it is, in every message",
    "console_url": "of the console, as people reach it: links begin with it",
    "per_minute": "messages of a channel at the most; what comes meanwhile goes out together, 200 in one",
    "give_up_after": "seconds, then a notice is dropped",
    "webhook": "see below",
    "mail": "see below",
    "url": "https; http for loopback. It is treated as a secret",
    "secret_file": "at least 16 bytes; white space around them does not count. Read anew at each message",
    "ca": "in place of the host's trust store",
    "proxy": "the environment's are never asked",
    "timeout": "seconds; of a mail server for each of its answers",
    "host": "of the mail server",
    "port": "usually 587 for starttls, 465 for tls",
    "security": "starttls, tls, or none (loopback only); there is no way back to plaintext",
    "user": "none: no login",
    "password_file": "read anew at each mail",
    "sender": "an address",
    "to": "addresses",
}

_AT = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
_SECRET = b"an invented secret of tests"
_MAIL = MailSettings(host="mail.klinik.example", sender="bridge@klinik.example", to=("integration@klinik.example",))


def rules() -> str:
    """Every rule: when, what it means, what to do."""
    lines = ((code(rule), WHEN[rule], MEANINGS[rule].means, MEANINGS[rule].act) for rule in Rule)
    return table(("rule", "when", "what it means", "what to do"), lines)


def settings() -> str:
    """`[alarms]` and the tables below it, with their defaults."""
    lines = []
    for section, model in (("", AlarmSettings), ("webhook.", WebhookSettings), ("mail.", MailSettings)):
        for name, found in model.model_fields.items():
            default = None if found.is_required() else found.get_default(call_default_factory=True)
            lines.append((code(section + name), _shown(default), SETTINGS[name]))
    return table(("setting", "default", ""), lines)


def _shown(default: object) -> str:
    if isinstance(default, float):
        return code(f"{default:.0f}")
    if isinstance(default, tuple):
        return code(str(list(default))) if default else ""
    return code(str(default)) if default else ""


def example() -> str:
    """A webhook's body."""
    return block(json.dumps(json.loads(_letter_body()), indent=2, ensure_ascii=False))


def signed() -> str:
    """The header of that body."""
    return block(f"Bridge-Signature: {signature(_letter_body(), _SECRET, _AT)}")


def mailed() -> str:
    """The same as a mail."""
    mail = as_mail(_letter(), _MAIL, ZoneInfo("Europe/Berlin"))
    heads = "\n".join(f"{name}: {mail[name]}" for name in ("Subject", "Message-ID", "Auto-Submitted"))
    return block(f"{heads}\n\n{mail.get_content()}")


def _letter_body() -> bytes:
    return as_json(_letter())


def _letter() -> Letter:
    alarm = Alarm(
        17, "destination_down", "cardio", _AT - timedelta(seconds=4), None,
        {"reason": "token_refused", "down_at": (_AT - timedelta(minutes=1)).isoformat()},
    )  # fmt: skip
    own = AlarmSettings(label="north", console_url="https://bridge.klinik.example")
    return Writer(own, bytes(32), ZoneInfo("Europe/Berlin")).letter([Due(1, ON, 1, alarm)], on=1, at=_AT)


PARTS = {
    "alarm-rules": rules,
    "alarm-settings": settings,
    "alarm-example": example,
    "alarm-signature": signed,
    "alarm-mail": mailed,
}
