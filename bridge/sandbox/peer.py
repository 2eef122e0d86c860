"""The other end of a wire, as both senders see it: its address, its TLS, and what to say when it fails."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError, Disposition


class PeerError(BridgeError):
    """The other side could not be reached, did not answer, or answered something else. The text names it."""

    disposition = Disposition.RETRY


class AddressError(BridgeError):
    """Not an address, or not a file that TLS can use; the text says what would be."""

    disposition = Disposition.FATAL


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener is."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`host:port`, `[2001:db8::1]:2575`. Raises AddressError."""
        host, colon, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise AddressError(f"'{text}' is no address; write HOST:PORT, such as 127.0.0.1:2575")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def client_tls(
    *, authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """TLS 1.2 or later that verifies the listener by `authority` (PEM), or by the machine's own trust store.

    With `certificate` (and `key`, where it is not in the same file) this side shows who it is.
    Raises AddressError that names the file.
    """
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as cause:
        raise AddressError(f"{authority}: no certificates in PEM form can be read from it ({cause})") from cause
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if key is not None and certificate is None:
        raise AddressError(f"{key}: a key alone shows nobody; name its certificate too")
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as cause:
            given = f"{certificate} and {key}" if key else f"{certificate}"
            raise AddressError(f"{given}: no certificate with its own key can be read ({cause})") from cause
    return context
