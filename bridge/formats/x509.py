"""Certificates: until when a file of them can be used. The only importer of cryptography."""

from datetime import datetime

from cryptography import x509


def good_until(pem: bytes) -> datetime | None:
    """When the first certificate of a PEM file expires, aware, UTC: its own, or one of its chain (RFC 5280 §4.1.2.5).

    None where there is none that can be read.
    """
    try:
        return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return None
