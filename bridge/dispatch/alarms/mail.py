"""Alarms for people: a mail by SMTP (RFC 5321), in a thread of its own, within a deadline of its own."""

import asyncio
import base64
import contextlib
import smtplib
import socket
import ssl
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

from bridge.alarm_settings import MailSettings
from bridge.dispatch.alarms.letters import Later, Letter, Never, Outcome, Sent, as_mail
from bridge.errors import SettingsError

DEADLINE = 60.0
"""Seconds for a whole mail: the library's own time-out is for each read, and a server that drips outlasts it."""


class Mail:
    """One mail server. Raises SettingsError where its authority's file cannot be used."""

    def __init__(self, settings: MailSettings, time_zone: str) -> None:
        self._settings = settings
        self._zone = ZoneInfo(time_zone)
        try:
            self._tls = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        except OSError as cause:
            raise SettingsError("alarms.mail.ca: the file holds no certificate that can be read") from cause
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    def password(self) -> str:
        """Read anew each time. Raises SettingsError."""
        path = self._settings.password_file
        if path is None:
            return ""
        try:
            found = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as cause:
            raise SettingsError(f"alarms.mail.password_file: {path} cannot be read") from cause
        if not found:
            raise SettingsError(f"alarms.mail.password_file: {path} is empty")
        return found

    async def send(self, letter: Letter) -> Outcome:
        """Sent as soon as one recipient is taken. A 5xx to the mail itself: never. All else: later."""
        line = _Line()
        work = asyncio.ensure_future(asyncio.to_thread(self._send, letter, line))
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.shield(work)
        except TimeoutError:
            return Later("timed_out")
        finally:
            line.cut()  # where it is not over, its thread is: no thread outlives the service

    def _send(self, letter: Letter, line: "_Line") -> Outcome:
        try:
            password = self.password()
        except SettingsError:
            return Later("password_not_read")
        try:
            session = _session(self._settings, self._tls, line)
            with contextlib.closing(session):
                if self._settings.security == "starttls":
                    session.starttls(context=self._tls)
                if self._settings.user:
                    _login(session, self._settings.user, password)
                outcome = self._hand_over(session, as_mail(letter, self._settings, self._zone))
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    session.putcmd("QUIT")  # its answer changes nothing any more
                return outcome
        except smtplib.SMTPAuthenticationError as problem:  # a password that is put right makes it go
            return Later(f"login_refused_{problem.smtp_code}")
        except smtplib.SMTPNotSupportedError:
            return Later("not_encrypted")
        except smtplib.SMTPResponseException as problem:
            return Later(f"smtp_{problem.smtp_code}")
        except (smtplib.SMTPException, OSError, UnicodeError) as problem:
            return Later(type(problem).__name__)

    def _hand_over(self, session: smtplib.SMTP, mail: EmailMessage) -> Outcome:
        try:
            refused = session.send_message(mail, self._settings.sender, self._settings.to)
        except smtplib.SMTPRecipientsRefused as problem:
            codes = {code for code, _ in problem.recipients.values()}
            return _refused(max(codes) if min(codes) >= 500 else min(codes))
        except smtplib.SMTPResponseException as problem:
            return _refused(problem.smtp_code)
        return Sent(f"{len(refused)} of {len(self._settings.to)} recipients refused" if refused else "")


def _login(session: smtplib.SMTP, user: str, password: str) -> None:
    """PLAIN in UTF-8 (RFC 4616), which the library would send in ASCII alone; its own ways where there is none."""
    session.ehlo_or_helo_if_needed()
    if "PLAIN" not in session.esmtp_features.get("auth", "").upper().split():
        session.login(user, password)
        return
    said = base64.b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
    code, text = session.docmd("AUTH", f"PLAIN {said}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, text)


def _refused(code: int) -> Outcome:
    return Never(f"smtp_{code}") if 500 <= code < 600 else Later(f"smtp_{code}")


class _Line:
    """The connection's own handle, by which it can be ended from outside, encrypted or not."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._is_cut = False

    def hold(self, sock: socket.socket) -> socket.socket:
        self._socket = sock.dup()
        if self._is_cut:
            self.cut()
        return sock

    def cut(self) -> None:
        """Whoever reads or writes there is told that it is over."""
        self._is_cut = True
        held, self._socket = self._socket, None
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            held.close()


def _session(settings: MailSettings, tls: ssl.SSLContext, line: _Line) -> smtplib.SMTP:
    """A session that has been greeted. Its own name is the sender's domain: no look-up, and no machine's name."""
    own = settings.sender.rpartition("@")[2]

    class Plain(smtplib.SMTP):
        def _get_socket(self, *_: Any) -> socket.socket:
            return line.hold(socket.create_connection((settings.host, settings.port), settings.timeout))

    class Encrypted(Plain):
        def _get_socket(self, *given: Any) -> socket.socket:
            return tls.wrap_socket(super()._get_socket(*given), server_hostname=settings.host)

    made = Encrypted if settings.security == "tls" else Plain
    return made(settings.host, settings.port, local_hostname=own, timeout=settings.timeout)
