"""Certificates of a listener, read anew where their files changed: no restart, and no connection is cut."""

import ssl
from pathlib import Path

import structlog

from bridge.errors import CannotListen
from bridge.settings import TlsSettings

log = structlog.get_logger()

_Marks = tuple[tuple[int, int, int], ...]


def server_context(settings: TlsSettings, setting: str) -> ssl.SSLContext:
    """TLS 1.2 or later; with `client_ca` only peers with a certificate of that authority (IHE ITI-19).

    Raises CannotListen that names the setting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a passphrase is an error: without a passphrase OpenSSL would ask for one at the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password="")
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as cause:
        raise CannotListen(f"{setting}: the certificate or key cannot be used: {cause}") from cause
    return context


class Certificates:
    """The context for the next connection. Files that cannot be used leave the one before in force, and say so once."""

    def __init__(self, settings: TlsSettings, setting: str) -> None:
        self._settings = settings
        self._setting = setting
        self._seen = self._marks()
        self._context = server_context(settings, setting)

    def context(self) -> ssl.SSLContext:
        """What counts now: a look at three files, and a new context where one of them is another."""
        marks = self._marks()
        if marks != self._seen:
            self._seen = marks
            try:
                self._context = server_context(self._settings, self._setting)
            except CannotListen as problem:
                log.error("certificate.not_taken", listener=self._setting, error=type(problem.__cause__).__name__)
            else:
                log.info("certificate.taken", listener=self._setting)
        return self._context

    def _marks(self) -> _Marks:
        files = (self._settings.certificate, self._settings.key, self._settings.client_ca)
        return tuple(_mark(file) for file in files if file is not None)


def _mark(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
