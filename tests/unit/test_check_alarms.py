"""`bridge check` on alarms and certificates: what could not be told, and until when our own are good."""

from pathlib import Path
from typing import Any

import pytest

from bridge.rehearsal.checks import of_alarms, of_certificates
from bridge.settings import Settings
from tests.authority import Authority

MAIL = {"host": "mail.klinik.example", "sender": "a@b.example", "to": ["c@d.example"], "user": "u"}


def told(**alarms: Any) -> list[tuple[str, str]]:
    made = Settings.model_validate({"alarms": alarms})
    return [(line.level, line.text) for line in of_alarms(made)]


def test_that_nobody_is_told_is_a_warning() -> None:
    ((level, text),) = told()
    assert level == "warning"
    assert "[alarms.webhook]" in text


def test_usable_channels_are_ok_and_say_that_nothing_was_sent(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef")
    (tmp_path / "password").write_text("geheim")
    lines = told(
        webhook={"url": "https://hooks.example/hidden", "secret_file": tmp_path / "secret"},
        mail={**MAIL, "password_file": tmp_path / "password"},
    )
    assert lines == [
        ("ok", "webhook to https://hooks.example, signed; no test was sent"),
        ("ok", "mail by mail.klinik.example:587 to 1; no test was sent"),
    ]
    assert told(webhook={"url": "https://hooks.example/hidden"})[0][1].startswith(
        "webhook to https://hooks.example, not"
    )


@pytest.mark.parametrize(
    ("alarms", "words"),
    [
        ({"webhook": {"url": "https://x.example", "secret_file": "none"}}, "alarms.webhook.secret_file: none cannot"),
        ({"webhook": {"url": "https://x.example", "ca": "none"}}, "alarms.webhook.ca"),
        ({"webhook": {"url": "https://x.example", "proxy": "no address"}}, "alarms.webhook: url or proxy"),
        ({"mail": {**MAIL, "password_file": "none"}}, "alarms.mail.password_file: none cannot"),
    ],
)
def test_what_cannot_be_used_is_an_error_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alarms: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ((level, text),) = told(**alarms)
    assert level == "error"
    assert words in text


def test_until_when_our_own_certificates_are_good(tmp_path: Path) -> None:
    certificate, key = Authority.make(tmp_path).sign("bridge")  # for two days
    tls = {"certificate": certificate, "key": key}
    for first, level in ((30, "warning"), (1, "ok")):
        made = Settings.model_validate({"hl7": {"tls": tls}, "alarms": {"certificate_days": [first]}})
        ((said, text),) = [(line.level, line.text) for line in of_certificates(made)]
        assert said == level
        assert text.startswith(f"hl7.tls: {certificate} is good until ")
    certificate.unlink()
    assert list(of_certificates(made)) == []
