"""Who is at the other end of an association."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    """An association as its services see it. AE titles are trimmed; they are names, and no proof of anything."""

    calling_ae: str
    called_ae: str
    peer: str  # IP address
    subject: str = ""  # common name of the peer's certificate; empty without mutual TLS
