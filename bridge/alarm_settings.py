"""Settings of alarms: when something is one, and whom it is told to.

A threshold of 0 switches its rule off. Seconds are seconds that something lasted or waited.
"""

import re
from datetime import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from bridge.setting_kinds import Section, Size, is_loopback

Seconds = Annotated[float, Field(ge=0)]
MailAddress = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;\"]+@[^\s@<>,;\"]+$", max_length=254)]
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", re.ASCII)


class Rule(StrEnum):
    """What may be wrong. The words are those of settings, webhooks, metrics and pages."""

    FEED_SILENT = "feed_silent"
    QUEUE_OLD = "queue_old"
    QUEUE_LONG = "queue_long"
    DESTINATION_DOWN = "destination_down"
    IN_DOUBT = "in_doubt"
    HELD = "held"
    REJECTED = "rejected"
    ANOMALY = "anomaly"
    NOT_PROCESSED = "not_processed"
    CONTROL_ID_REUSE = "control_id_reuse"
    OUTBOUND_HELD = "outbound_held"
    DISK = "disk"
    CERTIFICATE = "certificate"
    QUARANTINE = "quarantine"
    NOT_TOLD = "not_told"
    TEST = "test"


class WebhookSettings(Section):
    """An address that alarms are posted to; deploy/alarms.md says what it gets. Its path may be a secret."""

    url: SecretStr
    secret_file: Path | None = None  # the key of the signature; none: not signed
    ca: Path | None = None  # none: the host's trust store
    proxy: SecretStr | None = None
    timeout: Annotated[float, Field(gt=0, le=60)] = 10.0

    @field_validator("url")
    @classmethod
    def _encrypted(cls, value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        if not rest or not (scheme == "https" or (scheme == "http" and is_loopback(rest))):
            raise ValueError("an https:// address; http:// is taken for loopback only")
        return value

    @property
    def host(self) -> str:
        """What may be shown of the address."""
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


class MailSettings(Section):
    """A mail server that takes alarms for people. `none` is taken for loopback only."""

    host: str
    port: Annotated[int, Field(gt=0, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: Path | None = None  # none: the host's trust store
    user: str = ""  # none: no login
    password_file: Path | None = None
    sender: MailAddress
    to: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    timeout: Annotated[float, Field(gt=0, le=60)] = 10.0  # for each answer of the server

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if self.security == "none" and not is_loopback(f"{self.host}:{self.port}"):
            raise ValueError("security: none is taken for loopback only; starttls, or tls (usually on port 465)")
        if bool(self.user) != (self.password_file is not None):
            raise ValueError("user: a login needs both user and password_file")
        return self


class AlarmSettings(Section):
    """When something is an alarm. Defaults are safe for a hospital; `silence` is the site's own knowledge."""

    silence: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """By a listener's name (`hl7`, `hl7.NAME`, `dicom`), MSH-3|MSH-4 or a calling AE title: seconds without a message.
    Beside it `silence_alarm` of each HL7 listener counts."""
    quiet_hours: str = ""  # HH:MM-HH:MM in site.time_zone, in which no feed is expected to speak
    queue_age: Seconds = 900.0
    queue_length: Annotated[int, Field(ge=0)] = 1000
    destination_down: Seconds = 60.0  # that it cannot be reached; a refused token or a wrong address is told at once
    doubt_age: Seconds = 900.0
    doubt_age_stat: Seconds = 300.0
    held_age: Seconds = 3600.0
    held_number: Annotated[int, Field(ge=0)] = 20
    rejected_number: Annotated[int, Field(ge=0)] = 20  # within an hour, by reason; one that the API refused is told
    anomaly_number: Annotated[int, Field(ge=0)] = 1
    outbound_age: Seconds = 900.0
    disk_room: Size = 2**30  # free above store.min_free
    certificate_days: tuple[Annotated[int, Field(gt=0)], ...] = (30, 7, 1)
    well_for: Seconds = 300.0  # an alarm is over when all was well for so long
    mute: tuple[Rule, ...] = ()  # shown, and told to nobody
    label: Annotated[str, StringConstraints(pattern=r"^[^\r\n]{0,60}$")] = ""  # which bridge it is, for who has several
    console_url: str = ""  # of ours, as people reach it: links in messages begin with it
    per_minute: Annotated[int, Field(gt=0, le=600)] = 6  # messages of a channel; what comes meanwhile is gathered
    give_up_after: Annotated[float, Field(gt=0)] = 86_400.0
    webhook: WebhookSettings | None = None
    mail: MailSettings | None = None

    @field_validator("quiet_hours")
    @classmethod
    def _readable(cls, value: str) -> str:
        hours_of(value)
        return value

    @field_validator("console_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("an address that begins with https://, such as https://bridge.hospital.example")
        return value.rstrip("/")

    @field_validator("certificate_days")
    @classmethod
    def _in_order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value), reverse=True))

    @property
    def channels(self) -> tuple[str, ...]:
        """Whom alarms are told to."""
        there = {"webhook": self.webhook, "mail": self.mail}
        return tuple(name for name, settings in there.items() if settings is not None)


def hours_of(value: str) -> tuple[time, time] | None:
    """Begin and end of `22:00-06:00`; None for an empty one. Raises ValueError."""
    if not value:
        return None
    if not _HOURS.fullmatch(value):
        raise ValueError("hours are HH:MM-HH:MM, such as 22:00-06:00")
    begin, end = (time.fromisoformat(one) for one in value.split("-"))
    if begin == end:
        raise ValueError("hours that begin when they end are none, or all of them; leave them empty for none")
    return begin, end
