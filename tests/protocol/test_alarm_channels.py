"""The webhook and the mail sender against receivers that refuse, hang, redirect, drip and lie."""

import asyncio
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from bridge.alarm_settings import AlarmSettings, MailSettings, WebhookSettings
from bridge.clock import SystemClock
from bridge.dispatch.alarms import mail as mail_module
from bridge.dispatch.alarms.letters import Later, Letter, Never, Outcome, Sent, Writer
from bridge.dispatch.alarms.mail import Mail
from bridge.dispatch.alarms.webhook import Webhook, outcome_of
from bridge.errors import SettingsError
from bridge.store.alarms import ON, Alarm, Due
from tests.authority import Authority
from tests.protocol.hook import Hook, MailServer, hook, mail_server

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def letter() -> Letter:
    alarm = Alarm(1, "held", "no_match", NOW, None, {"number": 3, "reason": "no_match"})
    return Writer(AlarmSettings(label="Süd"), b"k" * 32, ZoneInfo("Europe/Berlin")).letter(
        [Due(1, ON, 1, alarm)], on=1, at=NOW
    )


async def posted(to: Hook | str, **settings: Any) -> Outcome:
    url = to if isinstance(to, str) else to.address
    return await Webhook(WebhookSettings(url=url, **settings), SystemClock()).send(letter())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def server_tls(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


async def test_a_post_is_json_signed_over_its_time_and_body(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    async with hook() as it:
        assert await posted(it, secret_file=secret) == Sent()
    (post,) = it.posts
    assert post.head["request"] == "POST /hooks/secret-path HTTP/1.1"
    assert post.head["content-type"] == "application/json"
    assert post.head["bridge-delivery"] == letter().id
    assert [e["id"] for e in post.events] == [letter().events[0].id]
    seconds, _, made = post.head["bridge-signature"].partition(",")
    signed = seconds.removeprefix("t=").encode() + b"." + post.body
    assert made == "v1=" + hmac.new(b"0123456789abcdef", signed, hashlib.sha256).hexdigest()
    assert abs(int(seconds.removeprefix("t=")) - time.time()) < 600


async def test_without_a_key_nothing_is_signed() -> None:
    async with hook() as it:
        await posted(it)
    assert "bridge-signature" not in it.posts[0].head


@pytest.mark.parametrize("content", [None, "short"])
async def test_a_key_that_cannot_be_used_sends_nothing_unsigned(tmp_path: Path, content: str | None) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    async with hook() as it:
        assert await posted(it, secret_file=secret) == Later("secret_not_read")
    assert it.posts == []
    with pytest.raises(SettingsError, match=r"alarms\.webhook\.secret_file"):
        Webhook(WebhookSettings(url="https://x.example", secret_file=secret), SystemClock()).secret()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Sent()),
        (202, Sent()),
        (204, Sent()),
        (400, Never("http_400")),
        (401, Never("http_401")),
        (404, Never("http_404")),
        (410, Never("http_410")),
        (408, Later("http_408")),
        (425, Later("http_425")),
        (429, Later("http_429")),
        (301, Later("http_301")),
        (500, Later("http_500")),
        (503, Later("http_503")),
    ],
)
def test_what_a_status_means(status: int, outcome: Outcome) -> None:
    assert outcome_of(status, "") == outcome


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("30", 30), ("99999", 900), ("soon", 0), ("-5", 0), ("", 0), ("٣", 0)]
)
def test_retry_after_is_taken_within_bounds(retry_after: str, seconds: float) -> None:
    assert outcome_of(429, retry_after) == Later("http_429", seconds)


async def test_a_redirect_is_not_followed() -> None:
    async with hook() as elsewhere, hook(lambda _: f"307 Go\r\nLocation: {elsewhere.address}") as it:
        assert await posted(it) == Later("http_307")
        assert (len(it.posts), elsewhere.posts) == (1, [])


async def test_a_receiver_that_is_not_there_or_hangs_is_tried_later() -> None:
    async with hook() as it:
        gone = it.address
    assert await posted(gone) == Later("ConnectError")
    async with hook(lambda _: "hang") as it:
        assert await posted(it, timeout=0.3) in {Later("ReadTimeout"), Later("TimeoutError")}
        assert len(it.posts) == 1


async def test_a_long_answer_is_not_read() -> None:
    async with hook(lambda _: "200 OK\r\nX-Long: " + "x" * 20_000) as it:
        assert await posted(it) == Sent()
    async with hook(lambda _: "200 OK\r\nX-Long: " + "x" * 2_000_000) as it:
        assert isinstance(await posted(it), Later)


async def test_the_environment_s_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with hook() as it:
        assert await posted(it) == Sent()


async def test_a_certificate_must_be_of_the_authority_that_is_named(authority: Authority) -> None:
    async with hook(tls=server_tls(authority.sign("hook"))) as it:
        assert await posted(it) == Later("ConnectError")
        assert it.posts == []
        assert await posted(it, ca=authority.certificate) == Sent()


async def test_an_authority_that_cannot_be_read_is_said_before_anything_begins(tmp_path: Path) -> None:
    for name, build in (
        ("webhook", lambda: Webhook(WebhookSettings(url="https://x.example", ca=tmp_path / "none"), SystemClock())),
        ("mail", lambda: Mail(settings(MailServer(), ca=tmp_path / "none"), "UTC")),
    ):
        with pytest.raises(SettingsError, match=rf"alarms\.{name}\.ca"):
            build()


# --- mail -------------------------------------------------------------------------------------------------------


def settings(server: MailServer, **more: Any) -> MailSettings:
    values = {"host": "127.0.0.1", "port": server.port or 1, "security": "none", "sender": "bridge@klinik.example"}
    return MailSettings(**{**values, "to": ("a@klinik.example", "b@klinik.example"), **more})


async def mailed(server: MailServer, **more: Any) -> Outcome:
    return await Mail(settings(server, **more), "Europe/Berlin").send(letter())


async def test_a_mail_reaches_every_recipient() -> None:
    async with mail_server() as it:
        assert await mailed(it) == Sent()
    (mail,) = it.mails
    assert mail["Subject"] == "[Cardio bridge Süd] Messages wait for a person (no_match)"
    assert mail["Message-ID"] == f"<{letter().id}.alarms@klinik.example>"
    assert it.recipients == ["TO:<a@klinik.example>", "TO:<b@klinik.example>"]
    assert "compare both sides" in mail.get_content()
    assert all(len(line) <= 998 for line in it.raw[0].split(b"\r\n"))


@pytest.mark.parametrize("way", ["starttls", "tls"])
async def test_a_login_goes_over_tls_alone(authority: Authority, tmp_path: Path, way: str) -> None:
    password = tmp_path / "password"
    password.write_text("geheim-ß\n")
    context = server_tls(authority.sign("mail"))
    more = {"security": way, "ca": authority.certificate, "user": "bridge", "password_file": password}
    async with mail_server(**{way: context}) as it:  # type: ignore[arg-type]
        assert await mailed(it, **more) == Sent()
    assert it.logins == [("bridge", "geheim-ß")]
    assert it.encrypted == [True]


async def test_a_server_that_knows_no_plain_login_gets_the_other(authority: Authority, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("geheim")
    more = {"security": "tls", "ca": authority.certificate, "user": "bridge", "password_file": password}
    async with mail_server(tls=server_tls(authority.sign("mail"))) as it:
        it.auth = "LOGIN"
        assert await mailed(it, **more) == Sent()
    assert it.logins == [("bridge", "geheim")]


async def test_a_server_that_does_not_encrypt_gets_nothing(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("geheim")
    async with mail_server() as it:
        assert await mailed(it, security="starttls", user="bridge", password_file=password) == Later("not_encrypted")
    assert (it.logins, it.mails) == ([], [])


async def test_a_server_whose_certificate_is_not_trusted_gets_nothing(authority: Authority) -> None:
    context = server_tls(authority.sign("mail"))
    async with mail_server(starttls=context) as it:
        assert await mailed(it, security="starttls") == Later("SSLCertVerificationError")
    async with mail_server(tls=context) as other:
        assert await mailed(other, security="tls") == Later("SSLCertVerificationError")
    assert it.mails == other.mails == []


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ({"HELLO": "421 busy"}, Later("smtp_421")),
        ({"HELLO": "554 no"}, Later("smtp_554")),
        ({"MAIL": "550 no"}, Never("smtp_550")),
        ({"MAIL": "451 later"}, Later("smtp_451")),
        ({"RCPT": "550 nobody"}, Never("smtp_550")),
        ({"RCPT": "450 later"}, Later("smtp_450")),
        ({"RCPT TO:<a@klinik.example>": "550 nobody"}, Sent("1 of 2 recipients refused")),
        ({"DATA": "554 no"}, Never("smtp_554")),
        ({"END": "552 too much"}, Never("smtp_552")),
        ({"END": "451 later"}, Later("smtp_451")),
        ({"QUIT": "500 what"}, Sent()),
    ],
)
async def test_what_a_server_says(codes: dict[str, str], outcome: Outcome) -> None:
    async with mail_server(codes) as it:
        assert await mailed(it) == outcome


async def test_of_recipients_refused_for_now_and_for_good_it_is_tried_again() -> None:
    codes = {"RCPT TO:<a@klinik.example>": "550 nobody", "RCPT TO:<b@klinik.example>": "450 later"}
    async with mail_server(codes) as it:
        assert await mailed(it) == Later("smtp_450")


async def test_a_password_that_is_refused_or_missing_is_tried_later(authority: Authority, tmp_path: Path) -> None:
    more = {"security": "tls", "ca": authority.certificate, "user": "bridge", "password_file": tmp_path / "password"}
    async with mail_server({"AUTH": "535 no"}, tls=server_tls(authority.sign("mail"))) as it:
        assert await mailed(it, **more) == Later("password_not_read")
        (tmp_path / "password").write_text("wrong")
        assert await mailed(it, **more) == Later("login_refused_535")
    assert it.mails == []


@pytest.mark.parametrize("word", ["HELLO", "EHLO", "RCPT", "END"])
async def test_a_server_that_hangs_is_left(word: str) -> None:
    async with mail_server({word: "hang"}) as it:
        outcome = await mailed(it, timeout=0.3)
    assert isinstance(outcome, Later)


async def until_over(thread_count: Callable[[], int], most: int) -> None:
    async with asyncio.timeout(20):
        while thread_count() > most:  # noqa: ASYNC110  a thread's end is no event of the loop
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("word", ["HELLO", "MAIL"])
async def test_a_server_that_drips_is_cut_off_at_the_deadline(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes within the library's time-out, and the line has no end."""
    monkeypatch.setattr(mail_module, "DEADLINE", 0.5)
    ended: list[bool] = []
    real = Mail._send

    def noted(self: Mail, *given: Any) -> Outcome:
        try:
            return real(self, *given)
        finally:
            ended.append(True)

    monkeypatch.setattr(Mail, "_send", noted)
    async with mail_server({word: "drip"}) as it:
        assert await mailed(it) == Later("timed_out")
        await until_over(lambda: 1 - len(ended), 0)


async def test_a_service_that_stops_waits_for_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mail_server({"EHLO": "hang"}) as it:
        sending = asyncio.create_task(mailed(it, timeout=60))
        async with asyncio.timeout(20):
            while "EHLO" not in it.commands:  # noqa: ASYNC110  the server's list is no event
                await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(20):
            await asyncio.to_thread(lambda: None)
            await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_port_that_is_closed_is_tried_later() -> None:
    async with mail_server() as it:
        port = it.port
    assert await mailed(MailServer(port=port)) == Later("ConnectionRefusedError")


async def test_no_secret_and_no_address_is_logged(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("CANARY-SECRET-0123456789")
    with structlog.testing.capture_logs() as logs:
        async with hook(lambda _: "500 No") as it:
            outcome = await posted(it, secret_file=secret)
    assert "CANARY" not in repr(outcome) + repr(logs) + str(it.posts[0].head)
    assert "secret-path" not in repr(outcome) + repr(logs)
