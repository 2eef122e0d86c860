"""Settings of alarms: what is refused, and that no secret shows."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.alarm_settings import AlarmSettings, MailSettings, WebhookSettings, hours_of
from bridge.errors import SettingsError
from bridge.settings import Settings, load

MAIL = {"host": "mail.klinik.example", "sender": "a@b.example", "to": ["c@d.example"]}


@pytest.mark.parametrize("url", ["https://hooks.example/x", "http://127.0.0.1:8/x", "http://localhost/x"])
def test_an_address_is_encrypted_or_on_loopback(url: str) -> None:
    assert WebhookSettings(url=url).url.get_secret_value() == url


@pytest.mark.parametrize(
    "url", ["http://hooks.example/x", "hooks.example", "ftp://hooks.example", "http://127.0.0.1@evil.example"]
)
def test_any_other_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, {"BRIDGE_ALARMS__WEBHOOK": f'{{url = "{url}"}}'})
    assert "https://" in str(refused.value)
    assert url not in str(refused.value)


def test_what_may_be_a_secret_does_not_show() -> None:
    made = WebhookSettings(
        url="https://user:word@hooks.example:8443/services/T0/hidden", proxy="http://u:hidden@p.example"
    )
    assert "hidden" not in repr(made) + str(made.model_dump())
    assert made.host == "https://hooks.example:8443"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"security": "none"}, "loopback only"),
        ({"user": "bridge"}, "both user and password_file"),
        ({"password_file": "x"}, "both user and password_file"),
        ({"to": []}, "at least 1"),
        ({"to": ["c@d.example\nBcc: e@f.example"]}, "pattern"),
        ({"sender": "Bridge <a@b.example>"}, "pattern"),
    ],
)
def test_a_mail_server_is_encrypted_and_addresses_are_plain(more: dict[str, Any], words: str) -> None:
    assert MailSettings(**MAIL).security == "starttls"  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=words):
        MailSettings(**{**MAIL, **more})


@pytest.mark.parametrize("hours", ["22-06", "24:00-06:00", "22:00-22:00", "22:60-06:00", "evening", "٢٢:٠٠-٠٦:٠٠"])
def test_hours_that_are_none_are_refused(hours: str) -> None:
    with pytest.raises(ValueError, match="hours"):
        hours_of(hours)
    with pytest.raises(ValidationError):
        AlarmSettings(quiet_hours=hours)


def test_a_feed_that_does_not_exist_is_a_word_misspelt() -> None:
    with pytest.raises(SettingsError, match=r"alarms.silence: hl7.nroth: no such listener; known here: hl7, hl7.north"):
        load(
            None,
            {
                "BRIDGE_HL7__LISTENERS": '[{name = "north", listen = "127.0.0.1:0"}]',
                "BRIDGE_ALARMS__SILENCE": '{"hl7.nroth" = 600}',
            },
        )


def test_a_rule_that_does_not_exist_cannot_be_muted() -> None:
    with pytest.raises(SettingsError, match="mute"):
        load(None, {"BRIDGE_ALARMS__MUTE": '["queue_odl"]'})


def test_the_file_reads_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(
        """
[alarms]
quiet_hours = "22:00-06:00"
disk_room = "2 GiB"
certificate_days = [1, 14]
console_url = "https://bridge.klinik.example/"
silence = { "hl7" = 3600, "HIS|NORTH" = 7200, "CART1" = 86400 }

[alarms.webhook]
url = "https://hooks.klinik.example/bridge"

[alarms.mail]
host = "mail.klinik.example"
sender = "bridge@klinik.example"
to = ["integration@klinik.example"]
"""
    )
    alarms = load(file, {}).alarms
    assert alarms.channels == ("webhook", "mail")
    assert (alarms.disk_room, alarms.certificate_days) == (2 * 2**30, (14, 1))
    assert alarms.console_url == "https://bridge.klinik.example"
    assert Settings().alarms.channels == ()
